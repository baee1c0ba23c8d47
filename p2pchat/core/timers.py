"""Timers of a node: callbacks by deadline, of which cancelled ones are thrown away before they are due.

Nothing here reads a clock: the moment is an argument. The outside knows only the earliest deadline (effect WakeAt).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

SLACK = 0.001  # seconds: deadlines are sums of floats
MIN_SWEEP = 64  # deadlines; sweeping fewer is not worth it


class Timer:
    """One deadline; `cancel` makes it never fire."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at: float = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Timers:
    """The timers of one node, by monotonic time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._sweep_at = MIN_SWEEP
        self._wake_at: float | None = None

    def at(self, deadline: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, when this moment has come."""
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        timer = Timer(deadline, call)
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, timer))
        return timer

    def _sweep(self) -> None:
        """Drop cancelled timers. Most timers are cancelled long before their deadline."""
        self._heap = [due for due in self._heap if due[2].call is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._heap))

    def run_due(self, now: float) -> None:
        """Call every timer that is due, in order of time."""
        self._wake_at = None
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    def wake_at(self) -> float | None:
        """Return the earliest deadline if it is earlier than the last one returned, else None."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        if self._heap and (self._wake_at is None or self._heap[0][0] < self._wake_at):
            self._wake_at = self._heap[0][0]
            return self._wake_at
        return None
