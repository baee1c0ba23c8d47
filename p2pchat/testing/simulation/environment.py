"""Virtual time: what happens next, and when. Plain calls; nothing here waits or reads a clock.

A Schedule is a heap of callbacks. Equal times run in the order they were put in, so a simulation that draws all
its chance from one seeded Random replays exactly. A LocalClock is what one machine believes the time to be: it
may run a little fast or slow, and its UTC may jump.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from p2pchat.core.context import Now, Timer

EPOCH_UTC = 1_750_000_000_000_000  # UTC microseconds when a simulation begins: some day in June 2025


class Schedule:
    """What is to come, by virtual time in seconds from 0. `steps` counts what has happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call at this time, or now when it has passed."""
        timer = Timer(max(when, self.now), call)
        self._count += 1
        heapq.heappush(self._heap, (timer.at, self._count, timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self.at(self.now + seconds, call)

    def run_until(self, when: float) -> None:
        """Let everything happen that is due up to this time; what that leads to as well."""
        while self._heap and self._heap[0][0] <= when:
            at, _, timer = heapq.heappop(self._heap)
            call, timer.call = timer.call, None
            if call is not None:
                self.now = at
                self.steps += 1
                call()
        self.now = max(self.now, when)


class LocalClock:
    """The clocks of one machine.

    Attributes:
        rate: Local seconds in a true second: 1.001 gains 86 seconds a day.
        ahead: How far UTC is ahead of the truth, in seconds; set it to make the clock jump.
    """

    def __init__(self, schedule: Schedule, rate: float = 1.0, ahead: float = 0.0) -> None:
        self._schedule = schedule
        self.rate = rate
        self.ahead = ahead

    def now(self) -> Now:
        """Return what this machine reads off its clocks."""
        local = self._schedule.now * self.rate
        return Now(local, EPOCH_UTC + round((local + self.ahead) * 1_000_000))

    def true_time(self, mono: float) -> float:
        """Return when the monotonic clock of this machine will show `mono`; never a hair early."""
        when = mono / self.rate
        while when * self.rate < mono:
            when += 1e-9
        return when
