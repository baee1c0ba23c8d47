"""When what others will tell again is committed: where peers are, and what they say that their users are called.

At once, but no more than once a second: while a mesh forms each link brings some, and to each commit belong an fsync
and a thread that is in the loop's way. Whatever else is committed takes it along. A crash loses a second of it at most.
"""

from __future__ import annotations

from p2pchat.core.context import Context
from p2pchat.core.records import Change

SAVED_EVERY = 1.0  # seconds; a guess, as long as what programs have taken may wait
_SLACK = 0.001  # seconds: deadlines are sums of floats


class Hearsay:
    """Says of each change whether it may wait; a deadline sees to it that it does not for long."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._saved_at = float("-inf")
        self._awaited = False  # a deadline is set
        self._last = False

    def last(self) -> None:
        """Nothing comes after this step: it takes along what waits."""
        self._last = True

    def may_wait(self, change: Change) -> bool:
        """Whether this change shall be committed later, with what comes meanwhile."""
        now = self._ctx.now.mono
        if self._last or not change.is_hearsay or now >= self._saved_at + SAVED_EVERY - _SLACK:
            self._saved_at = now
            return False
        if not self._awaited:
            self._awaited = True
            self._ctx.after(self._saved_at + SAVED_EVERY - now, self._due)
        return True

    def _due(self) -> None:
        """The step that this wakes commits what waits."""
        self._awaited = False
