"""Ends of real links on loopback, and a relay between them, for the tests of client.py and server.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from p2pchat.client import Client
from p2pchat.identity.identity import Identity
from p2pchat.identity.tls_pipe import client_context, server_context
from p2pchat.protocol import AnyFrame, Bye, Ping, encode
from p2pchat.runtime.connection_manager import StuckLinks, dial
from p2pchat.server import Server
from p2pchat.settings import Settings
from tests.deadlines import WAIT, within

ADA = Identity.from_seed(b"a" * 32)
SERVER, CLIENT = server_context(ADA), client_context()
SETTINGS = Settings()
PING = encode(Ping())
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def frame_of(size: int, fill: str = "x") -> bytes:
    """A well-formed frame of `size` bytes, its length included."""
    empty = len(encode(Bye("", "")))
    return encode(Bye("", fill * (size - empty)))


async def fill(link_end: Client) -> None:
    while not link_end.full:
        link_end.send(frame_of(100_000))
        await asyncio.sleep(0)  # lets the transport send


class Recorder:
    """A recorder of a Client's callbacks."""

    def __init__(self) -> None:
        self.reads: list[list[AnyFrame]] = []
        self.faults: list[tuple[str, str]] = []
        self.reason = ""
        self.filled = self.drained = 0
        self._news = asyncio.Event()

    @property
    def frames(self) -> list[AnyFrame]:
        return [frame for read in self.reads for frame in read]

    async def until(self, condition: Callable[[], bool], what: str = "a callback of the link") -> None:
        """Wait until the condition holds; each callback checks it again."""
        async with within(WAIT, what):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def on_frames(self, link: int, frames: list[AnyFrame]) -> None:
        self.reads.append(frames)
        self._news.set()

    def on_fault(self, link: int, code: str, text: str) -> None:
        self.faults.append((code, text))
        self._news.set()

    def on_down(self, link: int, reason: str) -> None:
        assert not self.reason, "a link ends once"
        self.reason = reason
        self._news.set()

    def on_full(self, link: int) -> None:
        self.filled += 1
        self._news.set()

    def on_drained(self, link: int, was_full: bool) -> None:
        self.drained += was_full
        self._news.set()


def make_client(streams: Streams, recorder: Recorder, *, server_side: bool, settings: Settings = SETTINGS) -> Client:
    def decode(link: int, waiting: int) -> None:
        while client.undecoded:
            client.decode()

    client = Client(
        1,
        *streams,
        tls_context=SERVER if server_side else CLIENT,
        server_side=server_side,
        settings=settings,
        on_frames=recorder.on_frames,
        on_fault=recorder.on_fault,
        on_down=recorder.on_down,
        on_full=recorder.on_full,
        on_drained=recorder.on_drained,
        on_unsent=StuckLinks(settings).watch,
        on_bytes=decode,
    )
    return client


class Listener:
    """A listening Server, and a queue of its accepted connections."""

    def __init__(self) -> None:
        self.strangers: asyncio.Queue[Streams] = asyncio.Queue()
        self.server = Server(lambda reader, writer: self.strangers.put_nowait((reader, writer)))

    async def connect(self, port: int = 0) -> tuple[Streams, Streams]:
        """Dial and accept; `port` is that of a relay in between, 0 for none."""
        dialled = await dial("127.0.0.1", port or self.server.port, timeout=60)
        async with within(WAIT, "the server to accept"):
            return dialled, await self.strangers.get()


@asynccontextmanager
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    await made.server.listen("127.0.0.1", 0)
    try:
        yield made
    finally:
        await made.server.close()


class Pair:
    """The two started ends of a link: `ada` accepted it, `bob` dialled."""

    def __init__(self, ada: Client, bob: Client, to_ada: Recorder, to_bob: Recorder) -> None:
        self.ada, self.bob, self.to_ada, self.to_bob = ada, bob, to_ada, to_bob


@asynccontextmanager
async def linked(
    *, ada_settings: Settings = SETTINGS, bob_settings: Settings = SETTINGS, through: Relay | None = None
) -> AsyncIterator[Pair]:
    async with listener() as listening:
        if through is not None:
            await through.listen(listening.server.port)
        dialled, accepted = await listening.connect(through.port if through else 0)
        to_ada, to_bob = Recorder(), Recorder()
        ada = make_client(accepted, to_ada, server_side=True, settings=ada_settings)
        bob = make_client(dialled, to_bob, server_side=False, settings=bob_settings)
        await asyncio.gather(ada.handshake(60), bob.handshake(60))
        ada.start()
        bob.start()
        try:
            yield Pair(ada, bob, to_ada, to_bob)
        finally:
            ada.abort()
            bob.abort()
            await asyncio.gather(to_ada.until(lambda: bool(to_ada.reason)), to_bob.until(lambda: bool(to_bob.reason)))
            if through is not None:
                await through.close()


class Relay:
    """A relay that forwards bytes in pieces of chosen sizes, and records them."""

    def __init__(self, piece: Callable[[], int] = lambda: 65536) -> None:
        self.port = 0
        self.tape = bytearray()  # the bytes from the dialling to the accepting side
        self._piece = piece
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: list[asyncio.Task[None]] = []

    async def listen(self, to_port: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", to_port)
            self._writers += [writer, onward_writer]
            self._pumps += [
                asyncio.create_task(self._pump(reader, onward_writer, self.tape)),
                asyncio.create_task(self._pump(onward_reader, writer, bytearray())),
            ]

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tape: bytearray) -> None:
        while data := await reader.read(self._piece()):
            tape += data
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        """End both TCP connections without a closing alert of TLS."""
        for writer in self._writers:
            writer.close()

    async def close(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self.cut()
