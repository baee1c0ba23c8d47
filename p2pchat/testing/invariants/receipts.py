"""Somebody reads, in half of the histories: and what the writers then may know of it, and in the end must.

A program marks what it was handed on read, at once or later or never; a few people want no receipts of reading. Who
writes is told of nothing that was not read, of nothing twice in a life, of nothing before it is delivered, and of
nobody who wants no receipts. When all has settled every writer knows what is read on the disks of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.effects import WasRead
from p2pchat.core.inputs import MarkedRead, ReceiptsChosen
from p2pchat.core.log import LogId
from p2pchat.core.records import ReadMark, Stored
from p2pchat.protocol import UserId
from p2pchat.storage.base import Shown
from p2pchat.testing.eventlog import Fault
from p2pchat.testing.invariants.protocol import log_name

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Judge
    from p2pchat.testing.simulation.peer import SimPeer

READ_IN = 0.5  # of the histories
WANT_NONE = 0.15  # of the people
LATER = (0.0, 0.0, 0.01, 0.5, 5.0, 30.0, -1.0)  # seconds until somebody looks; -1: not because of this one
EVERYTHING = 1 << 30


class Reading:
    """Reads, and judges what is known of it."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._sim = judge.sim
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

    def handed_on(self, peer: SimPeer, one: Shown) -> None:
        """A program was given an entry of another: somebody reads it, sooner or later."""
        if not self._reads or peer.liar or one.log.user == peer.user:
            return
        drawn = Random(f"{self._sim.seed} {peer.name} {peer.lives} reads {one.place}")
        seconds = drawn.choice(LATER)
        if seconds >= 0:
            peer.soon(seconds, seconds, lambda: self._read(peer, one))

    def _read(self, peer: SimPeer, one: Shown) -> None:
        if self._judge.at_rest:
            return  # nobody does anything any more
        for each in peer.disk.storage.places(0, EVERYTHING):
            if each.place <= one.place and each.log.conversation == one.log.conversation:
                key = (peer.user, each.log)
                self._said[key] = max(each.seq, self._said.get(key, 0))
        self._sim.counts["read"] += 1
        peer.put(MarkedRead(peer.user, one.log, one.seq, one.place))

    # ---- what is known of it

    def was_read(self, peer: SimPeer, news: WasRead) -> None:
        """A writer is told that somebody has read something."""
        reader = self._sim.by_user[news.member]
        if peer.liar or reader.liar:
            return
        what = f"{reader.name} has read {log_name(news.log)} {news.last}"
        if self._said.get((news.member, news.log), 0) < news.last and not self._judge.may_fork(news.log):
            self._judge.blame("read", peer, f"{what}: nobody there said so")
        if (self.wants_none(peer) and news.log.user == peer.user) or self.wants_none(reader):
            self._judge.blame("read", peer, f"{what}: told though one of the two wants no receipts")
        if news.first <= self._known.get((peer.name, peer.lives), {}).get((news.log, news.member), 0):
            self._judge.blame("read", peer, f"{what}: known since its start")
        for seq in range(news.first, news.last + 1):
            told = (peer.name, peer.lives, news.log, seq, news.member)
            if told in self._told:
                self._judge.blame("read", peer, f"{what}: {seq} is told twice")
            self._told.add(told)
            if reader is not peer and not self._judge.is_delivered(news.log, seq, news.member):
                self._judge.blame("read", peer, f"{what}: {seq} was never delivered")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield what somebody has read and the writer does not know, when all has settled."""
        if not self._reads:
            return
        yield from self._unequal(honest)
        for reader in honest:
            if reader.linked and reader.node is not None and reader.node.sync.reads.untold:
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
                side = reader.node.sync.shelf.sides.get(reader.node.links.by_peer[writer.user].id)
                total = reader.node.sync.reads.sum_toward(side) if side is not None else ""
                if total and reader is not writer and writer.node.sync.reads.told_sum(reader.user) != total:
                    yield Fault("unread", f"has read what {writer.name} has not been told", reader.name)

    def _knows(self, writer: SimPeer, mark: ReadMark) -> bool:
        reader = self._sim.by_user[mark.reader]
        if writer.node is None or not self._sim.can_link(writer, reader) or self._judge.may_fork(mark.log):
            return True
        if self.wants_none(writer) or self.wants_none(reader):
            return True
        if writer.node.sync.reads.readers.level(mark.log, mark.reader) >= mark.seq:
            return True
        return any(member == mark.reader for member, _ in writer.disk.storage.readers(mark.log, mark.seq))
