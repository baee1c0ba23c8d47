"""Slow readers: some of seven are stopped, or their programs take no messages, while one peer writes to the room.

It measures the rate of the other readers, and the growth of the writer's process. The cases take turns, and every
reader catches up after each round. A stopped process leaves its share of the CPU to the others. So compare a round with
one stopped reader with a round of six readers without a seventh.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.others.ends import ReceivedCount, now
from benchmarks.results import middle, text
from benchmarks.ways import many
from benchmarks.workers import Channel, Worker, resident_kib, settle

STEPS = (0, 1, 2, 4, 6, 7)
READERS = 7
ROUNDS = 3
MESSAGES = 80_000  # messages in a round: 23 MB, if a writer kept them in memory
POLL_EVERY = 0.02  # seconds between two readings of the writer's memory


async def take(channel: Channel, data: str, name: str, endpoint: str) -> None:
    """Run as a worker: a reader. Report its total number of messages; take none after {"takes": false}."""
    from p2pchat import Message, TCPPeer

    taken, taking = ReceivedCount(), asyncio.Event()
    taking.set()
    async with TCPPeer(0, endpoint, data=data, name=name) as peer:

        async def read() -> None:
            async for _ in peer.events(Message):
                taken.add(1)
                if not taking.is_set():
                    await taking.wait()

        reading = asyncio.create_task(read())
        channel.send(ready=True)
        settle()
        while (asked := await channel.receive()) is not None:
            if "takes" in asked:
                (taking.set if asked["takes"] else taking.clear)()
                channel.send(done=True)
            else:
                channel.send(at=await taken.reach(asked["taken"]), taken=taken.count)
        reading.cancel()


async def give(channel: Channel, data: str) -> None:
    """Run as a worker: the writer. Report the time until everything was accepted, and its peak growth."""
    from p2pchat import TCPPeer

    async with TCPPeer(data=data, name="writer") as peer:
        channel.send(endpoint=peer.endpoint)
        asked = await channel.receive()
        for number in range(asked["readers"] if asked else 0):
            await peer.wait_user(f"reader-{number}", timeout=30)
        settle()
        channel.send(ready=True)
        while (asked := await channel.receive()) is not None:
            texts = [text(i) for i in range(asked["messages"])]
            watching, begun = MemoryMonitor(), now()
            await many(peer, "room", texts)
            channel.send(begun=begun, accepted=now())
            await channel.receive()  # sent when the readers have everything
            channel.send(kib=watching.most - watching.before, cpu=watching.stop())


class MemoryMonitor:
    """A periodic reading of the memory of this process."""

    def __init__(self) -> None:
        self.before = self.most = resident_kib()
        self._worked = time.process_time()
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, resident_kib())
            await asyncio.sleep(POLL_EVERY)

    def stop(self) -> float:
        self._task.cancel()
        return time.process_time() - self._worked


class RoundResult:
    """The figures of one round."""

    def __init__(self, seconds: float, kib: int, cpu: float) -> None:
        self.seconds = seconds  # until the others had everything; without others, until it was accepted
        self.kib = kib
        self.cpu = cpu


class Crowd:
    """A writer and its readers, each in its own process."""

    def __init__(self, stack: ExitStack, home: Path, readers: int) -> None:
        home.mkdir()
        self._writer = stack.enter_context(Worker("growth.readers.give", home=home, data=str(home / "writer")))
        endpoint = self._writer.get()["endpoint"]
        self._readers = [
            stack.enter_context(
                Worker("growth.readers.take", home=home, data=str(home / name), name=name, endpoint=endpoint)
            )
            for name in (f"reader-{number}" for number in range(readers))
        ]
        for reader in self._readers:
            reader.get()
        self._writer.put({"readers": readers})
        self._writer.get()
        self._total = 0

    def round(self, messages: int, *, stopped: int = 0, taking_nothing: int = 0) -> RoundResult:
        """Write the messages of a round while some readers are slow; return when all have caught up."""
        slow, others = self._readers[: stopped + taking_nothing], self._readers[stopped + taking_nothing :]
        self._total += messages
        with self._slow(slow[:stopped], slow[stopped:]):
            self._writer.put({"messages": messages})
            ended = self._reached(others)
            wrote = self._writer.get()
            ended.append(wrote["accepted"])
            self._writer.put({"grown": True})
            grown = self._writer.get()
        self._reached(slow)
        return RoundResult(max(ended) - wrote["begun"], grown["kib"], grown["cpu"])

    def _reached(self, readers: list[Worker]) -> list[float]:
        for reader in readers:
            reader.put({"taken": self._total})
        return [reader.get()["at"] for reader in readers]

    @contextmanager
    def _slow(self, stopped: list[Worker], taking_nothing: list[Worker]) -> Iterator[None]:
        for reader in stopped:
            reader.send_signal(signal.SIGSTOP)
        for reader in taking_nothing:
            reader.put({"takes": False})
            reader.get()
        yield
        for reader in stopped:
            reader.send_signal(signal.SIGCONT)
        for reader in taking_nothing:
            reader.put({"takes": True})
            reader.get()


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure each number of stopped readers, one whose program takes nothing, and six readers without a slow one."""
    if not hasattr(signal, "SIGSTOP"):
        return [Curve("a process cannot be stopped on this system", "")]
    messages, rounds, readers = (200, 1, 2) if quick else (MESSAGES, ROUNDS, READERS)
    steps = [step for step in steps if step <= readers]
    found: dict[str, list[RoundResult]] = {}
    with ExitStack() as stack:
        crowd, six = Crowd(stack, place / "seven", readers), Crowd(stack, place / "six", readers - 1)
        for each in (crowd, six):
            each.round(messages // 4)  # first operations cost more
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for step in steps:
                found.setdefault(str(step), []).append(crowd.round(messages, stopped=step))
            found.setdefault(PROGRAM, []).append(crowd.round(messages, taking_nothing=1))
            found.setdefault(SIX, []).append(six.round(messages))
    return _curves(steps, messages, found)


PROGRAM, SIX = "program", "six"


def _curves(steps: list[int], messages: int, found: dict[str, list[RoundResult]]) -> list[Curve]:
    rate = Curve("stopped: rate of each other reader", "/s", falls=True)
    grown, cpu = (
        Curve("stopped: growth of the writer, at most", "MiB"),
        Curve("stopped: CPU per message, writer", "us"),
    )
    for step in steps:
        rounds = found[str(step)]
        rate.add(step, messages / middle([each.seconds for each in rounds]))
        grown.add(step, max(each.kib for each in rounds) / 1024)
        cpu.add(step, middle([each.cpu for each in rounds]) / messages * 1e6)
    beside = []
    for way, what in (
        (PROGRAM, "one program takes nothing: each other reader"),
        (SIX, "six only, no seventh: each of them"),
    ):
        speed, memory = Curve(what, "/s"), Curve("growth of the writer, at most", "MiB")
        speed.add(1, messages / middle([each.seconds for each in found[way]]))
        memory.add(1, max(each.kib for each in found[way]) / 1024)
        beside += [speed, memory]
    rate.note = f"{messages:,} messages a round, median of {len(found[SIX])}; 7 of 7 stopped: what is accepted"
    return [rate, grown, cpu, *beside]
