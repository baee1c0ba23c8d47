"""Delivery: entries acknowledged to other peers after their commit, and receipts from the acknowledgements of others.

An acknowledgement is a mark, and receipts are derived from marks: nothing is stored per message. Entry n of a log is
delivered to a member when a peer hosting that member has announced that it holds the log up to n, or a log that builds
on it. AckTracker keeps the positions of their holders; peer_receipts.py uses it too. A holder is a member, and in the
room a peer: what a gateway holds, all of its users have, and whoever asks knows whom it hosts (messaging/receipts.py).
A lost acknowledgement is repeated by anti_entropy.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from p2pchat.core.durable_changes import DeliveredMark
from p2pchat.core.effects import DeliveryReceipt
from p2pchat.core.log import Batch, LogId, WriterKey
from p2pchat.core.members.member_directory import MemberShares
from p2pchat.core.mesh.presence_tracker import Recipients
from p2pchat.core.node_context import KeySet, NodeContext
from p2pchat.core.sync.conversation_state import ConversationState, HeldMark, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Mark, PeerId, RunId, UserId

# ---- acknowledged positions


NO_POSITIONS: Mapping[str, int] = {}
NO_MARKS: Mapping[LogId, Mark] = {}
MAX_SILENT = 64  # peers of one member that are saved in one run though nobody there ever wrote; a guess, as the next
MEMBERS_SAVED = 16  # members with so many
Holder = UserId | PeerId  # a peer in the room, a user elsewhere
AckKey = tuple[LogId, Holder]


class Acknowledgement(NamedTuple):
    """The origin of an acknowledgement: the link it came by (None: of a user of this peer), the conversation, the
    writer and the holder.
    """

    remote: RemoteState | None
    conversation: ConversationState
    writer: UserId
    member: Holder


class AckTracker:
    """The highest acknowledged position, per log of a hosted user and holder.

    A position in a log implies the end of every log that it builds on, as far as it builds on it; those advance first.
    New positions are saved with a commit, of messages once in 5 s: peers announce them again when they meet.

    A member can make up holders in the room. Of those who never wrote here and are no contacts a few are saved; what
    is known of the others ends with their links, and they announce it again.

    Subclasses decide what a position means, which marks count, and what is emitted.

    Args:
        silent: So many holders of one member are saved in this run that never wrote here.
    """

    def __init__(self, sync: SyncContext, known: Iterable[tuple[LogId, UserId, int]], silent: int) -> None:
        self._sync = sync
        self._positions: dict[LogId, dict[Holder, int]] = {}
        self.unsaved: dict[AckKey, Mark] = {}
        self._silent: MemberShares[Holder] = MemberShares(MEMBERS_SAVED * silent)
        self._most_silent = silent
        self._passing: dict[Holder, dict[LogId, Mark]] = {}  # of holders that are not saved
        self.add_known(known)

    def position(self, log: LogId, member: UserId) -> int:
        """Return a member's position in a log, 0 when it is not known in this run."""
        return self._settled((log, member))

    def take_over(self, former: AckTracker) -> None:
        """Take over the positions known before storage failed. They were emitted and may not have been saved."""
        for log, positions in former._positions.items():
            for member, seq in positions.items():
                if seq > self._positions.setdefault(log, {}).get(member, 0):
                    self._positions[log][member] = seq
                    self.unsaved[log, member] = Mark(log.run, seq, "")

    def add_known(self, known: Iterable[tuple[LogId, UserId, int]]) -> None:
        """Add the stored positions in logs of a newly hosted user."""
        for log, member, seq in known:
            positions = self._positions.setdefault(log, {})
            positions[member] = max(seq, positions.get(member, 0))

    def on_gone(self, member: Holder) -> None:
        """Forget a holder that is not saved: no link tells it any more."""
        for log in self._passing.pop(member, ()):
            del self._positions[log][member]

    # ---- for subclasses

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        """Emit that a member advanced."""
        raise NotImplementedError

    # ---- advancing

    def advance_to(self, ack: Acknowledgement, mark: Mark, before: tuple[Mark, ...]) -> None:
        """Advance a member's position in a log to a mark, after its positions in all logs that this one builds on.

        A log with a position needs no look at what it builds on, since both are saved together. A thousand logs may
        build on each other, so this does not recurse.
        """
        todo: list[tuple[Mark, tuple[Mark, ...]]] = [(mark, before)]
        seen: set[RunId] = set()
        while todo:
            mark, before = todo.pop()
            if ack.remote is not None and ack.remote.lacks:
                mark = self._with_texts(ack, ack.remote, mark)
            key = id, member = LogId(ack.conversation.id, ack.writer, mark.run), ack.member
            settled = self._settled(key)
            if settled < mark.seq and (settled or not before or mark.run in seen):
                self._positions.setdefault(id, {})[member] = mark.seq
                if self._is_saved(id, member):
                    for other, passing in self._passing.pop(member, NO_MARKS).items():
                        self.unsaved[other, member] = passing
                    self.unsaved[key] = mark
                else:
                    self._passing.setdefault(member, {})[id] = mark
                self._on_advance(id, settled + 1, mark.seq, member)
            elif settled < mark.seq:
                seen.add(mark.run)
                todo.append((mark, before))
                for below in reversed(before):
                    log = ack.conversation.log(ack.writer, below.run)
                    if log is not None and self._counts_below(ack, log, below):
                        todo.append((below if below.seq <= log.durable_seq else log.mark, log.before))

    def _with_texts(self, ack: Acknowledgement, remote: RemoteState, mark: Mark) -> Mark:
        """Return up to where a remote has the texts of a log that are here: it may have stubs of what follows."""
        log = ack.conversation.log(ack.writer, mark.run)
        first = 0 if log is None else remote.first_lacking(log.id, log.pruned)
        return Mark(mark.run, first - 1, "") if 0 < first <= mark.seq else mark

    def _counts_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> bool:
        """Return whether a mark from the `before` of a log counts: it was compared when that log came."""
        return not log.forked and log.durable_seq > 0

    def _settled(self, key: AckKey) -> int:
        """Return up to where a mark says nothing new, 0 if what the log builds on must be looked at."""
        return self._positions.get(key[0], NO_POSITIONS).get(key[1], 0)

    def _is_saved(self, log: LogId, member: Holder) -> bool:
        """Return whether the positions of a holder are saved, after it took a place if need be."""
        if log.conversation != self._sync.conversations.room or self._sync.stays(member):
            return True
        share = self._sync.members.share(member)
        if self._silent.has_room and self._silent.taken[share] < self._most_silent:
            self._silent.add(member, share)
        return member in self._silent


# ---- delivery receipts


EntryRange = tuple[LogId, int, int]  # log, first and last entry


class DeliveryReceipts(AckTracker):
    """The delivered positions: the highest mark received, per log of a hosted user and holder."""

    def __init__(self, sync: SyncContext, stored: Iterable[DeliveredMark], meta: Mapping[str, str]) -> None:
        super().__init__(sync, ((mark.log, mark.member, mark.seq) for mark in stored), MAX_SILENT)
        self.left_out: LeftOut = LeftOut(sync.ctx, meta)
        self._unsure: KeySet[LogId] = {}  # whose marks are counted again when storage has said a chain
        self._early: set[LogId] = set()  # of which marks came beyond what was durable
        self._combined: dict[EntryRange, list[Holder]] | None = None  # who advanced by the marks of one call

    def position(self, log: LogId, member: Holder) -> int:
        """Return the position of a holder in a log, and of a user in the room that of the peers that host it now."""
        holders = {member}
        if log.conversation == self._sync.conversations.room:
            holders |= self._sync.presence.peers_of(member)
        return max(self._settled((log, holder)) for holder in holders)

    def is_stored_by(self, peers: Collection[PeerId], log: LogId, seq: int) -> bool:
        """Return whether one of these peers, linked now, has announced an entry of a hosted user's log."""
        conversation = self._sync.conversations.get(log.conversation)
        if conversation is None:
            return False
        here = conversation.log(log.user, log.run)
        for remote in self._sync.remotes.values():
            if remote.link.peer not in peers or 0 < remote.first_lacking(log, here.pruned if here else 0) <= seq:
                continue
            marks = remote.acked.get(log.key, {})
            mark = marks.get(log.run)
            if mark is None:  # peers do not list a log that another one covers
                others = ((conversation.log(log.user, each.run), each) for each in marks.values())
                known = (other for other, each in others if other and self.counts(other, each) is not False)
                covered = (below for other in known for below in other.before)
                if any(below.run == log.run and below.seq >= seq for below in covered):
                    return True
            elif mark.seq >= seq and (here is None or self.counts(here, mark)):
                return True
        return False

    # ---- marks

    def on_marks(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, held: Iterable[HeldMark]
    ) -> None:
        """Take marks that a remote announced for a hosted user's logs. Group facts have no receipts."""
        if conversation.has_facts:
            return
        holders = self._holders(remote, conversation, user)
        together = self._combined = {}
        for mark, log in held:
            if log is None:
                continue
            known = self._positions.get(log.id, NO_POSITIONS)
            behind = [one for one in holders if known.get(one, 0) < mark.seq]
            if behind and self.counts(log, mark):
                visible = mark
                if log.limit < mark.seq:  # others keep what a cut hides
                    visible = Mark(mark.run, log.limit, "")
                for one in behind:
                    self.advance_to(Acknowledgement(remote, conversation, user, one), visible, log.before)
        self._combined = None
        self._emit(together)

    def _holders(self, remote: RemoteState, conversation: ConversationState, user: UserId) -> list[Holder]:
        """Return who has a writer's log by a mark of a remote: members, and in the room the peer that hosts some."""
        members = remote.receivers(conversation.allowed_writers, user)
        if conversation.allowed_writers is not None:
            return sorted(members)
        return [remote.link.peer] if members and remote.link.has_listed_users else []

    def recount_acks(self, conversation: ConversationState, user: UserId) -> None:
        """Recount earlier marks for own entries that came back from others."""
        for remote in self._sync.remotes.values():
            marks = remote.acked.get((conversation.id, user))
            if marks:
                self.on_marks(remote, conversation, user, conversation.held(user, marks.values()))

    def recount_unsure(self) -> Iterable[LogId]:
        """Recount the marks for which storage was asked. Return their logs."""
        unsure, self._unsure = self._unsure, {}
        for id, user in dict.fromkeys(log.key for log in unsure):
            if id in self._sync.conversations:
                self.recount_acks(self._sync.conversations[id], user)
        return unsure

    def on_batch_durable(self, log: LogState, batch: Batch) -> None:
        """Take a batch written here. Recount marks of remotes that were served from storage before it was durable.

        Its chain is remembered, since marks of it will come soon.
        """
        self._sync.lookups.keep_chain((batch.log, batch.last), batch.chain)
        if log.id in self._early:
            self._early.remove(log.id)
            self.recount_acks(log.conversation, log.user)

    def on_lifted(self, remote: RemoteState, conversation: ConversationState, log: LogId, member: UserId) -> None:
        """Count a log of which a member was left out: it holds what builds on all of that log (an equal sum)."""
        if conversation.allowed_writers is None:
            member = remote.link.peer
        found = conversation.log(log.user, log.run)
        if found is not None and found.durable_covered and not found.forked:
            ack = Acknowledgement(remote, conversation, log.user, member)
            self.advance_to(ack, Mark(log.run, found.durable_seq, ""), found.before)

    def recipients(self, conversation: ConversationState, user: UserId) -> Recipients:
        """Return the members a receipt waits for.

        In a direct conversation that is the other user (or oneself), in a group all others who belong to the network
        (none if there are none), in the room everyone who is online now.
        """
        hosted = self._sync.hosted
        if conversation.group is not None and conversation.group.state is not None:
            members = tuple(self._sync.members.within(conversation.group.state.members.keys() - {user}))
        elif conversation.members is not None:
            members = tuple(sorted(conversation.members - {user})) or (user,)
        else:
            return self._sync.presence.expected_recipients(user)
        here = () if len(hosted) == 1 else tuple(one for one in members if one in hosted and one != user)
        return Recipients(members, here)

    def _with_texts(self, ack: Acknowledgement, remote: RemoteState, mark: Mark) -> Mark:
        held = super()._with_texts(ack, remote, mark)
        if held is not mark:
            receivers = remote.receivers(ack.conversation.allowed_writers, ack.writer)
            log = LogId(ack.conversation.id, ack.writer, mark.run)
            self.left_out.add(log, {*receivers, ack.member})  # storage has to know
        return held

    def _counts_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> bool:
        """Leave out a log of the peer's own user of which the remote announced more than is here: that mark counts.

        This machine went back to an older state. What it lost may be of another version, which nobody can prove where
        all of it was deleted. A log of another user may simply have been continued at another host.
        """
        remote = ack.remote
        if remote is not None and ack.writer == self._sync.ctx.user:
            announced = remote.acked.get(log.key, {}).get(log.id.run)
            if announced is not None and announced.seq > mark.seq:
                receivers = remote.receivers(ack.conversation.allowed_writers, ack.writer)
                self.left_out.add(log.id, {*receivers, ack.member})  # storage has to know
                return False
        return super()._counts_below(ack, log, mark)

    def counts(self, log: LogState, mark: Mark) -> bool | None:
        """Return whether a mark is one of the version held here; None while storage is asked.

        A mark beyond what is held may be of another version, which a copy of this machine wrote. It counts when those
        entries are durable here.
        """
        if log.forked or mark.seq >= log.durable_seq:
            if mark.seq > log.durable_seq:
                self._early.add(log.id)
            return not log.forked and mark == log.mark
        chain = self._sync.chain_at(log, mark.seq)
        if chain is None:
            self._unsure[log.id] = None
            return None
        return chain.hex() == mark.chain

    def _on_advance(self, log: LogId, first: int, last: int, member: Holder) -> None:
        if self._combined is None:
            self._emit({(log, first, last): [member]})
        else:
            self._combined.setdefault((log, first, last), []).append(member)

    def _emit(self, risen: dict[EntryRange, list[Holder]]) -> None:
        for stretch, members in risen.items():
            self._sync.ctx.emit(DeliveryReceipt(*stretch, members[-1], tuple(members[:-1])))


# ---- members that are left out


LEFT_OUT = "left out:"  # in meta, before a log of a user hosted here: the members
MAX_LOGS = 1000  # a guess: 1 MiB with few members each
MAX_MEMBERS = 1000  # of one log; a guess: 64 KiB


class LeftOut:
    """Members of whom a mark on a later log says nothing about an earlier one, for what storage says of receipts.

    A mark covers all that its log builds on. But a machine that went back to an older state may have lost a part of a
    log that somebody else holds in another version. Such members are left out where a log is counted that others cover,
    until a comparison finds both sides equal.

    Attributes:
        logs: All logs that somebody was ever left out of.
    """

    def __init__(self, ctx: NodeContext, meta: Mapping[str, str]) -> None:
        self._ctx = ctx
        self._members: dict[LogId, tuple[UserId, ...]] = {}
        for name, line in meta.items():
            if name.startswith(LEFT_OUT):
                self._members[LogId(*name.removeprefix(LEFT_OUT).split(","))] = tuple(line.split())
        self.logs: set[LogId] = set(self._members)

    def add(self, log: LogId, members: Iterable[UserId]) -> None:
        """Leave these members out of a log."""
        known = self._members.get(log, ())
        all_members = tuple(dict.fromkeys((*known, *members)))
        if all_members != known and len(all_members) <= MAX_MEMBERS and (known or len(self._members) < MAX_LOGS):
            self._members[log] = all_members
            self.logs.add(log)
            self._save(log)

    def lift(self, key: WriterKey, members: Collection[UserId]) -> list[tuple[LogId, UserId]]:
        """Leave these members out no more of the logs of a writer. Return what that changes."""
        lifted: list[tuple[LogId, UserId]] = []
        for log in [log for log in self._members if log.key == key]:
            gone = [member for member in self._members[log] if member in members]
            if gone:
                lifted += [(log, member) for member in gone]
                self._members[log] = tuple(member for member in self._members[log] if member not in gone)
                self._save(log)
        return lifted

    def _save(self, log: LogId) -> None:
        self._ctx.change.meta[LEFT_OUT + ",".join(log)] = " ".join(self._members[log])


# ---- acknowledgements of this peer


class Acknowledgements:
    """The marks that tell other peers what is on disk here, as `have`.

    They go at the next step to the source of the entries, and to the peers of their writers if none of those is the
    source. Within 0.3 x `gossip_within` they go to the other peers of their writers, many in one frame, and to peers
    that are not linked with all of these. Those whose links with a writer this peer carries have it from here alone, so
    what comes after a pause is told them at once.
    """

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._gossip: dict[WriterKey, set[int]] = {}  # links of writers' peers that are sent the newest marks later
        self._sent_at = float("-inf")

    def on_durable(self, step: Step) -> None:
        """Acknowledge the entries of a commit that is durable."""
        for key, sources in step.sources.items():
            hosts = self._sync.presence.hosts.get(key[1], ())
            links = sources & self._sync.remotes.keys()
            if links.isdisjoint(hosts):
                links.update(hosts)
            self._owe_to(links, key)
            if not links >= self._sync.remotes.keys():  # with a link that comes up later all is compared
                self._schedule_gossip(key, {*hosts} - links)

    def _owe_to(self, links: Iterable[int], key: WriterKey) -> None:
        for link in links:
            if link in self._sync.remotes:
                self._sync.owe_marks(self._sync.remotes[link], (key,))

    def _schedule_gossip(self, key: WriterKey, later: set[int]) -> None:
        if not self._gossip:
            wait = self._sync.ctx.settings.gossip_within * (0.1 + 0.2 * self._sync.ctx.random())
            hosts = self._sync.presence.hosts.get(key[1], set())
            if any(self._sync.remotes[id].link.carried_with for id in hosts & self._sync.remotes.keys()):
                wait = max(0.0, self._sent_at + wait - self._sync.ctx.now.mono)
            self._sync.after(wait, self._send_gossip)
        self._gossip[key] = later

    @property
    def has_unsent(self) -> bool:
        """Return whether peers of a writer will be sent a mark later."""
        return any(self._gossip.values())

    def _send_gossip(self) -> None:
        """Send marks to the other peers of their writers, and to links that may not hear them from these."""
        gossip, self._gossip = self._gossip, {}
        self._sent_at = self._sync.ctx.now.mono
        alike: dict[ConversationId, dict[frozenset[PeerId], list[WriterKey]]] = {}  # a flood has one source
        for key in sorted(gossip):
            links = self._sync.presence.hosts.get(key[1], ())
            hosts = frozenset(self._sync.remotes[id].link.peer for id in links if id in self._sync.remotes)
            alike.setdefault(key[0], {}).setdefault(hosts, []).append(key)
            self._owe_to(sorted(gossip[key].intersection(links)), key)
        for id, by_hosts in alike.items():
            for remote in self._sync.remotes_sharing(self._sync.conversations[id]):
                link = remote.link
                for hosts, told in by_hosts.items():
                    others = hosts - {link.peer}
                    lost = others.intersection(link.carried_with)  # a carrier gives those what is for all
                    if lost or not hosts or others.difference(link.linked):
                        self._sync.owe_marks(remote, told)
