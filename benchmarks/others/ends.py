"""The two ends of every system: how many messages have been taken, and rounds of giving; times of one clock.

All workers are processes of one machine, whose `time.perf_counter` is one clock on Linux, macOS and Windows.

    take     tells where it can be reached once it is ready; asked {"taken": n} it answers {"at", "taken", "cpu",
             "kib"} as soon as it has been given n messages in all since its start, and has acknowledged them where
             the system knows acknowledgements
    give     asked {"messages": n, "pace": seconds} it gives so many and answers {"begun", "done", "cpu", "kib"}: done
             when the last is accepted by whoever is responsible for it from then on. With a pace it gives one, waits
             until that is done and for so long, and adds "each": begun and done of every message
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.results import text
from benchmarks.workers import Channel, resident_kib, settle

now = time.perf_counter


class Taken:
    """What one end has been given. `add` may be called by another thread."""

    def __init__(self) -> None:
        self.count = 0
        self.times: list[float] = []  # of the single messages, while they come one by one
        self.one_by_one = False
        self._wanted = 0
        self._at = 0.0
        self._loop = asyncio.get_running_loop()
        self._enough = asyncio.Event()

    def add(self, messages: int) -> None:
        """So many more have come, and are dealt with."""
        self.count += messages
        if self.one_by_one:
            self.times.append(now())
        if self._wanted and self.count >= self._wanted:
            self._wanted, self._at = 0, now()
            self._loop.call_soon_threadsafe(self._enough.set)

    async def reach(self, total: int) -> float:
        """Wait until so many have come in all; return when that was."""
        self._enough.clear()
        self._at, self._wanted = now(), total
        if self.count < total:
            await self._enough.wait()
        self._wanted = 0
        return self._at


async def answer(channel: Channel, taken: Taken) -> None:
    """Answer what a taking end is asked, until nothing more is."""
    settle()
    while (asked := await channel.heard()) is not None:
        taken.one_by_one = bool(asked.get("one_by_one"))
        taken.times.clear()
        at = await taken.reach(asked["taken"])
        channel.tell(at=at, taken=taken.count, cpu=time.process_time(), kib=resident_kib(), times=taken.times)


Giving = Callable[[list[str]], Awaitable[None]]


async def give_rounds(channel: Channel, give: Giving, *, one: Giving | None = None) -> None:
    """Give what is asked for, until nothing more is; `one` gives a single message when they go one by one."""
    settle()
    while (asked := await channel.heard()) is not None:
        texts = [text(i) for i in range(asked["messages"])]
        each: list[tuple[float, float]] = []
        worked, begun = time.process_time(), now()
        if asked.get("pace"):
            each = await _one_by_one(texts, one or give, asked["pace"])
        else:
            await give(texts)
        told: dict[str, Any] = {"begun": begun, "done": now(), "cpu": time.process_time() - worked}
        channel.tell(**told, kib=resident_kib(), each=each)


async def _one_by_one(texts: list[str], give: Giving, pace: float) -> list[tuple[float, float]]:
    each = []
    for said in texts:
        begun = now()
        await give([said])
        each.append((begun, now()))
        await asyncio.sleep(pace)
    return each
