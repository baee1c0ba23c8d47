"""Who has read what a hosted user wrote, by the read marks that the readers' peers tell.

A read mark counts as far as its reader is known to have the log: so a message is never read before it is delivered,
and a mark of what a copy of this machine wrote is none of ours. The rest of it counts when that receipt comes. Of a log
in storage only receipts are not in memory: who has something of every tip that may build on it has all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from p2pchat.core.effects import WasRead
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.records import LogFacts, LogKey, ReadMark
from p2pchat.core.sync.delivery_receipts import Receipts
from p2pchat.core.sync.levels import Level, Levels, Then, nothing
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.progress import MAX_REMEMBERED, Shelf, Side
from p2pchat.protocol import Mark, UserId

Wants = Callable[[UserId, UserId], bool]  # a hosted user and another: whether they hear of each other's reading


class Readers(Levels):
    """What is read: the highest read mark that counts, per log of a hosted user and reader."""

    def __init__(self, shelf: Shelf, stored: Iterable[ReadMark], receipts: Receipts, wants: Wants) -> None:
        mine = (item for item in stored if item.log.user in shelf.hosted)
        super().__init__(shelf, ((item.log, item.reader, item.seq) for item in mine))
        self._receipts = receipts
        self._wants = wants
        self._early: dict[Level, tuple[Side, int]] = {}  # told, and not known to be delivered that far

    def take_unsaved(self) -> list[ReadMark]:
        """Return what the next commit shall keep."""
        taken, self.unsaved = self.unsaved, {}
        return [ReadMark(log, member, seq) for (log, member), seq in taken.items()]

    def of(self, readers: Iterable[UserId]) -> list[ReadMark]:
        """Return what is known of these readers."""
        wanted = set(readers)
        return [ReadMark(log, member, seq) for (log, member), seq in self._level.items() if member in wanted]

    def heard(self, side: Side, conversation: Conversation, user: UserId, reader: UserId, run: str, seq: int) -> None:
        """Take a read mark told of a hosted user's log."""
        if reader != user and conversation.may_write(reader) and self._wants(user, reader):
            self.rise(side, conversation, user, reader, Mark(run, seq, ""), nothing)

    def read_here(self, log: LogId, reader: UserId, seq: int) -> None:
        """Two users of this peer: one has read what the other wrote."""
        if seq > self.level(log, reader) and self._wants(log.user, reader):
            self._note((log, reader), seq)

    def delivered(self, log: LogId, first: int, member: UserId) -> None:
        """A member is known to have more of a log: what was told too early counts as far as that goes."""
        self._hear_again(log, member)
        if first == 1:
            for earlier, reader in [each for each in self._early if each[1] == member and each[0].key == log.key]:
                self._hear_again(earlier, reader)  # perhaps it has something of every tip now

    def tip_gone(self, log: LogId) -> None:
        """A log of a hosted user's forked: no receipt of it will come."""
        for earlier, reader in [each for each in self._early if each[0].key == log.key]:
            self._hear_again(earlier, reader)

    def _hear_again(self, log: LogId, member: UserId) -> None:
        early = self._early.pop((log, member), None)
        if early is not None:
            self.heard(early[0], self._shelf.conversations.by_id[log.conversation], log.user, member, log.run, early[1])

    # ---- as levels ask

    def _counts(self, side: Side, log: Log, member: UserId, mark: Mark) -> int:
        if log.forked:
            return 0
        had = self._receipts.level(log.id, member)
        if mark.seq > had:
            self._keep_early(side, log.id, member, mark.seq)
        return min(mark.seq, had)

    def _keep_early(self, side: Side, log: LogId, member: UserId, seq: int) -> None:
        if len(self._early) >= MAX_REMEMBERED:
            self._make_room()
        self._early[log, member] = side, seq

    def _make_room(self) -> None:
        """Whoever told most loses half of it: one who tells without end crowds out nobody else."""
        most, count = Counter(side.link.peer for side, _ in self._early.values()).most_common(1)[0]
        its = [level for level, (side, _) in self._early.items() if side.link.peer == most]
        for level in its[: (count + 1) // 2]:
            del self._early[level]

    def link_down(self, side: Side) -> None:
        """A link ends: what was told on it is kept, and nothing else that is known of its far end."""
        if any(told is side for told, _ in self._early.values()):
            bare = Side(side.link)
            self._early = {level: (bare if told is side else told, seq) for level, (told, seq) in self._early.items()}

    def _look_up(
        self, side: Side, conversation: Conversation, user: UserId, member: UserId, mark: Mark, then: Then
    ) -> None:
        log = LogId(conversation.id, user, mark.run)
        if self.level(log, member) < mark.seq:
            self._keep_early(side, log, member, mark.seq)  # a disk from an older copy: the log may come back
        super()._look_up(side, conversation, user, member, mark, then)

    def _is_other(self, facts: LogFacts, mark: Mark) -> bool:
        return False  # a read mark tells no chain

    def _rise_below(
        self, side: Side, conversation: Conversation, user: UserId, member: UserId, mark: Mark, then: Then
    ) -> None:
        """Whoever has a log has all that it builds on: that was told before."""
        log = conversation.log(user, mark.run)
        if log is not None and not log.forked:
            self.raise_to(side, conversation, log.id, member, min(mark.seq, log.kept_seq), log.before, then)
        elif log is not None or side.unsure >= MAX_REMEMBERED:
            self._go_on(then)
        else:
            side.unsure += 1
            key = LogKey(conversation.id, ref_key(user, mark.run))
            self._shelf.lookups.log(key, partial(self._found_below, side, conversation, member, mark, then))

    def _found_below(
        self, side: Side, conversation: Conversation, member: UserId, mark: Mark, then: Then, facts: LogFacts | None
    ) -> None:
        side.unsure -= 1
        if facts is None or facts.forked or self._is_forked(facts.log):
            self._go_on(then)
        else:
            seq = min(mark.seq, facts.seq)
            self.raise_to(side, conversation, facts.log, member, seq, facts.before, then)

    def _found(
        self, side: Side, conversation: Conversation, member: UserId, seq: int, facts: LogFacts, then: Then
    ) -> None:
        """Storage has the log: it is an earlier one. Of those it is known in this run who has what is built on them."""
        had = self._receipts.level(facts.log, member)
        writer = conversation.writers.get(facts.log.user)
        if had < seq and writer is not None and facts.covered:
            above = [tip for tip in writer.tips() if writer.may_build_on(tip, facts.log.run)]
            if above and all(self._receipts.level(tip.id, member) for tip in above):
                had = facts.seq
        early = self._early.get((facts.log, member))
        if early is not None and early[1] <= min(seq, had):  # else more of it counts later
            del self._early[facts.log, member]
        self.raise_to(side, conversation, facts.log, member, min(seq, had), facts.before, then)

    def _rose(self, log: LogId, first: int, last: int, member: UserId) -> None:
        self._shelf.ctx.emit(WasRead(log, first, last, member))
