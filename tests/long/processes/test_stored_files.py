"""`p2pchat files` and `p2pchat forget-file`, beside a running peer and at rest; files with every kind of database."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.core.content.pieces_and_file_names import PIECE_BYTES
from p2pchat.storage.dialects.sqlite import sqlite_url
from p2pchat.testing.process_mesh import Child
from tests.deadlines import until
from tests.processes.commands import Ran, environment, one_loop
from tests.processes.peers import Cluster
from tests.processes.proxy import Proxy
from tests.processes.test_files import noted

pytestmark = one_loop


async def filled(data: Path) -> tuple[str, str]:
    """Make a profile with three files; return the root of the largest, and the id of the message with the others."""
    async with TCPPeer(data=data, name="ada") as ada:
        await ada.send(ada.room, "", files=[("large.bin", bytes(300_000))])
        two = await ada.send(ada.room, "", files=[("b.txt", b"bb"), ("\u202egpj.exe\n", b"c")])
        [large, *_] = await ada.stored_files()
        return large.root, two.id


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


async def run(cluster: Cluster, *words: str) -> Ran:
    code, out, err = await cluster.talk(*words, environment=environment(cluster.home))
    return Ran(code, out.decode(), err.decode())


async def use(cluster: Cluster, root: str, two: str) -> None:
    """List, refuse, and remove; the same whether a peer runs or not."""
    data = cluster.home / "ada"
    at = ("--data", str(data))
    shown = await run(cluster, "files", *at)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert root[:12] in lines[0] and "large.bin (ada in the room, 2" in lines[0]
    assert "\u202e" not in shown.out and lines[3].startswith("3 files, 300.") and len(lines) == 4
    refused = await run(cluster, "files", *at, "--keep", "0")
    assert refused.code == 2 and "add --yes" in refused.complains()
    bad = await run(cluster, "files", *at, "--keep", "much", "--yes")
    assert bad.code == 2 and "is not a size" in bad.err
    nothing = await run(cluster, "files", *at, "--older-than", "1", "--yes", "--json")
    assert (nothing.code, nothing.events) == (0, [{"files": 0, "size_bytes": 0, "only_here": 0, "kept": 0}])
    unknown = await run(cluster, "forget-file", "0123456789ab", *at)
    assert unknown.code == 2 and "no file here has a root" in unknown.complains()
    lonely = await run(cluster, "forget-file", two, *at)
    assert lonely.code == 1 and "nobody else is known to have this file" in lonely.complains()
    spared = await run(cluster, "files", *at, "--keep", "0", "--yes")
    assert spared.code == 0 and spared.out.startswith("removed 0 files") and len(contents(data)) == 3
    assert "3 files stay that nobody else is known to have: --force removes them too" in spared.err
    gone = await run(cluster, "forget-file", two, *at, "--json", "--force")
    assert gone.code == 0, gone.err
    assert gone.events[0] == {"files": 2, "size_bytes": 3, "only_here": 2} and len(gone.events) == 3
    assert len(contents(data)) == 1
    kept = await run(cluster, "files", *at, "--keep", "1MB", "--yes")
    assert kept.code == 0 and len(contents(data)) == 1
    rest = await run(cluster, "files", *at, "--json")
    assert [row["files"] for row in rest.events[:1]] == [1] and rest.events[1]["root"] == root
    assert rest.events[1]["here"] is True and rest.events[1]["messages"] == 1
    last = await run(cluster, "files", *at, "--keep", "0", "--force")
    assert last.code == 0 and last.out.startswith("removed 1 file, 300.") and contents(data) == []
    assert (await run(cluster, "files", *at)).out == "no files take space here\n"


@pytest.fixture
def data(quick: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of ada; peers of this process are in the network of the command lines."""
    monkeypatch.setenv("P2PCHAT_HOME", str(quick.home))
    return quick.home / "ada"


async def test_files_are_shown_and_removed_in_a_profile_at_rest(quick: Cluster, data: Path) -> None:
    await use(quick, *await filled(data))


async def test_files_are_shown_and_removed_beside_a_running_chat(quick: Cluster, data: Path) -> None:
    root, two = await filled(data)
    chat = quick.child("ada")
    await chat.start()
    await use(quick, root, two)
    assert await chat.leave() == 0


@pytest.mark.parametrize("kind", ["sqlite", "mariadb", "postgresql"])
async def test_files_survive_kills_of_both_sides_with_every_database(
    quick: Cluster, new_database: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    """The network is slow, so that the kills come before the end of the larger file."""
    urls = {
        name: sqlite_url(tmp_path / f"{name}.db") if kind == "sqlite" else new_database(kind) for name in ("ada", "bob")
    }
    small, large = tmp_path / "plan.txt", tmp_path / "film.bin"
    small.write_text("the plan")
    large.write_bytes(random.Random(24).randbytes(20 * PIECE_BYTES + 5))
    proxy = Proxy(slow=0.01)  # 6 MiB a second
    endpoint = await proxy.listen()

    async def start(port: int = 0) -> tuple[Child, Child]:
        ada = quick.child("ada", "--db", urls["ada"], port=port)
        await ada.start()
        proxy.to("127.0.0.1", ada.listening["port"])
        bob = quick.child("bob", endpoint, "--db", urls["bob"])
        await bob.start()
        return ada, bob

    ada, bob = await start()
    await ada.event("joined", user="bob")
    await ada.do(do="send", to="room", text="look", files=[str(small), str(large)])
    id = (await ada.event("sent"))["id"]
    await bob.event("message", text="look")
    content = quick.home / "bob" / "content"
    await until(lambda: len(noted(content)) > 2, "some pieces of the larger file")
    for peer in (ada, bob):
        peer.kill()
    for peer in (ada, bob):
        await peer.ended()
    assert len(noted(content)) < 21, "all of it was there before the kills"
    ada, bob = await start(ada.listening["port"])
    await ada.event("file_receipt", user="bob", id=id, name="film.bin", has=True, count=1, of=1)
    assert {path.read_bytes() for path in contents(quick.home / "bob")} == {small.read_bytes(), large.read_bytes()}

    at = ("--data", str(quick.home / "ada"), "--db", urls["ada"])
    taken = sum(path.stat().st_size for path in (quick.home / "ada" / "content").iterdir())
    gone = await run(quick, "forget-file", id, *at, "--json")
    assert gone.code == 0 and gone.events[0] == {"files": 2, "size_bytes": taken, "only_here": 0}, gone.err
    assert [*(quick.home / "ada" / "content").iterdir()] == []
    await ada.do(do="history", to="room", ref="shown")
    row = (await ada.event("answer", ref="shown"))["rows"][-1]
    shown = [{name: file.get(name) for name in ("name", "here", "forgotten", "held_by")} for file in row["files"]]
    left = {"here": False, "forgotten": True, "held_by": 1}
    assert (row["text"], shown) == ("look", [{"name": "plan.txt", **left}, {"name": "film.bin", **left}])
    for peer in (bob, ada):
        assert await peer.leave() == 0
    await proxy.close()
