"""Invariants of taken marks, and the sessions of hosted users that cause them.

A hosted user has one session, now at one of its hosts and now at another, which takes what its host shows. What is
marked as taken was taken at some host: else a session elsewhere would miss it. Only hosts of the user hear of a mark,
once it is on disk. A mark on disk stays, or another stands for it. At rest all hosts that are linked have the same, and
each knows what the other has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core.changes import ReadMark
from p2pchat.core.inputs import MarkedTaken, Stop
from p2pchat.core.log import LogId, decode_entry, ref_key
from p2pchat.core.sync.conversations import dm_id
from p2pchat.protocol import ConversationId, Frame, TakenFrame, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog import Fault
from p2pchat.testing.invariants.protocol import log_name
from p2pchat.testing.invariants.receipts import apart

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Invariants
    from p2pchat.testing.simulation.hosted_users import SimHostedUser
    from p2pchat.testing.simulation.network import WireEnd
    from p2pchat.testing.simulation.peer import SimPeer

TAKES_IN = 0.7  # the part of histories
STAYS = 10.0  # seconds of a session at one host
LATER = (0.0, 0.0, 0.01, 0.5, 5.0)  # seconds until an entry is taken


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
                self._sim.schedule.after(drawn.choice(LATER), partial(self._take, peer, peer.lives, guest, one))

    def _is_between(self, guest: SimHostedUser, one: ReleasedEntry) -> bool:
        """Return whether an entry is in a direct conversation of this user."""
        return one.log.conversation == dm_id(*sorted((guest.user, one.log.user)))

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
        if not isinstance(frame, TakenFrame) or peer.byzantine:
            return
        self._sim.counts["taken_told"] += bool(frame.marks) * len(ends)
        readers = {reader for readers in frame.marks.values() for reader in readers}
        for end in ends:
            other = end.other.owner
            if not all(map(other.ever_spoke_for, readers)):
                self._invariants.fail("taken", peer, f"tells {other.name} what a user took whom it never hosted")
        if peer.handling is Stop:
            return
        stored = peer.disk.storage.load_users(peer.speaks_for).taken
        durable = {_key(mark.reader, mark.log): mark.seq for mark in stored}
        for conversation, marked in frame.marks.items():
            for reader, marks in marked.items():
                for ref, seq in marks:
                    key = (conversation, reader, ref)
                    if durable.get(key, 0) < seq:
                        self._invariants.fail("taken", peer, f"{reader[:8]} {ref} {seq}: sent before it was on disk")
                    if self._had.get(key, 0) < seq and not self._invariants.deletions.any:
                        self._invariants.fail("taken", peer, f"{reader[:8]} {ref} {seq}: no session took it")

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, what is marked and was never taken, marks that are gone, and those that a host lacks."""
        for peer, other in apart(honest, lambda node: node.sync.taken_marks):
            yield Fault("taken", f"has other taken marks than {other.name} knows of", peer.name)
        for guest in self._sim.guests.values() if self._takes else ():
            hosts = [peer for peer in guest.here() if peer in honest]
            marks = {peer: peer.disk.storage.load_users([guest.user]).taken for peer in hosts}
            for peer in hosts:
                for mark in marks[peer]:
                    if self._had.get(_key(guest.user, mark.log), 0) < mark.seq and not self._is_unsure(peer, mark.log):
                        yield Fault("taken", f"{self._text(guest, mark)}: no session took it", peer.name)
                ever = [mark for change in peer.disk.changes for mark in change.taken if mark.reader == guest.user]
                yield from self._lacking("does not know any more", guest, peer, ever, marks[peer])
                for other in hosts:
                    if other is not peer and other.end_to(peer) is not None:
                        yield from self._lacking(f"unlike {other.name} lacks", guest, peer, marks[other], marks[peer])

    def _lacking(
        self, what: str, guest: SimHostedUser, peer: SimPeer, expected: Sequence[ReadMark], marks: Sequence[ReadMark]
    ) -> Iterator[Fault]:
        """Yield the marks that are expected at a peer which has others, and for which none of these stands."""
        for mark in expected:
            is_here = peer.disk.has(mark.log, 1) and not self._is_unsure(peer, mark.log)
            if is_here and not self._covers(peer, marks, mark):
                yield Fault("taken", f"{what} {self._text(guest, mark)}", peer.name)

    def _is_unsure(self, peer: SimPeer, log: LogId) -> bool:
        """Return whether a log may have another version, or be stored in parts."""
        invariants = self._invariants
        return (
            invariants.may_fork(log) or invariants.is_odd_writer(log.user) or invariants.deletions.any or peer.restored
        )

    def _covers(self, peer: SimPeer, marks: Sequence[ReadMark], mark: ReadMark) -> bool:
        """Return whether one of these marks is as high, or on a log that builds on it."""
        asked = [(each.log, each.seq) for each in marks if each.log.key == mark.log.key]
        seen = set(asked)
        while asked:
            log, seq = asked.pop()
            if log == mark.log and seq >= mark.seq:
                return True
            raws = peer.disk.logs.get(log)
            below = [(log._replace(run=each.run), each.seq) for each in decode_entry(raws[0]).before] if raws else []
            asked += [each for each in below if each not in seen]
            seen.update(below)
        return False

    def _text(self, guest: SimHostedUser, mark: ReadMark) -> str:
        return f"that {guest.name} took {log_name(mark.log)} {mark.seq}"


def _key(reader: UserId, log: LogId) -> tuple[ConversationId, UserId, str]:
    """Return how a frame names a reader and a log."""
    return log.conversation, reader, ref_key(log.user, log.run)
