"""Linked gateways: how soon all users are online, and what a message then costs.

All gateways are peers of one process, each with its own database and many hosted users. So one core does what ten
machines would share, and every figure of time is one of a busy core. Runs only if named.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Setting, middle, percentile, shown, text
from benchmarks.workers import Channel, Worker, WorkFailed, resident_kib, settle

PATIENCE = 300.0  # seconds for one thing
DIRECT = 50  # direct messages, one at a time
PACED = 200  # room messages, PACE seconds apart
PACE = 0.1
BURST = 500  # room messages at once, each by another user
AT_ONCE = 50  # users who register at a gateway at once: with all of them the loop of ten gateways stands for seconds
LOOK = 0.02  # seconds between two looks at what has no event


class Gateways:
    """All gateways, with their hosted users, and when each of them had which message."""

    def __init__(self, data: Path, count: int, users: int) -> None:
        from p2pchat import TCPPeer

        self.count, self.users = count, users
        self.peers = [TCPPeer(name=f"gate{number}", data=data / str(number)) for number in range(count)]
        self.hosted: list[list[Any]] = []
        self._incomplete = [*self.peers]  # peers that may not know everybody
        self.seen: dict[str, list[float]] = {}  # message id -> when a gateway told its users
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all, and name each to all others: users of a peer that nobody named have few places."""
        for peer in self.peers:
            await peer.start()
        for peer in self.peers:
            for other in self.peers:
                if other is not peer:
                    await peer.connect(other.endpoint)

    async def fill(self) -> None:
        """Host all users and set them online."""

        async def fill(number: int) -> list[Any]:
            users: list[Any] = []
            for start in range(0, self.users, AT_ONCE):
                names = [f"u{number}x{user}" for user in range(start, min(start + AT_ONCE, self.users))]
                users += await asyncio.gather(*map(self.peers[number].host, names))
            for user in users:
                user.set_presence("online")
            return users

        self.hosted = await asyncio.gather(*map(fill, range(self.count)))
        self._tasks = [asyncio.ensure_future(self._hear(peer)) for peer in self.peers]

    async def _hear(self, peer: Any) -> None:
        from p2pchat import Message, Sent

        async for event, _ in peer.hosting.everybody(Message, Sent):
            self.seen.setdefault(event.id, []).append(time.perf_counter())

    @property
    def all_linked(self) -> bool:
        return all(len(peer.links()) == self.count - 1 for peer in self.peers)

    @property
    def all_online(self) -> bool:
        """Whether everybody is online everywhere; a peer that knows all of them is not asked again."""
        while self._incomplete and len(self._incomplete[-1].here()) >= self.count * self.users:
            self._incomplete.pop()
        return not self._incomplete

    @property
    def in_step(self) -> bool:
        """Whether each gateway has the log of every user: messages wait behind those that it lacks."""
        nodes = [peer._lifecycle.running_node for peer in self.peers]
        logs = (len(node.replicator.conversations[node.room].writers) for node in nodes if node is not None)
        return all(count >= self.count * (self.users + 1) for count in logs)

    def everywhere(self, id: str) -> bool:
        return len(self.seen.get(id, ())) == self.count

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            await peer.aclose()


async def until(condition: Any, what: str, look: float = LOOK) -> float:
    """Wait for a condition; return the seconds."""
    begun = time.perf_counter()
    while not condition():
        if time.perf_counter() - begun > PATIENCE:
            raise WorkFailed(f"not within {PATIENCE:g} s: {what}")
        await asyncio.sleep(look)
    return time.perf_counter() - begun


async def serve(channel: Channel, data: str, gateways: int, hosted: int) -> None:
    """Run as a worker."""
    mesh = Gateways(Path(data), gateways, hosted)
    figures: dict[str, Any] = {}
    try:
        begun = time.perf_counter()
        await mesh.start()
        await until(lambda: mesh.all_linked, "all links")
        figures["linked"] = time.perf_counter() - begun
        begun = time.perf_counter()
        await mesh.fill()
        await until(lambda: mesh.all_online, "all users online everywhere", 10 * LOOK)  # each takes 10 ms
        figures["online"] = time.perf_counter() - begun
        await until(lambda: mesh.in_step, "all profiles everywhere", 10 * LOOK)
        figures["in step"] = time.perf_counter() - begun
        settle()
        figures["direct"] = await _direct(mesh)
        figures["paced"] = await _paced(mesh)
        figures |= await _burst(mesh)
        figures["kib"] = resident_kib()
        channel.send(**figures)
        await channel.closed()
    finally:
        await mesh.aclose()


async def _direct(mesh: Gateways) -> list[float]:
    writer, reader = mesh.hosted[0][0], f"u{mesh.count - 1}x0"
    await (await writer.send(reader, "first")).delivered(timeout=PATIENCE)
    took = []
    for number in range(DIRECT):
        begun = time.perf_counter()
        await (await writer.send(reader, text(number))).delivered(timeout=PATIENCE)
        took.append(time.perf_counter() - begun)
    return took


async def _paced(mesh: Gateways) -> list[float]:
    """Return for each room message when the last gateway had it."""
    begun: dict[str, float] = {}
    for number in range(PACED):
        now = time.perf_counter()
        receipt = await mesh.hosted[number % mesh.count][number % mesh.users].broadcast(text(number))
        begun[receipt.id] = now
        await asyncio.sleep(PACE)
    await until(lambda: all(map(mesh.everywhere, begun)), "paced messages at all gateways")
    return [max(mesh.seen[id]) - at for id, at in begun.items()]


async def _burst(mesh: Gateways) -> dict[str, float]:
    """Many at once; then all their receipts."""
    begun, cpu = time.perf_counter(), time.process_time()
    writers = [mesh.hosted[number % mesh.count][number // mesh.count % mesh.users] for number in range(BURST)]
    receipts = await asyncio.gather(*(writer.broadcast(text(number)) for number, writer in enumerate(writers)))
    await until(lambda: all(mesh.everywhere(receipt.id) for receipt in receipts), "a burst at all gateways")
    took, used = time.perf_counter() - begun, time.process_time() - cpu
    first = receipts[0]
    await until(lambda: len(first.delivered_to) == len(first.of), "a complete receipt")
    return {
        "told": BURST * mesh.count * mesh.users / took,
        "cpu": used / BURST / mesh.count,
        "receipts": time.perf_counter() - begun,
        "members": len(first.of),
    }


def run(setting: Setting) -> list[Row]:
    """Measure all of it."""
    home = setting.directory / "gateways"
    home.mkdir()
    sizes = {"gateways": setting.gateways, "hosted": setting.hosted}
    with Worker("gateways.serve", home=home, data=str(home), **sizes) as worker:
        return _rows(setting, worker.get())


def _rows(setting: Setting, figures: dict[str, Any]) -> list[Row]:
    size = f"{setting.gateways} gateways, {setting.hosted:,} users each"
    ms = 1000.0
    return [
        Row(f"{size}: all linked", figures["linked"], "s"),
        Row("all users online everywhere", figures["online"], "s", "at most 30 s"),
        Row("all their profiles there too", figures["in step"], "s"),
        Row("a direct message, delivered, median", ms * middle(figures["direct"]), "ms", "at most 10 ms"),
        Row(
            "a room message at all gateways, 99 %",
            ms * percentile(figures["paced"], 0.99),
            "ms",
            "at most 500 ms",
            note=f"median {shown(ms * middle(figures['paced']))} ms; one in {PACE:g} s",
        ),
        Row(f"{BURST} room messages at once, told to users", figures["told"], "/s"),
        Row("CPU of a gateway for each", ms * figures["cpu"], "ms"),
        Row(f"its receipt complete, {figures['members']:,} members", figures["receipts"], "s"),
        Row("memory of all gateways", figures["kib"] / 1024, "MiB"),
    ]
