"""Participants of every system, and the worker that runs one of them, or all of a mesh.

All workers run on one machine, whose `time.perf_counter` is one clock on Linux, macOS and Windows. A worker reports
the addresses of its ends, and then answers requests, one object each:

    meet     for each of its ends: the addresses to dial, and the numbers of all ends to link with. The answer has
             "met", the time when all were linked, and "cpu" seconds since the ends began to open, without imports;
             "in_turn" links one end after the other
    round    "messages" for each of its ends to send ("pace": one at a time, so many seconds apart; "rate": so many per
             second), and "taken", the total that each of them has received when the round is over. The answer has
             "begun", "done" (the responsible side has accepted the last), "at" (the last was received), "cpu" seconds,
             "kib", "each" and "times" of single messages
    newest   read the newest stored message
    leave    close all ends, keeping everything on the disk
    back     open them again; "begun" is the time when they were open and began to meet
    idle     wait for "rest" seconds, then for "seconds" seconds, in which "cpu" seconds were used
"""

from __future__ import annotations

import asyncio
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.results import text
from benchmarks.workers import Channel, resident_kib, settle

now = time.perf_counter
DIFFERENT = 50_000  # texts; longer rounds repeat them
PATIENCE = 240.0  # seconds until all have met
TICK = 0.001  # seconds: at a rate, messages due within this time are sent together
JsonObject = dict[str, Any]


class ReceivedCount:
    """The messages received by one end. `add` may be called by another thread."""

    def __init__(self) -> None:
        self.count = 0
        self.times: list[float] | None = None  # times of single messages, while requested
        self._wanted = 0
        self._at = 0.0
        self._loop = asyncio.get_running_loop()
        self._enough = asyncio.Event()

    def add(self, messages: int) -> None:
        """Record further messages as received and handled."""
        self.count += messages
        if self.times is not None:
            self.times += [now()] * messages
        if self._wanted and self.count >= self._wanted:
            self._wanted, self._at = 0, now()
            self._loop.call_soon_threadsafe(self._enough.set)

    async def reach(self, total: int) -> float:
        """Wait until the total is reached; return the time."""
        self._enough.clear()
        self._at, self._wanted = now(), total
        if self.count < total:
            await self._enough.wait()
        self._wanted = 0
        return self._at


class End:
    """One participant, overridden by each system. `taken.add` is called for received messages."""

    one_way = False  # True: a dialled connection only sends, so each end dials the other
    loads: tuple[str, ...] = ()  # modules imported on first use; loaded before any clock runs

    def __init__(self, number: int, taken: ReceivedCount) -> None:
        self.number, self.taken = number, taken

    async def open(self) -> JsonObject:
        """Listen; return what others need to dial. A second end with the same number continues as the first."""
        return {}

    async def meet(self, dial: list[JsonObject], links: list[int]) -> None:
        """Dial those addresses, and wait for links with all these ends, dialled by either side. May be called again."""

    async def give(self, texts: list[str]) -> None:
        """Send to every linked end; return when the responsible side has accepted everything."""
        raise NotImplementedError

    async def give_one(self, said: str) -> None:
        """Send a single message, in a special way if the system has one."""
        await self.give([said])

    async def keep(self, texts: list[str]) -> None:
        """Write messages one by one for an offline receiver."""
        await self.give(texts)

    async def kept_is_taken(self) -> None:
        """Wait for the acknowledgement of the stored messages, if the system has one."""

    async def newest(self) -> None:
        """Read the newest message stored here, if any; the module of a server has a function of that name."""

    async def close(self) -> None:
        """Close this end."""


async def hold(channel: Channel, system: str, numbers: list[int], address: dict[str, Any]) -> None:
    """Run as a worker: some ends of a system."""
    held = _Held(system, numbers, address)
    begun = now()
    held.worked = time.process_time()
    channel.send(ends=await held.open(), begun=begun, kib=resident_kib())
    while (asked := await channel.receive()) is not None:
        channel.send(**await getattr(held, asked.pop("do"))(**asked))
    await held.leave()


class _Held:
    def __init__(self, system: str, numbers: list[int], address: dict[str, Any]) -> None:
        self._make, self._address = import_module(f"benchmarks.others.{system}").Participant, address
        for name in self._make.loads:
            import_module(name)
        self.worked = 0.0
        self._taken = {number: ReceivedCount() for number in numbers}
        self._ends: list[End] = []

    async def open(self) -> list[JsonObject]:
        self._ends = [self._make(number, taken, **self._address) for number, taken in self._taken.items()]
        first = await self._ends[0].open()
        return [first, *await asyncio.gather(*(end.open() for end in self._ends[1:]))]

    async def meet(self, dial: list[list[JsonObject]], links: list[list[int]], in_turn: bool = False) -> JsonObject:
        at_once = asyncio.Semaphore(1 if in_turn else len(self._ends))

        async def meet(end: End, dial: list[JsonObject], links: list[int]) -> None:
            async with at_once:
                await end.meet(dial, links)

        try:
            async with asyncio.timeout(PATIENCE) as patience:
                await asyncio.gather(*map(meet, self._ends, dial, links))
        except TimeoutError:
            if not patience.expired():
                raise
            sys.exit(f"not all have met within {PATIENCE:.0f} s")
        met, worked = now(), time.process_time()
        settle()
        return {"met": met, "cpu": worked - self.worked, "kib": resident_kib()}

    async def round(self, messages: int = 0, taken: int = 0, pace: float = 0, rate: float = 0) -> JsonObject:
        texts = [text(i) for i in range(min(messages, DIFFERENT))]
        texts = (texts * (messages // len(texts) + 1))[:messages] if texts else []
        for each in self._taken.values():
            each.times = [] if pace or rate else None
        worked, begun = time.process_time(), now()
        reaching = [asyncio.create_task(each.reach(taken)) for each in self._taken.values() if taken]
        giving = [asyncio.create_task(_give(end, texts, pace, rate)) for end in self._ends if texts]
        each = [one for gave in giving for one in await gave]
        done = now()
        at = [await reached for reached in reaching]
        reported: JsonObject = {
            "begun": begun,
            "done": done if giving else begun,
            "at": max([begun, *at]),
            "each": each,
        }
        first = next(iter(self._taken.values()))
        reported |= {"cpu": time.process_time() - worked, "kib": resident_kib(), "times": first.times or []}
        return reported | {"taken": [each.count for each in self._taken.values()]}

    async def keep(self, messages: int) -> JsonObject:
        texts = [text(i) for i in range(messages)]
        await asyncio.gather(*(end.keep(texts) for end in self._ends))
        return {}

    async def kept_is_taken(self) -> JsonObject:
        await asyncio.gather(*(end.kept_is_taken() for end in self._ends))
        return {"at": now()}

    async def newest(self) -> JsonObject:
        await asyncio.gather(*(end.newest() for end in self._ends))
        return {"at": now()}

    async def leave(self) -> JsonObject:
        await asyncio.gather(*(end.close() for end in self._ends))
        self._ends.clear()
        return {}

    async def back(self) -> JsonObject:
        ends = await self.open()
        return {"ends": ends, "begun": now()}

    async def idle(self, rest: float, seconds: float) -> JsonObject:
        await asyncio.sleep(rest)  # the end of forming is not idle
        worked = time.process_time()
        await asyncio.sleep(seconds)
        return {"cpu": time.process_time() - worked}


async def _give(end: End, texts: list[str], pace: float, rate: float) -> list[tuple[float, float]]:
    if pace:
        return await _one_by_one(end, texts, pace)
    if rate:
        return await _at_rate(end, texts, rate)
    await end.give(texts)
    return []


async def _one_by_one(end: End, texts: list[str], pace: float) -> list[tuple[float, float]]:
    each = []
    for said in texts:
        begun = now()
        await end.give_one(said)
        each.append((begun, now()))
        await asyncio.sleep(pace)
    return each


async def _at_rate(end: End, texts: list[str], rate: float) -> list[tuple[float, float]]:
    """Send at a rate. The clock of a message starts when it is due, so that a delay of the loop counts."""
    begun, given = now(), 0
    each: list[tuple[float, float]] = [(0.0, 0.0)] * len(texts)

    async def give(first: int, last: int) -> None:
        await end.give(texts[first:last])
        done = now()
        each[first:last] = [(begun + i / rate, done) for i in range(first, last)]

    giving = []
    while given < len(texts):
        due = min(len(texts), int((now() - begun) * rate) + 1)
        if due > given:
            giving.append(asyncio.create_task(give(given, due)))
            given = due
        await asyncio.sleep(TICK)
    await asyncio.gather(*giving)
    return each
