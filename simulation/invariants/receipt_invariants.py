"""Invariants of receipts, and the actions that cause them.

A writer gets no receipt from a member that never had the entry, and no receipt twice in a session. In half of the
histories programs mark entries read: at once, later or never. A few users turn read receipts off. A writer gets no read
receipt for an unread entry, none before delivery, and none from or for a user who turned them off. A running peer
sends no read mark that is not on its disk. At rest every writer has the read marks on the disks of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import ReadMark, ShownKey, Stored
from p2pchat.core.effects import (
    DeliveryReceipt,
    ReadReceipt,
)
from p2pchat.core.inputs import MarkedRead, MarkedTaken, Stop
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.own_state import OFF, RECEIPTS
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import ConversationId, Frame, ReadFrame, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Fault
from simulation.disk import is_same
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.hosted_users import SimHostedUser
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulated_program import WrittenMessage


READ_IN = 0.5  # the part of histories
WANT_NONE = 0.15  # the part of users that turn receipts off
LATER = (0.0, 0.0, 0.01, 0.5, 5.0, 30.0, -1.0)  # seconds until an entry is read; -1 for never


class ReceiptInvariants:
    """Marks entries as read, and checks the receipts.

    Attributes:
        said_in: What was marked as read in each session of a peer.
    """

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._reads = Random(f"{self._sim.seed} reading").random() < READ_IN
        self._said: dict[tuple[UserId, LogId], int] = {}  # (reader, log) -> marked read by its program
        self.said_in: dict[tuple[str, int], dict[LogId, int]] = {}  # the same, by (peer, session)
        self._delivered: set[tuple[LogId, int, UserId]] = set()  # (log, seq, member) as reported to writers
        self._seen: set[tuple[object, ...]] = set()  # within one session: (peer, session, event, log, seq, member)
        # (peer, session, event, log, member) -> known at its start
        self._known: dict[tuple[str, int, str, LogId, UserId], int] = {}
        self._reported_to: dict[tuple[str, int], dict[tuple[LogId, UserId], int]] = {}  # (peer, session) -> deliveries

    def wants_none(self, peer: SimPeer) -> bool:
        """Return whether a user turned read receipts off."""
        return self._reads and Random(f"{self._sim.seed} {peer.called} wants receipts").random() < WANT_NONE

    # ---- reading

    def started(self, peer: SimPeer) -> None:
        """Choose receipts, also again after a start from a disk that lacks it."""
        if self.wants_none(peer) and peer.node is not None and peer.node.own.wants_receipts(peer.own):
            peer.choose(peer.own, RECEIPTS, OFF)

    def handed_on(self, peer: SimPeer, one: ReleasedEntry) -> None:
        """Perhaps schedule the reading of an entry that a program received."""
        if not self._reads or peer.byzantine or one.log.user == peer.own:
            return
        drawn = Random(f"{self._sim.seed} {peer.name} {peer.lives} reads {one.place}")
        seconds = drawn.choice(LATER)
        if seconds >= 0:
            peer.soon(seconds, seconds, lambda: self._read(peer, one))

    def _read(self, peer: SimPeer, one: ReleasedEntry) -> None:
        if self._invariants.at_rest:
            return  # no more actions at rest
        # Who wants none marks for itself once that is stored: a full disk refuses it, and one that went back lacks it.
        # A machine that has not heard of the choice tells others what its person has read on another one.
        is_kept = peer.node is not None and not peer.node.own.wants_receipts(peer.own) and peer.person is None
        is_told = not (self.wants_none(peer) and is_kept)
        for each in peer.disk.storage.places(0, one.place, [one.log.conversation]):  # at most so many
            if each.place <= one.place:
                if is_told:
                    key = (peer.own, each.log)
                    self._said[key] = max(each.seq, self._said.get(key, 0))
                    for log, seq in self._below(peer, each):
                        self._said[peer.own, log] = max(seq, self._said.get((peer.own, log), 0))
                said = self.said_in.setdefault((peer.name, peer.lives), {})
                said[each.log] = max(each.seq, said.get(each.log, 0))
        self._sim.counts["read"] += 1
        self._sim.counts["machine_read"] += peer.person is not None
        peer.put(MarkedRead(peer.own, one.log, one.place))

    def _below(self, peer: SimPeer, one: ReleasedEntry) -> Iterator[tuple[LogId, int]]:
        """Yield the logs on which that of an entry builds: a mark stands for all of them, also where they are lost."""
        assert peer.node is not None
        todo, seen = [one.log], set[LogId]()
        while todo:
            found = peer.node.replicator.conversations.find(todo.pop())
            for mark in () if found is None else found.before:
                log = LogId(one.log.conversation, one.log.user, mark.run)
                yield log, mark.seq
                todo += [log] if log not in seen else []
                seen.add(log)

    def frame_sent(self, peer: SimPeer, frame: Frame) -> None:
        """Check that the read marks in a frame are durable; a peer that stops sends its last ones with their commit."""
        if not isinstance(frame, ReadFrame) or not frame.marks or peer.byzantine or peer.handling is Stop:
            return
        durable = _durable_marks(peer, taken=False)
        for conversation, readers in frame.marks.items():
            for reader, marks in readers.items():
                for ref, seq, _ in marks:
                    if durable.get((conversation, reader, ref), 0) < seq:
                        self._invariants.fail("read", peer, f"{reader[:8]} {ref} {seq}: sent before it was on disk")

    # ---- receipts

    def hosting(self, peer: SimPeer, stored: Stored) -> None:
        """Note the marks with which a process starts, or begins to host a user."""
        marks = [("delivered", mark.log, mark.member, mark.seq) for mark in stored.delivered]
        # A node reports read marks of users it hosts at that time, so marks of others are not known yet.
        marks += [
            ("read", mark.log, mark.reader, mark.seq)
            for mark in stored.reads
            if mark.log.user in peer.speaks_for and not mark.taken
        ]
        for event, log, member, seq in marks:
            key = (peer.name, peer.lives, event, log, member)
            self._known[key] = max(seq, self._known.get(key, 0))

    def delivered(self, peer: SimPeer, news: DeliveryReceipt) -> None:
        """Check a delivery receipt."""
        member, log = self._sim.person(news.member), news.log
        if peer.byzantine:
            return
        if not member.byzantine and not self._invariants.may_fork(log):
            if member.had(log) < news.last:
                self._invariants.fail("delivered", peer, f"{member.name} never had {log_name(log)} {news.last}")
            self._check_texts(peer, news)
        elif news.member in self._sim.by_user and not (member.byzantine or member.restored):
            here, there = (each.disk.logs.get(log, []) for each in (peer, self._sim.by_user[news.member]))
            is_known = not self._invariants.deletions.is_deleted(peer, log, news.last + 1)  # its chain there
            if (
                is_known
                and min(len(here), len(there)) >= news.last
                and not is_same(here[: news.last], there[: news.last])
            ):
                self._invariants.fail("delivered", peer, f"{member.name} has another {log_name(log)} {news.last}")
        self._reported(peer, "delivered", news, "receipt")
        reported = self._reported_to.setdefault((peer.name, peer.lives), {})
        reported[log, news.member] = max(news.last, reported.get((log, news.member), 0))
        self._delivered |= {(log, seq, news.member) for seq in range(news.first, news.last + 1)}

    def _check_texts(self, peer: SimPeer, news: DeliveryReceipt) -> None:
        """Check that the member has each text that is here, and not only its stub."""
        there = self._sim.by_user.get(news.member)
        for seq in range(news.first, news.last + 1):
            is_here = seq > peer.disk.pruned.get(news.log, 0) and seq not in peer.disk.stubs.get(news.log, ())
            if there is not None and is_here and there.disk.lacks_text(news.log, seq, seq):
                self._invariants.fail("delivered", peer, f"{there.name} has a stub of {log_name(news.log)} {seq}")

    def _reported(self, peer: SimPeer, event: str, news: DeliveryReceipt | ReadReceipt, rule: str) -> None:
        """Check that a receipt is neither known before the session nor reported in it before."""
        what = f"{log_name(news.log)} {news.last} {event}, {self._sim.person(news.member).name}"
        session = (peer.name, peer.lives, event, news.log)
        if news.first <= self._known.get((*session, news.member), 0):
            self._invariants.fail(rule, peer, f"{what}: known before its start")
        for seq in range(news.first, news.last + 1):
            receipt = (*session, seq, news.member)
            if receipt in self._seen:
                self._invariants.fail(rule, peer, f"{what}: {seq} is reported twice")
            self._seen.add(receipt)

    def lacking(self, written: WrittenMessage, member: SimPeer) -> Iterator[Fault]:
        """Yield a fault if the delivery of a message to a member was never reported to its writer.

        In the room that is a peer, elsewhere a user, on whatever machine.
        """
        log = written.log
        if log is None or written.user == member.own:
            return
        holder = member.user if log.conversation == self._invariants.room else member.own
        if (log, written.seq, holder) not in self._delivered:
            text = f"no receipt of {member.name} for {log_name(log)} {written.seq}"
            yield Fault("receipt", text, written.at.name)

    def forgotten(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, deliveries that were reported in this session and are not known any more."""
        for peer in honest:
            for (log, user), last in self._reported_to.get((peer.name, peer.lives), {}).items():
                if peer.node is not None and log.user in peer.speaks_for:
                    known = peer.node.replicator.receipts.delivered.position(log, user)
                    if user not in peer.speaks_for and known < last and log.user != user:
                        text = f"{log_name(log)} {last} was delivered to {self._sim.person(user).name}, now {known}"
                        yield Fault("receipt_kept", text, peer.name)

    def was_read(self, peer: SimPeer, news: ReadReceipt) -> None:
        """Check a read receipt."""
        reader, peers = self._sim.person(news.member), self._sim.peers_of(news.member)
        if peer.byzantine or reader.byzantine:
            return
        what = f"{reader.name} has read {log_name(news.log)} {news.last}"
        ref = ref_key(news.log.user, news.log.run)
        # Nothing is shown of stubs, and what was deleted is not among what was shown any more. A mark on it outlives a
        # restore of the disk where it was deleted: another machine of the reader tells it.
        pruned = [one.disk.ever_pruned.get(news.log, 0) for one in peers]
        said = max(self._said.get((news.member, news.log), 0), *pruned)
        behind = range(said + 1, news.last + 1)
        stubs = set[ShownKey]().union(*(one.disk.ever_stubs for one in peers))
        is_marked = all((news.log.conversation, ref, seq) in stubs for seq in behind)
        if not (is_marked or self._invariants.may_fork(news.log)):
            self._invariants.fail("read", peer, f"{what}: its program did not mark it for others")
        is_off = peer.node is not None and not peer.node.own.wants_receipts(peer.own)
        if is_off and news.log.user == peer.own:
            self._invariants.fail("read", peer, f"{what}: reported, though its writer turned receipts off")
        self._reported(peer, "read", news, "read")
        # In the room the holders are peers: a machine passes on what its person has read on another one.
        is_passed_on = reader.user in self._sim.people and news.log.conversation == self._invariants.room
        for seq in range(news.first, news.last + 1):
            if not (peer in peers or is_passed_on) and (news.log, seq, news.member) not in self._delivered:
                self._invariants.fail("read", peer, f"{what}: {seq} was never delivered")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, who has marks that others lack, and read entries whose writer has no read receipt."""
        for one, other in apart(honest):
            yield Fault("unread", f"has marks that {other.name} lacks", one.name)
        if not self._reads:
            return
        for reader in honest:
            if reader.linked and reader.node is not None and reader.node.replicator.receipts.marks.has_unsent:
                yield Fault("unread", "has unsent read marks", reader.name)
        for reader in honest:
            for mark in reader.disk.storage.load([reader.own]).reads:
                if mark.taken or mark.reader != reader.own or reader.disk.lacks_text(mark.log, 1, mark.seq):
                    continue
                for writer in self._sim.peers_of(mark.log.user):
                    if self._invariants.deletions.any and not writer.disk.has(mark.log, mark.seq):
                        continue  # lost with its disk, and deleted by those who held it
                    if writer in honest and not self._knows(writer, reader, mark):
                        text = f"does not know that {reader.called} has read {log_name(mark.log)} {mark.seq}"
                        yield Fault("unread", text, writer.name)

    def _knows(self, writer: SimPeer, reader: SimPeer, mark: ReadMark) -> bool:
        if writer.node is None or not self._sim.can_link(writer, reader) or self._invariants.may_fork(mark.log):
            return True
        if self.wants_none(writer) or self.wants_none(reader):
            return True
        if writer.node.replicator.receipts.marks.tracker.position(mark.log, mark.reader) >= mark.seq:
            return True
        return any(member == mark.reader for member, _ in writer.disk.storage.readers(mark.log, mark.seq))


def apart(honest: Sequence[SimPeer]) -> Iterator[tuple[SimPeer, SimPeer]]:
    """Yield the pairs of linked peers of which the second knows other marks of the first than that would announce."""
    for one in honest:
        for other in honest:
            if other is one or one.node is None or other.node is None or other.user not in one.node.links.by_peer:
                continue
            remote = one.node.replicator.context.remotes.get(one.node.links.by_peer[other.user].id)
            total = one.node.replicator.receipts.marks.sum_for(remote) if remote is not None else ""
            if total and other.node.replicator.receipts.marks.announced_sum(one.user) != total:
                yield one, other


# ---- taken marks
#
# A hosted user has one session, now at one of its hosts and now at another, which takes what its host shows. What is
# marked as taken was taken at some host: else a session elsewhere would miss it. Only hosts of the user hear of a mark,
# once it is on disk. A mark on disk stays, or another stands for it. At rest all hosts that are linked have the same,
# and each knows what the other has.

TAKES_IN = 0.7  # the part of histories
STAYS = 10.0  # seconds of a session at one host
TAKEN_LATER = (0.0, 0.0, 0.01, 0.5, 5.0)  # seconds until an entry is taken


class TakenInvariants:
    """Takes what hosted users are shown, and checks the marks."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._takes = Random(f"{self._sim.seed} taking").random() < TAKES_IN
        self._had: dict[tuple[ConversationId, UserId, str], int] = {}  # by reader and log: taken at any host

    # ---- sessions

    def handed_on(self, peer: SimPeer, one: ReleasedEntry) -> None:
        """Perhaps have the session of a hosted user take an entry, and all before it."""
        if not self._takes or peer.byzantine:
            return
        for guest in peer.guests:
            if one.log.user != guest.user and self._is_between(guest, one):
                drawn = Random(f"{self._sim.seed} {peer.name} {peer.lives} takes {one.place}")
                self._sim.schedule.after(drawn.choice(TAKEN_LATER), partial(self._take, peer, peer.lives, guest, one))

    def _is_between(self, guest: SimHostedUser, one: ReleasedEntry) -> bool:
        """Return whether an entry is in a direct conversation of this user."""
        return one.log.conversation == dm_id(self._invariants.room, *sorted((guest.user, one.log.user)))

    def _take(self, peer: SimPeer, life: int, guest: SimHostedUser, one: ReleasedEntry) -> None:
        if not peer.up or peer.lives != life or peer not in guest.hosts or self._invariants.at_rest:
            return
        stay = int(self._sim.now / STAYS)
        if Random(f"{self._sim.seed} {guest.name} session {stay}").choice(guest.hosts) is not peer:
            return  # the session is elsewhere
        for each in peer.disk.storage.places(0, one.place, [one.log.conversation]):  # at most so many
            if each.place <= one.place:
                key = _key(guest.user, each.log)
                self._had[key] = max(each.seq, self._had.get(key, 0))
        self._sim.counts["taken"] += 1
        peer.put(MarkedTaken(guest.user, one.log.conversation, one.place))

    # ---- marks

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: Sequence[WireEnd]) -> None:
        """Check that marks go to hosts of their reader, and are durable; a peer that stops sends them with a commit."""
        if not isinstance(frame, ReadFrame) or not frame.taken or peer.byzantine:
            return
        self._sim.counts["taken_told"] += len(ends)
        readers = {reader for readers in frame.taken.values() for reader in readers}
        for end in ends:
            other = end.other.owner
            if not all(map(other.ever_spoke_for, readers)):
                self._invariants.fail("taken", peer, f"tells {other.name} what a user took whom it never hosted")
        if peer.handling is Stop:
            return
        durable = _durable_marks(peer, taken=True)
        for conversation, marked in frame.taken.items():
            for reader, marks in marked.items():
                for ref, seq, _ in marks:
                    key = (conversation, reader, ref)
                    if durable.get(key, 0) < seq:
                        self._invariants.fail("taken", peer, f"{reader[:8]} {ref} {seq}: sent before it was on disk")
                    if self._had.get(key, 0) < seq and not self._invariants.deletions.any:
                        self._invariants.fail("taken", peer, f"{reader[:8]} {ref} {seq}: no session took it")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, what is marked and was never taken, marks that are gone, and those that a host lacks."""
        for guest in self._sim.guests.values() if self._takes else ():
            hosts = [peer for peer in guest.here() if peer in honest]
            stored = {peer: peer.disk.storage.load_users([guest.user]).reads for peer in hosts}
            marks = {peer: [mark for mark in reads if mark.taken] for peer, reads in stored.items()}
            for peer in hosts:
                for mark in marks[peer]:
                    if self._had.get(_key(guest.user, mark.log), 0) < mark.seq and not self._is_unsure(peer, mark.log):
                        yield Fault("taken", f"{self._text(guest, mark)}: no session took it", peer.name)
                changed = (mark for change in peer.disk.changes for mark in change.reads)
                ever = [mark for mark in changed if mark.taken and mark.reader == guest.user]
                yield from self._lacking("does not know any more", guest, peer, ever, marks[peer])
                for other in hosts:
                    if other is not peer and other.end_to(peer) is not None:
                        yield from self._lacking(f"unlike {other.name} lacks", guest, peer, marks[other], marks[peer])

    def _lacking(
        self, what: str, guest: SimHostedUser, peer: SimPeer, expected: Sequence[ReadMark], marks: Sequence[ReadMark]
    ) -> Iterator[Fault]:
        """Yield the marks that are expected at a peer which has others, and for which none of these stands."""
        for mark in expected:
            # The writer may have been set back to an older disk, which never wrote the entry marked.
            is_here = peer.disk.has(mark.log, mark.seq) and not self._is_unsure(peer, mark.log)
            if is_here and not self._covers(peer, marks, mark):
                yield Fault("taken", f"{what} {self._text(guest, mark)}", peer.name)

    def _is_unsure(self, peer: SimPeer, log: LogId) -> bool:
        """Return whether a log may have another version, or be stored in parts."""
        invariants = self._invariants
        return invariants.may_fork(log) or invariants.deletions.any or peer.restored

    def _covers(self, peer: SimPeer, marks: Sequence[ReadMark], mark: ReadMark) -> bool:
        """Return whether one of these marks is as high, or on a log that builds on it."""
        standing = (found for each in marks if each.log.key == mark.log.key for found in _stands_for(peer, each))
        return any(log == mark.log and seq >= mark.seq for log, seq in standing)

    def _text(self, guest: SimHostedUser, mark: ReadMark) -> str:
        return f"that {guest.name} took {log_name(mark.log)} {mark.seq}"


def _key(reader: UserId, log: LogId) -> tuple[ConversationId, UserId, str]:
    """Return how a frame names a reader and a log."""
    return log.conversation, reader, ref_key(log.user, log.run)


def _durable_marks(peer: SimPeer, *, taken: bool) -> dict[tuple[ConversationId, UserId, str], int]:
    """Return how far what was read, or taken, is durable: a mark on a later run replaces those on what it builds on."""
    durable: dict[tuple[ConversationId, UserId, str], int] = {}
    for mark in peer.disk.storage.load_users(peer.speaks_for).reads:
        for log, seq in _stands_for(peer, mark) if mark.taken == taken else ():
            key = _key(mark.reader, log)
            durable[key] = max(seq, durable.get(key, 0))
    return durable


def _stands_for(peer: SimPeer, mark: ReadMark) -> Iterator[tuple[LogId, int]]:
    """Yield what a mark says: its log, and all that this builds on, each with the number up to which it counts."""
    asked = [(mark.log, mark.seq)]
    seen = set(asked)
    while asked:
        log, seq = asked.pop()
        yield log, seq
        below = [(log._replace(run=each.run), each.seq) for each in peer.disk.before(log)]
        asked += [each for each in below if each not in seen]
        seen.update(below)
