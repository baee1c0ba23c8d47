"""When what others will tell again is committed: where peers are, and what they say that their users are called.

At once, until a few peers are written down: whoever is killed in its first second finds its mesh again by itself. From
then on no more than once a second: while a mesh forms each link brings some, and to each commit belong an fsync and a
thread that is in the loop's way. Whatever else is committed takes it along, and so does what a user has forgotten. A
crash loses a second of it at most.
"""

from __future__ import annotations

from collections.abc import Sized

from p2pchat.core.context import Context
from p2pchat.core.records import Change

FEW = 8  # peers that are written down: one of so many is there when all are looked for; a guess
SAVED_EVERY = 1.0  # seconds; a guess, as long as what programs have taken may wait
_SLACK = 0.001  # seconds: deadlines are sums of floats


class Hearsay:
    """Says of each change whether it may wait; a deadline sees to it that it does not for long.

    Args:
        book: The peers whose addresses are known, those of earlier runs at first.
    """

    def __init__(self, ctx: Context, book: Sized) -> None:
        self._ctx = ctx
        self._book = book
        self._written = len(book)  # peers, when it was committed last
        self._saved_at = float("-inf")
        self._awaited = False  # a deadline is set
        self._at_once = False

    def at_once(self) -> None:
        """This step takes along what waits: somebody wants to know it on disk, or nothing comes after it."""
        self._at_once = True

    def may_wait(self, change: Change) -> bool:
        """Whether this change shall be committed later, with what comes meanwhile."""
        now = self._ctx.now.mono
        is_due = now >= self._saved_at + SAVED_EVERY - _SLACK
        if self._at_once or is_due or self._written < FEW or not change.is_hearsay:
            self._saved_at, self._written, self._at_once = now, len(self._book), False
            return False
        if not self._awaited:
            self._awaited = True
            self._ctx.after(self._saved_at + SAVED_EVERY - now, self._due)
        return True

    def _due(self) -> None:
        """The step that this wakes commits what waits."""
        self._awaited = False
