"""A disk that does not answer: people are told once, and once more when it does.

Nothing else follows from it. What is not committed is neither acknowledged nor sent on, links are kept alive by the
core, which waits for no disk, and everything goes on where it stood as soon as the commit has come back.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.core.context import Context
from p2pchat.core.effects import Warned

LATE = 1.0  # seconds after its deadline that a timer fires: this process itself stood still, and proves nothing


class Stalls:
    """Watches commits from their order to their answer. One timer at a time, however many there are."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._since: dict[int, float] = {}  # commits on their way, oldest first, and when they were ordered
        self._watching = False
        self._told = False

    def ordered(self, ticket: int) -> None:
        """A commit was ordered."""
        self._since[ticket] = self._ctx.now.mono
        self._watch_oldest()

    def committed(self, tickets: Sequence[int]) -> None:
        """These have come back."""
        for ticket in tickets:
            self._since.pop(ticket, None)
        if self._told and not self._is_slow():
            self._told = False
            self._ctx.emit(Warned("storage_works", "the disk answers again: what waited for it is kept"))
            self._watch_oldest()

    def failed(self) -> None:
        """All that were on their way failed: that is told by whoever hears of it, and so is its end."""
        self._since.clear()
        self._told = False

    def _is_slow(self) -> bool:
        return bool(self._since) and self._ctx.now.mono >= self._due()

    def _due(self) -> float:
        return next(iter(self._since.values())) + self._ctx.settings.slow_storage_after

    def _watch_oldest(self) -> None:
        if self._since and not self._watching:
            self._watching = True
            due = self._due()
            self._ctx.after(due - self._ctx.now.mono, lambda: self._look(due))

    def _look(self, due: float) -> None:
        self._watching = False
        now = self._ctx.now.mono
        if now - due > LATE:
            self._since = dict.fromkeys(self._since, now)
        if not self._is_slow():
            self._watch_oldest()
        elif not self._told:
            self._told = True
            seconds = self._ctx.settings.slow_storage_after
            self._ctx.emit(
                Warned(
                    "storage_slow", f"the disk has not answered for {seconds:g} s: nothing is accepted until it does"
                )
            )
