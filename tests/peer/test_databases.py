"""A peer whose database is on a server: it says once that this is away, accepts nothing, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pchat import DataLocked, P2PChatError, StorageError, TCPPeer, Warned, backup_profile, copy_database, open_history
from p2pchat.storage.dialects.sqlite import sqlite_url
from tests.databases.servers import KINDS, Server, private
from tests.peer.said import texts


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
    with pytest.raises(P2PChatError, match="has its own tools for copies"):
        await backup_profile(home / "ada", home / "copy", db=url)


async def test_a_peer_moves_to_a_server_and_goes_on_there(server: Server, home: Path) -> None:
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
