"""What peers say to each other, judged as it is said: only what is durable, to whom it helps, once, and in time.

Nobody hears of anything that is not on the speaker's disk, is sent what it cannot append, or is asked for what
another is giving already. What somebody wrote or stored is told to every link that can use it within seconds. Who
keeps nothing, because its disk does not work or has no room, asks for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from p2pchat.core.effects import Commit
from p2pchat.core.inputs import ImportRequest, LookupResult
from p2pchat.core.log import Batch, LogId, decode_entry
from p2pchat.protocol import Bye, ConversationId, Digest, Entries, Frame, Have, UserId, Want

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Invariants
    from p2pchat.testing.simulation.network import WireEnd
    from p2pchat.testing.simulation.peer import SimPeer

COMPARED_WITHIN = 4.0  # seconds after a link is up
TOLD_WITHIN = 5.0  # seconds in which what somebody wrote is told over a calm link
QUICK_DISK = 0.25  # seconds; who has a slower one may be late
UNLIMITED_TIPS = 64  # below it some are refused, and then told no more


@dataclass(slots=True)
class RequestedRange:
    """A want that was sent and is not closed."""

    end: WireEnd
    n: int
    progress_at: float
    came: dict[LogId, dict[int, float]] = field(default_factory=dict)  # the last entry of each answer, and when it came


class ProtocolInvariants:
    """Watches all links of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._wants: dict[
            tuple[str, int, ConversationId, UserId], RequestedRange
        ] = {}  # (peer, life, conversation, user)
        self._met: set[frozenset[UserId]] = set()  # pairs that were linked once
        self._compared: set[WireEnd] = set()  # ends on which a digest was sent
        self._given: dict[tuple[WireEnd, LogId], int] = {}  # the highest entry that was sent there
        self._marked_at: dict[tuple[WireEnd, ConversationId, UserId], float] = {}  # when marks were last sent there
        self._served_at: dict[tuple[WireEnd, ConversationId, UserId], float] = {}
        self._full: set[tuple[WireEnd, ConversationId, UserId]] = (
            set()
        )  # whoever is there said it takes no more of these
        self._banned: dict[tuple[str, int, UserId], float] = {}  # (peer, life, who sent it a wrong head) -> until when

    # ---- what is said

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """A frame leaves."""
        if peer.liar:
            return
        if isinstance(frame, Entries):
            if not frame.fork:
                self._entries(peer, frame, ends)
        elif isinstance(frame, Have):
            for log, seq in _marks(frame):
                self._durable(peer, log, seq)
            for conversation, full in frame.full.items():
                self._full.update((end.other, conversation, user) for end in ends for user in full)
            for conversation, users in frame.marks.items():
                self._marked_at.update({(end, conversation, user): self._sim.now for end in ends for user in users})
        elif isinstance(frame, Want):
            for end in ends:
                self._wanted(peer, frame, end)
                for mark in frame.tips:  # it says that it has these, be they on their way to its disk
                    key = (end.other, LogId(frame.c, frame.u, mark.run))
                    self._given[key] = max(mark.seq, self._given.get(key, 0))
        elif isinstance(frame, Digest):
            self._compared.update(ends)

    def _durable(self, peer: SimPeer, log: LogId, seq: int) -> None:
        if seq > len(peer.disk.logs.get(log, ())):
            self._invariants.fail("uncommitted", peer, f"told of {log_name(log)} {seq}, which is not durable here")

    def _entries(self, peer: SimPeer, frame: Entries, ends: list[WireEnd]) -> None:
        log, last = LogId(frame.c, frame.u, frame.r), frame.first + len(frame.e) - 1
        self._durable(peer, log, last)
        for end in ends:
            if frame.n is not None:
                self._served_at[end, frame.c, frame.u] = self._sim.now
            elif not end.other.owner.liar and not self._invariants.may_fork(log):
                self._can_append(peer, log, frame, end)
            self._given[end, log] = max(last, self._given.get((end, log), 0))

    def _can_append(self, peer: SimPeer, log: LogId, frame: Entries, end: WireEnd) -> None:
        """Nobody who did not ask is sent what stands behind something it never had."""
        needs = [(log, frame.first - 1)] if frame.first > 1 else []
        if frame.first == 1:
            needs = [(log._replace(run=mark.run), mark.seq) for mark in decode_entry(frame.e[0]).before]
        for below, seq in needs:
            held = max(self._given.get((end, below), 0), end.other.owner.disk.ever.get(below, 0))
            if held < seq and not self._invariants.may_fork(below):
                text = f"gave {end.other.owner.name} {log_name(log)} {frame.first}, which has {held} of {seq} before it"
                self._invariants.fail("push", peer, text)

    def _wanted(self, peer: SimPeer, want: Want, end: WireEnd) -> None:
        other, now = end.other.owner, self._sim.now
        if (peer.fails or peer.low) and peer.handling is not LookupResult:
            self._invariants.fail("storage", peer, f"asked {other.name} for what it cannot keep")
        if want.u != other.user and now < self._banned.get((peer.name, peer.lives, other.user), 0.0):
            self._invariants.fail("banned", peer, f"asked {other.name}, which sent a wrong head, for what others wrote")
        key = (peer.name, peer.lives, want.c, want.u)
        former = self._wants.get(key)
        patience = self._sim.settings.want_progress_timeout - 0.5  # clocks drift
        # What a liar gives may leave a gap or prove nothing: it is an answer of which nothing is kept, so no progress.
        served = former and former.end.open and not former.end.closing and not former.end.other.owner.liar
        if former and served and now - former.progress_at < patience and not peer.disk.failed:
            self._invariants.fail("want", peer, f"asked again for {want.c[:6]}/{want.u[:6]} while it is being answered")
        self._wants[key] = RequestedRange(end, want.n, now)

    def frames_got(self, peer: SimPeer, end: WireEnd, frames: Sequence[object]) -> None:
        """Frames arrive: answers to wants."""
        for frame in frames:
            if isinstance(frame, Entries) and frame.n is not None:
                wanted = self._wants.get((peer.name, peer.lives, frame.c, frame.u))
                if wanted is not None and (wanted.end, wanted.n) == (end, frame.n):
                    came = wanted.came.setdefault(LogId(frame.c, frame.u, frame.r), {})
                    came.setdefault(frame.first + len(frame.e) - 1, self._sim.now)
            elif isinstance(frame, Have) and frame.end is not None:
                for key in [key for key, each in self._wants.items() if (each.end, each.n) == (end, frame.end)]:
                    del self._wants[key]

    def rests(self, peer: SimPeer) -> None:
        """A peer has no room: it gives up what it wants, and begins anew once it has."""
        for key in [key for key in self._wants if key[:2] == (peer.name, peer.lives)]:
            del self._wants[key]

    def said_bye(self, peer: SimPeer, end: WireEnd, bye: Bye) -> None:
        """A peer ends a link: whoever sent it a wrong head is believed nothing about others for a while."""
        if bye.code == "head" and not peer.liar:
            until = self._sim.now + 0.99 * self._sim.settings.wrong_head_ban  # clocks drift
            self._banned[peer.name, peer.lives, end.other.owner.user] = until

    def ordered(self, peer: SimPeer, order: Commit) -> None:
        """A commit is ordered: nothing is taken in while it cannot be kept."""
        late = peer.handling is LookupResult  # it came before, and waited for storage to say what is there
        if order.change.batches and (peer.fails or peer.low) and not (peer.liar or late):
            why = "its disk has no room" if peer.low else "its storage does not work"
            self._invariants.fail("storage", peer, f"takes entries in while {why}")
        for batch in order.change.batches:
            self._progress(peer, batch)

    def _progress(self, peer: SimPeer, batch: Batch) -> None:
        """An answer is one when something of it is kept: not what is here, forked, behind a gap or beyond a quota.

        What a file brought is none, though the same came before, and was dropped.
        """
        wanted = self._wants.get((peer.name, peer.lives, batch.log.conversation, batch.log.user))
        came = wanted.came.get(batch.log) if wanted else None
        if wanted and came:
            kept = [came.pop(last) for last in [*came] if batch.first <= last <= batch.last]
            if peer.handling is not ImportRequest:
                wanted.progress_at = max(wanted.progress_at, *kept, 0.0)

    # ---- links

    def link_up(self, peer: SimPeer, end: WireEnd | None) -> None:
        """A link is up: soon both sides have told what they hold."""
        if end is not None:
            self._met.add(frozenset((peer.user, end.other.owner.user)))
            self._sim.schedule.after(COMPARED_WITHIN, partial(self._is_compared, peer, peer.lives, end, self._sim.now))

    def _is_compared(self, peer: SimPeer, life: int, end: WireEnd, since: float) -> None:
        quick = peer.disk.slow <= QUICK_DISK  # evidence of forks, read from the disk, comes first
        if quick and self._is_calm(peer, life, end, since) and end not in self._compared:
            self._invariants.fail("compare", peer, f"has told {end.other.owner.name} no digest since their link is up")

    def link_replaced(self, peer: SimPeer, end: WireEnd) -> None:
        """A link is closed for a newer one: whose other end decides must have moved to that."""
        other = end.other.owner
        if peer.user < other.user or other.node is None or not end.other.open or peer.liar or other.liar:
            return
        if (other.user, other.node.run) in self._invariants.copied:
            return  # its count of links began anew: the former must be found dead first
        current = other.node.links.by_peer.get(peer.user)
        if current is not None and current.id == end.other.link:
            self._invariants.fail("replaced", peer, f"closed the link that {other.name} decided for")

    def _is_calm(self, peer: SimPeer, life: int, end: WireEnd, since: float) -> bool:
        """Say whether this link works, always did, and both its ends are honest and kept since then what they got."""
        other = end.other.owner
        if peer.lives != life or not peer.up or not other.up or peer.liar or other.liar or not end.wire.calm:
            return False
        troubled = any(each.disk.failed or each.low or each.kept_from > since for each in (peer, other))
        return end.open and end.other.open and not end.closing and not end.other.closing and not troubled

    # ---- news

    def stored(self, peer: SimPeer, batch: Batch, *, own: bool) -> None:
        """Something is durable: whoever can use it hears of it soon."""
        slow = peer.disk.slow > QUICK_DISK or self._sim.settings.max_tips < UNLIMITED_TIPS
        if peer.liar or peer.node is None or slow or self._invariants.may_fork(batch.log):
            return
        writer = self._sim.by_user.get(batch.log.user)  # of guests only what their own peers tell is judged
        ends = [
            end for end in peer.ends
            if end.link in peer.node.links.up and end.wire.calm
            and (own or (writer is not None and self._are_apart(end.other.owner, writer)))
        ]  # fmt: skip
        if ends and (own or batch.log.conversation == self._invariants.room):
            within = TOLD_WITHIN if own else 2 * self._sim.settings.gossip_within + 2.0
            check = partial(self._is_told, peer, peer.lives, ends, batch.log, batch.last, self._sim.now)
            self._sim.schedule.after(within, check)

    def _are_apart(self, one: SimPeer, other: SimPeer) -> bool:
        """Say whether two were never linked and never will be."""
        return not self._sim.can_link(one, other) and frozenset((one.user, other.user)) not in self._met

    def _is_told(self, peer: SimPeer, life: int, ends: list[WireEnd], log: LogId, seq: int, since: float) -> None:
        for end in ends:
            other = end.other.owner
            both = all(self._invariants.concerns(each, log, since) for each in (peer, other))  # all the while
            if not both or not self._is_calm(peer, life, end, since):
                continue
            user = (end, log.conversation, log.user)
            marked = self._marked_at.get(user, -1.0) >= since
            served = self._served_at.get(user, -TOLD_WITHIN) >= self._sim.now - TOLD_WITHIN
            held = max(self._given.get((end, log), 0), other.disk.ever.get(log, 0)) >= seq
            if not (marked or served or held or user in self._full):
                self._invariants.fail("untold", peer, f"has not told {other.name} of {log_name(log)} {seq}")


def log_name(log: LogId) -> str:
    """Return a log's name for faults."""
    return f"{log.conversation[:6]}/{log.run[:6]}"


def _marks(frame: Have) -> Iterator[tuple[LogId, int]]:
    for conversation, users in frame.marks.items():
        for user, tips in users.items():
            for run, seq, _ in tips:
                yield LogId(conversation, user, run), seq
