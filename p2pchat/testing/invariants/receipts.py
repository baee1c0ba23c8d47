"""Somebody reads, in half of the histories: and what the writers then may know of it, and in the end must.

A program marks what it was handed on read, at once or later or never; a few people want no receipts of reading. Who
writes is told of nothing that was not read, of nothing twice in a life, of nothing before it is delivered, and of
nobody who wants no receipts. When all has settled every writer knows what is read on the disks of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core import inputs
from p2pchat.core.effects import Commit, Effect, ReadReceipt, TypingChanged
from p2pchat.core.inputs import Input, MarkedRead, ReceiptsChosen
from p2pchat.core.log import LogId
from p2pchat.core.records import ReadMark, Stored
from p2pchat.core.sync.conversations import dm_id
from p2pchat.protocol import ConversationId, Frame, TypingFrame, UserId
from p2pchat.storage.base import ReleasedEntry
from p2pchat.testing.eventlog import Fault
from p2pchat.testing.invariants.protocol import log_name

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Invariants
    from p2pchat.testing.simulation.network import WireEnd
    from p2pchat.testing.simulation.peer import SimPeer
    from p2pchat.testing.simulation.simulation import Simulation


READ_IN = 0.5  # of the histories
WANT_NONE = 0.15  # of the people
LATER = (0.0, 0.0, 0.01, 0.5, 5.0, 30.0, -1.0)  # seconds until somebody looks; -1: not because of this one
EVERYTHING = 1 << 30


class ReadInvariants:
    """Reads, and judges what is known of it."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._reads = Random(f"{self._sim.seed} reading").random() < READ_IN
        self._said: dict[tuple[UserId, LogId], int] = {}  # reader, log -> read so far, by what its program said
        self._told: set[tuple[str, int, LogId, int, str]] = set()  # (peer, life, log, seq, reader)
        self._known: dict[tuple[str, int], dict[tuple[LogId, UserId], int]] = {}  # by (peer, life): at its start

    def wants_none(self, peer: SimPeer) -> bool:
        """Say whether somebody wants no receipts of reading."""
        return self._reads and Random(f"{self._sim.seed} {peer.name} wants receipts").random() < WANT_NONE

    # ---- who reads

    def began(self, peer: SimPeer, stored: Stored) -> None:
        """A process began with what its disk holds."""
        self._known[peer.name, peer.lives] = {}
        self.hosting(peer, stored)

    def hosting(self, peer: SimPeer, stored: Stored) -> None:
        """A peer knows more of what was read of those who write there."""
        known = self._known.setdefault((peer.name, peer.lives), {})
        for mark in stored.reads:
            if mark.log.user in peer.speaks_for:
                known[mark.log, mark.reader] = max(mark.seq, known.get((mark.log, mark.reader), 0))

    def started(self, peer: SimPeer) -> None:
        """Its node runs: it says again what it wants."""
        if self.wants_none(peer):
            peer.put(ReceiptsChosen(peer.user, False))

    def handed_on(self, peer: SimPeer, one: ReleasedEntry) -> None:
        """A program was given an entry of another: somebody reads it, sooner or later."""
        if not self._reads or peer.liar or one.log.user == peer.user:
            return
        drawn = Random(f"{self._sim.seed} {peer.name} {peer.lives} reads {one.place}")
        seconds = drawn.choice(LATER)
        if seconds >= 0:
            peer.soon(seconds, seconds, lambda: self._read(peer, one))

    def _read(self, peer: SimPeer, one: ReleasedEntry) -> None:
        if self._invariants.at_rest:
            return  # nobody does anything any more
        for each in peer.disk.storage.places(0, EVERYTHING):
            if each.place <= one.place and each.log.conversation == one.log.conversation:
                key = (peer.user, each.log)
                self._said[key] = max(each.seq, self._said.get(key, 0))
        self._sim.counts["read"] += 1
        peer.put(MarkedRead(peer.user, one.log, one.seq, one.place))

    # ---- what is known of it

    def was_read(self, peer: SimPeer, news: ReadReceipt) -> None:
        """A writer is told that somebody has read something."""
        reader = self._sim.by_user[news.member]
        if peer.liar or reader.liar:
            return
        what = f"{reader.name} has read {log_name(news.log)} {news.last}"
        if self._said.get((news.member, news.log), 0) < news.last and not self._invariants.may_fork(news.log):
            self._invariants.fail("read", peer, f"{what}: nobody there said so")
        if (self.wants_none(peer) and news.log.user == peer.user) or self.wants_none(reader):
            self._invariants.fail("read", peer, f"{what}: told though one of the two wants no receipts")
        if news.first <= self._known.get((peer.name, peer.lives), {}).get((news.log, news.member), 0):
            self._invariants.fail("read", peer, f"{what}: known since its start")
        for seq in range(news.first, news.last + 1):
            told = (peer.name, peer.lives, news.log, seq, news.member)
            if told in self._told:
                self._invariants.fail("read", peer, f"{what}: {seq} is told twice")
            self._told.add(told)
            if reader is not peer and not self._invariants.is_delivered(news.log, seq, news.member):
                self._invariants.fail("read", peer, f"{what}: {seq} was never delivered")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield what somebody has read and the writer does not know, when all has settled."""
        if not self._reads:
            return
        yield from self._unequal(honest)
        for reader in honest:
            if reader.linked and reader.node is not None and reader.node.sync.read_receipts.has_unsent:
                yield Fault("unread", "has read what it is about to tell", reader.name)
        marks = {peer.user: peer.disk.storage.load([peer.user]).reads for peer in honest}
        for reader in honest:
            for mark in marks[reader.user]:
                writer = self._sim.by_user.get(mark.log.user)
                is_known = writer is None or writer not in honest or self._knows(writer, mark)
                if writer is not None and mark.reader == reader.user and not is_known:
                    text = f"does not know that {reader.name} has read {log_name(mark.log)} {mark.seq}"
                    yield Fault("unread", text, writer.name)

    def _unequal(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """What differs for ever is asked for for ever."""
        for reader in honest:
            for writer in honest:
                if reader.node is None or writer.node is None or writer.user not in reader.node.links.by_peer:
                    continue
                side = reader.node.sync.context.remotes.get(reader.node.links.by_peer[writer.user].id)
                total = reader.node.sync.read_receipts.sum_for(side) if side is not None else ""
                if (
                    total
                    and reader is not writer
                    and writer.node.sync.read_receipts.announced_sum(reader.user) != total
                ):
                    yield Fault("unread", f"has read what {writer.name} has not been told", reader.name)

    def _knows(self, writer: SimPeer, mark: ReadMark) -> bool:
        reader = self._sim.by_user[mark.reader]
        if writer.node is None or not self._sim.can_link(writer, reader) or self._invariants.may_fork(mark.log):
            return True
        if self.wants_none(writer) or self.wants_none(reader):
            return True
        if writer.node.sync.read_receipts.tracker.position(mark.log, mark.reader) >= mark.seq:
            return True
        return any(member == mark.reader for member, _ in writer.disk.storage.readers(mark.log, mark.seq))


# ---- presences
#
# What simulated users say of themselves and where they type, and what the others must make of it.
#
# The opposite of everything else in a history: nothing of it is stored, nothing is acknowledged, the latest word wins
# and typing is over by itself. So what must never happen is small: a commit because somebody said so, a word to a peer
# that cannot read the conversation, more frames than allowed, a word nobody said. And when all has come to rest
# everybody sees of everybody what they said last, and nobody types.
#
# The words are drawn from a chance of their own, in a part of the histories, so that the others stay what they were.


HOW_OFTEN = 0.4  # of the histories have words in them
WORDS = (("online", ""), ("idle", ""), ("idle", "lunch"), ("idle", "back at one"), ("offline", ""))
CLOCKS_DIFFER = 0.01  # seconds in three by which peers' clocks may differ, and more
Spot = tuple[ConversationId, UserId]  # where, and who


class Chatter:
    """Users who come back, go away and type, beside everything else that happens."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._talks = Random(f"{sim.seed} words").random() < HOW_OFTEN

    def step(self, number: int) -> None:
        """Some of them say something."""
        chance = Random(f"{self._sim.seed} words {number}")
        for _ in range(chance.choice((0, 1, 1, 4)) if self._talks else 0):
            up = [peer for peer in self._sim.up if not peer.liar]
            if up:
                self._say(chance, chance.choice(up), up)

    def write_last(self) -> None:
        """Everybody says something that has to arrive; some twice, and some type and are never heard to stop."""
        chance = Random(f"{self._sim.seed} last words")
        for peer in self._sim.up if self._talks else ():
            for _ in range(chance.choice((1, 1, 3))):
                peer.set_presence(*chance.choice(WORDS))
            if chance.random() < 0.5:
                peer.types()

    def _say(self, chance: Random, peer: SimPeer, up: list[SimPeer]) -> None:
        if chance.random() < 0.5:
            peer.set_presence(*chance.choice(WORDS))
        else:
            other = chance.choice(up)
            peer.types(None if other is peer else other, on=chance.random() < 0.8)


class PresenceInvariants:
    """Watches what peers say of their users, and what they believe of others'."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._sent_at: dict[tuple[str, int, Spot], float] = {}  # the last frame, by (peer, loads, what it is about)
        self._typed: set[Spot] = set()  # where somebody said so once

    def handled(self, peer: SimPeer, input: Input, effects: list[Effect]) -> None:
        """A peer was told a word of its own user."""
        if not isinstance(input, (inputs.PresenceSet, inputs.TypingSet)) or peer.liar:
            return
        if isinstance(input, inputs.TypingSet):
            self._typed.add((input.conversation, input.user))
        if any(isinstance(effect, Commit) for effect in effects):
            self._invariants.fail("stored", peer, f"stores something because of {type(input).__name__}")

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """A frame leaves."""
        if not isinstance(frame, TypingFrame) or peer.liar:
            return
        key = peer.name, peer.loads, (frame.c, frame.u)
        since = (self._sim.now - self._sent_at.get(key, float("-inf"))) * peer.clock.rate
        if 0 < since < self._sim.settings.typing_every - CLOCKS_DIFFER:
            self._invariants.fail("typing", peer, f"told it again after {since:.3f} s")
        self._sent_at[key] = self._sim.now
        for end in ends:
            other = end.other.owner.user
            if frame.c not in (self._invariants.room, dm_id(frame.u, other)):
                self._invariants.fail("leak", peer, f"told {end.other.owner.name} who types where only others may read")

    def told(self, peer: SimPeer, news: TypingChanged) -> None:
        """A program is told who types."""
        if (
            news.on
            and not self._sim.person(news.user).liar
            and (news.conversation, news.user) not in self._typed
            and not peer.liar
        ):
            self._invariants.fail("invented", peer, f"is told that {self._sim.person(news.user).name} types")

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """When all has come to rest: what this peer believes of the others, and what its program was told last."""
        assert peer.node is not None
        for other in self._sim.up:
            if other.liar or other is peer or not self._sim.can_link(peer, other):
                continue
            seen = peer.node.presence.status(other.user)[:2]
            if seen != other.word:
                yield Fault("word", f"sees {other.name} as {seen}, who said {other.word}", peer.name)
        liars = {other.name for other in self._sim.all_peers if other.liar}  # who may begin anew at any time
        for name in sorted(_typing_at_last(peer) - liars):
            yield Fault("typing", f"{name} types for ever", peer.name)


def _typing_at_last(peer: SimPeer) -> set[str]:
    """Return the names of those of whom a program was told last, in this life, that they type."""
    last: dict[tuple[str, str], bool] = {}
    for line in peer.lines:
        if line["event"] == "listening":
            last.clear()
        elif line["event"] == "typing":
            last[line["user"], line["conversation_id"]] = line["typing"]
    return {user for (user, _), on in last.items() if on}
