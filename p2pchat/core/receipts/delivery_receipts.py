"""Delivery: entries acknowledged to other peers after their commit, and receipts from the acknowledgements of others.

An acknowledgement is a mark, and receipts are derived from marks: nothing is stored per message. Entry n of a log is
delivered to a member when a peer hosting that member has announced that it holds the log up to n, or a log that builds
on it. AckTracker keeps the positions of their holders; read_receipts.py uses it too. A holder is a member, and
in the room a peer, for all users on its roster (rosters.py). A lost acknowledgement is repeated by
anti_entropy.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, starmap
from typing import NamedTuple

from p2pchat.core.durable_changes import DeliveredMark, GuestStay
from p2pchat.core.effects import Counted, DeliveryReceipt
from p2pchat.core.limits_by_origin import OriginShares, RateLimit, address_line
from p2pchat.core.log import Batch, LogId, WriterKey
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import KeySet
from p2pchat.core.receipts.rosters import (
    HOST,
    STAYS_A_COMMIT,
    HostRow,
    RoomAudience,
    Roster,
    Rosters,
    SharedGuests,
    host_holder,
)
from p2pchat.core.sync.log_index import ConversationState, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext, Transaction
from p2pchat.protocol import ConversationId, Mark, PeerId, UserId

# ---- acknowledged positions


NO_POSITIONS: Mapping[str, int] = {}
Holder = str  # the id of a user, or host_holder() of a peer
AckKey = tuple[LogId, Holder]
RowKey = tuple[LogId, int]  # with the version


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
    New positions are saved with the next commit and need none of their own: peers announce them again when they meet.
    Those of users who are only passing (presence.py) share places, by where the users come from; what finds no place is
    not reported.

    Subclasses decide what a position means, how far a mark counts, and what is emitted.
    """

    def __init__(self, sync: SyncContext, known: Iterable[tuple[LogId, UserId, int]]) -> None:
        self._sync = sync
        self._positions: dict[LogId, dict[Holder, int]] = {}
        self.unsaved: dict[AckKey, int] = {}
        settings = sync.ctx.settings
        self._places: OriginShares[UserId] = OriginShares(
            settings.max_passing_positions, settings.passing_positions_a_branch
        )
        self.add_known(known)

    def position(self, log: LogId, member: UserId) -> int:
        """Return a member's position in a log, 0 when it is not known in this run."""
        return self._positions.get(log, NO_POSITIONS).get(member, 0)

    def take_over(self, former: AckTracker) -> None:
        """Take over the positions known before storage failed. They were emitted and may not have been saved."""
        for log, positions in former._positions.items():
            for member, seq in positions.items():
                if seq > self._positions.setdefault(log, {}).get(member, 0):
                    self._positions[log][member] = self.unsaved[log, member] = seq

    def add_known(self, known: Iterable[tuple[LogId, UserId, int]]) -> None:
        """Add the stored positions in logs of a newly hosted user."""
        for log, member, seq in known:
            positions = self._positions.setdefault(log, {})
            positions[member] = max(seq, positions.get(member, 0))

    def take_unsaved(self) -> list[tuple[LogId, UserId, int]]:
        """Return what the next commit shall save."""
        taken = [(log, member, seq) for (log, member), seq in self.unsaved.items()]
        self.unsaved.clear()
        return taken

    def keep(self, member: UserId) -> None:
        """Count the positions of a member who wrote or is a contact now in no branch."""
        self._places.remove(member)

    # ---- for subclasses

    def _countable(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Return how far a mark of a log counts now, 0 for not at all."""
        raise NotImplementedError

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        """Emit that a member advanced."""
        raise NotImplementedError

    # ---- advancing

    def on_mark(self, ack: Acknowledgement, mark: Mark) -> None:
        """Take a mark announced for a member."""
        log = ack.conversation.log(ack.writer, mark.run)
        if log is not None and (seq := self._countable(ack, log, mark)):
            self.advance_to(ack, log.id, seq, log.before)

    def advance_to(self, ack: Acknowledgement, log: LogId, seq: int, before: tuple[Mark, ...]) -> None:
        """Advance a member's position in a log to seq, after its positions in all logs that this one builds on.

        A log with a position needs no look at what it builds on, since both are saved together. A thousand logs may
        build on each other, so this does not recurse.
        """
        todo: list[tuple[LogId, int, tuple[Mark, ...]]] = [(log, seq, before)]
        seen: set[LogId] = set()
        while todo:
            log, seq, before = todo.pop()
            key = (log, ack.member)
            settled = self._settled(key)
            if settled < seq and (settled or not before or log in seen):
                self._set_position(key, seq)
            elif settled < seq:
                seen.add(log)
                todo.append((log, seq, before))
                for mark in reversed(before):
                    below = ack.conversation.log(ack.writer, mark.run)
                    if below is not None and (upto := self._countable_below(ack, below, mark)):
                        todo.append((below.id, upto, below.before))

    def _countable_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Return how far a mark from the `before` of a log counts: it was compared when that log came."""
        return 0 if log.forked else min(mark.seq, log.durable_seq)

    def _settled(self, key: AckKey) -> int:
        """Return up to where a mark says nothing new, 0 if what the log builds on must be looked at."""
        return self._positions.get(key[0], NO_POSITIONS).get(key[1], 0)

    def _set_position(self, key: AckKey, seq: int) -> None:
        positions = self._positions.setdefault(key[0], {})
        if not positions.get(key[1]) and not self._take_place(key[1]):
            return
        known = self.position(*key)  # also as a user of a peer
        positions[key[1]] = self.unsaved[key] = seq
        if seq > known:
            self._on_advance(key[0], known + 1, seq, key[1])

    def _take_place(self, member: UserId) -> bool:
        """Take a place for a member if it is only passing. Return False when there is none.

        Nobody gives way: a receipt that was reported must be known, or it would be reported again.
        """
        if not self._sync.presence.is_passing(member):
            return True
        remotes = (self._sync.remotes.get(link) for link in self._sync.presence.hosts.get(member, ()))
        lines = (address_line(remote.link.host, remote.link.peer) for remote in remotes if remote is not None)
        line = self._places.line(member) or next(lines, ())
        if not self._places.has_room(line):
            self._sync.ctx.emit(Counted("position_ignored"))
            return False
        self._places.add(member, line)
        return True


# ---- delivery receipts


EntryRange = tuple[LogId, int, int]  # log, first and last entry

LEFT_OUT_FOR = 16.0  # seconds until users are looked at again who returned too fast; Settings.returns_burst comes back
MAX_AUDIENCES = 8  # lists of users whose receipts are counted, each with what a count needs; a guess


class DeliveryReceipts(AckTracker):
    """The delivered positions: the highest mark received, per log of a hosted user and holder.

    Args:
        on_delivered: Called with each log, its first newly delivered entry, and the members.
    """

    def __init__(
        self, sync: SyncContext, stored: Iterable[DeliveredMark], stays: Iterable[GuestStay],
        on_delivered: Callable[[LogId, int, Sequence[UserId]], None],
    ) -> None:  # fmt: skip
        super().__init__(sync, ())
        self._on_delivered = on_delivered
        self._unsure: KeySet[WriterKey] = {}  # whose marks are counted again when storage has said a chain
        self._combined: dict[EntryRange, list[Sequence[UserId]]] | None = None  # who advanced by the marks of one call
        self._returns_again = False  # those left out will be looked at again
        self._returns = RateLimit(sync.ctx.settings.returns_a_second, sync.ctx.settings.returns_burst)
        self.rosters: Rosters = Rosters(stays, sync.hosted, self._admit, self._on_forget_stay)
        self._rows: dict[LogId, dict[Holder, HostRow]] = {}
        self._unsaved_rows: dict[PeerId, dict[RowKey, HostRow]] = {}
        self._needless: list[DeliveredMark] = []  # rows that storage shall delete once nothing else is unsaved
        self._audiences: list[RoomAudience] = []  # of the newest messages asked for
        self.add_marks(stored)

    # ---- known positions

    def position(self, log: LogId, member: UserId) -> int:
        """Return a member's position in a log, of its own or as a user of a peer; 0 when it is not known."""
        return self._position_by(log, member, self.rosters.stays(member) if log in self._rows else ())

    def _position_by(self, log: LogId, member: UserId, stays: Iterable[GuestStay]) -> int:
        found, rows = super().position(log, member), self._rows.get(log, {})
        for stay in stays if rows else ():
            row = rows.get(host_holder(stay.peer))
            if row is not None:
                found = max(found, row.seq_for(stay))
        return found

    def add_marks(self, stored: Iterable[DeliveredMark]) -> None:
        """Add the stored positions in logs of hosted users."""
        hosts: list[DeliveredMark] = []
        for mark in stored:
            if mark.is_of_host:
                hosts.append(mark)
            else:
                self.add_known([(mark.log, mark.member, mark.seq)])
        for mark in sorted(hosts, key=lambda mark: mark.version):
            rows, holder = self._rows.setdefault(mark.log, {}), host_holder(mark.member)
            below = rows.get(holder)
            if below is None or below.version < mark.version:
                former = () if below is None else (*below.former, below._replace(former=()))
                rows[holder] = HostRow(mark.seq, mark.version, mark.told, former)
                self.rosters.add_row(mark.member, rows[holder])

    def take_over(self, former: AckTracker) -> None:
        assert isinstance(former, DeliveryReceipts)
        super().take_over(former)
        self.rosters.take_over(former.rosters)
        for log, rows in former._rows.items():
            self._rows[log] = dict(rows)
            for holder, row in rows.items():
                for each in (row, *row.former):
                    self._save(log, holder.removeprefix(HOST), each)

    def take_unsaved_marks(self, stays: int | None = STAYS_A_COMMIT) -> tuple[list[DeliveredMark], list[GuestStay]]:
        """Return what the next commit shall save: stays, so many at most, and rows of peers of which no stay waits.

        What nobody needs any more is deleted once nothing waits: what replaces it may be of another peer.
        """
        taken = self.rosters.take_unsaved(stays) if self.rosters.unsaved else []  # no call for each commit
        marks = [*starmap(DeliveredMark, self.take_unsaved())]
        for peer in sorted(self._unsaved_rows.keys() - self.rosters.unsaved.keys()):
            rows = self._unsaved_rows.pop(peer)
            marks += (DeliveredMark(log, peer, row.seq, version, row.told) for (log, version), row in rows.items())
        if not self.rosters.unsaved and (self._needless or self.rosters.forgotten):
            marks += self._needless
            taken += self.rosters.forgotten
            self._needless, self.rosters.forgotten = [], []
        return marks, taken

    def _save(self, log: LogId, peer: PeerId, row: HostRow) -> None:
        self._unsaved_rows.setdefault(peer, {})[log, row.version] = row

    def _admit(self, user: UserId, link: PeerLink) -> bool:
        """Return whether a user is put on the roster of a link's peer. Nobody gives way, as in `_take_place`.

        What each log of a user who was at a peer before was delivered to must be worked out. So peers that nobody here
        chose get such users on their rosters at a rate, and are looked at again later.
        """
        if self.rosters.stays(user) and not link.known:
            if not self._returns.take(address_line(link.host, link.peer), self._sync.ctx.now.mono):
                self._sync.ctx.emit(Counted("position_ignored"))
                if not self._returns_again:
                    self._returns_again = True
                    self._sync.after(LEFT_OUT_FOR, self._retry_left_out)
                return False
        return self._take_place(user)

    def _retry_left_out(self) -> None:
        self._returns_again = False
        self.rosters.retry_left_out()

    def _on_forget_stay(self, stay: GuestStay) -> None:
        """Note what a user has by this stay and by nothing else."""
        holder, user = host_holder(stay.peer), stay.user
        others = [each for each in self.rosters.stays(user) if each is not stay]
        for log, rows in self._rows.items():
            row = rows.get(holder)
            if row is None or user == log.user:
                continue
            has = row.seq_for(stay)
            if has and has > self._position_by(log, user, others):
                self._positions.setdefault(log, {})[user] = self.unsaved[log, user] = has

    def keep(self, member: UserId) -> None:
        super().keep(member)
        self.rosters.on_place_given(member)

    # ---- questions of programs

    def holders(self, log: LogId, seq: int) -> list[UserId]:
        """Return everyone known to have an entry."""
        own = self._positions.get(log, NO_POSITIONS)
        found = dict.fromkeys(user for user, last in own.items() if last >= seq)
        for holder, row in self._rows.get(log, {}).items():
            roster = self.rosters.roster(holder.removeprefix(HOST))
            alike, _ = self.rosters.alike(roster)
            if row.seq >= seq:
                late = {*roster.newcomers(row.told)}
                found.update(dict.fromkeys([user for user in alike if user not in late] if late else alike))
            together, apart = self._by_position(log, roster.shared, {*roster.returned})
            for group, position in together:
                if position >= seq:
                    found.update(dict.fromkeys(group.users))
            found.update(dict.fromkeys(user for user in apart if self.position(log, user) >= seq))
            found.update(dict.fromkeys(roster.left_with(row, seq)))
        found.pop(log.user, None)
        return [*found]

    def count(self, log: LogId, seq: int, of: tuple[UserId, ...]) -> int:
        """Return how many of these users have an entry, without its writer. Asked for with each mark in the room."""
        audience, count = self._audience(of), 0
        own, rows = self._positions.get(log, NO_POSITIONS), self._rows.get(log, {})
        hosted = self._sync.hosted
        for user, last in own.items():
            if last >= seq and user in audience.weights and user not in audience.others and user not in hosted:
                count += 1
        for holder, row in rows.items():
            if row.seq >= seq and (weight := audience.weights.get(holder)):
                roster = self.rosters.roster(holder.removeprefix(HOST))
                late = roster.newcomers(row.told) if row.told < roster.joined else ()
                count += weight - sum(user in audience.users and user in self.rosters.holder_of for user in late)
        together, apart = self._by_position(log, audience.shared, {*audience.returned})
        for group, position in together:
            if position >= seq:
                count += len(group.users)
            elif own:
                count += sum(own.get(user, 0) >= seq for user in group.users)
        count += sum(self.position(log, user) >= seq for user in apart)
        if own.keys() & self.rosters.users:  # of an earlier version, or of a user who moved to a gateway
            count += sum(
                last >= seq and user in audience.users and self._has_by_own_position_only(log, seq, user)
                for user, last in own.items()
            )
        return count

    def _by_position(
        self, log: LogId, shared: Iterable[SharedGuests], apart: set[UserId]
    ) -> tuple[list[tuple[SharedGuests, int]], set[UserId]]:
        """Return how far users of the same peers have a log by these, and who must be looked at one by one.

        Args:
            apart: More of these; a user of a group may be one.
        """
        rows, together = self._rows.get(log, {}), list[tuple[SharedGuests, int]]()
        for group in shared:
            theirs = [(rows[holder], holder) for holder in group.holders if holder in rows]
            if all(row.told >= self.rosters.roster(holder.removeprefix(HOST)).joined for row, holder in theirs):
                together.append((group, max((row.seq for row, _ in theirs), default=0)))
            else:  # whoever came since does not have it yet
                apart.update(group.users)
        return together, apart

    def _has_by_own_position_only(self, log: LogId, seq: int, user: UserId) -> bool:
        holder = self.rosters.holder_of.get(user)
        if holder is None:
            return False
        row, (stay,) = self._rows.get(log, {}).get(holder), self.rosters.stays(user)
        return row is None or row.seq_for(stay) < seq

    def _audience(self, of: tuple[UserId, ...]) -> RoomAudience:
        changes = self.rosters.changes
        for audience in self._audiences:
            if audience.of is of and audience.changes == changes:
                return audience
        audience = RoomAudience(self.rosters, of)
        self._audiences = [audience, *self._audiences[: MAX_AUDIENCES - 1]]
        return audience

    def ends(self, log: LogId) -> set[int]:
        """Return the entries of a log behind which the number of those who have it may be another."""
        rows = self._rows.get(log, {}).values()
        return {
            *self._positions.get(log, NO_POSITIONS).values(),
            *(each.seq for row in rows for each in (row, *row.former)),
        }

    def is_stored_by(self, peers: Collection[PeerId], log: LogId, seq: int) -> bool:
        """Return whether one of these peers, linked now, has announced an entry of a hosted user's log."""
        conversation = self._sync.conversations.by_id.get(log.conversation)
        if conversation is None:
            return False
        here = conversation.log(log.user, log.run)
        for remote in self._sync.remotes.values():
            if remote.link.peer not in peers:
                continue
            marks = remote.acked.get(log.key, {})
            mark = marks.get(log.run)
            if mark is None:  # peers do not list a log that another one covers
                others = ((conversation.log(log.user, each.run), each) for each in marks.values())
                known = (other for other, each in others if other and self._counts(other, each) is not False)
                covered = (below for other in known for below in other.before)
                if any(below.run == log.run and below.seq >= seq for below in covered):
                    return True
            elif mark.seq >= seq and (here is None or self._counts(here, mark)):
                return True
        return False

    # ---- marks

    def on_marks(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, marks: Sequence[Mark]
    ) -> None:
        """Take marks that a remote announced for a hosted user's logs. Group operations have no receipts."""
        if conversation.is_operations:
            return
        acks = [Acknowledgement(remote, conversation, user, one) for one in self._holders(remote, conversation, user)]
        news = [mark for mark in dict.fromkeys(marks) if self._is_news(conversation, user, mark, acks)]
        if not news:
            return  # as mostly for the hundreds of marks of a comparison
        together = self._combined = {}
        for mark in news:
            for ack in acks:
                self.on_mark(ack, mark)
        self._combined = None
        self._emit(together)

    def _is_news(
        self, conversation: ConversationState, user: UserId, mark: Mark, acks: Iterable[Acknowledgement]
    ) -> bool:
        """Return whether a mark says of a holder what was not counted before."""
        log = LogId(conversation.id, user, mark.run)
        return any(self._settled((log, ack.member)) < mark.seq for ack in acks)

    def _holders(self, remote: RemoteState, conversation: ConversationState, user: UserId) -> list[Holder]:
        """Return who has a writer's log by a mark of a remote: members, and in the room all users on its roster."""
        there, writers, peer = remote.link.users.keys(), conversation.allowed_writers, remote.link.peer
        if writers is not None:
            return sorted(remote.receivers(writers, user))
        roster = self.rosters.update(remote.link) if self._sync.is_up(remote) else None
        if roster is None:
            return [peer] if peer in there and peer != user else []
        if not remote.link.has_listed_users or len(roster.guests) <= (user in roster.guests):
            return []
        return [host_holder(peer)]

    def recount_acks(self, conversation: ConversationState, user: UserId) -> None:
        """Recount earlier marks for own entries that came back from others."""
        for remote in self._sync.remotes.values():
            marks = remote.acked.get((conversation.id, user))
            if marks:
                self.on_marks(remote, conversation, user, list(marks.values()))

    def recount_unsure(self) -> None:
        """Recount the marks for which storage was asked."""
        unsure, self._unsure = self._unsure, {}
        for id, user in unsure:
            if id in self._sync.conversations.by_id:
                self.recount_acks(self._sync.conversations.by_id[id], user)

    def count_early_acks(self, conversation: ConversationState, batch: Batch) -> None:
        """Recount marks of remotes that were served from storage before this commit returned."""
        for remote in self._sync.remotes.values():
            mark = remote.acked.get(batch.log.key, {}).get(batch.log.run)
            if mark is not None and mark.seq >= batch.first:
                self.on_marks(remote, conversation, batch.log.user, [mark])

    def on_lifted(self, remote: RemoteState, conversation: ConversationState, log: LogId, member: UserId) -> None:
        """Count a log of which a member was left out: it holds what builds on all of that log (an equal sum)."""
        if conversation.allowed_writers is None and self.rosters.update(remote.link) is not None:
            member = host_holder(remote.link.peer)
        found = conversation.log(log.user, log.run)
        if found is not None and found.durable_covered and not found.forked:
            ack = Acknowledgement(remote, conversation, log.user, member)
            self.advance_to(ack, log, found.durable_seq, found.before)

    def on_batch_durable(self, batch: Batch) -> None:
        """Remember the chain of a batch written here, since marks of it will come soon."""
        self._sync.lookups.keep_chain((batch.log, batch.last), batch.chain)

    def recipients(self, conversation_id: str, user: UserId) -> tuple[tuple[UserId, ...], tuple[UserId, ...]]:
        """Return the members a receipt waits for, and those of them hosted here.

        In a direct conversation that is the other user (or oneself), in a group all others (none if there are none), in
        the room everyone who is online now.
        """
        conversation, hosted = self._sync.conversations.by_id[conversation_id], self._sync.hosted
        if conversation.group is not None and conversation.group.state is not None:
            members = tuple(sorted(conversation.group.state.present - {user}))
        elif conversation.members is not None:
            members = tuple(sorted(conversation.members - {user})) or (user,)
        else:
            return self._sync.presence.expected_recipients(user)
        return members, () if len(hosted) == 1 else tuple(one for one in members if one in hosted and one != user)

    def _countable_below(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Leave out a log of the peer's own user of which the remote announced more than is here: that mark counts.

        This machine went back to an older state. What it lost may be of another version, which nobody can prove where
        all of it was deleted. A log of another user may simply have been continued at another host.
        """
        remote = ack.remote
        if remote is not None and ack.writer == self._sync.ctx.me:
            announced = remote.acked.get(log.id.key, {}).get(log.id.run)
            if announced is not None and announced.seq > mark.seq:
                receivers = remote.receivers(ack.conversation.allowed_writers, ack.writer)
                self._sync.left_out.add(log.id, receivers)  # storage has to know
                return 0
        return super()._countable_below(ack, log, mark)

    def _countable(self, ack: Acknowledgement, log: LogState, mark: Mark) -> int:
        """Ignore a mark beyond what is held here: it may be of another version, which a copy of this machine wrote.

        It counts when those entries are durable here.
        """
        return mark.seq if self._counts(log, mark) else 0

    def _counts(self, log: LogState, mark: Mark) -> bool | None:
        """Return whether a mark is one of the version held here; None while storage is asked."""
        if log.forked or mark.seq >= log.durable_seq:
            return not log.forked and mark == log.mark
        if mark.seq < log.pruned:
            return True  # nothing is left to compare with
        chain = self._sync.chain_at(log, mark.seq)
        if chain is None:
            self._unsure[log.id.key] = None
            return None
        return chain[:8].hex() == mark.chain8

    # ---- positions of hosts

    def _settled(self, key: AckKey) -> int:
        if not key[1].startswith(HOST):
            return super()._settled(key)
        row = self._rows.get(key[0], {}).get(key[1])
        if row is None or row.told < self.rosters.roster(key[1].removeprefix(HOST)).joined:
            return 0  # whoever came since does not have it, nor what it builds on
        return row.seq

    def _set_position(self, key: AckKey, seq: int) -> None:
        if not key[1].startswith(HOST):
            super()._set_position(key, seq)
            return
        log, holder = key
        rows, roster = self._rows.setdefault(log, {}), self.rosters.roster(holder.removeprefix(HOST))
        row, (alike, others) = rows.get(holder), self.rosters.alike(roster)
        if row is not None and seq < row.seq:
            return  # it held more before, which counts for whoever comes once it holds that again
        holders = self._positions.get(log, NO_POSITIONS).keys() & roster.guests.keys()  # of one of their own
        if holders or log.user in roster.guests:
            alike = _without({*holders, log.user}, alike)
        together = list[tuple[SharedGuests, int]]()
        if row is None or seq > row.seq:
            together, apart = self._by_position(log, roster.shared, {*holders, *roster.returned})
        else:  # only those who came since can have got anything
            apart = {user for user in roster.newcomers(row.told) if user in others or user in holders}
        had = {user: self.position(log, user) for user in sorted(apart - {log.user})}
        late = [] if row is None or row.told >= roster.joined else sorted({*roster.newcomers(row.told)} & {*alike})
        self._put_row(log, holder, seq, roster)
        known = 0 if row is None else row.seq
        if late:
            self._on_advance_of_all(log, 1, known, late)
        if seq > known and alike:
            self._on_advance_of_all(log, known + 1, seq, alike)
        for group, before in together:
            if seq > before and (users := _without({*had, log.user}, group.users)):
                self._on_advance_of_all(log, before + 1, seq, users)
        for user, before in had.items():
            if (now := self.position(log, user)) > before:
                self._on_advance(log, before + 1, now, user)

    def _put_row(self, log: LogId, holder: Holder, seq: int, roster: Roster) -> None:
        """Put the row of a mark that is announced now. If somebody left since the former one, that stays if needed."""
        rows, peer = self._rows[log], holder.removeprefix(HOST)
        row = rows.get(holder)
        former = () if row is None else row.former
        now = rows[holder] = HostRow(seq, roster.version, roster.revision, former)
        if row is not None and row.version != roster.version:
            rows[holder] = now._replace(former=())
            for each in reversed((*former, row._replace(former=()))):
                kept = rows[holder].former
                if self._is_needed(log, each, kept[0].version if kept else now.version, roster):
                    rows[holder] = now._replace(former=(each, *kept))
                else:
                    self._needless.append(DeliveredMark(log, peer, 0, each.version))
        self._save(log, peer, now)

    def _is_needed(self, log: LogId, row: HostRow, until: int, roster: Roster) -> bool:
        """Return whether somebody who left before the next row has entries by this one alone."""
        leavers = (stay for stay in roster.leavers(row.version, until) if stay.since <= row.told)
        return any(stay.user != log.user and self.position(log, stay.user) < row.seq for stay in leavers)

    def _on_advance(self, log: LogId, first: int, last: int, member: UserId) -> None:
        self._on_advance_of_all(log, first, last, (member,))

    def _on_advance_of_all(self, log: LogId, first: int, last: int, members: Sequence[UserId]) -> None:
        if self._combined is None:
            self._emit({(log, first, last): [members]})
        else:
            self._combined.setdefault((log, first, last), []).append(members)

    def _emit(self, risen: dict[EntryRange, list[Sequence[UserId]]]) -> None:
        """Emit all receipts first, and call on_delivered only then."""
        for stretch, groups in risen.items():
            members = groups[0] if len(groups) == 1 else [*chain.from_iterable(groups)]
            self._sync.ctx.emit(DeliveryReceipt(*stretch, members[-1], tuple(members[:-1])))
        for (log, first, _), groups in risen.items():
            for members in groups:
                self._on_delivered(log, first, members)


def _without(some: set[UserId], users: tuple[UserId, ...]) -> tuple[UserId, ...]:
    """Return users without some of them, mostly none: a thousand are compared with each mark in the room."""
    return users if some.isdisjoint(users) else tuple(one for one in users if one not in some)


# ---- acknowledgements of this peer


class Acknowledgements:
    """The marks that tell other peers what is on disk here, as `have`.

    They go at the next step to the source of the entries, and to the peers of their writers if none of those is the
    source. Within `gossip_within` they go to the other peers of their writers, many in one frame, and to peers that are
    not linked with all of these.
    """

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._gossip: dict[WriterKey, set[int]] = {}  # links of writers' peers that are sent the newest marks later

    def on_durable(self, transaction: Transaction) -> None:
        """Acknowledge the entries of a commit that is durable."""
        told: dict[WriterKey, set[int]] = {}
        for link, keys in transaction.sources.items():
            remote = self._sync.remotes.get(link)
            if remote is not None:
                self._sync.owe_marks(remote, keys)
            for key in keys:
                told.setdefault(key, set()).update([link] if remote is not None else [])
        for key, links in told.items():
            hosts = self._sync.presence.hosts.get(key[1], ())
            if links.isdisjoint(hosts):
                self._owe_to(hosts, key)
                links.update(hosts)
            self._schedule_gossip(key, {*hosts} - links)  # with a link that comes up later all is compared

    def _owe_to(self, links: Iterable[int], key: WriterKey) -> None:
        for link in links:
            if link in self._sync.remotes:
                self._sync.owe_marks(self._sync.remotes[link], (key,))

    def _schedule_gossip(self, key: WriterKey, later: set[int]) -> None:
        if not self._gossip:
            wait = self._sync.ctx.settings.gossip_within * (0.5 + self._sync.ctx.random() / 2)
            self._sync.after(wait, self._send_gossip)
        self._gossip[key] = later

    @property
    def has_unsent(self) -> bool:
        """Return whether peers of a writer will be sent a mark later."""
        return any(self._gossip.values())

    def _send_gossip(self) -> None:
        """Send marks to the other peers of their writers, and to links that may not hear them from these."""
        gossip, self._gossip = self._gossip, {}
        alike: dict[tuple[ConversationId, frozenset[PeerId]], list[WriterKey]] = {}  # a flood has one source
        for key in sorted(gossip):
            links = self._sync.presence.hosts.get(key[1], ())
            hosts = frozenset(self._sync.remotes[id].link.peer for id in links if id in self._sync.remotes)
            alike.setdefault((key[0], hosts), []).append(key)
            if key[0] in self._sync.conversations.by_id:
                self._owe_to(sorted(gossip[key].intersection(links)), key)
        for (id, hosts), told in alike.items():
            conversation = self._sync.conversations.by_id.get(id)
            if conversation is None:
                continue  # it waited, and was deleted
            for remote in self._sync.remotes_sharing(conversation):
                if not hosts or not hosts <= remote.link.linked.keys() | {remote.link.peer}:
                    self._sync.owe_marks(remote, told)
