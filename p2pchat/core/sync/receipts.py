"""Who has what a hosted user wrote. Receipts are derived from marks, never stored per message.

Message n of a log is delivered to a member when a peer hosting that member has said it holds the log up to n, or a
log that builds on it. Levels only rise (levels.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pchat.core.effects import Delivered
from p2pchat.core.log import LogId
from p2pchat.core.records import Heard, LogFacts
from p2pchat.core.sync.levels import Levels, nothing
from p2pchat.core.sync.sides import Shelf, Side
from p2pchat.core.sync.tips import Conversation, Log
from p2pchat.protocol import Mark, UserId


class Receipts(Levels):
    """What is delivered: the highest mark heard, per log of a hosted user and member.

    Attributes:
        then: Called with each log and member that has more of it now.
    """

    def __init__(self, shelf: Shelf, heard: Iterable[Heard]) -> None:
        super().__init__(shelf, ((item.log, item.member, item.seq) for item in heard))
        self.then: Callable[[LogId, UserId], None] = lambda log, member: None

    def take_unsaved(self) -> list[Heard]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [Heard(log, member, seq) for (log, member), seq in taken.items()]

    def heard(self, side: Side, conversation: Conversation, user: UserId, marks: Iterable[Mark]) -> None:
        """Take marks a far end told of a hosted user's logs."""
        members = sorted(self._shelf.presence.users_of(side.link.id) - {user})
        for member in members:
            if conversation.may_write(member):
                for mark in marks:
                    self.rise(side, conversation, user, member, mark, nothing)

    def _counts(self, side: Side, log: Log, member: UserId, mark: Mark) -> int:
        if log.forked or (mark.seq == log.kept_seq and mark != log.mark):
            return 0
        return min(mark.seq, log.kept_seq)

    def _is_other(self, facts: LogFacts, mark: Mark) -> bool:
        return mark.seq == facts.seq and mark.chain8 != facts.chain[:8].hex()

    def _rose(self, log: LogId, first: int, last: int, member: UserId) -> None:
        self._shelf.ctx.emit(Delivered(log, first, last, member))
        self.then(log, member)
