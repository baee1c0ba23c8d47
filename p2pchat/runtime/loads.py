"""What of files is in the core and not answered yet, and who waits for the answers.

Each call has a future of its own: it resolves when what was handed in is counted, and its new entries are on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat.core.effects import Imported
from p2pchat.core.inputs import Carried
from p2pchat.protocol import Entries

Loading = asyncio.Future[Imported]


class Loads:
    """Frames of files under way."""

    def __init__(self) -> None:
        self._waiting: dict[int, Loading] = {}
        self._tickets = 0

    def add(self, future: Loading, frames: list[Entries]) -> Carried:
        """Return what to hand in; the future gets the answer."""
        self._tickets += 1
        self._waiting[self._tickets] = future
        return Carried(self._tickets, frames)

    def imported(self, effect: Imported) -> None:
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            future.set_result(effect)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing more is answered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error())
                future.exception()  # whoever waits hears of it; a call given up is no news


__all__ = ["Loading", "Loads"]
