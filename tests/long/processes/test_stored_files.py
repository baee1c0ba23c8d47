"""Files with every kind of database, through kills of both sides, and `p2pchat forget-file` beside a running peer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.testing.process_mesh import Child
from tests.deadlines import until
from tests.long.processes.test_files import noted
from tests.processes.commands import one_loop, run_forked
from tests.processes.peers import Cluster
from tests.processes.proxy import Proxy

pytestmark = one_loop


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


@pytest.mark.parametrize("kind", ["sqlite", "mariadb", "postgresql"])
async def test_files_survive_kills_of_both_sides_with_every_database(
    quick: Cluster, new_database: Callable[[str], str], tmp_path: Path, kind: str
) -> None:
    """The network stands still when the first pieces came, so that the kills come before the end of the larger file."""
    urls = {
        name: sqlite_url(tmp_path / f"{name}.db") if kind == "sqlite" else new_database(kind) for name in ("ada", "bob")
    }
    small, large = tmp_path / "plan.txt", tmp_path / "film.bin"
    small.write_text("the plan")
    large.write_bytes(random.Random(24).randbytes(20 * PIECE_BYTES + 5))
    proxy = Proxy(slow=0.01, records=True)  # 6 MiB a second
    assert proxy.recorded is not None
    came = proxy.recorded[True]
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
    await until(lambda: len(came) > 5 * PIECE_BYTES, "some pieces of the larger file")
    proxy.hold(back=True)
    await until(lambda: len(noted(content)) > 2, "some pieces to be stored")
    for peer in (ada, bob):
        peer.kill()
    for peer in (ada, bob):
        await peer.ended()
    assert len(noted(content)) < 21, "all of it was there before the kills"
    proxy.cut()
    ada, bob = await start(ada.listening["port"])
    await ada.event("file_receipt", user="bob", id=id, name="film.bin", has=True, count=1, of=1)
    assert {path.read_bytes() for path in contents(quick.home / "bob")} == {small.read_bytes(), large.read_bytes()}

    at = ("--data", str(quick.home / "ada"), "--db", urls["ada"])
    taken = sum(path.stat().st_size for path in (quick.home / "ada" / "content").iterdir())
    gone = await run_forked(quick, quick.home, "forget-file", id, *at, "--json")
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
