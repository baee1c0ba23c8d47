"""Invariants of entries, stored and shown at all peers; and all invariants of a simulation, checked together.

Together they are every promise of docs/guarantees.md, checked with a view of all disks. Some are checked as things
happen: nothing is acknowledged before it is durable, and nothing is stored that its writer did not write. The others
are checked at rest: every peer has every entry once and in order, all receipts arrived, departures were reported, and
the traffic is quiet. Byzantine peers are not checked, and nothing they wrote is expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import Stored, WantStart
from p2pchat.core.effects import ImportResult, WriteAccepted
from p2pchat.core.log import (
    CLOCK_AHEAD,
    GONE,
    Batch,
    LogId,
    RawEntry,
    Ref,
    before_in,
    decode_entry,
    extend_chain,
    first_chain,
    head_message,
    message_id,
    ref_key,
    verify,
)
from p2pchat.core.members.statement import room_id
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import ConversationId, Entries, Frame, RunId, UserId
from p2pchat.settings import Settings
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_checker import check
from p2pchat.testing.eventlog_parser import Fault, Log
from simulation.disk import is_same
from simulation.invariants.cause_invariants import CauseInvariants
from simulation.invariants.contact_invariants import BlockInvariants, InboxInvariants
from simulation.invariants.content_invariants import OF_FILES, ContentInvariants
from simulation.invariants.deletion_invariants import DeletionInvariants
from simulation.invariants.display_invariants import DisplayInvariants, history_faults, view_faults
from simulation.invariants.group_invariants import GroupInvariants
from simulation.invariants.machine_invariants import MachineInvariants
from simulation.invariants.presence_invariants import PresenceInvariants
from simulation.invariants.protocol_invariants import CrowdInvariants, ProtocolInvariants, log_name
from simulation.invariants.receipt_invariants import ReceiptInvariants, TakenInvariants

if TYPE_CHECKING:
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulated_program import WrittenMessage
    from simulation.simulation import Simulation

# In a quiet minute two linked peers exchange only pings (every 10 s from both ends, with their pongs: 24), digests
# (each peer one in 5 to 15 s to one of its links: at most 12) and with each digest the sums of read and taken
# marks. Those of circuits are not counted: each frame of a carried link is two of them. A carried link tries now and
# then whether a direct way opens.
QUIET_KINDS = {"Carried", "Ping", "Pong", "Punch", "Digest", "ReadFrame"}
QUIET_FRAMES_A_LINK = 52  # 24 and 12 and 12, and a few
QUIET_DIGESTS_A_PEER = 2  # at least; anti-entropy never stops


class Invariants:
    """The invariants of one simulation."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = self._sim = sim
        self._faults: list[Fault] = []
        self._authored: dict[LogId, list[RawEntry]] = {}  # the entries that writers made durable
        self._written_at: dict[LogId, list[float]] = {}  # when each entry became durable at its writer
        self._came: dict[tuple[str, int, LogId], set[RawEntry]] = {}  # entries of running logs by a copy
        self._of_a_copy: set[tuple[str, int, LogId]] = set()  # logs of which such an entry is stored
        self.at_rest: bool = False
        self.written: list[WrittenMessage] = []  # accepted messages
        self.written_in: dict[LogId, tuple[str, int]] = {}  # log -> (peer, session)
        self.copied: set[tuple[UserId, RunId]] = set()  # runs resumed from a snapshot; their logs may fork
        self.without_room: set[UserId] = set()  # peers that had no room for the evidence of a fork
        self.odd: set[RawEntry] = set()  # what odd writers signed
        self.protocol: ProtocolInvariants = ProtocolInvariants(self)
        self.crowd: CrowdInvariants = CrowdInvariants(self)
        self.receipts: ReceiptInvariants = ReceiptInvariants(self)
        self.display: DisplayInvariants = DisplayInvariants(self)
        self.presence: PresenceInvariants = PresenceInvariants(self)
        self.groups: GroupInvariants = GroupInvariants(self)
        self.deletions: DeletionInvariants = DeletionInvariants(self)
        self.blocks: BlockInvariants = BlockInvariants(self)
        self.inbox: InboxInvariants = InboxInvariants(self)
        self.taken: TakenInvariants = TakenInvariants(self)
        self.content: ContentInvariants = ContentInvariants(self)
        self.causes: CauseInvariants = CauseInvariants(self)
        self.machines: MachineInvariants = MachineInvariants(self)

    @cached_property
    def room(self) -> ConversationId:
        return room_id(self._sim.network().id)

    def fail(self, rule: str, where: SimPeer | str, text: str) -> None:
        name = where if isinstance(where, str) else where.name
        self._faults.append(Fault(rule, text, f"{name} at {self._sim.now:.3f}"))

    # ---- as things happen

    def batch_stored(self, peer: SimPeer, batch: Batch) -> None:
        """Check a batch that becomes durable on a peer's disk."""
        self.content.stored(batch)
        if peer.byzantine:
            return
        quota = self._sim.settings.contact_bytes
        if quota < Settings().contact_bytes and not peer.ever_spoke_for(batch.log.user) and not peer.allows:
            sizes = peer.disk.storage.load([]).sizes
            size = sizes[batch.log.user]
            if size > quota:
                self.fail("quota", peer, f"keeps {size} bytes of {self._name(batch.log)}'s writer, of {quota} at most")
            self._check_member(peer, batch, sizes)
        if self.may_fork(batch.log):
            self._check_copied(peer, batch)
            return
        if batch.first == 1:
            self._check_beginning(peer, batch)
            if self._is_unnamed(batch.log.user):
                self.fail("named", peer, f"stores {batch!r} of a member that nobody named")
        held = len(peer.disk.logs.get(batch.log, []))
        if batch.first != held + 1:
            self.fail("twice" if batch.first <= held else "hole", peer, f"{batch!r} stored behind {held}")
        is_own, writer = peer.ever_spoke_for(batch.log.user), self._sim.by_user.get(batch.log.user)
        is_authentic = batch.log.user in self._sim.made_up or (writer is not None and writer.byzantine)
        own = is_own and len(self._authored.get(batch.log, [])) == batch.first - 1
        if own:
            self._authored.setdefault(batch.log, []).extend(batch.raws)
            self._written_at.setdefault(batch.log, []).extend([self._sim.now] * len(batch.raws))
            self.written_in.setdefault(batch.log, (peer.name, peer.lives))
        elif not is_authentic:
            if not is_same(self._authored.get(batch.log, [])[batch.first - 1 : batch.last], batch.raws):
                rule = "reused" if is_own else "invented"
                self.fail(rule, peer, f"{batch!r} is not what its writer wrote under these numbers")
        self.protocol.stored(peer, batch, own=own)

    def _is_unnamed(self, user: UserId) -> bool:
        """Return whether this is a made-up user of a member that nobody named, or of none: nobody stores its logs."""
        made_up = self._sim.made_up.get(user)
        return made_up is not None and not made_up.is_named

    def _check_beginning(self, peer: SimPeer, batch: Batch) -> None:
        """Check that a stored log builds only on entries that are held, or forked; it may name facts of a group."""
        for mark in before_in(batch.header):
            below = batch.log._replace(run=mark.run)
            if below not in peer.disk.logs and any(each.run == mark.run for each in peer.disk.logs):
                continue
            suspect = ref_key(below.user, below.run).startswith(self._suspects())
            if len(peer.disk.logs.get(below, ())) < mark.seq and not suspect:
                self.fail("hole", peer, f"{batch!r} builds on {log_name(below)} {mark.seq}, which is not here")

    def frames_got(self, peer: SimPeer, end: WireEnd, frames: Sequence[object]) -> None:
        """Check frames that arrive."""
        self.protocol.frames_got(peer, end, frames)
        self.came(peer, frames)

    def came(self, peer: SimPeer, frames: Sequence[object]) -> None:
        """Note entries that a copy of this peer wrote in its running logs, from a link or a file."""
        run = peer.node.run if peer.node else ""
        if (peer.own, run) in self.copied:
            for frame in frames:
                if isinstance(frame, Entries) and frame.u == peer.own and not frame.fork:
                    log = LogId(frame.c, frame.u, frame.r)
                    self._came.setdefault((peer.name, peer.lives, log), set()).update(frame.e)

    def _check_member(self, peer: SimPeer, batch: Batch, sizes: Mapping[UserId, int]) -> None:
        """Check what all users of the writer's member take who are no contacts of this peer, also those who are out."""
        node, most = peer.node, self._sim.settings.member_bytes
        if node is None or batch.log.user in node.contacts:
            return
        members = node.member_directory
        lines = {user: members.line(user, members.named_last.get(user, user)) for user in sizes}
        of_member = [user for user in sizes if lines[user][0] == lines[batch.log.user][0]]
        others = [user for user in of_member if user not in node.contacts and not peer.ever_spoke_for(user)]
        size = sum(sizes[user] for user in others)
        if size > most:
            self.fail(
                "quota", peer, f"keeps {size} bytes of users of {self._name(batch.log)}'s member, of {most} at most"
            )

    def _check_copied(self, peer: SimPeer, batch: Batch) -> None:
        """Check that a peer stops writing to a log once it stored entries that a copy of it wrote there."""
        key = (peer.name, peer.lives, batch.log)
        if self._came.get(key, set()).intersection(batch.raws):
            self._of_a_copy.add(key)
        elif key in self._of_a_copy:
            self.fail("copied", peer, f"appends to {log_name(batch.log)}, in which a copy of it wrote")

    def began(self, peer: SimPeer, stored: Stored) -> None:
        """Note the state with which a process starts."""
        self.display.began(peer, stored.next_place)
        self.receipts.hosting(peer, stored)

    def accepted(self, peer: SimPeer, answer: WriteAccepted, asked: int, written: list[WrittenMessage]) -> None:
        """Check that accepted entries are durable, and note those expected to arrive."""
        log, first, count = answer.log, answer.first, answer.count
        if count != asked or len(peer.disk.logs.get(log, [])) < first + count - 1:
            self.fail("accepted", peer, f"accepted {log_name(log)} {first}+{count}, which is not durable")
        for raw in peer.disk.logs.get(log, [])[first - 1 : first - 1 + count]:
            entry = decode_entry(raw)
            ahead = entry.c - entry.at - CLOCK_AHEAD
            if answer.kind == "text" and ahead > len(peer.disk.logs[log]) and peer.odd is None:
                self.fail("clock", peer, f"stamps {log_name(log)} {first} further ahead than clocks may differ")
        for seq, one in enumerate(written, first):
            one.log, one.seq = log, seq
            if log.user != one.user:
                self.fail("guest", peer, f"a message of {self._sim.person(one.user).name} was written by another user")
        self.written += written
        self.causes.accepted(peer, answer)

    def imported(self, peer: SimPeer, taken: Sequence[Frame], news: ImportResult) -> None:
        """Check the reported result of an import."""
        frames = [frame for frame in taken if isinstance(frame, Entries)]
        reported = news.new + news.known + news.foreign + sum(news.refused.values())
        offered = sum(len(frame.e) for frame in frames if not frame.fork)
        if news.failed or peer.byzantine:
            return
        if reported != offered:
            self.fail("imported", peer, f"reported {reported} of {offered} entries of a file")
        for frame in frames if reported == news.new + news.known else ():
            log, last = LogId(frame.c, frame.u, frame.r), frame.first + len(frame.e) - 1
            if not frame.fork and not self.may_fork(log) and len(peer.disk.logs.get(log, [])) < last:
                self.fail("imported", peer, f"reported {log_name(log)} {last} as imported, and it is not durable")

    def written_at(self, log: LogId, seq: int) -> float:
        """Return when an entry became durable at its writer, in true seconds; 0 if unknown."""
        times = self._written_at.get(log, [])
        return times[seq - 1] if seq <= len(times) else 0.0

    def concerns(self, peer: SimPeer, log: LogId, by: float = inf) -> bool:
        """Return whether a log belongs to a conversation of a peer, and has since the time `by`."""
        return log.conversation == self.room or log.conversation in self._dms(peer, by)

    # ---- at rest

    def unsettled(self) -> bool:
        """Return True if something is still missing."""
        return next(self._missing(), None) is not None

    def unharmed(self) -> bool:
        """Record faults for what others lack of each other beside those who are blocked; True if there are none."""
        missing = list(self.blocks.missing(self._sim.honest_up))
        self._faults += missing
        return not missing

    def settled(self, in_time: bool) -> bool:
        """Record faults for everything still missing; return True if there are none."""
        missing = list(self._missing())
        self._faults += missing
        self.at_rest = True
        return not missing

    def _missing(self) -> Iterator[Fault]:
        honest = self._sim.honest_up
        yield from self._unlinked(honest)
        yield from self._carried(honest)
        yield from self._unequal(honest)
        if self._sim.membership is not None:
            yield from self._one_list(honest)
            yield from self._sim.membership.faults()
        yield from self._comparing(honest)
        newest: Counter[LogId] = Counter()
        for peer in honest:
            if peer.disk.busy:
                yield Fault("busy", "its disk has not finished", peer.name)
            for log, raws in peer.disk.logs.items():
                if self.concerns(peer, log):  # a former host does not send a user's logs
                    newest[log] = max(newest[log], len(raws))
        for peer in honest:
            for log, seq in newest.items():
                if self._belongs(peer, log) and len(peer.disk.logs.get(log, [])) < seq and self.may_get(peer, log):
                    held = len(peer.disk.logs.get(log, []))
                    yield Fault("lost", f"has {held} of {seq} entries of {self._name(log)}", peer.name)
            yield from self._unshown(peer)
            yield from self.deletions.withheld(peer, honest)
            if peer.linked and self.display.joined(peer) is None:
                yield Fault("old", "does not know when it joined", peer.name)
        yield from self._unreceipted(honest, newest)
        yield from self.groups.missing(honest)
        yield from self.receipts.missing(honest)
        yield from self.taken.missing(honest)
        yield from self.machines.missing(honest)
        yield from self.content.missing(honest)
        yield from self.content.untold(honest)
        yield from self.receipts.forgotten(honest)

    def _unlinked(self, honest: list[SimPeer]) -> Iterator[Fault]:
        for n, one in enumerate(honest):
            for other in honest[n + 1 :]:
                if self._sim.can_link(one, other) and one.end_to(other) is None:
                    yield Fault("unlinked", f"no link with {other.name}", one.name)
            for endpoint in one.node.links.dialer.seeking if one.node else ():
                if any(other.endpoint == endpoint and self._sim.can_dial(one, other) for other in honest):
                    yield Fault("unlinked", f"still dials {endpoint}", one.name)
            for end in one.ends:
                other = end.other.owner  # a byzantine peer may dial for ever
                is_dialled = end.other is end  # a circuit that nobody has answered yet
                if not (is_dialled or other.byzantine) and one.end_to(other) is not end:
                    yield Fault("unlinked", f"its connection with {other.name} is not a link", one.name)

    def _carried(self, honest: list[SimPeer]) -> Iterator[Fault]:
        """Check that peers are linked directly where one of them can dial the other."""
        for one in honest:
            for other in honest:
                end = one.end_to(other)
                if end is not None and end.wire.carried and self._sim.can_dial(one, other):
                    yield Fault(
                        "carried", f"is linked with {other.name} through another peer, and can dial it", one.name
                    )

    def _unequal(self, honest: list[SimPeer]) -> Iterator[Fault]:
        """Check that linked peers hold the same entries."""
        for n, one in enumerate(honest):
            for other in honest[n + 1 :]:
                if self.odd:
                    continue  # who refuses a log holds another part of it
                if one.end_to(other) and one.digest_for(other) != other.digest_for(one):
                    if self._of_many_forks(one) | self._of_many_forks(other):
                        continue  # logs that build on forks without evidence are not stored
                    if self._lacks_evidence(one, other):
                        continue
                    yield Fault("digest", f"holds other entries than {other.name}", one.name)

    def _one_list(self, honest: list[SimPeer]) -> Iterator[Fault]:
        """Check that linked peers keep the same statements about members, and have them on their disks."""
        for one in honest:
            kept, stored = one.statements, {said for said, _ in one.disk.storage.load([]).statements}
            if one.members is not None and stored != {each.text for each in one.members.statements()}:
                yield Fault("one_list", "keeps other statements in memory than on its disk", one.name)
            for other in honest:
                if one.end_to(other) and kept != other.statements:
                    yield Fault("one_list", f"keeps other statements than {other.name}", one.name)

    def _comparing(self, honest: list[SimPeer]) -> Iterator[Fault]:
        """Check that nobody sends further pages of marks: each waits for the answer to the one before."""
        for one in honest:
            remotes = one.node.replicator.context.remotes.values() if one.node is not None else ()
            for remote in remotes:
                other = one.other_end(remote.link.id)
                if other in honest and other.up and remote.listings.by_conversation:
                    yield Fault("pages", f"still sends pages of marks to {other.name}", one.name)

    def _of_many_forks(self, peer: SimPeer) -> set[UserId]:
        """Return the byzantine users for whom a peer has reached its limit of evidence of forks."""
        forks = Counter((log.conversation, log.user) for log in self._forked(peer) if self._is_byzantine(log))
        return {user for (_, user), count in forks.items() if count >= self._sim.settings.max_tips}

    def _lacks_evidence(self, one: SimPeer, other: SimPeer) -> bool:
        """Return whether one of two peers had no room for what proves that a log forked.

        That log stays there as it was, until the evidence is sent again an hour later.
        """
        apart = {*self._forked(one)} ^ {*self._forked(other)}
        may_fork = any(self._is_byzantine(log) or self.may_fork(log) for log in apart)
        return may_fork and not self.without_room.isdisjoint((one.user, other.user))

    def may_fork(self, log: LogId) -> bool:
        return (log.user, log.run) in self.copied

    def _belongs(self, peer: SimPeer, log: LogId) -> bool:
        if self._sim.person(log.user).byzantine or self.may_fork(log):
            return False
        return self.concerns(peer, log)

    def may_get(self, peer: SimPeer, log: LogId) -> bool:
        """Return whether a peer that holds more of a log can send it to this one."""
        held = len(peer.disk.logs.get(log, ()))
        holders = [
            one for one in self._sim.honest_up if self.concerns(one, log) and len(one.disk.logs.get(log, ())) > held
        ]
        if log.conversation == self.room:
            return True
        return any(self._sim.can_link(peer, one) for one in holders)

    def _dms(self, peer: SimPeer, by: float = inf) -> set[ConversationId]:
        own = {dm_id(self.room, peer.own, other) for other in (*self._sim.by_user, *self._sim.guests)}
        for guest in peer.guests:
            if guest.since[peer] <= by:
                own |= {dm_id(self.room, guest.user, other) for other in (*self._sim.by_user, *self._sim.people)}
        return own

    def _unshown(self, peer: SimPeer) -> Iterator[Fault]:
        shown = len(peer.disk.storage.places(0, 1 << 30))
        stored = sum(map(len, peer.disk.logs.values())) - self.groups.unseen(peer) - sum(peer.disk.pruned.values())
        stored -= sum(seq > peer.disk.pruned.get(log, 0) for log, seqs in peer.disk.stubs.items() for seq in seqs)
        if shown < stored:
            yield Fault("unshown", f"{stored - shown} entries wait and are not shown", peer.name)

    def _unreceipted(self, honest: list[SimPeer], newest: Counter[LogId]) -> Iterator[Fault]:
        """Yield the missing receipts of the room and of direct conversations."""
        for written in self.written:
            log, at, to = written.log, written.at, written.to
            if log is None or at not in honest or self.may_fork(log) or newest[log] < written.seq:
                continue  # not there, or lost with a disk, and no peer had a copy
            if written.user not in at.speaks_for or (to is None and log.conversation != self.room):
                continue
            if self.deletions.any and not at.disk.has(log, written.seq):
                continue  # lost with its disk, and deleted by those who held it
            for member in honest if to is None else self._sim.peers_of(to.own):
                if self.deletions.any and not member.disk.has(log, written.seq):
                    continue  # judged as `lost` if it could have it
                if at.disk.lacks_text(log, 1, written.seq) or member.disk.lacks_text(log, 1, written.seq):
                    continue
                if member is not at and member in honest and self._sim.can_link(at, member):
                    yield from self.receipts.lacking(written, member)

    def forks_differ(self) -> bool:
        """Return whether a peer had no room for the evidence of a fork that another has."""
        return any(self._lacks_evidence(*pair) for pair in combinations(self._sim.honest_up, 2))

    def _has_traffic(self) -> bool:
        """Return whether there may be traffic at rest: of a byzantine peer."""
        return any(peer.byzantine for peer in self._sim.up)

    def loud(self, frames: Counter[str], *, forks_differ: bool) -> dict[str, int]:
        """Return the frames that are not of a quiet minute, unless there may be such."""
        quiet = {*QUIET_KINDS, *(OF_FILES if self.content.all_named else ())}
        if forks_differ:
            quiet |= {"Have", "Evidence"}  # each digest that differs has both send their marks, and one the evidence
        loud = {kind: count for kind, count in sorted(frames.items()) if kind not in quiet}
        return {} if self._has_traffic() else loud

    def quiet_minute(self, frames: Counter[str], *, forks_differ: bool) -> None:
        """Check the traffic of a quiet minute. `forks_differ`: it began with peers that lacked evidence."""
        if frames["Digest"] < QUIET_DIGESTS_A_PEER * sum(bool(peer.linked) for peer in self._sim.honest_up):
            self.fail("anti-entropy", "all", f"only {frames['Digest']} digests in a quiet minute")
        if self._has_traffic():
            return
        if loud := self.loud(frames, forks_differ=forks_differ):
            self.fail("quiet", "all", f"frames in a quiet minute: {loud}")
        links = sum(len(peer.linked) for peer in self._sim.up) // 2
        asking = OF_FILES if self.content.all_named else ()
        paged = ("Digest", "Have", "Evidence") if forks_differ else ()  # as many as there are pages
        others = sum(frames.values()) - sum(frames[kind] for kind in ("Carried", "ReadFrame", *paged, *asking))
        if others > QUIET_FRAMES_A_LINK * links:
            self.fail("quiet", "all", f"{others} frames over {links} links in a quiet minute")
        if frames["ReadFrame"] > frames["Digest"]:  # one sum of marks goes with a digest, without an answer
            text = f"{frames['ReadFrame']} frames of marks and {frames['Digest']} digests in a quiet minute"
            self.fail("quiet", "all", text)

    def faults(self) -> list[Fault]:
        """Return the faults recorded so far and those that disks and logs show now."""
        found = list(self._faults)
        for peer in self._sim.honest_up:
            found += self._disk_faults(peer)
            found += self._order_faults(peer)
            found += self.deletions.faults(peer)
            found += self.content.faults(peer)
            found += self._miscounted(peer) if self.at_rest and not peer.disk.busy else ()
            found += view_faults(peer)
            found += self.presence.faults(peer) if self.at_rest else ()
            found += self.machines.faults(peer) if self.at_rest else ()
            found += self.groups.faults(peer, at_rest=self.at_rest)
        if self.at_rest:
            found += history_faults(self)
        logs = [self._log_of(peer) for peer in self._sim.all_peers if not peer.byzantine]
        # A liar may have called texts deleted.
        have_stubs = any(peer.disk.ever_stubs for peer in self._sim.all_peers if not peer.byzantine)
        return found + check(logs, timely=False, deletions=self.deletions.any or have_stubs)

    def _log_of(self, peer: SimPeer) -> Log:
        """Return an event log without messages of byzantine peers."""
        lines = [line for line in peer.lines if line.get("sender") not in self._byzantine_names()]
        copied = tuple(message_id(log, 0)[:-1] for log in self._copied_logs)
        lines = [line for line in lines if not line.get("id", "").startswith(copied)] if copied else lines
        return Log(peer.name, lines, restored=peer.restored)

    @property
    def _copied_logs(self) -> set[LogId]:
        return {log for peer in self._sim.all_peers for log in peer.disk.ever if self.may_fork(log)}

    def _byzantine_names(self) -> set[str]:
        byzantines = {peer.name for peer in self._sim.all_peers if peer.byzantine}
        return byzantines | {user.name for user in self._sim.made_up.values()}

    def _disk_faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check that the storage serves the committed entries with valid proofs."""
        forked = self._forked(peer)
        for log in forked:
            if self._is_unnamed(log.user):
                yield Fault("named", f"keeps a fork of {self._name(log)}, of a member that nobody named", peer.name)
            if not self.may_fork(log) and not self._sim.person(log.user).byzantine:
                yield Fault("forked", f"{self._name(log)} never forked, and is recorded as forked", peer.name)
        for log, raws in peer.disk.logs.items():
            begins = decode_entry(raws[0]).k in ("profile", GONE)
            if log.conversation == self.room and not begins and not self._is_byzantine(log):
                yield Fault("profile", f"{self._name(log)} does not begin with a profile", peer.name)
            if log in forked or (self._sim.person(log.user).byzantine and log.user in {fork.user for fork in forked}):
                continue
            served: list[RawEntry] = []
            chain = first_chain(peer.disk.headers[log])
            for batch in self._served(peer, log):
                served += batch.raws
                chain = extend_chain(chain, batch.raws)
                if not verify(log.user, batch.head, head_message(log, batch.last, chain)):
                    yield Fault(
                        "proof", f"what is stored of {self._name(log)} to {batch.last} is not proven", peer.name
                    )
            if not is_same(served, raws):
                yield Fault("disk", f"serves {len(served)} of {len(raws)} entries of {self._name(log)}", peer.name)

    def _miscounted(self, peer: SimPeer) -> Iterator[Fault]:
        """Check that a peer counts for its quotas what it would count after a restart."""
        quotas = [node.replicator.quota for node in (peer.node, peer.restarted()) if node is not None]
        for what in ("bytes", "files"):
            here, again = (
                {user: (n, one.lines.get(user, ())) for user, n in one.of_user.items() if n}
                for one in (getattr(quota, what) for quota in quotas)
            )
            for user in sorted(here.keys() | again.keys()):
                counts = here.get(user), again.get(user)
                if counts[0] != counts[1]:
                    text = f"counts {counts} {what} of {self._sim.person(user).name} before and after a restart"
                    yield Fault("counted", text, peer.name)

    def _is_byzantine(self, log: LogId) -> bool:
        return self._sim.person(log.user).byzantine

    def _forked(self, peer: SimPeer) -> list[LogId]:
        return peer.disk.stored.forked

    def _served(self, peer: SimPeer, log: LogId) -> Iterator[Batch]:
        start, storage = WantStart(()), peer.disk.storage
        batches, more = storage.fetch(log.conversation, log.user, start, batches=1 << 20)
        assert more is None, "one fetch is enough for all"
        return (batch for batch in batches if batch.log == log)

    def _order_faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check that each entry is shown once, after all it follows or answers, or with a gap mark."""
        suspects = self._suspects()
        seen: set[tuple[ConversationId, str, int]] = set()
        places = peer.disk.storage.places(0, 1 << 30)
        in_turn = {(one.log.conversation, ref_key(one.log.user, one.log.run), one.seq) for one in places if not one.gap}
        late = peer.disk.ever_stubs - in_turn  # or only stubs still: nothing waits for these

        def missing(conversation: ConversationId, refs: Iterable[Ref | None]) -> list[Ref]:
            unseen = [ref for ref in refs if ref and (conversation, *ref) not in seen]
            honest = [ref for ref in unseen if not ref.log.startswith(suspects)]
            kept = [ref for ref in honest if not self.groups.is_cut(peer, conversation, ref, seen)]
            kept = [ref for ref in kept if (conversation, *ref) not in late]
            return [ref for ref in kept if not self.deletions.is_gone(peer, conversation, ref)]

        for one in places:
            log, entry = one.log, decode_entry(one.raw)
            key = (log.conversation, ref_key(log.user, log.run), one.seq)
            if key in seen:
                yield Fault("twice", f"{self._name(log)} {one.seq} is shown twice", peer.name)
            seen.add(key)
            for ref in missing(log.conversation, self._strictly_before(peer, one)):
                yield Fault("order", f"{self._name(log)} {one.seq} is shown before its writer's {ref.seq}", peer.name)
            if not one.gap and missing(log.conversation, (*entry.after, entry.re)):
                yield Fault("order", f"{self._name(log)} {one.seq} is shown before an entry it follows", peer.name)

    def _suspects(self) -> tuple[str, ...]:
        """Return the beginnings of references to logs of byzantine peers and to those that may fork."""
        byzantine = [peer.user[:32] for peer in self._sim.all_peers if peer.byzantine]
        byzantine += [user[:32] for user in self._sim.made_up]
        return (*byzantine, *(ref_key(*log) for log in self.copied))

    def _strictly_before(self, peer: SimPeer, one: ReleasedEntry) -> Iterator[Ref]:
        if self._is_byzantine(one.log):
            return
        if one.seq > 1:
            yield Ref(ref_key(one.log.user, one.log.run), one.seq - 1)
        for mark in peer.disk.before(one.log) if one.seq == 1 else ():
            yield Ref(ref_key(one.log.user, mark.run), mark.seq)

    def _name(self, log: LogId) -> str:
        return f"{self._sim.person(log.user).name}'s {log_name(log)}"
