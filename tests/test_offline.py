"""Checks of databases, and the addresses in a history."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from p2pchat import Message, PeerClosed, Settings, TCPPeer, Warned, open_alone, open_history
from p2pchat.runtime import storage_worker
from p2pchat.storage.dialects import sqlite_dialect
from tests.deadlines import until
from tests.messaging.conftest import home as home

PAGE_BYTES = 4096


async def written(data: Path) -> Path:
    """Write enough that there are pages to damage; return the database."""
    async with TCPPeer(0, name="ada", data=data) as ada:
        await ada.send_many("room", ["word " * 100] * 400)
    return data / "history.db"


async def test_check_finds_no_fault_beside_a_running_peer(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
        await ada.broadcast("hello")
        async with open_history(tmp_path / "ada") as history:
            checked = await history.check()
    assert checked.faults == () and checked.size_bytes > PAGE_BYTES
    with pytest.raises(PeerClosed):
        await history.check()


async def test_a_damaged_text_is_reported_and_served_after_repair(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
        await ada.send_many("room", ["one", "two", "three"])

    def edit(old: str, new: str) -> None:
        with closing(sqlite3.connect(tmp_path / "ada" / "history.db")) as database, database:
            database.execute("update entries set body = replace(body, ?, ?)", (old, new))

    edit("two", "twq")
    async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
        warnings = ada.events(Warned)
        async with TCPPeer(0, ada.endpoint, name="bob", temporary=True) as bob, asyncio.timeout(60):
            told = await anext(warnings)
            assert told.code == "storage" and "history.db is damaged: move it away" in told.text
            await (await bob.send("ada", "what was not damaged goes on")).delivered(timeout=60)
            edit("twq", "two")
            assert (await anext(warnings)).code == "storage_works"
            await bob.wait_for(Message, where=lambda message: message.text == "three")
            assert [post.text for post in await bob.history("room")] == ["one", "two", "three"]


async def test_a_check_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled check ends; an endless query represents a large database."""
    await written(tmp_path / "ada")
    async with open_history(tmp_path / "ada") as history:
        storage = history._disk.storage
        without_end = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def endless(most: int = 0) -> list[str]:
            loop.call_soon_threadsafe(started.set)
            with storage._reading():
                storage._read.all(without_end)
            return []

        storage.faults = endless  # type: ignore[method-assign]
        checking = asyncio.ensure_future(history.check())
        await started.wait()
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking


async def test_known_addresses_are_stored(tmp_path: Path) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
        async with TCPPeer(0, ada.endpoint, name="bob", data=tmp_path / "bob") as bob:
            await bob.wait_user("ada", timeout=60)
            await (await bob.broadcast("hi")).delivered(timeout=60)
    async with open_history(tmp_path / "bob") as history:
        [address] = history.addresses()
    assert (address.user, address.endpoint) == (ada.me, ada.endpoint)
    assert address.answered_at is not None
    with closing(sqlite3.connect(tmp_path / "bob" / "history.db")) as database, database:
        database.execute("update addresses set verified_at = 0")
    async with open_history(tmp_path / "bob") as history:
        assert [address.answered_at for address in history.addresses()] == [None]


@asynccontextmanager
async def one_that_got(data: Path, texts: list[str]) -> AsyncIterator[TCPPeer]:
    """Start ada, to whom bob wrote these."""
    async with TCPPeer(data=data / "ada", name="ada") as ada, TCPPeer(0, ada.endpoint, data=data / "bob") as bob:
        await (await bob.send_many("room", texts)).delivered(timeout=60)
        yield ada


@contextmanager
def read_by_another(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from entries").fetchall()
        yield


def is_in_a_file(text: bytes, home: Path) -> bool:
    return any(text in file.read_bytes() for file in home.glob("history.db*"))


async def test_a_deleted_text_leaves_the_log_once_nobody_else_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_worker, "EMPTIED_AFTER", 0.01)
    home, killed = tmp_path / "ada", tmp_path / "killed"
    async with one_that_got(tmp_path, [f"xyzzy {number}" for number in range(300)]) as ada:
        with read_by_another(home / "history.db"):
            deleted = await ada.delete_history("room")
            assert (deleted.messages, deleted.is_gone) == (300, False)
            assert is_in_a_file(b"xyzzy", home)
            shutil.copytree(home, killed)
        await until(lambda: not is_in_a_file(b"xyzzy", home), "an empty log")
    async with TCPPeer(data=killed, settings=Settings(wal_warm_bytes=0)):  # killed while the other program read
        await until(lambda: not is_in_a_file(b"xyzzy", killed), "an empty log")


async def test_a_deletion_at_rest_says_that_another_program_still_reads_what_was_deleted(tmp_path: Path) -> None:
    home = tmp_path / "ada"
    async with one_that_got(tmp_path, ["xyzzy"]):
        pass
    async with open_alone(home) as ada:
        with read_by_another(home / "history.db"):
            assert not (await ada.delete_history("room")).is_gone
        assert (await ada.delete_history("room")).is_gone
    assert not is_in_a_file(b"xyzzy", home)


async def test_a_deletion_at_rest_gives_back_what_one_beside_a_running_peer_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_dialect, "COMPACTED_AT_ONCE", 0)  # as if the database were large
    async with TCPPeer(0, data=tmp_path / "ada", name="ada") as ada:
        async with TCPPeer(0, ada.endpoint, data=tmp_path / "bob", name="bob", invite=await ada.make_invite()) as bob:
            to = await bob.wait_user("ada", timeout=60)
            receipts = await bob.send_many(to, ["x" * 1000] * 1000)
            await receipts.delivered(timeout=60)
        assert (await ada.delete_history("bob")).messages == 1000
    file = tmp_path / "ada" / "history.db"
    before = file.stat().st_size
    async with open_alone(tmp_path / "ada") as at_rest:
        assert (await at_rest.delete_history("bob")).messages == 0
    assert file.stat().st_size < before / 4


async def test_a_copy_is_read_where_its_network_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it taken for one of the network that is there."""
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
        await ada.broadcast("hello")
        await ada.send(ada.me, "a note")
    copy = shutil.copytree(tmp_path / "ada", tmp_path / "copy")
    for name in ("network", "guest"):
        (copy / name).unlink(missing_ok=True)
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "elsewhere"))
    for _ in range(2):
        async with open_history(copy) as history:
            assert [post.text for post in await history.history("room")] == ["hello"]
            assert [post.text for post in await history.history(history.me)] == ["a note"]
            assert history.expelled_by is None
        async with TCPPeer(data=tmp_path / "elsewhere" / "eve", name="eve"):
            pass  # founds a network there
