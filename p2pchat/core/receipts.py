"""Who has what a hosted user wrote. Receipts are derived from marks, never stored per message.

Message n of a log is delivered to a member when a peer hosting that member has said it holds the log up to n, or a
log that builds on it. Levels only rise. What was heard is saved with the next commit and needs none of its own: it
is told again when the peers meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from p2pchat.core.effects import Delivered
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.records import Heard, LogFacts, LogKey
from p2pchat.core.sides import Shelf, Side
from p2pchat.core.tips import Conversation
from p2pchat.protocol import Mark, UserId


class Receipts:
    """The highest mark heard, per log of a hosted user and member."""

    def __init__(self, shelf: Shelf, heard: Iterable[Heard]) -> None:
        self._shelf = shelf
        self._level: dict[tuple[LogId, UserId], int] = {(item.log, item.member): item.seq for item in heard}
        self.unsaved: dict[tuple[LogId, UserId], int] = {}

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
                    self._rise(conversation, user, member, mark)

    def _rise(self, conversation: Conversation, user: UserId, member: UserId, mark: Mark) -> None:
        log = conversation.log(user, mark.run)
        if log is None:
            self._lookup(conversation, user, member, mark)
        elif mark.seq != log.kept_seq or mark == log.mark:
            self._raise(conversation, log.id, member, min(mark.seq, log.kept_seq), log.before)

    def _raise(
        self, conversation: Conversation, log: LogId, member: UserId, seq: int, before: tuple[Mark, ...]
    ) -> None:
        known = self._level.get((log, member), 0)
        if seq <= known:
            return
        self._level[log, member] = self.unsaved[log, member] = seq
        self._shelf.ctx.emit(Delivered(log, known + 1, seq, member))
        if not known:
            for mark in before:  # who holds this log holds what it builds on
                self._rise(conversation, log.user, member, mark)

    def _lookup(self, conversation: Conversation, user: UserId, member: UserId, mark: Mark) -> None:
        log = LogId(conversation.id, user, mark.run)
        if self._level.get((log, member), 0) < mark.seq:
            key = LogKey(conversation.id, ref_key(user, mark.run))
            self._shelf.lookups.log(key, partial(self._looked_up, conversation, member, mark.seq))

    def _looked_up(self, conversation: Conversation, member: UserId, seq: int, facts: LogFacts | None) -> None:
        if facts is not None:
            self._raise(conversation, facts.log, member, min(seq, facts.seq), facts.before)
