"""Slow readers: of seven some are stopped, or their programs take nothing, while one writes to the room.

What the others get a second, and what the writer's process grows. Rounds of all ways in turn, after each of which
everybody catches up. A stopped process also leaves its share of the processor to the others, so `beside six only` is
what a round with one stopped has to be compared with: the same six, and no seventh who could hold anybody up.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.others.ends import Taken, now
from benchmarks.results import middle, text
from benchmarks.ways import many
from benchmarks.workers import Channel, Worker, resident_kib, settle

STEPS = (0, 1, 2, 4, 6, 7)
READERS = 7
ROUNDS = 3
MESSAGES = 80_000  # a round: 23 MB that a writer who kept them for somebody would grow by
LOOK = 0.02  # seconds between looks at the writer's memory


async def take(channel: Channel, data: str, name: str, endpoint: str) -> None:
    """Worker: a reader. Says when it was handed so many in all; takes nothing after {"takes": false}."""
    from p2pchat import Message, TCPPeer

    taken, taking = Taken(), asyncio.Event()
    taking.set()
    async with TCPPeer(0, endpoint, data=data, name=name) as peer:

        async def read() -> None:
            async for _ in peer.events(Message):
                taken.add(1)
                if not taking.is_set():
                    await taking.wait()

        reading = asyncio.create_task(read())
        channel.tell(ready=True)
        settle()
        while (asked := await channel.heard()) is not None:
            if "takes" in asked:
                (taking.set if asked["takes"] else taking.clear)()
                channel.tell(done=True)
            else:
                channel.tell(at=await taken.reach(asked["taken"]), taken=taken.count)
        reading.cancel()


async def give(channel: Channel, data: str) -> None:
    """Worker: the writer. Says how long it took until all was accepted, and how much its process grew at most."""
    from p2pchat import TCPPeer

    async with TCPPeer(data=data, name="writer") as peer:
        channel.tell(endpoint=peer.endpoint)
        asked = await channel.heard()
        for number in range(asked["readers"] if asked else 0):
            await peer.wait_user(f"reader-{number}", timeout=30)
        settle()
        channel.tell(ready=True)
        while (asked := await channel.heard()) is not None:
            texts = [text(i) for i in range(asked["messages"])]
            watching, begun = _Watching(), now()
            await many(peer, "room", texts)
            channel.tell(begun=begun, accepted=now())
            await channel.heard()  # the others have everything too
            channel.tell(kib=watching.most - watching.before, cpu=watching.stop())


class _Watching:
    """Looks at the memory of this process now and then."""

    def __init__(self) -> None:
        self.before = self.most = resident_kib()
        self._worked = time.process_time()
        self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, resident_kib())
            await asyncio.sleep(LOOK)

    def stop(self) -> float:
        self._task.cancel()
        return time.process_time() - self._worked


class Found:
    """One round."""

    def __init__(self, seconds: float, kib: int, cpu: float) -> None:
        self.seconds = seconds  # until the others had everything, or it was accepted where there are no others
        self.kib = kib
        self.cpu = cpu


class Crowd:
    """A writer and its readers, each a process."""

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

    def round(self, messages: int, *, stopped: int = 0, taking_nothing: int = 0) -> Found:
        """Write so many while some are slow; return when all have caught up."""
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
        return Found(max(ended) - wrote["begun"], grown["kib"], grown["cpu"])

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
    """Measure each number of stopped readers, one whose program takes nothing, and six of whom none is slow."""
    if not hasattr(signal, "SIGSTOP"):
        return [Curve("a process cannot be stopped on this system", "")]
    messages, rounds, readers = (200, 1, 2) if quick else (MESSAGES, ROUNDS, READERS)
    steps = [step for step in steps if step <= readers]
    found: dict[str, list[Found]] = {}
    with ExitStack() as stack:
        crowd, six = Crowd(stack, place / "seven", readers), Crowd(stack, place / "six", readers - 1)
        for each in (crowd, six):
            each.round(messages // 4)  # the first of everything costs more
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for step in steps:
                found.setdefault(str(step), []).append(crowd.round(messages, stopped=step))
            found.setdefault(PROGRAM, []).append(crowd.round(messages, taking_nothing=1))
            found.setdefault(SIX, []).append(six.round(messages))
    return _curves(steps, messages, found)


PROGRAM, SIX = "program", "six"


def _curves(steps: list[int], messages: int, found: dict[str, list[Found]]) -> list[Curve]:
    rate = Curve("stopped: what each of the others gets", "/s", falls=True)
    grown, cpu = (
        Curve("stopped: the writer grows by, at most", "MiB"),
        Curve("stopped: processor of a message, writer", "us"),
    )
    for step in steps:
        rounds = found[str(step)]
        rate.add(step, messages / middle([each.seconds for each in rounds]))
        grown.add(step, max(each.kib for each in rounds) / 1024)
        cpu.add(step, middle([each.cpu for each in rounds]) / messages * 1e6)
    beside = []
    for way, what in (
        (PROGRAM, "one's program takes nothing: each of the others"),
        (SIX, "six only, no seventh: each of them"),
    ):
        speed, memory = Curve(what, "/s"), Curve("of that the writer grows by, at most", "MiB")
        speed.add(1, messages / middle([each.seconds for each in found[way]]))
        memory.add(1, max(each.kib for each in found[way]) / 1024)
        beside += [speed, memory]
    rate.note = f"{messages:,} messages a round, median of {len(found[SIX])}; 7 of 7 stopped: what is accepted"
    return [rate, grown, cpu, *beside]
