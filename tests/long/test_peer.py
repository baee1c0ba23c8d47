"""Long tests of `tests/test_peer.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from p2pchat import (
    DataLocked,
    Left,
    Message,
    P2PChatError,
    Probed,
    StorageError,
    TCPPeer,
    Warned,
    backup_profile,
    copy_database,
    open_history,
    probe,
)
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from tests.databases.servers import KINDS, Server, private
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.messaging.texts import texts


def test_two_peers_in_uvloop_meet_talk_and_part(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")

    async def scenario() -> tuple[list[str], list[str], str]:
        async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
            left = asyncio.ensure_future(ada.wait_for(Left, timeout=60))
            by_name = f"localhost:{ada.port}"
            async with TCPPeer(0, by_name, data=tmp_path / "bob", name="bob") as bob:
                to = await bob.wait_user("ada", timeout=60)
                await (await bob.send(to, "hello")).delivered(timeout=60)
                texts = [f"{number}" for number in range(3000)]
                await (await bob.send_many(to, texts)).delivered(timeout=60)
                got = [event.text async for event in _first(ada, 3001)]
            return got, ["hello", *texts], (await left).reason

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        got, said, reason = runner.run(scenario())
    assert (got, reason) == (said, "left")


def test_a_probe_measures_below_a_millisecond_in_uvloop_too(tmp_path: Path) -> None:
    """The clock of uvloop has whole milliseconds; a connection on one machine takes less."""
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")

    async def scenario() -> Probed:
        async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
            return await probe(f"127.0.0.1:{ada.port}", data=tmp_path / "ada")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(scenario())
    taken = [1000 * seconds for seconds in (found.connect_seconds, found.tls_seconds)]
    assert all(abs(each - round(each)) > 1e-4 for each in taken), taken


async def _first(peer: TCPPeer, count: int) -> AsyncIterator[Message]:
    async for event in peer.events(Message):
        yield event
        count -= 1
        if not count:
            return


@pytest.fixture(params=sorted(KINDS))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if missing := KINDS[request.param].missing():
        pytest.skip(missing)
    with private(request.param) as made:
        yield made


async def warned(events: asyncio.Queue[Warned], *codes: str) -> list[str]:
    """Return the texts of the next warnings; they must have these codes."""
    found = [await asyncio.wait_for(events.get(), 60) for _ in codes]
    assert [event.code for event in found] == list(codes)
    return [event.text for event in found]


async def test_a_peer_outlives_its_database_server(server: Server, home: Path) -> None:
    url = server.create("chat")
    heard: asyncio.Queue[Warned] = asyncio.Queue()
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada:

        async def listen() -> None:
            async for event in ada.events(consumer="warnings"):
                if isinstance(event, Warned):
                    heard.put_nowait(event)

        listening = asyncio.create_task(listen())
        await ada.broadcast("before")
        await asyncio.to_thread(server.kill)
        with pytest.raises(StorageError, match="does not answer"):
            await ada.broadcast("lost")
        [text] = await warned(heard, "storage")
        assert text.startswith("nothing is accepted until storage works again: the ") and "sesame" not in text
        with pytest.raises(StorageError):
            await ada.broadcast("lost too")
        await asyncio.to_thread(server.start)
        await warned(heard, "storage_works")
        await ada.broadcast("after")
        assert await texts(ada, "room") == ["before", "after"]
        assert heard.empty()
        listening.cancel()
    async with open_history(home / "ada", db=url) as history:
        assert [post.text for post in await history.history("room")] == ["before", "after"]
        assert [post.text for post in await history.search("after")] == ["after"]
        checked = await history.check()
        assert checked.faults == () and checked.size_bytes > 0
    with pytest.raises(P2PChatError, match="has its own backup tools"):
        await backup_profile(home / "ada", home / "copy", db=url)


async def test_a_peer_moves_to_a_database_server_and_continues_there(server: Server, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.broadcast("in a file")
        with pytest.raises(DataLocked):
            await copy_database(home / "ada", server.create("chat"))
    url = server.create("chat")
    copied = await copy_database(home / "ada", url)
    assert copied.entries >= 1
    async with TCPPeer(data=home / "ada", db=url) as ada:
        await ada.broadcast("on a server")
        with pytest.raises(StorageError, match="in use by another peer"):
            await copy_database(url, sqlite_url(home / "back.db"))
    await copy_database(url, home / "back")
    assert (home / "back" / "history.db").exists()
    async with TCPPeer(data=home / "ada", db=sqlite_url(home / "back" / "history.db")) as ada:
        assert await texts(ada, "room") == ["in a file", "on a server"]
    with pytest.raises(P2PChatError, match="same database"):
        await copy_database(url, url)
