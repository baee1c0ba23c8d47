"""Commands that kill themselves at the k-th of a point (failpoints.py), for each k until they survive.

Linux only: the fork server, with which a start costs 50 ms, needs it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import ChildFailed, Line
from tests.deadlines import until
from tests.long.processes.test_members import OF_A_MAKER, OF_A_NEWCOMER
from tests.long.test_device_kills import OF_A_DEVICE
from tests.processes.failpoints import POINTS
from tests.processes.fork_server import AVAILABLE
from tests.processes.kills import POINTS as IN_A_MESH
from tests.processes.peer_runs import KILLED, PeerRuns, damage
from tests.processes.peers import Cluster

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not AVAILABLE, reason="processes are forked with descriptors over Unix packets"),
]
TEXTS = [f"text {number}" for number in range(30)]


async def dies(ada: PeerRuns, *points: str) -> bool:
    """Start a peer; return whether it killed itself before it listened."""
    try:
        await ada.start(points=points)
    except ChildFailed:
        code = await ada.now.ended()
        assert code == KILLED, f"ended with {code}: {ada.now.complaints}"
        return True
    return False


async def written_by_this_version(cluster: Cluster) -> list[Line]:
    """Write a history in the directory `kept`, of no running peer; return it."""
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


def rows(database: Path, question: str) -> list[tuple[str]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


# ---- what is killed: each returns False once it survives


async def first_start(cluster: Cluster, point: str, _: list[Line]) -> bool:
    shutil.rmtree(cluster.home, ignore_errors=True)
    ada = PeerRuns(cluster, "ada", "ada")
    if not await dies(ada, point):
        return False
    key = cluster.home / "ada" / "identity.pem"
    before = key.read_bytes() if key.exists() else b""
    await ada.start()
    assert before in (b"", key.read_bytes())
    await until(lambda: not left_in(cluster.home), "an end of what killed processes left, and this one writes")
    await ada.say("room", "here I am")
    await ada.now.event("sent", text="here I am")
    await ada.kill()
    assert [line["text"] for line in await cluster.history("ada")] == ["here I am"]
    assert damage(ada.database) == []
    return True


def left_in(home: Path) -> list[str]:
    return [path.name for path in home.rglob(".*") if path.suffix == ".new" or path.name.startswith(".tls-")]


async def import_(cluster: Cluster, point: str, history: list[Line]) -> bool:
    file, data = str(cluster.home / "stick"), cluster.home / "bob"
    if not Path(file).exists():
        assert (await cluster.run("export", file, "--data", str(cluster.home / "kept")))[0] == 0
    shutil.rmtree(data, ignore_errors=True)
    bob = PeerRuns(cluster, "bob", "bob")
    await bob.start()
    await bob.now.leave()
    code, _ = await cluster.run("import", file, "--data", str(data), points=[point])
    assert damage(data / "history.db") == []
    again, out = await cluster.run("import", file, "--data", str(data))
    assert (again, out.decode().partition(": ")[2].endswith(" here already\n")) == (0, True)
    assert identities(await cluster.history("bob")) == identities(history)
    return ended(code)


def identities(history: list[Line]) -> list[tuple[str, str, str, str]]:
    """Return the fields of each message that are the same on every peer and never change."""
    return [(line["id"], line["text"], line["sender_id"], line["sent_at"]) for line in history]


async def backup(cluster: Cluster, point: str, history: list[Line]) -> bool:
    copy, kept = cluster.home / "copy", cluster.home / "kept"
    code, _ = await cluster.run("backup", str(copy), "--data", str(kept), points=[point])
    if not copy.exists():
        assert (await cluster.run("backup", str(copy), "--data", str(kept)))[0] == 0
    assert damage(copy / "history.db") == []
    assert await cluster.history("copy") == history
    assert (copy / "identity.pem").read_bytes() == (kept / "identity.pem").read_bytes()
    shutil.rmtree(copy)
    return ended(code)


async def export(cluster: Cluster, point: str, _: list[Line]) -> bool:
    file, whole, kept = cluster.home / "stick", cluster.home / "whole", str(cluster.home / "kept")
    if not whole.exists():
        assert (await cluster.run("export", str(whole), "--data", kept))[0] == 0
    code, _out = await cluster.run("export", str(file), "--data", kept, points=[point])
    assert file.exists() or code == KILLED
    assert not file.exists() or file.read_bytes() == whole.read_bytes()
    file.unlink(missing_ok=True)
    return ended(code)


def ended(code: int) -> bool:
    assert code in (0, KILLED)
    return code == KILLED


Work = Callable[[Cluster, str, list[Line]], Awaitable[bool]]
KILLS: list[tuple[Work, str, int, int]] = [  # what, the point, every which k, at least so many kills
    (first_start, "file", 1, 6),
    (first_start, "statement", 8, 4),
    (import_, "before-commit", 1, 1),
    (import_, "after-commit", 1, 1),
    (import_, "statement", 8, 1),
    (import_, "closing", 2, 1),
    (backup, "file", 1, 4),
    (backup, "copying", 5, 4),
    (export, "file", 1, 3),
]


@pytest.mark.parametrize("work, point, stride, least", KILLS, ids=[f"{row[0].__name__}-{row[1]}" for row in KILLS])
async def test_a_command_is_killed_at_each_step(
    quick: Cluster, work: Work, point: str, stride: int, least: int
) -> None:
    history = [] if work is first_start else await written_by_this_version(quick)
    k, kills = 1, 0
    while await work(quick, f"{point}:{k}", history):
        k, kills = k + stride, kills + 1
    assert kills >= least


async def test_every_failpoint_is_used() -> None:
    joining = {*OF_A_MAKER, *OF_A_NEWCOMER, OF_A_DEVICE}
    assert {*POINTS} == {*IN_A_MESH} | {point for _, point, *_ in KILLS} | joining
