"""Frames only: protocol and Client over TLS between two processes, without core and storage: the limit of a link.

Each message is one small frame, encoded singly, as in a chat without storage. If websockets is installed, it sends the
same texts for comparison, over TLS with the same keys and without compression: first in a plain loop, then 2,000 at
once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Setting, middle, shown, spread, text
from benchmarks.workers import Channel, Worker, settle

TOGETHER = 256  # messages between two turns of the loop
GATHERED = 2_000


class End:
    """One end of a link, and the number of frames it has received."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: Any, *, server: bool,
        on_frames: Callable[[list[Any]], None] = lambda frames: None,
    ) -> None:  # fmt: skip
        from p2pchat.client import Client
        from p2pchat.settings import Settings

        self.frames = 0
        self._told = on_frames
        self.up = True
        self.drained = asyncio.Event()
        self.enough = asyncio.Event()
        self.wanted = 0
        self.client = Client(
            1, reader, writer, tls_context=context, server_side=server, settings=Settings(),
            on_frames=self._frames, on_fault=self._fault, on_down=self._down,
            on_full=lambda link: self.drained.clear(), on_drained=lambda link, was_full: self.drained.set(),
            on_bytes=self._decode,
        )  # fmt: skip
        self.client.raise_limit()

    def _decode(self, link: int, waiting: int = 0) -> None:
        while self.client.undecoded:
            self.client.decode()

    def _frames(self, link: int, frames: list[Any]) -> None:
        self.frames += len(frames)
        self._told(frames)
        if self.wanted and self.frames >= self.wanted:
            self.enough.set()

    def _fault(self, link: int, code: str, text: str) -> None:
        raise RuntimeError(f"{code}: {text}")

    def _down(self, link: int, reason: str) -> None:
        self.up = False
        self.enough.set()

    async def wait(self, frames: int) -> None:
        """Wait until `frames` frames have come in total."""
        self.wanted = frames
        if self.frames < frames:
            self.enough.clear()
            await self.enough.wait()


def _contexts(directory: str) -> tuple[Any, Any]:
    from p2pchat.identity.identity import Identity
    from p2pchat.identity.tls_pipe import client_context, server_context

    return server_context(Identity.generate(), Path(directory)), client_context()


async def take(channel: Channel, directory: str, messages: int, rounds: int) -> None:
    """Run as a worker: receive `messages` frames and answer with one, for each round."""
    from p2pchat.protocol import Ping, encode

    done = asyncio.Event()
    context, _ = _contexts(directory)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = End(reader, writer, context, server=True)
        await end.client.handshake(10)
        end.client.start()
        settle()
        worked = time.process_time()
        for number in range(1, rounds + 1):
            await end.wait(number * messages)
            end.client.send(encode(Ping()))
        channel.send(cpu=time.process_time() - worked)
        await end.wait(rounds * messages + 1)
        done.set()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        channel.send(port=server.sockets[0].getsockname()[1])
        await done.wait()


async def give(channel: Channel, directory: str, port: int, messages: int, rounds: int) -> None:
    """Run as a worker: send `messages` frames and wait for the answer; report the time of each round."""
    from p2pchat.client import STREAM_LIMIT_BYTES
    from p2pchat.protocol import Bye, encode

    streams = await asyncio.open_connection("127.0.0.1", port, limit=STREAM_LIMIT_BYTES)
    end = End(*streams, _contexts(directory)[1], server=False)
    await end.client.handshake(10)
    end.client.start()
    settle()
    send, client = end.client.send, end.client
    texts = [text(i) for i in range(messages)]
    for number in range(1, rounds + 1):
        worked, begun = time.process_time(), time.perf_counter()
        for first in range(0, messages, TOGETHER):  # of one turn, joined as the driver does
            # Bye is the only frame that holds a text and little else.
            send(b"".join(encode(Bye("left", said)) for said in texts[first : first + TOGETHER]))
            await asyncio.sleep(0)
            if client.full:
                end.drained.clear()
                await end.drained.wait()
        await end.wait(number)
        channel.send(seconds=time.perf_counter() - begun, cpu=time.process_time() - worked)
    send(encode(Bye("left")))
    await channel.closed()


# ---- websockets


async def take_websockets(channel: Channel, directory: str, messages: int, rounds: int) -> None:
    """Run as a worker: the same as `take`, with websockets; two ways per round."""
    from websockets.asyncio.server import ServerConnection, serve

    done = asyncio.Event()

    async def accepted(socket: ServerConnection) -> None:
        settle()
        worked = time.process_time()
        for _ in range(2 * rounds):
            for _ in range(messages):
                await socket.recv()
            await socket.send("!")
        channel.send(cpu=time.process_time() - worked)
        done.set()

    context = _contexts(directory)[0]
    async with serve(accepted, "127.0.0.1", 0, ssl=context, compression=None) as server:
        channel.send(port=next(iter(server.sockets)).getsockname()[1])
        await done.wait()


async def give_websockets(channel: Channel, directory: str, port: int, messages: int, rounds: int) -> None:
    """Run as a worker: the same as `give`, with websockets: a plain loop, then 2,000 at once."""
    from websockets.asyncio.client import connect

    context = _contexts(directory)[1]
    texts = [text(i) for i in range(messages)]
    async with connect(f"wss://127.0.0.1:{port}", ssl=context, compression=None) as socket:
        settle()
        for _ in range(rounds):
            worked, begun = time.process_time(), time.perf_counter()
            for said in texts:
                await socket.send(said)
            await socket.recv()
            plain = time.perf_counter() - begun
            begun = time.perf_counter()
            for first in range(0, messages, GATHERED):
                await asyncio.gather(*map(socket.send, texts[first : first + GATHERED]))
            await socket.recv()
            gather = time.perf_counter() - begun
            channel.send(plain=plain, gather=gather, cpu=time.process_time() - worked)
    await channel.closed()


# ---- the rows


def _measure(setting: Setting, there: str, here: str, messages: int) -> tuple[list[dict[str, float]], float]:
    """Return the results of each round, and the CPU seconds of all of them, both ends."""
    home = setting.directory
    common = {"directory": str(home), "messages": messages, "rounds": setting.rounds}
    with Worker(f"frames.{there}", home=home, **common) as far:
        port = far.get()["port"]
        with Worker(f"frames.{here}", home=home, port=port, **common) as near:
            rounds = [near.get() for _ in range(setting.rounds)]
            return rounds, far.get()["cpu"] + sum(each["cpu"] for each in rounds)


def run(setting: Setting) -> list[Row]:
    """Measure both and compare them."""
    messages = setting.messages
    rounds, worked = _measure(setting, "take", "give", messages)
    rates = [messages / said["seconds"] for said in rounds]
    own, cpu = middle(rates), 1e6 * worked / messages / setting.rounds
    note = f"CPU a message, both ends: {shown(cpu)} us; {spread(rates)}"
    if setting.alone or find_spec("websockets") is None:
        beside = "" if setting.alone else "websockets is not installed"
        return [Row("frames only, one a message", own, "/s", "", beside, note, cpu)]
    fewer = max(1, messages // 3)
    theirs, their_cpu = _measure(setting, "take_websockets", "give_websockets", fewer)
    plain = middle([fewer / said["plain"] for said in theirs])
    gather = middle([fewer / said["gather"] for said in theirs])
    setting.floor["websockets plain"], setting.floor["websockets gather"] = plain, gather
    both = f"CPU a message, both ways and ends: {shown(1e6 * their_cpu / (2 * fewer) / setting.rounds)} us"
    beside = f"{own / plain:.1f} x websockets ({shown(plain)}/s in a plain loop)"
    return [
        Row("frames only, one a message", own, "/s", "8 x websockets", beside, note, cpu),
        Row("websockets, plain loop", plain, "/s", "", "", f"TLS, no compression; nothing kept; {both}"),
        Row("websockets, 2,000 at once", gather, "/s", note="the same"),
    ]
