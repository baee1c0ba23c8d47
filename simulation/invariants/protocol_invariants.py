"""Invariants of the protocol: peers send only what is durable, to those that can use it, once and in time.

A peer announces only entries on its disk, sends only entries that the receiver can append, and requests no entries that
another peer is already sending. New entries are announced to every link that can use them within seconds. A peer whose
disk fails or is full requests nothing. A goodbye blames no honest peer, and tells nobody of a block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.effects import Commit
from p2pchat.core.inputs import ImportRequest, LookupResult
from p2pchat.core.log import Batch, LogId, before_of, is_gone
from p2pchat.core.sync.fetcher import PROGRESS
from p2pchat.protocol import Bye, ConversationId, Digest, Entries, Frame, Have, Show, Statements, UserId, Want, Welcome
from p2pchat.testing.eventlog_parser import Fault
from simulation.byzantine import THIRD_HOST

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulated_program import WrittenMessage

COMPARED_WITHIN = 4.0  # seconds after a link is up
ANNOUNCED_WITHIN = 5.0  # seconds until new entries are announced over a calm link
QUICK_DISK = 0.25  # seconds; a peer with a slower disk may be late
BLAMES = frozenset({"malformed", "limit", "order", "head", "host"})  # codes of `bye` for what its receiver did
UNLIMITED_TIPS = 64  # below it some logs are refused and no longer announced


def _statements(frame: Frame) -> Sequence[tuple[str, str]]:
    """Return the statements about members in a frame."""
    if isinstance(frame, Statements):
        return frame.s
    shown = frame.show if isinstance(frame, Welcome | Show) else None
    return () if shown is None else shown.s


@dataclass(slots=True)
class RequestedRange:
    """A want that is not answered completely."""

    end: WireEnd
    n: int
    progress_at: float
    gained: int = 0  # entries since then
    came: dict[LogId, dict[int, float]] = field(default_factory=dict)  # last entry of each answer -> when it came


class ProtocolInvariants:
    """The invariants of all links of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        # (peer, session, conversation, user) -> the open want
        self._wants: dict[tuple[str, int, ConversationId, UserId], RequestedRange] = {}
        self._met: set[frozenset[UserId]] = set()  # pairs that were ever linked
        self._compared: set[WireEnd] = set()  # ends on which a digest was sent
        self._given: dict[tuple[WireEnd, LogId], int] = {}  # the highest entry sent there
        self._texts: dict[tuple[WireEnd, LogId], Counter[int]] = {}  # how often texts were sent there unasked
        self._marked_at: dict[tuple[WireEnd, ConversationId, UserId], float] = {}  # when marks were last sent there
        self._served_at: dict[tuple[WireEnd, ConversationId, UserId], float] = {}
        self._full: set[tuple[WireEnd, ConversationId, UserId]] = set()  # the far end said it takes no more of these

    # ---- frames sent

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """Check a frame that is sent."""
        refused = frame.full if isinstance(frame, Have) else {}
        for end, log in [*self._texts] if refused else ():  # what it did not take may come again
            if end.other in ends and log.user in refused.get(log.conversation, ()):
                del self._texts[end, log]
        if peer.byzantine:
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
            if not ends:  # the link asked has ended, which the core is not told yet: it may go back to the former one
                self._wants.pop((peer.name, peer.lives, frame.c, frame.u), None)
            for end in ends:
                self._wanted(peer, frame, end)
                for mark in frame.tips:  # it claims to have these, perhaps not durable yet
                    key = (end.other, LogId(frame.c, frame.u, mark.run))
                    self._given[key] = max(mark.seq, self._given.get(key, 0))
        elif said := _statements(frame):
            stored = {one.text for change in peer.disk.changes for one in change.statements}
            if any(text not in stored for text, _ in said):
                self._invariants.fail("uncommitted", peer, "told a statement that is not durable here")
        elif isinstance(frame, Digest):
            self._compared.update(ends)

    def _durable(self, peer: SimPeer, log: LogId, seq: int) -> None:
        if seq > len(peer.disk.logs.get(log, ())):
            self._invariants.fail("uncommitted", peer, f"announced {log_name(log)} {seq}, which is not durable here")

    def _entries(self, peer: SimPeer, frame: Entries, ends: list[WireEnd]) -> None:
        log, last = LogId(frame.c, frame.u, frame.r), frame.first + len(frame.e) - 1
        self._durable(peer, log, last)
        for end in ends:
            if frame.n is not None:
                self._served_at[end, frame.c, frame.u] = self._sim.now
            elif last <= end.other.owner.disk.ever.get(log, 0):
                self._texts_sent(peer, log, frame, end)  # for stubs that it has: they extend nothing
            elif not end.other.owner.byzantine and not self._invariants.may_fork(log):
                self._can_append(peer, log, frame, end)
            self._given[end, log] = max(last, self._given.get((end, log), 0))

    def _texts_sent(self, peer: SimPeer, log: LogId, frame: Entries, end: WireEnd) -> None:
        """Check that what is sent unasked has a text that this link was not sent so before.

        One that became durable while storage was read goes twice.
        """
        sent = self._texts.setdefault((end, log), Counter())
        texts = {seq for seq, raw in enumerate(frame.e, frame.first) if not is_gone(raw)}
        if texts and all(sent[seq] > 1 for seq in texts):
            text = f"sent {log_name(log)} {frame.first} to {end.other.owner.name} again, which did not ask"
            self._invariants.fail("again", peer, text)
        sent.update(texts)

    def _can_append(self, peer: SimPeer, log: LogId, frame: Entries, end: WireEnd) -> None:
        """Check that entries pushed without a want extend what the receiver has."""
        needs = [(log, frame.first - 1)] if frame.first > 1 else []
        if frame.first == 1:
            needs = [(log._replace(run=mark.run), mark.seq) for mark in before_of(frame)]
        for below, seq in needs:
            held = max(self._given.get((end, below), 0), end.other.owner.disk.ever.get(below, 0))
            if held < seq and not self._invariants.may_fork(below):
                text = (
                    f"sent {log_name(log)} {frame.first} to {end.other.owner.name}, which has {held} of {seq} before it"
                )
                self._invariants.fail("push", peer, text)

    def _wanted(self, peer: SimPeer, want: Want, end: WireEnd) -> None:
        other, now = end.other.owner, self._sim.now
        if (peer.fails or peer.low is DiskLevel.NOTHING) and peer.handling is not LookupResult:
            self._invariants.fail("storage", peer, f"asked {other.name} for entries it cannot store")
        key = (peer.name, peer.lives, want.c, want.u)
        former = self._wants.get(key)
        patience = self._sim.settings.want_progress_timeout - 0.5
        # An answer of a byzantine peer may have gaps or no proof. Nothing of it is stored, so it is no progress.
        served = former and former.end.open and not former.end.closing and not former.end.other.owner.byzantine
        if former and served and now - former.progress_at < patience and not peer.disk.failed:
            self._invariants.fail("want", peer, f"asked again for {want.c[:6]}/{want.u[:6]} while an answer is coming")
        self._wants[key] = RequestedRange(end, want.n, now)

    def frames_got(self, peer: SimPeer, end: WireEnd, frames: Sequence[object]) -> None:
        """Note the answers to wants."""
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
        """Note that the room on the disk of a peer changed: it gives up its wants, and asks again."""
        for key in [key for key in self._wants if key[:2] == (peer.name, peer.lives)]:
            del self._wants[key]

    def said_bye(self, peer: SimPeer, end: WireEnd, bye: Bye) -> None:
        """Check that honest peers blame each other for nothing, and that nobody is told of being blocked."""
        other = end.other.owner
        self._invariants.crowd.said_bye(peer, end, bye)
        if "block" in f"{bye.code} {bye.text}":
            self._invariants.fail("told", peer, f"tells {other.name} that it is blocked: {bye.code}")
        is_lenient = other.tampering is not None and other.tampering.is_lenient
        if bye.code in BLAMES and not (peer.byzantine or (other.byzantine and not is_lenient)):
            self._invariants.fail("blamed", peer, f"closed the link with {other.name}: {bye.code}")

    def ordered(self, peer: SimPeer, order: Commit) -> None:
        """Check that a peer accepts no entries that it cannot store."""
        late = peer.handling is LookupResult  # it came earlier and waited for a lookup
        no_room = peer.low is DiskLevel.NOTHING or (
            peer.low is DiskLevel.OWN_ONLY
            and any(not peer.ever_spoke_for(batch.log.user) for batch in order.change.batches)
        )
        if order.change.batches and (peer.fails or no_room) and not (peer.byzantine or late):
            why = "its disk has no room" if no_room else "its storage does not work"
            self._invariants.fail("storage", peer, f"accepts entries while {why}")
        for batch in order.change.batches:
            self._progress(peer, batch)
        if peer.handling is ImportRequest:
            self._sim.counts["export_told"] += len(order.change.statements)

    def _progress(self, peer: SimPeer, batch: Batch) -> None:
        """Note progress of a want: entries of an answer that are stored. Entries of an imported file do not count."""
        wanted = self._wants.get((peer.name, peer.lives, batch.log.conversation, batch.log.user))
        came = wanted.came.get(batch.log) if wanted else None
        if wanted and came:
            kept = [came.pop(last) for last in [*came] if batch.first <= last <= batch.last]
            if peer.handling is not ImportRequest:
                wanted.gained += batch.last - batch.first + 1
                if wanted.gained >= PROGRESS:
                    wanted.progress_at, wanted.gained = max(wanted.progress_at, *kept, 0.0), 0

    # ---- links

    def link_up(self, peer: SimPeer, end: WireEnd | None) -> None:
        """Schedule the check that both ends of a new link send a digest."""
        if end is not None:
            self._met.add(frozenset((peer.user, end.other.owner.user)))
            self._sim.schedule.after(COMPARED_WITHIN, partial(self._is_compared, peer, peer.lives, end, self._sim.now))

    def _is_compared(self, peer: SimPeer, life: int, end: WireEnd, since: float) -> None:
        quick = peer.disk.slow <= QUICK_DISK  # evidence of forks is read from the disk first
        if quick and self._is_calm(peer, life, end, since) and end not in self._compared:
            self._invariants.fail("compare", peer, f"has sent {end.other.owner.name} no digest since their link is up")

    def link_replaced(self, peer: SimPeer, end: WireEnd) -> None:
        """Check that a link closed for a newer one is not the one its deciding end uses."""
        other = end.other.owner
        if peer.user < other.user or other.node is None or not end.other.open or peer.byzantine or other.byzantine:
            return
        if (other.own, other.node.run) in self._invariants.copied:
            return  # its count of links restarted; the former link must be found dead first
        current = other.node.links.by_peer.get(peer.user)
        if current is not None and current.id == end.other.link:
            self._invariants.fail("replaced", peer, f"closed the link that {other.name} decided for")

    def _is_calm(self, peer: SimPeer, life: int, end: WireEnd, since: float) -> bool:
        """Return whether a link always worked, and both honest ends have stored all since then."""
        other = end.other.owner
        if peer.lives != life or not peer.up or not other.up or peer.byzantine or other.byzantine or not end.wire.calm:
            return False
        troubled = any(each.disk.failed or each.low or each.kept_from > since for each in (peer, other))
        return end.open and end.other.open and not end.closing and not end.other.closing and not troubled

    # ---- announcements

    def stored(self, peer: SimPeer, batch: Batch, *, own: bool) -> None:
        """Schedule the check that a durable batch is announced to all links that can use it."""
        slow = peer.disk.slow > QUICK_DISK or self._sim.settings.max_tips < UNLIMITED_TIPS
        if peer.byzantine or peer.node is None or slow or self._invariants.may_fork(batch.log):
            return
        writer = self._sim.by_user.get(batch.log.user)  # for hosted users only their own peers are checked
        ends = [
            end for end in peer.ends
            if end.link in peer.node.links.up and end.wire.calm
            and (own or (writer is not None and self._are_apart(end.other.owner, writer)))
        ]  # fmt: skip
        if ends and (own or batch.log.conversation == self._invariants.room):
            within = ANNOUNCED_WITHIN if own else 2 * self._sim.settings.gossip_within + 2.0
            check = partial(self._is_told, peer, peer.lives, ends, batch.log, batch.last, self._sim.now)
            self._sim.schedule.after(within, check)

    def _are_apart(self, one: SimPeer, other: SimPeer) -> bool:
        """Return whether two peers were never linked and never can be."""
        return not self._sim.can_link(one, other) and frozenset((one.user, other.user)) not in self._met

    def _is_told(self, peer: SimPeer, life: int, ends: list[WireEnd], log: LogId, seq: int, since: float) -> None:
        for end in ends:
            other = end.other.owner
            both = all(self._invariants.concerns(each, log, since) for each in (peer, other))  # all the time
            is_hidden = self._invariants.blocks.may_hide(peer, other, log)
            membership = self._sim.membership
            is_hidden = is_hidden or (membership is not None and membership.hides(peer, other))
            if not both or not self._is_calm(peer, life, end, since) or is_hidden:
                continue
            link = peer.node and peer.node.links.up.get(end.link)
            if link and link.omits_users and log.conversation != self._invariants.room:
                continue  # the user there who is concerned may have found no place here
            user = (end, log.conversation, log.user)
            marked = self._marked_at.get(user, -1.0) >= since
            served = self._served_at.get(user, -ANNOUNCED_WITHIN) >= self._sim.now - ANNOUNCED_WITHIN
            held = max(self._given.get((end, log), 0), other.disk.ever.get(log, 0)) >= seq
            if marked or served or held or user in self._full:
                continue
            remote = peer.node and peer.node.replicator.context.remotes.get(end.link)
            if remote and log.conversation in remote.listings.by_conversation:  # its page waits for those before
                again = partial(self._is_told, peer, life, [end], log, seq, since)
                self._sim.schedule.after(ANNOUNCED_WITHIN, again)
            else:
                self._invariants.fail("unannounced", peer, f"has not announced {log_name(log)} {seq} to {other.name}")


def log_name(log: LogId) -> str:
    """Return a log's name for faults."""
    return f"{log.conversation[:6]}/{log.run[:6]}"


def _marks(frame: Have) -> Iterator[tuple[LogId, int]]:
    for conversation, users in frame.marks.items():
        for user, tips in users.items():
            for run, seq, _ in tips:
                yield LogId(conversation, user, run), seq


class CrowdInvariants:
    """The invariants of peers that a crowd attacks under made-up names: what it may cost them, and others."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._dialled: dict[tuple[str, int], float] = {}  # (peer, session) -> when it last dialled the third host
        self._imported: dict[str, set[ConversationId]] = {}  # by peer: what files brought, which its user chose

    def dialled(self, peer: SimPeer, endpoint: str) -> None:
        """Check that a host that only the crowd names is dialled rarely."""
        if peer.byzantine or not endpoint.startswith(THIRD_HOST):
            return
        key, now = (peer.name, peer.lives), self._sim.now
        self._sim.counts["third_host_dialled"] += 1
        if now - self._dialled.get(key, -inf) < 0.99 * self._sim.settings.told_host_pause:  # clocks drift
            self._invariants.fail("reflected", peer, f"dials a third host again after {now - self._dialled[key]:.1f} s")
        self._dialled[key] = now

    def imports(self, peer: SimPeer, frames: Iterable[Frame]) -> None:
        """Note that a user imports a file: nobody limits the groups that it brings."""
        brought = (frame.c for frame in frames if isinstance(frame, Entries))
        self._imported.setdefault(peer.name, set()).update(brought)

    def said_bye(self, peer: SimPeer, end: WireEnd, bye: Bye) -> None:
        """Check that no contact is sent away for the crowd. There are more places than honest peers."""
        other = end.other.owner
        if bye.code == "busy" and self._sim.crowd and not peer.byzantine and peer.node is not None:
            is_wanted = other.user in peer.node.contacts and other.user not in peer.node.blocks.users
            if not other.byzantine and is_wanted:
                self._invariants.fail("evicted", peer, f"has no place for {other.name}, who is a contact")

    def check_bounds(self) -> None:
        """Check what each honest peer holds of the crowd."""
        for peer in self._sim.honest_up if self._sim.made_up else ():
            for what, count, most in self._held(peer):
                if count > most:
                    self._invariants.fail("bounded", peer, f"holds {count} {what} of the crowd, of {most} at most")

    def _held(self, peer: SimPeer) -> Iterator[tuple[str, int, int]]:
        """Yield what a peer holds, how much of it, and how much it may hold."""
        assert peer.node is not None
        settings, room = self._sim.settings, self._invariants.room
        made_up = {user for user in self._sim.made_up if not peer.node.contacts.has_any(user)}  # nobody answered it
        book, stored = peer.node.links.book, peer.disk.storage.load([])
        known = peer.node.replicator.conversations.values()
        direct = [each for each in known if not made_up.isdisjoint(each.naming.dm or ())]
        yield "links", len(peer.node.links.up), settings.max_links
        unwritten = [each.naming.dm for each in direct if each.naming.dm and not each.is_stored]
        opened = Counter(user for users in unwritten for user in users if user in made_up)
        yield "open conversations", max(opened.values(), default=0), settings.max_unanswered
        others = self._imported.get(peer.name, set()) | {each.id for each in direct} | {room}
        begun = {log.conversation: log.user for log in peer.disk.logs if log.conversation not in others}
        made = Counter(user for user in begun.values() if user in made_up)
        yield "groups", max(made.values(), default=0), settings.max_unanswered_groups
        yield "peers", sum(user in made_up for user in book), settings.max_addresses
        honest = {one.user for one in self._sim.all_peers if not one.byzantine}
        false = [one for one in stored.addresses if one.peer in honest and one.endpoint.startswith(THIRD_HOST)]
        yield "false addresses of honest peers", len(false), 0

    def late(self, written: Iterable[WrittenMessage]) -> list[Fault]:
        """Return a fault for each message to one user that is not stored by whom it was written to.

        Users who are no longer hosted where they wrote are left out, and logs that may fork, of which each peer keeps
        its version (seed 1430361). So is the crowd: it may write too, and nobody owes a stranger a place.
        """
        return [
            Fault("harmed", f"has not got {log_name(one.log)} {one.seq} of {one.at.name}", one.to.name)
            for one in written if one.log is not None and one.to is not None and not one.to.disk.has(one.log, one.seq)
            and one.user in one.at.speaks_for
            and not (one.to.gone or one.at.byzantine or self._invariants.may_fork(one.log))
        ]  # fmt: skip
