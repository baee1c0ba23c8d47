"""Links that a third member carries, beside direct ones: a private message, a file, and what a flood costs the carrier.

Guests listen nowhere, so the founder of their network carries their link. Each end is a process. A delay lies between
two sockets of this machine: a process passes bytes on so much later, and takes at most 4 MiB meanwhile.

The carrier's memory is what its process grows by at most, after it carried a file of the same size. The floods: one
member sends all that the carrier has room for to another one, which tells any room and is stopped; and one sends more
than it has room for. They begin as many circuits as a member may have.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.against.usage import cpu_of, forget_peak, peak_of, resident_of
from benchmarks.delivered import SLICES
from benchmarks.files import make
from benchmarks.floor import Commits, RoundTrips
from benchmarks.results import Row, Setting, middle, percentile, shown, text
from benchmarks.workers import Channel, Worker, settle

DELAY = 0.080  # seconds of a round trip between the two ends
IN_FLIGHT = 4 * 2**20  # bytes that a delay takes in each direction
PIECE = 64 * 1024
NETWORK = "lab"  # of members, where programs of one login would share what a member may have
ROOM = 2**53 - 1  # the largest
FLOOD = 64 * 2**20  # bytes


# ---- a delay


async def delay(channel: Channel, port: int, seconds: float) -> None:
    """Run as a worker: pass on the bytes of connections to a port so much later, in both directions."""
    passing = set[asyncio.Task[None]]()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        for one, other in ((reader, far_writer), (far_reader, writer)):
            passing.add(asyncio.create_task(_pass_on(one, other, seconds)))

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        channel.send(port=server.sockets[0].getsockname()[1])
        await channel.closed()
    for task in passing:
        task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop, waiting = asyncio.get_running_loop(), deque[tuple[float, bytes]]()
    news, room = asyncio.Event(), asyncio.Event()

    async def take() -> None:
        while data := await reader.read(PIECE):
            waiting.append((loop.time() + seconds, data))
            news.set()
            while sum(len(data) for _, data in waiting) >= IN_FLIGHT:
                room.clear()
                await room.wait()
        waiting.append((loop.time() + seconds, b""))
        news.set()

    taking = asyncio.create_task(take())
    try:
        while True:
            while not waiting:
                news.clear()
                await news.wait()
            due_at, data = waiting[0]
            await asyncio.sleep(due_at - loop.time())
            waiting.popleft()
            room.set()
            if not data:
                break
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()
        writer.close()


# ---- the three


async def carry(channel: Channel, data: str) -> None:
    """Run as a worker: a peer with which others link, and which carries what they cannot reach."""
    from p2pchat import TCPPeer

    async with TCPPeer(0, data=data, name="rita", network=NETWORK) as peer:
        settle()
        channel.send(port=peer.port)
        await channel.closed()


async def take(channel: Channel, data: str, port: int, listens: bool) -> None:
    """Run as a worker: fetch the file of each message, and report when it was verified and synced."""
    from p2pchat import Message, TCPPeer

    endpoints = [f"127.0.0.1:{port}"] if port else []
    async with TCPPeer(0, *endpoints, data=data, name="bob", network=NETWORK, listen=listens) as peer:
        settle()
        channel.send(port=peer.port)
        fetching = asyncio.create_task(_fetch(channel, peer.events(Message)))
        await channel.closed()
        fetching.cancel()


async def _fetch(channel: Channel, messages: Any) -> None:
    async for event in messages:
        if event.attachments:
            begun = time.perf_counter()
            await event.attachments[0].fetch()
            channel.send(seconds=time.perf_counter() - begun)


async def give(channel: Channel, data: str, port: int, echo: int) -> None:
    """Run as a worker: send private messages and files as told, and report what the messages took."""
    from p2pchat import TCPPeer

    commits, trips = Commits(Path(data).parent / "commits.db"), RoundTrips(echo)
    async with TCPPeer(0, f"127.0.0.1:{port}", data=data, name="ada", network=NETWORK, listen=False) as peer:
        bob = await peer.wait_user("bob", timeout=60)
        await (await peer.send(bob, "first")).delivered(timeout=60)
        settle()
        channel.send(via=bob.via)
        while (asked := await channel.receive()) is not None:
            if "file" in asked:
                await (await peer.send(bob, "", files=[asked["file"]])).delivered()
                continue
            took = []
            for number in range(asked["messages"]):
                begun = time.perf_counter()
                await (await peer.send(bob, text(number))).delivered()
                took.append(time.perf_counter() - begun)
            some = len(took) // 2 + 1
            floor = 2 * middle(commits.measure(some)) + middle(trips.measure(some))
            channel.send(took=took, floor=floor)
    commits.close()
    trips.close()


class Pair:
    """Two linked members, and the one that carries their link unless it is direct."""

    def __init__(self, setting: Setting, name: str, stack: ExitStack, *, carried: bool, seconds: float = 0.0) -> None:
        self.home = setting.directory / name
        self.home.mkdir()
        self._stack = stack
        self._seconds = seconds / 2 if carried else seconds  # on each of its connections
        echo = self._start("floor.serve_tls", directory=str(self.home)).get()["port"]
        self.rita: Worker | None = None
        port = 0
        if carried:
            self.rita = self._start("carried.carry", data=str(self.home / "rita"))
            port = self.rita.get()["port"]
        self.port = port  # of the carrier
        there = self._way(port) if port else 0
        self.bob = self._start("carried.take", data=str(self.home / "bob"), port=there, listens=not carried)
        port = port or self.bob.get()["port"]
        if carried:
            self.bob.get()
        self.ada = self._start("carried.give", data=str(self.home / "ada"), port=self._way(port), echo=echo)
        assert bool(self.ada.get()["via"]) == carried

    def _start(self, where: str, **arguments: Any) -> Worker:
        return self._stack.enter_context(Worker(where, home=self.home, **arguments))

    def _way(self, port: int) -> int:
        """Return the port by which another one is dialled."""
        if not self._seconds:
            return port
        way: int = self._start("carried.delay", port=port, seconds=self._seconds / 2).get()["port"]
        return way

    def messages(self, count: int) -> tuple[list[float], float]:
        """Return the seconds from `send` to *delivered* of each, and of two commits and a round trip on loopback."""
        self.ada.put({"messages": count})
        found = self.ada.get()
        return found["took"], found["floor"]

    def file(self, size: int) -> float:
        """Return the seconds of a file."""
        path = self.home / f"content-{size}"
        make(path, size)
        self.ada.put({"file": str(path)})
        seconds: float = self.bob.get()["seconds"]
        path.unlink()
        return seconds


def _compared(setting: Setting, seconds: float, count: int, size: int) -> list[Row]:
    """Return the rows of one delay."""
    where = f", {seconds * 1000:.0f} ms there and back" if seconds else ""
    name = f"carried-{seconds * 1000:.0f}"
    took, beside, floors = list[float](), list[float](), list[float]()
    with ExitStack() as stack:
        direct = Pair(setting, f"{name}-direct", stack, carried=False, seconds=seconds)
        pair = Pair(setting, name, stack, carried=True, seconds=seconds)
        for _ in range(SLICES):  # in turn, because a disk is not equally fast all the time
            for one, all_took in ((direct, beside), (pair, took)):
                some, floor = one.messages(count // SLICES + 1)
                all_took += some
                floors.append(floor + seconds)
        streamed = direct.file(size)
        assert pair.rita is not None
        worked = cpu_of(pair.rita.pid)
        fetched = pair.file(size)
        worked = cpu_of(pair.rita.pid) - worked
    median, other, least = (1000 * middle(each) for each in (took, beside, floors))
    limit = f"{median / least:.1f} x two commits and a round trip ({shown(least)} ms)"
    rate, note = size / fetched / 1e6, f"CPU of the carrier: {shown(1e9 * worked / size)} ns a byte"
    return [
        Row(
            f"a private message that a third carries{where}",
            median,
            "ms",
            "2 x a direct one",
            f"{median / other:.2f} x a direct one ({shown(other)} ms); {limit}",
            f"99 of 100: {shown(1000 * percentile(took, 0.99))} ms",
        ),
        Row(
            f"a carried file of {shown(size / 2**20)} MiB{where}",
            rate,
            "MB/s",
            "2 MB/s" if seconds else "5 MB/s",
            f"{streamed / fetched:.2f} x a direct one ({shown(size / streamed / 1e6)} MB/s)",
            note,
        ),
    ]


# ---- floods


async def collude(channel: Channel, data: str, port: int, name: str) -> None:
    """Run as a worker: a member that does with circuits what it is told."""
    from p2pchat import TCPPeer
    from p2pchat.core.mesh.circuits import FIRST_ROOM
    from p2pchat.protocol import Carried, Circuit, encode

    async with TCPPeer(0, f"127.0.0.1:{port}", data=data, name=name, network=NETWORK, listen=False) as peer:
        await peer.wait_user("rita", timeout=60)
        link = next(one for one in peer._driver.node.links.by_peer.values() if not one.carrier)
        circuits = peer._driver.node.links.circuits
        first = 1_000_000 + (peer.me.key > link.peer)
        rooms, others = dict[int, int](), list[int]()

        def on_carried(on: Any, frame: Carried) -> None:
            if frame.id in rooms:
                rooms[frame.id] = max(rooms[frame.id], frame.room)

        def on_circuit(on: Any, frame: Circuit) -> str:
            if frame.end is None:
                others.append(frame.id)
            else:
                rooms.pop(frame.id, None)
            return ""

        def say(*frames: Circuit | Carried) -> None:
            peer._driver.connections.send(link.id, b"".join(map(encode, frames)))

        circuits.on_carried = on_carried  # type: ignore
        circuits.on_circuit = on_circuit  # type: ignore
        circuits.carrier = lambda peer: None  # type: ignore  # its own would have lower numbers, which ends the link
        channel.send(me=peer.me.key)
        while (asked := await channel.receive()) is not None:
            if "to" in asked:  # begin circuits
                for number in range(asked["circuits"]):
                    rooms[first + 2 * number] = FIRST_ROOM
                    say(Circuit(first + 2 * number, to=asked["to"]))
                await asyncio.sleep(1)  # until they have begun, or were refused
            elif "room" in asked:  # tell it for each circuit that others began
                say(*(Carried(id, room=ROOM) for id in others))
            else:
                await _flood(peer, link.id, rooms, say, asked["bytes"], beyond=asked["beyond"])
            channel.send(done=True)


async def _flood(peer: Any, link: int, rooms: dict[int, int], say: Any, count: int, *, beyond: bool) -> None:
    """Send so many bytes, or what there is room for within two seconds."""
    from p2pchat.protocol import MAX_CARRIED_BYTES, Carried

    sent, left, until = dict.fromkeys(rooms, 0), count, time.monotonic() + 2.0
    while rooms and left > 0 and time.monotonic() < until:
        for id, room in list(rooms.items()):
            size = MAX_CARRIED_BYTES if beyond else min(MAX_CARRIED_BYTES, room - sent[id])
            if size:
                sent[id] += size
                left -= size
                say(Carried(id, bytes(size)))
        await asyncio.sleep(0)
        while peer._driver.connections.is_full(link):
            await asyncio.sleep(0.001)


def _flooded(setting: Setting, name: str, size: int, circuits: int, *, beyond: bool) -> tuple[float, float]:
    """Return by how many MiB a carrier grows at most for two who flood, and for a file before that."""
    with ExitStack() as stack:
        pair = Pair(setting, name, stack, carried=True)
        assert pair.rita is not None
        rita, eves = pair.rita.pid, list[Worker]()
        for eve in ("eve", "mallory"):
            arguments = {"data": str(pair.home / eve), "port": pair.port, "name": eve}
            eves.append(stack.enter_context(Worker("carried.collude", home=pair.home, **arguments)))
        keys = [eve.get()["me"] for eve in eves]
        pair.file(size)

        def grown(doing: Callable[[], object]) -> float:
            before = resident_of(rita)
            forget_peak(rita)
            doing()
            return max(0, peak_of(rita) - before) / 1024

        def ask(eve: Worker, **what: Any) -> None:
            eve.put(what)
            eve.get()

        def flood() -> None:
            ask(eves[0], to=keys[1], circuits=circuits)
            if not beyond:
                ask(eves[1], room=True)
                time.sleep(0.5)  # until it has come
                eves[1].send_signal(signal.SIGSTOP)
            ask(eves[0], bytes=FLOOD, beyond=beyond)

        honest = grown(lambda: pair.file(size))
        hostile = grown(flood)
        eves[1].send_signal(signal.SIGCONT)
    return hostile, honest


def _floods(setting: Setting, size: int) -> list[Row]:
    from p2pchat.settings import Settings

    if sys.platform != "linux":
        return []  # the memory of a process is not told
    most = Settings().max_circuits if setting.singles >= 100 else 8
    rows = list[Row]()
    for what, circuits, beyond in (
        ("two who collude, one circuit", 1, False),
        (f"two who collude, {most} circuits", most, False),
        ("one that sends beyond its room", most, True),
    ):
        grown, honest = _flooded(setting, f"carried-flood-{len(rows)}", size, circuits, beyond=beyond)
        beside = f"an honest file: {honest:.2f} MiB"
        rows.append(Row(f"growth of a carrier: {what}", grown, "MiB", "1 MiB", beside))
    return rows


def run(setting: Setting) -> list[Row]:
    """Measure all of it."""
    large = max(2**16, setting.file_bytes // 10)
    rows = _compared(setting, 0.0, setting.singles, large)
    rows += _compared(setting, DELAY, max(2, setting.singles // 10), max(2**16, large // 4))
    return rows + _floods(setting, large // 4)
