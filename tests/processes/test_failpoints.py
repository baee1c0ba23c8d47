"""Real processes that kill themselves at a named point (failpoints.py) and start again: all promises hold.

If a point is reached only a few times, the tests kill at each of them in turn, until a life survives and so has
completed the whole work. In `poe test` they kill at every fourth of these places, and at every fourth point of those
that many lives reach. Linux only: the fork server, with which a start costs 50 ms, needs it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.storage.schema import SCHEMA_VERSION
from p2pchat.testing.process_mesh import ChildFailed, Line
from tests.amounts import FAILPOINT_TIMES, STRIDE
from tests.processes.failpoints import POINTS
from tests.processes.fork_server import AVAILABLE
from tests.processes.kills import POINTS as IN_A_MESH
from tests.processes.peer_runs import (
    KILLED,
    PATIENCE,
    PeerRuns,
    check_nothing_lost_or_repeated,
    damage,
    know_each_other,
    wait_for_everything,
    wait_for_failpoint,
)
from tests.processes.peers import Cluster

pytestmark = [
    pytest.mark.sampled,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not AVAILABLE, reason="processes are forked with descriptors over Unix packets"),
]
ALONE = {"newer", "backing-up", "copying", "file"}  # points that no life in a mesh reaches, each tested in this file
ONCE = {"before-go": (1,), "before-address-book": (1,), "after-address-book": (1,)}  # points reached once in a life
NEW_ADDRESS = {"before-address-book", "after-address-book"}  # reached when another address of the other peer is learnt
LINES = 40  # in each life, at once; then one after the other, each with commits, frames and events of its own
TEXTS = [f"text {number}" for number in range(30)]
FIFTH = 5 * STRIDE  # of many similar places, every fifth is tested


async def test_every_failpoint_is_used() -> None:
    assert set(POINTS) == set(IN_A_MESH) | ALONE


@pytest.mark.relayed(always=False)
@pytest.mark.parametrize("point", sorted(set(IN_A_MESH) - {"closing"})[::STRIDE])
async def test_either_side_is_killed_while_both_write(quick: Cluster, point: str) -> None:
    if quick.engine and point in NEW_ADDRESS:
        pytest.skip("a relayed address never changes")
    ada, bob = await pair(quick)
    kills = 0
    for k in ONCE.get(point, FAILPOINT_TIMES):
        for side, other in ((ada, bob), (bob, ada)):
            await side.kill()
            if point in NEW_ADDRESS:
                await other.kill()
                other.port = 0
                await other.start()
            kills += await dies_at(side, f"{point}:{k}", other)
            await side.start(other.now.endpoint)
            await other.now.event("joined", user=side.name)
            await side.now.event("joined", user=other.name)
    await wait_for_everything(ada, bob)
    await check_nothing_lost_or_repeated(quick, ada, bob)
    assert [await ada.now.leave(), await bob.now.leave()] == [0, 0]
    assert kills == (1 if point == "before-go" else 2 * len(ONCE.get(point, FAILPOINT_TIMES)))


async def dies_at(side: PeerRuns, point: str, other: PeerRuns) -> bool:
    """Let both write until the peer dies at the point. Kill it and return False if the other one sends `go`."""
    try:
        await side.start(other.now.endpoint, points=[point])
        await asyncio.gather(side.burst(LINES), other.burst(LINES))
        await side.now.event("joined", user=other.name)
        if point.startswith("before-go:"):
            await side.kill()
            return False
        async with asyncio.timeout(PATIENCE):
            while True:
                await side.burst(1)
                await side.now.event("sent", text=f"{side.name} {side.written - 1}")
                await other.burst(1)
                await side.now.event("message", text=f"{other.name} {other.written - 1}")
    except ChildFailed:
        pass  # it ended
    await wait_for_failpoint(side)
    return True


async def pair(cluster: Cluster) -> tuple[PeerRuns, PeerRuns]:
    ada, bob = PeerRuns(cluster, "ada", "bob"), PeerRuns(cluster, "bob", "ada")
    await ada.start()
    await bob.start(ada.now.endpoint)
    await ada.now.event("joined", user="bob")
    await bob.now.event("joined", user="ada")
    await know_each_other(ada, bob)
    return ada, bob


@pytest.mark.relayed(always=False)
async def test_a_stopping_peer_is_killed_at_each_step(quick: Cluster) -> None:
    ada, bob = await pair(quick)
    k, code = 1 - STRIDE, KILLED
    while code == KILLED:
        k += STRIDE
        await bob.kill()
        await bob.start(points=[f"closing:{k}"])
        await ada.burst(LINES)
        await bob.burst(LINES)
        code = await bob.now.leave()
        await bob.start()
    assert 11 <= k < 11 + STRIDE and code in (0, 3)  # 3: ada had not acknowledged everything before the last one left
    await wait_for_everything(ada, bob)
    await check_nothing_lost_or_repeated(quick, ada, bob)


# ---- files written once: key, network, tables


def left(home: Path) -> list[Path]:
    """Return files that an interrupted start leaves: temporary files, and those of one running process."""
    return [path for path in home.rglob(".*") if path.suffix == ".new" or path.name.startswith(".tls-")]


@pytest.mark.parametrize("point, stride", [("file", STRIDE), ("statement", FIFTH)])
async def test_a_first_start_is_killed_at_each_step(quick: Cluster, point: str, stride: int) -> None:
    k = kills = 0
    while True:
        k += stride
        shutil.rmtree(quick.home, ignore_errors=True)
        ada = PeerRuns(quick, "ada", "ada")
        try:
            await ada.start(points=[f"{point}:{k}"])
            break
        except ChildFailed:
            await wait_for_failpoint(ada)
        kills += 1
        key = quick.home / "ada" / "identity.pem"
        before = key.read_bytes() if key.exists() else b""
        await ada.start()
        assert before in (b"", key.read_bytes())
        assert [path.name for path in left(quick.home)] == []
        await ada.say("room", "here I am")
        await ada.now.event("sent", text="here I am")
        await ada.kill()
        assert [line["text"] for line in await quick.history("ada")] == ["here I am"]
        assert damage(ada.database) == []
    assert kills >= 6 // STRIDE


# ---- a newer version


async def test_a_migration_is_killed_between_any_two_statements(quick: Cluster) -> None:
    history = await written_by_this_version(quick)
    assert await migrations_fall(quick, "statement", history, stride=2 * STRIDE) >= 6 // STRIDE


async def test_the_copy_before_a_migration_is_killed_at_any_page(quick: Cluster) -> None:
    history = await written_by_this_version(quick)
    assert await migrations_fall(quick, "backing-up", history, stride=FIFTH) >= 4 // STRIDE


async def written_by_this_version(cluster: Cluster) -> list[Line]:
    ada = PeerRuns(cluster, "ada", "ada")
    await ada.start()
    for text in TEXTS:
        await ada.say("room", text)
    await ada.now.event("sent", text=TEXTS[-1])
    await ada.kill()
    (cluster.home / "ada" / "control.sock").unlink(missing_ok=True)
    (cluster.home / "ada").rename(cluster.home / "kept")
    history = await cluster.history("kept")
    assert [line["text"] for line in history] == TEXTS
    return history


async def migrations_fall(cluster: Cluster, point: str, history: list[Line], *, stride: int) -> int:
    """Kill the next version at each k of a point while it starts on a copy of the database; return the number of kills.

    After each kill the database is complete and has either version, and each version that can open it reads everything.
    """
    k = kills = 0
    while True:
        k += stride
        shutil.rmtree(cluster.home / "ada", ignore_errors=True)
        shutil.copytree(cluster.home / "kept", cluster.home / "ada")
        ada = PeerRuns(cluster, "ada", "ada")
        try:
            await ada.start(points=["newer", f"{point}:{k}"])
            return kills
        except ChildFailed:
            await wait_for_failpoint(ada)
        kills += 1
        assert damage(ada.database) == []
        if version(ada.database) == SCHEMA_VERSION:
            assert await cluster.history("ada") == history
        await ada.start(points=["newer"])
        await ada.kill()
        assert version(ada.database) == SCHEMA_VERSION + 1
        assert rows(ada.database, "select count(*) from later") == rows(ada.database, "select count(*) from users")
        copy = ada.database.with_name(f"history.db.version-{SCHEMA_VERSION}")
        assert damage(copy) == [] and version(copy) == SCHEMA_VERSION
        assert rows(copy, "select count(*) from entries") == rows(ada.database, "select count(*) from entries")


def version(database: Path) -> int:
    [(found,)] = rows(database, "select value from meta where name = 'schema'")
    return int(found)


def rows(database: Path, question: str) -> list[tuple[str]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


# ---- files that people move


@pytest.mark.parametrize(
    "point, stride", [("before-commit", 1), ("after-commit", 1), ("statement", FIFTH), ("closing", 2 * STRIDE)]
)
async def test_an_import_is_killed_and_repeated(quick: Cluster, point: str, stride: int) -> None:
    history = await written_by_this_version(quick)
    file, kept = str(quick.home / "stick"), str(quick.home / "kept")
    assert (await quick.run("export", file, "--data", kept))[0] == 0
    k, code = 0, KILLED
    while code == KILLED:
        k += stride
        await a_peer_that_does_not_run(quick, "bob")
        code, _ = await quick.run("import", file, "--data", str(quick.home / "bob"), points=[f"{point}:{k}"])
        assert damage(quick.home / "bob" / "history.db") == []
        again, out = await quick.run("import", file, "--data", str(quick.home / "bob"))
        assert (again, out.decode().partition(": ")[2].endswith(" here already\n")) == (0, True)
        assert identities(await quick.history("bob")) == identities(history)
    assert (k > 1, code) == (True, 0)


async def a_peer_that_does_not_run(cluster: Cluster, name: str) -> None:
    shutil.rmtree(cluster.home / name, ignore_errors=True)
    peer = PeerRuns(cluster, name, name)
    await peer.start()
    await peer.now.leave()


def identities(history: list[Line]) -> list[tuple[str, str, str, str]]:
    """Return the fields of each message that are the same on every peer and never change."""
    return [(line["id"], line["text"], line["sender_id"], line["sent_at"]) for line in history]


@pytest.mark.parametrize("point, stride", [("file", STRIDE), ("copying", FIFTH)])
async def test_a_killed_backup_is_complete_or_absent(quick: Cluster, point: str, stride: int) -> None:
    history = await written_by_this_version(quick)
    copy, kept = quick.home / "copy", str(quick.home / "kept")
    k, code, kills = 0, KILLED, 0
    while code == KILLED:
        k += stride
        code, _ = await quick.run("backup", str(copy), "--data", kept, points=[f"{point}:{k}"])
        kills += code == KILLED
        if not copy.exists():
            assert (await quick.run("backup", str(copy), "--data", kept))[0] == 0
        assert damage(copy / "history.db") == []
        assert await quick.history("copy") == history
        assert (copy / "identity.pem").read_bytes() == (quick.home / "kept" / "identity.pem").read_bytes()
        shutil.rmtree(copy)
    assert (kills >= 4 // STRIDE, code) == (True, 0)


async def test_a_killed_export_is_complete_or_absent(quick: Cluster) -> None:
    await written_by_this_version(quick)
    file, kept = quick.home / "stick", str(quick.home / "kept")
    assert (await quick.run("export", str(file), "--data", kept))[0] == 0
    whole = file.read_bytes()
    k, code = 0, KILLED
    while code == KILLED:
        k += 1
        file.unlink(missing_ok=True)
        code, _ = await quick.run("export", str(file), "--data", kept, points=[f"file:{k}"])
        assert not file.exists() or file.read_bytes() == whole
    assert (k > 3, code, file.read_bytes()) == (True, 0, whole)
