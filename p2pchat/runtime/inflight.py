"""Commits in flight: what storage has not answered yet, and whether reading has to stop because of it.

Above a limit of received entries on their way to the disk nothing more is read from any link, until half of them are
there: that is the back-pressure of the whole peer. What is said here does not count, for who says it waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.core.effects import Commit
from p2pchat.core.records import Change


class CommitsInFlight:
    """The book of these commits.

    Args:
        limit: So many received entries may be in flight.
        pause: Stops reading (True), or has it go on (False).
    Attributes:
        own: How many commits hold entries of our users.
        paused: Reading has stopped.
    """

    def __init__(self, limit: int, pause: Callable[[bool], None]) -> None:
        self.own = 0
        self.paused = False
        self._limit = limit
        self._pause = pause
        self._commits: dict[int, Commit] = {}  # by ticket
        self._received = 0  # entries

    def __bool__(self) -> bool:
        """Whether anything is on its way to the disk."""
        return bool(self._commits)

    def add(self, commit: Commit) -> None:
        """This goes to storage next."""
        self._commits[commit.ticket] = commit
        if commit.own:
            self.own += 1
            return
        self._received += _entries_in(commit.change)
        if not self.paused and self._received > self._limit:
            self.paused = True
            self._pause(True)

    def failed(self, epoch: int) -> None:
        """Nothing of this epoch and of those before it is going to be stored."""
        for ticket in [ticket for ticket, commit in self._commits.items() if commit.epoch <= epoch]:
            self.answered(ticket)

    def answered(self, ticket: int) -> Change:
        """This one is in flight no more; return what it was to change."""
        commit = self._commits.pop(ticket)
        if commit.own:
            self.own -= 1
            return commit.change
        self._received -= _entries_in(commit.change)
        if self.paused and self._received <= self._limit // 2:
            self.paused = False
            self._pause(False)
        return commit.change


def _entries_in(change: Change) -> int:
    return sum(len(batch.raws) for batch in change.batches)
