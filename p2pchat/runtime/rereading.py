"""Reads that failed and that the core waits for: tried until they answer, and told to people once.

The core cannot go on without the answer, and what it asked for is not lost by asking again: a database that somebody
holds for a moment answers soon, one that is damaged never does. So each try waits longer, up to half a minute, and
people hear of the first failure and of the moment when all of them have answered. While commits fail as well the core
says so itself (node.py), and nothing is said here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat.core.effects import Effect, Warned
from p2pchat.errors import StorageError

READ_AGAIN_AFTER = 1.0  # seconds until a failed read is tried again
READ_AGAIN_MOST = 30.0  # seconds between tries, doubled each time


class Rereading:
    """Reads that have not answered yet.

    Args:
        tell: Takes what people are told.
        is_told: Whether the core has said that storage does not work.
    """

    def __init__(self, tell: Callable[[Effect], None], is_told: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._is_told = is_told
        self._waits: dict[int, float] = {}  # seconds until the next try, by the id of the effect that asks
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._told = False

    def failed(self, error: StorageError, effect: Effect, again: Callable[[], None]) -> None:
        """A read failed: try it again by and by."""
        key = id(effect)  # it lives as long as its timer does
        wait = self._waits[key] = min(max(READ_AGAIN_AFTER, 2 * self._waits.get(key, 0.0)), READ_AGAIN_MOST)
        self._timers[key] = self._loop.call_later(wait, again)
        if not self._told and not self._is_told():
            self._told = True
            self._tell(Warned("storage", f"what is stored cannot be read, which is tried again: {error}"))

    def answered(self, effect: Effect) -> None:
        """A read has answered, whether it had failed before or not."""
        self.give_up(effect)
        if self._told and not self._waits:
            self._told = False
            self._tell(Warned("storage_works", "what is stored can be read again"))

    def give_up(self, effect: Effect) -> None:
        """Nobody waits for this one any more."""
        if self._waits:
            self._waits.pop(id(effect), None)
            self._timers.pop(id(effect), None)

    def stop(self) -> None:
        """Try nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
