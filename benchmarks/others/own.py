"""p2pchat itself in the same harness: every way of sending, on a disk and in memory, to one and to several."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import ways
from benchmarks.others.ends import End, JsonObject, ReceivedCount


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return ""


@contextmanager
def server(directory: Path, *, way: str = "many", db: str = "") -> Iterator[dict[str, Any]]:
    """Start no server. `way` is many, gather or loop; `db` another database than SQLite."""
    yield {"directory": str(directory), "way": way, "db": db}


class Participant(End):
    """A peer whose program takes every message, and writes to the one other peer, or to the room."""

    loads = ("p2pchat.peer", "p2pchat.storage.sql_storage", "cryptography.x509")

    def __init__(self, number: int, taken: ReceivedCount, directory: str, way: str, db: str) -> None:
        from p2pchat import Joined, TCPPeer

        super().__init__(number, taken)
        self._peer = TCPPeer(data=f"{directory}/{number}", name=f"part-{number}", db=db or None)
        self._send = ways.WAYS[way]
        self._news = self._peer.events(Joined, consumer=None)
        self._to: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._kept: Any = None

    async def open(self) -> JsonObject:
        await self._peer.start()
        self._reading = asyncio.create_task(self._read())
        return {"endpoint": self._peer.endpoint}

    async def _read(self) -> None:
        from p2pchat import Message

        async for _ in self._peer.events(Message):
            self.taken.add(1)

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        for other in dial:
            await self._peer.connect(other["endpoint"])
        wanted, met = {f"part-{number}" for number in links}, set(self._online())
        while not wanted <= met:
            event = await anext(self._news)
            met |= {event.user.name} if event.event == "joined" else self._online().keys()  # many at once are counted
        self._to = self._peer.room
        if len(links) == 1:
            self._to = self._online()[f"part-{links[0]}"]
            await self._peer.allow(self._to)  # a fast round writes more than the limit of one who was never answered

    def _online(self) -> dict[str, Any]:
        return {user.name: user for user in self._peer.users() if user.status == "online"}

    async def give(self, texts: list[str]) -> None:
        """Return when everything is delivered to everyone."""
        await (await self._send(self._peer, self._to, texts)).delivered()

    async def keep(self, texts: list[str]) -> None:
        """Sign and commit each message separately, like messages that users write."""
        self._kept = await ways.loop(self._peer, self._to, texts)

    async def kept_is_taken(self) -> None:
        await self._kept.delivered()

    async def newest(self) -> None:
        for conversation in self._peer.conversations():
            await self._peer.history(conversation, limit=1)

    async def close(self) -> None:
        assert self._reading is not None
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._peer.aclose()
