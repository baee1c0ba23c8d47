"""Who has what a hosted user wrote. Receipts are derived from marks, never stored per message.

Message n of a log is delivered to a member when a peer hosting that member has said it holds the log up to n, or a
log that builds on it. Levels only rise (levels.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from p2pchat.core.effects import Delivered
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Heard, LogFacts
from p2pchat.core.sync.levels import Levels, Then, nothing
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.progress import Shelf, Side
from p2pchat.protocol import Mark, UserId

Stretch = tuple[LogId, int, int]  # entries of a log, from and to

MAX_MADE = 1024  # batches whose chains are remembered, in all conversations; of older ones storage is asked


class Receipts(Levels):
    """What is delivered: the highest mark heard, per log of a hosted user and member.

    Attributes:
        then: Called with each log, the first entry of it that is news, and the member that has it now.
    """

    def __init__(self, shelf: Shelf, heard: Iterable[Heard]) -> None:
        super().__init__(shelf, ((item.log, item.member, item.seq) for item in heard))
        self._made: dict[tuple[LogId, int], str] = {}  # chain8 at the end of each of the newest batches written here
        self.then: Callable[[LogId, int, UserId], None] = lambda log, first, member: None
        self._together: dict[Stretch, list[UserId]] | None = None  # who has risen, by one mark

    def take_unsaved(self) -> list[Heard]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [Heard(log, member, seq) for (log, member), seq in taken.items()]

    def heard(self, side: Side, conversation: Conversation, user: UserId, marks: Iterable[Mark]) -> None:
        """Take marks a far end told of a hosted user's logs; who has an operation of a group is not told of."""
        if conversation.is_open:
            return
        there = self._shelf.presence.users_of(side.link.id)
        members = there - {user} if conversation.may is None else there & conversation.may - {user}
        known = list(marks)
        together = self._together = {} if len(members) > 1 else None
        for member in sorted(members):
            for mark in known:
                self.rise(side, conversation, user, member, mark, nothing)
        self._together = None
        self._tell(together or {})

    def made(self, batch: Batch) -> None:
        """A batch that was written here is durable: marks of it are soon to come."""
        if len(self._made) >= MAX_MADE:
            del self._made[next(iter(self._made))]
        self._made[batch.log, batch.last] = batch.chain[:8].hex()

    def rise(
        self, side: Side, conversation: Conversation, user: UserId, member: UserId, mark: Mark, then: Then
    ) -> None:
        """Take a mark of all that is held, or of less: then storage is asked for the chain there, if need be."""
        log = conversation.log(user, mark.run)
        if log is not None and mark.seq < log.kept_seq and not (log.forked or self._is_sure(log.id, member, mark)):
            self._look_up(side, conversation, user, member, mark, then)
        else:
            super().rise(side, conversation, user, member, mark, then)

    def _is_sure(self, log: LogId, member: UserId, mark: Mark) -> bool:
        """Say whether a mark tells nothing new, or its chain is remembered."""
        return (log, mark.seq) in self._made or mark.seq <= self.level(log, member)

    def _counts(self, side: Side, log: Log, member: UserId, mark: Mark) -> int:
        """Of more than was written in this run a copy tells; what is on its way to the disk counts once it is there."""
        is_other = self._made.get((log.id, mark.seq), mark.chain8) != mark.chain8
        is_other |= mark.seq == log.kept_seq and mark != log.mark
        is_other |= mark.seq > log.kept_seq and log.own
        return 0 if log.forked or is_other else min(mark.seq, log.kept_seq)

    def _is_other(self, facts: LogFacts, mark: Mark) -> bool:
        return facts.chain_at is not None and mark.chain8 != facts.chain_at[:8].hex()

    def _rose(self, log: LogId, first: int, last: int, member: UserId) -> None:
        if self._together is None:
            self._tell({(log, first, last): [member]})
        else:
            self._together.setdefault((log, first, last), []).append(member)

    def _tell(self, risen: dict[Stretch, list[UserId]]) -> None:
        """Tell who has what now, and only then what follows from any of it."""
        for stretch, members in risen.items():
            self._shelf.ctx.emit(Delivered(*stretch, members[-1], tuple(members[:-1])))
        for (log, first, _), members in risen.items():
            for member in members:
                self.then(log, first, member)
