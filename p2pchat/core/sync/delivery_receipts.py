"""Who has what a hosted user wrote. Receipts are derived from marks, never stored per message.

Message n of a log is delivered to a member when a peer hosting that member has said it holds the log up to n, or a
log that builds on it. Levels only rise (delivery_receipts.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from p2pchat.core.effects import DeliveryReceipt
from p2pchat.core.log import Batch, LogId, ref_key
from p2pchat.core.records import DeliveredMark, LogFacts, LogKey
from p2pchat.core.sync.log_index import ConversationState, Log
from p2pchat.core.sync.sync_context import MAX_REMEMBERED, RemoteState, SyncContext
from p2pchat.protocol import Mark, UserId

# ---- levels
#
# How high members stand in the logs of hosted users: a level that only rises, per log and member.
#
# Who stands anywhere in a log stands at the end of all that it builds on, as far as it builds on it: those rise first.
# Logs that are not in memory are looked up; what waits for that goes on when storage has answered. What rose is saved
# with the next commit and needs none of its own: it is told again when the peers meet.
#
# This file knows how levels rise; what they mean, how far a mark counts and what is told are its children's:
# delivery_receipts.py and read_receipts.py.


Continuation = Callable[[], None]
AckKey = tuple[LogId, UserId]


class AckTracker:
    """The highest level heard, per log of a hosted user and member."""

    def __init__(self, sync: SyncContext, known: Iterable[tuple[LogId, UserId, int]]) -> None:
        self._sync = sync
        self._positions: dict[AckKey, int] = {(log, member): seq for log, member, seq in known}
        self.unsaved: dict[AckKey, int] = {}
        self._waiting: dict[AckKey, int] = {}  # heard, but what the log builds on is being looked up
        self._followers: dict[
            AckKey, list[Continuation]
        ] = {}  # logs that build on one which waits, and so wait with it
        self._runnable: deque[Continuation] = deque()
        self._running = False

    def position(self, log: LogId, member: UserId) -> int:
        """Return how high a member stands in a log, 0 when that is not known in this run."""
        return self._positions.get((log, member), 0)

    def take_over(self, former: AckTracker) -> None:
        """Take over what was heard before storage failed: it was told, and may not have been saved."""
        for key, seq in former._positions.items():
            if seq > self._positions.get(key, 0):
                self._positions[key] = self.unsaved[key] = seq

    def add_known(self, known: Iterable[tuple[LogId, UserId, int]]) -> None:
        """Take what is stored of the logs of a user who is hosted from now on."""
        for log, member, seq in known:
            self._positions[log, member] = max(seq, self._positions.get((log, member), 0))

    # ---- what children decide

    def _countable(self, remote: RemoteState, log: Log, member: UserId, mark: Mark) -> int:
        """Return how far a mark of a log in memory counts now, 0 for not at all."""
        raise NotImplementedError

    def _is_other_version(self, facts: LogFacts, mark: Mark) -> bool:
        """Return whether a mark of a log in storage is of another version of it."""
        raise NotImplementedError

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        """Tell that a member stands higher."""
        raise NotImplementedError

    # ---- rising

    def on_mark(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        """Take a mark told of a member, and go on with `then`."""
        log = conversation.log(user, mark.run)
        if log is None:
            self._look_up(remote, conversation, user, member, mark, then)
        elif seq := self._countable(remote, log, member, mark):
            self.advance_to(remote, conversation, log.id, member, seq, log.before, then)
        else:
            self._run(then)

    def advance_to(
        self, remote: RemoteState, conversation: ConversationState, log: LogId, member: UserId, seq: int,
        before: tuple[Mark, ...], then: Continuation,
    ) -> None:  # fmt: skip
        """Note that a member stands in a log at seq, and before that, at the end of all it builds on.

        The one is saved with the other: a log that was noted before needs no look below. While it waits for a look,
        what builds on it waits too.
        """
        key = (log, member)
        if key in self._waiting:
            self._waiting[key] = max(seq, self._waiting[key])
            if then is not nothing:
                self._followers.setdefault(key, []).append(then)
        elif seq <= self._positions.get(key, 0):
            self._run(then)
        elif key in self._positions or not before:
            self._set_position(key, seq)
            self._run(then)
        else:
            self._waiting[key] = seq
            self._advance_below(remote, conversation, key, list(before), then)

    def _advance_below(
        self, remote: RemoteState, conversation: ConversationState, key: AckKey, rest: list[Mark], then: Continuation
    ) -> None:
        if rest:
            go_on = partial(self._advance_below, remote, conversation, key, rest[1:], then)
            self._on_mark_below(remote, conversation, key[0].user, key[1], rest[0], go_on)
        else:
            self._set_position(key, self._waiting.pop(key))
            for each in (then, *self._followers.pop(key, ())):
                self._run(each)

    def _on_mark_below(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        """Take a mark that a log's `before` names."""
        self.on_mark(remote, conversation, user, member, mark, then)

    def _run(self, then: Continuation) -> None:
        """Go on with what waited; one after the other, for a thousand logs may build on each other."""
        self._runnable.append(then)
        if not self._running:
            self._running = True
            while self._runnable:
                self._runnable.popleft()()
            self._running = False

    def _set_position(self, key: AckKey, seq: int) -> None:
        known = self._positions.get(key, 0)
        self._positions[key] = self.unsaved[key] = seq
        self._on_advance(key[0], known + 1, seq, key[1])

    # ---- logs that are not in memory

    def _look_up(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        log = LogId(conversation.id, user, mark.run)
        if (
            self._positions.get((log, member), 0) >= mark.seq
            or remote.lookups_pending >= MAX_REMEMBERED
            or self._is_forked(log)
        ):
            self._run(then)
            return
        remote.lookups_pending += 1
        key = LogKey(conversation.id, ref_key(user, mark.run), mark.seq)
        self._sync.lookups.log(key, partial(self._on_log_found, remote, conversation, member, mark, then))

    def _on_log_found(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        member: UserId,
        mark: Mark,
        then: Continuation,
        facts: LogFacts | None,
    ) -> None:
        remote.lookups_pending -= 1
        if facts is None or facts.forked or self._is_forked(facts.log) or self._is_other_version(facts, mark):
            self._run(then)
        else:
            log = conversation.log(*facts.log[1:])  # it may have begun meanwhile: what is not told yet counts later
            here = facts.seq if log is None else min(log.durable_seq, facts.seq)
            self._on_stored_log(remote, conversation, member, min(mark.seq, here), facts, then)

    def _on_stored_log(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        member: UserId,
        seq: int,
        facts: LogFacts,
        then: Continuation,
    ) -> None:
        """Raise a log that storage has found."""
        self.advance_to(remote, conversation, facts.log, member, seq, facts.before, then)

    def _is_forked(self, id: LogId) -> bool:
        """Return whether it is known that a log forked, be it since storage was asked."""
        log = self._sync.conversations.by_id[id.conversation].log(id.user, id.run)
        return id in self._sync.proven_forks or (log is not None and log.forked)


def nothing() -> None:
    """What comes after a mark that nobody waits for."""


# ---- delivery receipts


EntryRange = tuple[LogId, int, int]  # entries of a log, from and to

MAX_CHAINS = 1024  # batches whose chains are remembered, in all conversations; of older ones storage is asked


class DeliveryReceipts(AckTracker):
    """What is delivered: the highest mark heard, per log of a hosted user and member.

    Attributes:
        then: Called with each log, the first entry of it that is news, and the member that has it now.
    """

    def __init__(self, sync: SyncContext, heard: Iterable[DeliveredMark]) -> None:
        super().__init__(sync, ((item.log, item.member, item.seq) for item in heard))
        self._chains: dict[tuple[LogId, int], str] = {}  # chain8 at the end of each of the newest batches written here
        self.on_delivered: Callable[[LogId, int, UserId], None] = lambda log, first, member: None
        self._combined: dict[EntryRange, list[UserId]] | None = None  # who has risen, by one mark

    def take_unsaved(self) -> list[DeliveredMark]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [DeliveredMark(log, member, seq) for (log, member), seq in taken.items()]

    def on_marks(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, marks: Iterable[Mark]
    ) -> None:
        """Take marks a far end told of a hosted user's logs; who has an operation of a group is not told of."""
        if conversation.is_operations:
            return
        there = self._sync.presence.users_of(remote.link.id)
        members = (
            there - {user} if conversation.allowed_writers is None else there & conversation.allowed_writers - {user}
        )
        known = list(marks)
        together = self._combined = {} if len(members) > 1 else None
        for member in sorted(members):
            for mark in known:
                self.on_mark(remote, conversation, user, member, mark, nothing)
        self._combined = None
        self._emit(together or {})

    def on_batch_durable(self, batch: Batch) -> None:
        """A batch that was written here is durable: marks of it are soon to come."""
        if len(self._chains) >= MAX_CHAINS:
            del self._chains[next(iter(self._chains))]
        self._chains[batch.log, batch.last] = batch.chain[:8].hex()

    def on_mark(
        self,
        remote: RemoteState,
        conversation: ConversationState,
        user: UserId,
        member: UserId,
        mark: Mark,
        then: Continuation,
    ) -> None:
        """Take a mark of all that is held, or of less: then storage is asked for the chain there, if need be."""
        log = conversation.log(user, mark.run)
        if log is not None and mark.seq < log.durable_seq and not (log.forked or self._is_sure(log.id, member, mark)):
            self._look_up(remote, conversation, user, member, mark, then)
        else:
            super().on_mark(remote, conversation, user, member, mark, then)

    def _is_sure(self, log: LogId, member: UserId, mark: Mark) -> bool:
        """Return whether a mark tells nothing new, or its chain is remembered."""
        return (log, mark.seq) in self._chains or mark.seq <= self.position(log, member)

    def _countable(self, remote: RemoteState, log: Log, member: UserId, mark: Mark) -> int:
        """Of more than was written in this run a copy tells; what is on its way to the disk counts once it is there."""
        is_other = self._chains.get((log.id, mark.seq), mark.chain8) != mark.chain8
        is_other |= mark.seq == log.durable_seq and mark != log.mark
        is_other |= mark.seq > log.durable_seq and log.own
        return 0 if log.forked or is_other else min(mark.seq, log.durable_seq)

    def _is_other_version(self, facts: LogFacts, mark: Mark) -> bool:
        return facts.chain_at is not None and mark.chain8 != facts.chain_at[:8].hex()

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        if self._combined is None:
            self._emit({(log, first, last): [member]})
        else:
            self._combined.setdefault((log, first, last), []).append(member)

    def _emit(self, risen: dict[EntryRange, list[UserId]]) -> None:
        """Tell who has what now, and only then what follows from any of it."""
        for stretch, members in risen.items():
            self._sync.ctx.emit(DeliveryReceipt(*stretch, members[-1], tuple(members[:-1])))
        for (log, first, _), members in risen.items():
            for member in members:
                self.on_delivered(log, first, member)
