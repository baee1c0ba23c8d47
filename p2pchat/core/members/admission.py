"""Admission: with whom this peer has links, and what it shows to be admitted itself.

Each end of a connection shows the certificate of the member that answers for it, and the statements by which that
member is one; it comes after the proof of the network's key, so a stranger sees nothing of it. A newcomer shows the
proof of its invite besides. Its maker adds it in a commit, and goes on with the connection when that is durable.

Everybody is admitted to a network that is made from a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from p2pchat.core.durable_changes import Change
from p2pchat.core.effects import MemberChanged
from p2pchat.core.members.guests import is_guest
from p2pchat.core.members.made_invites import UNKNOWN, prove_invite
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import ADD, ADMIN, PARDON, REMOVE, Statement, StatementId, make_statement
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.node_context import NetworkCredentials, NodeContext
from p2pchat.protocol import MAX_SHOWN, GuestCertificate, Members, Membership, PeerId, UserId

NO_MEMBER = "member"  # code of `bye`
MAX_REMEMBERED = 4096  # peers of whom is known who answered for them: as many as have addresses
MAX_SHOWN_BYTES = 3072  # of statements, in a frame of at most 4 KiB
FRAMED_BYTES = 160  # what a frame adds to one, besides backslashes before quotes: its signature in hex, brackets


class Verdict(NamedTuple):
    """Whether a peer is admitted.

    Attributes:
        code: Why not, as the code of a bye; "" if it is.
        awaits: The statement that must be durable before; "" for none.
    """

    code: str = ""
    awaits: StatementId = ""


class _Sides(NamedTuple):
    """Who is what, as it was reported."""

    members: frozenset[UserId] = frozenset()
    admins: frozenset[UserId] = frozenset()
    removed: frozenset[UserId] = frozenset()


class Admission:
    """Who is admitted by one peer.

    Args:
        guest: The certificate by which a member answers for this peer; None for a member, and where nobody does.
        statements: Returns the statements of this peer.
        member_by_logs: Returns the member that answers for a user by what the user wrote; else the user itself.

    Attributes:
        last_members: Who answered for each peer when it was last here.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: NetworkCredentials,
        guest: GuestCertificate | None,
        statements: Callable[[], StatementExchange],
        member_by_logs: Callable[[UserId], UserId],
    ) -> None:
        self._ctx = ctx
        self._network = network
        self._guest = guest
        self._statements = statements
        self._member_by_logs = member_by_logs
        self.last_members: dict[PeerId, UserId] = {ctx.me: self.member}
        self._reported = _Sides()
        self._was_member = False

    def load(self) -> None:
        """Take what is stored as known. Called when there are statements."""
        members = self._statements().members
        if members is not None:
            self._reported = _Sides(members.members, members.admins, members.removed)
        self._was_member = self.is_member
        self._spared: set[UserId] = set()  # who was removed by somebody who may not

    @property
    def member(self) -> UserId:
        """The member that answers for this peer."""
        return self._ctx.me if self._guest is None else self._guest.member

    @property
    def is_member(self) -> bool:
        """True if this peer is admitted itself, as far as it knows."""
        return self.admits(self._ctx.me, self.member)

    @property
    def may_invite(self) -> bool:
        """True if the member that answers here may add others, and its key is here."""
        members = self._statements().members
        if members is None or self._network.sign is None:
            return False
        return self._network.member == members.founder or self._network.member in members.admins

    def show(self, t: bytes) -> Membership:
        """Return what this peer shows on the connection with transcript T."""
        network, members = self._network, self._statements().members
        if network.is_named:
            return Membership()
        invitation = None if self.is_member else network.invitation
        invite = None if invitation is None else prove_invite(invitation, t, self.member)
        if members is None:
            return Membership(guest=self._guest, invite=invite)
        vouching = [*members.vouching(self.member), *members.pardons((self._ctx.me, self.member))]
        return Membership(members.founder, self._guest, _fitting(self._statements().durable(vouching)), invite)

    def member_of(self, peer: PeerId, shown: Membership) -> UserId:
        """Return the member that answers for a peer by what it shows; "" if that is wrong."""
        if shown.guest is None or self._network.is_named:
            return peer
        return shown.guest.member if is_guest(self._network.id, peer, shown.guest) else ""

    def judge(self, peer: PeerId, member: UserId, shown: Membership, t: bytes) -> Verdict:
        """Return whether a peer is admitted by what it shows on the connection with transcript T."""
        if self._network.is_named:
            return Verdict()
        exchange = self._statements()
        if not member or not exchange.take_shown(shown) or exchange.members is None:
            return Verdict(NO_MEMBER)
        if member in exchange.members.removed and len(self.last_members) < MAX_REMEMBERED:
            self.last_members.setdefault(peer, member)  # it names itself: what is known already stays
        if self.admits(peer, member):
            self._remember(peer, member)
            return Verdict(awaits=self._own_addition(exchange.members, member))
        if shown.invite is None or exchange.members.removals(member) or exchange.members.removals(peer):
            return Verdict(NO_MEMBER)
        fault = exchange.invites.fault(shown.invite, t, member, exchange.members)
        if fault or not self.may_invite:
            return Verdict(fault or UNKNOWN)
        made = self._addition(exchange, member, shown.invite.id)
        exchange.say([made])
        if not self.admits(peer, member):
            return Verdict(UNKNOWN)  # an admin may say only so much
        self._remember(peer, member)
        return Verdict(awaits=made.id)

    def _own_addition(self, members: MemberList, member: UserId) -> StatementId:
        """Return the statement by which this peer is adding a member, until that is durable; "" for none."""
        own = [one for one in members.vouching(member) if one.kind == ADD and one.by == self._network.member]
        return own[0].id if own and not self._statements().durable(own) else ""

    def _remember(self, peer: PeerId, member: UserId) -> None:
        self.last_members.pop(peer, None)
        self.last_members[peer] = member
        if len(self.last_members) > MAX_REMEMBERED:
            del self.last_members[next(iter(self.last_members))]

    def admits(self, user: UserId, member: UserId) -> bool:
        """Return whether a user belongs to the network by the member that answers for it."""
        members = self._statements().members
        return self._network.is_named or (members is not None and members.admits(user, member))

    def is_out(self, peer: PeerId) -> bool:
        """Return whether a peer is removed, as far as this one knows who answers for it."""
        member = self.last_members.get(peer) or self._member_by_logs(peer)
        return not self.admits(peer, member) and bool(self.removals(peer, member))

    def take_removals(self, frame: Members) -> None:
        """Take the statements that a peer sends before its goodbye, so that people here read who removed them."""
        self._statements().take_shown(Membership(s=tuple(frame.s[:MAX_SHOWN])))

    def report(self, change: Change, member_of: Callable[[UserId], UserId]) -> frozenset[UserId]:
        """Report what statements that are durable now change. Return who was pardoned, or this peer once admitted.

        A peer that is no member yet learns who all the others are, and reports only what concerns itself. Who is out,
        or in again, with its member is not reported besides; nor who is admitted in spite of a removal, which cannot
        touch it.

        Args:
            member_of: Returns the member that answers for a user; "" where that is not known.
        """
        members = self._statements().members
        assert members is not None
        former, was_member = self._reported, self._was_member
        now = self._reported = _Sides(members.members, members.admins, members.removed)
        self._was_member = self.is_member
        changes = {
            "admitted": now.members - former.members - former.removed - {self.member},
            "expelled": now.removed - former.removed,
            "pardoned": former.removed - now.removed,
            "admin": now.admins - former.admins,
            "unadmin": former.admins - now.admins - now.removed,
        }
        own = {self._ctx.me, self.member}
        for what, users in changes.items():
            for user in sorted(users if was_member else users & own):
                member = member_of(user) or user
                if member in users - {user} or self._comes_with_another(change, user, users):
                    continue
                if what == "expelled" and self.admits(user, member):
                    self._spared.add(user)
                    continue
                if what == "pardoned" and user in self._spared:
                    self._spared.discard(user)
                    continue
                self._ctx.emit(MemberChanged(user, self._author(change, what, user), what))
        return changes["pardoned"] | ({self._ctx.me} if self._was_member and not was_member else set())

    def farewell(self, peer: PeerId, member: UserId) -> Members | None:
        """Return what tells a peer before a goodbye who removed it; None for nothing."""
        said = _fitting(self.removals(peer, member))
        return Members(s=list(said)) if said else None

    def _comes_with_another(self, change: Change, user: UserId, users: frozenset[UserId]) -> bool:
        """Return whether a user is pardoned with the first of those whom one statement had removed."""
        members = self._statements().members
        ids = {id for one in change.statements if one.kind == PARDON for id in one.ids}
        removals = [] if members is None or not ids else [one for one in members.statements() if one.id in ids]
        return any(user in one.who and one.who[0] in users - {user} for one in removals)

    def removals(self, user: UserId, member: UserId) -> list[Statement]:
        """Return the durable removals by which a user is out."""
        exchange = self._statements()
        members = exchange.members
        return [] if members is None else exchange.durable([*members.removals(user), *members.removals(member)])

    def _author(self, change: Change, what: str, user: UserId) -> UserId:
        """Return who said a change of this user, the newest who did; "" for what follows from other statements."""
        kinds = {"admitted": (ADD, ADMIN, REMOVE), "pardoned": (PARDON,), "admin": (ADMIN,)}.get(what, (REMOVE,))
        said = [one for one in change.statements if one.kind in kinds]
        named = [one for one in said if user in one.who or user in one.keep or one.kind == PARDON]
        return max(named, key=lambda one: one.at).by if named else ""

    def _addition(self, exchange: StatementExchange, member: UserId, invite: str) -> Statement:
        network = self._network
        assert network.sign is not None
        fields = {"who": [member], "invite": invite}
        return make_statement(network.id, network.member, network.sign, ADD, exchange.next_at(), fields)


def _fitting(statements: Iterable[Statement]) -> tuple[tuple[str, str], ...]:
    """Return the first statements, as far as they fit into a frame before `go`."""
    found, size = list[tuple[str, str]](), 0
    for one in statements:
        size += len(one.text) + one.text.count('"') + FRAMED_BYTES
        if size <= MAX_SHOWN_BYTES and len(found) < MAX_SHOWN:
            found.append((one.text, one.signature.hex()))
    return tuple(found)
