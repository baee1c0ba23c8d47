"""Who has what a hosted user wrote. Receipts are derived from marks, never stored per message.

Message n of a log is delivered to a member when a peer hosting that member has said it holds the log up to n, or a
log that builds on it. Levels only rise. What was heard is saved with the next commit and needs none of its own: it
is told again when the peers meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from p2pchat.core.effects import Delivered
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.records import Heard, LogFacts, LogKey
from p2pchat.core.sync.sides import MAX_REMEMBERED, Shelf, Side
from p2pchat.core.sync.tips import Conversation
from p2pchat.protocol import Mark, UserId

Then = Callable[[], None]


class Receipts:
    """The highest mark heard, per log of a hosted user and member."""

    def __init__(self, shelf: Shelf, heard: Iterable[Heard]) -> None:
        self._shelf = shelf
        self._level: dict[tuple[LogId, UserId], int] = {(item.log, item.member): item.seq for item in heard}
        self.unsaved: dict[tuple[LogId, UserId], int] = {}
        self._waiting: dict[tuple[LogId, UserId], int] = {}  # heard, but what the log builds on is being looked up
        self._due: deque[Then] = deque()
        self._going_on = False

    def take_unsaved(self) -> list[Heard]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [Heard(log, member, seq) for (log, member), seq in taken.items()]

    def keep(self, former: Receipts) -> None:
        """Take over what was heard before storage failed: it was told, and may not have been saved."""
        for key, seq in former._level.items():
            if seq > self._level.get(key, 0):
                self._level[key] = self.unsaved[key] = seq

    def heard(self, side: Side, conversation: Conversation, user: UserId, marks: Iterable[Mark]) -> None:
        """Take marks a far end told of a hosted user's logs."""
        members = sorted(self._shelf.presence.users_of(side.link.id) - {user})
        for member in members:
            if conversation.may_write(member):
                for mark in marks:
                    self._rise(side, conversation, user, member, mark, _nothing)

    def _rise(
        self, side: Side, conversation: Conversation, user: UserId, member: UserId, mark: Mark, then: Then
    ) -> None:
        log = conversation.log(user, mark.run)
        if log is None:
            self._look_up(side, conversation, user, member, mark, then)
        elif not log.forked and (mark.seq != log.kept_seq or mark == log.mark):
            self._raise(side, conversation, log.id, member, min(mark.seq, log.kept_seq), log.before, then)
        else:
            self._go_on(then)

    def _raise(
        self, side: Side, conversation: Conversation, log: LogId, member: UserId, seq: int, before: tuple[Mark, ...],
        then: Then,
    ) -> None:  # fmt: skip
        """Note that a member holds a log up to seq, and before that, all it builds on: the one is saved with the other.

        A log that was noted before needs no look below: whoever held its beginning held those.
        """
        key = (log, member)
        if key in self._waiting:
            self._waiting[key] = max(seq, self._waiting[key])
            self._go_on(then)
        elif seq <= self._level.get(key, 0):
            self._go_on(then)
        elif key in self._level or not before:
            self._note(key, seq)
            self._go_on(then)
        else:
            self._waiting[key] = seq
            self._below(side, conversation, key, list(before), then)

    def _below(
        self, side: Side, conversation: Conversation, key: tuple[LogId, UserId], rest: list[Mark], then: Then
    ) -> None:
        if rest:
            go_on = partial(self._below, side, conversation, key, rest[1:], then)
            self._rise(side, conversation, key[0].user, key[1], rest[0], go_on)
        else:
            self._note(key, self._waiting.pop(key))
            self._go_on(then)

    def _go_on(self, then: Then) -> None:
        """Go on with what waited; one after the other, for a thousand logs may build on each other."""
        self._due.append(then)
        if not self._going_on:
            self._going_on = True
            while self._due:
                self._due.popleft()()
            self._going_on = False

    def _note(self, key: tuple[LogId, UserId], seq: int) -> None:
        known = self._level.get(key, 0)
        self._level[key] = self.unsaved[key] = seq
        self._shelf.ctx.emit(Delivered(key[0], known + 1, seq, key[1]))

    def _look_up(
        self, side: Side, conversation: Conversation, user: UserId, member: UserId, mark: Mark, then: Then
    ) -> None:
        log = LogId(conversation.id, user, mark.run)
        if self._level.get((log, member), 0) >= mark.seq or side.unsure >= MAX_REMEMBERED or self._is_forked(log):
            self._go_on(then)
            return
        side.unsure += 1
        key = LogKey(conversation.id, ref_key(user, mark.run))
        self._shelf.lookups.log(key, partial(self._looked_up, side, conversation, member, mark, then))

    def _looked_up(
        self, side: Side, conversation: Conversation, member: UserId, mark: Mark, then: Then, facts: LogFacts | None
    ) -> None:
        side.unsure -= 1
        is_other = facts is not None and mark.seq == facts.seq and mark.chain8 != facts.chain[:8].hex()
        if facts is None or is_other or facts.forked or self._is_forked(facts.log):
            self._go_on(then)
        else:
            self._raise(side, conversation, facts.log, member, min(mark.seq, facts.seq), facts.before, then)

    def _is_forked(self, id: LogId) -> bool:
        """Say whether it is known that a log forked, be it since storage was asked."""
        log = self._shelf.conversations.by_id[id.conversation].log(id.user, id.run)
        return id in self._shelf.proven_forks or (log is not None and log.forked)


def _nothing() -> None:
    pass
