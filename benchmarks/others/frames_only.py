"""p2pchat's frames over TLS: protocol.py and client.py, without core and storage.

There are two ways. `one` sends a frame for each message, encoded singly, which p2pchat never does; it shows the cost of
a frame. `entries` sends `entries` frames of up to 256 texts, as p2pchat does; comparable ways of other systems join 256
messages too. Texts are strings at both ends, and are encoded, escaped and checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.frames import TOGETHER, _contexts
from benchmarks.frames import End as Link
from benchmarks.others.ends import End, JsonObject, ReceivedCount


def absent() -> str:
    """Return the reason why this system cannot be measured here; "" if it can."""
    return ""


@contextmanager
def server(directory: Path, *, way: str = "one") -> Iterator[dict[str, Any]]:
    """Start no server."""
    yield {"directory": str(directory), "way": way}


class Participant(End):
    """A participant that listens, dials, and counts messages in frames."""

    loads = ("p2pchat.client", "p2pchat.identity.tls_pipe", "cryptography.x509")

    def __init__(self, number: int, taken: ReceivedCount, directory: str, way: str) -> None:
        super().__init__(number, taken)
        self._contexts = _contexts(directory)
        self._entries = way == "entries"
        self._links: list[Link] = []
        self._news = asyncio.Event()

    async def open(self) -> JsonObject:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, backlog=512)
        return {"port": self._server.sockets[0].getsockname()[1]}

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._link(reader, writer, server=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, server: bool) -> None:
        count: Callable[[list[Any]], None] = self._count_entries if self._entries else self._count
        link = Link(reader, writer, self._contexts[0 if server else 1], server=server, on_frames=count)
        await link.client.handshake(10)
        link.client.start()
        self._links.append(link)
        self._news.set()

    def _count(self, frames: list[Any]) -> None:
        self.taken.add(len(frames))

    def _count_entries(self, frames: list[Any]) -> None:
        self.taken.add(sum(len(frame.e) for frame in frames))

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        from p2pchat.runtime.connection_manager import dial as dialled

        for other in dial:
            await self._link(*await dialled("127.0.0.1", other["port"], timeout=10), server=False)
        while len(self._links) < len(links):
            self._news.clear()
            await self._news.wait()

    async def give(self, texts: list[str]) -> None:
        """Encode once and send to everyone."""
        for first in range(0, len(texts), TOGETHER):
            frames = self._encoded(texts[first : first + TOGETHER])
            for link in self._links:
                link.client.send(frames)
            await asyncio.sleep(0)
            for link in self._links:
                if link.client.full:
                    link.drained.clear()
                    await link.drained.wait()

    def _encoded(self, texts: list[str]) -> bytes:
        from p2pchat.protocol import Bye, Entries, encode

        if not self._entries:
            return b"".join(encode(Bye("left", said)) for said in texts)  # the frame that is closest to only a text
        long, short, signature = "ab" * 32, "ab" * 8, "ab" * 64
        entries = list(enumerate(texts, 1_760_000_000_000_000))
        return encode(Entries(long, long, short, 2, long, entries, signature))

    async def close(self) -> None:
        self._server.close()
        for link in self._links:
            await link.client.close()
