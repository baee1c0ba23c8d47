"""Admission: with whom this peer has links, and what it shows to be admitted itself.

Each end of a connection shows the certificate of the member that answers for it, and the statements by which that
member is one; it comes after the proof of the network's key, so a stranger sees nothing of it. A newcomer shows the
proof of its invite besides. Its maker adds it in a commit, and goes on with the connection when that is durable.

Everybody is admitted to a network that is made from a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from p2pchat.core.durable_changes import Change
from p2pchat.core.effects import MemberChanged
from p2pchat.core.members.guests import is_guest
from p2pchat.core.members.invites import prove_invite
from p2pchat.core.members.statement import ADD, ADMIN, PARDON, REMOVE, Statement, StatementId, make_statement
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.node_context import NetworkCredentials, NodeContext
from p2pchat.protocol import MAX_SHOWN, GuestCertificate, Members, Membership, PeerId, UserId

NO_MEMBER = "member"  # code of `bye`
MAX_REMEMBERED = 4096  # peers of whom is known who answered for them: as many as have addresses
MAX_SHOWN_BYTES = 2560  # of statements, in a frame of at most 4 KiB


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

    Attributes:
        last_members: Who answered for each peer when it was last here.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: NetworkCredentials,
        guest: GuestCertificate | None,
        statements: Callable[[], StatementExchange],
    ) -> None:
        self._ctx = ctx
        self._network = network
        self._guest = guest
        self._statements = statements
        self.last_members: dict[PeerId, UserId] = {ctx.me: self.member}
        members = statements().members
        self._reported = _Sides() if members is None else _Sides(members.members, members.admins, members.removed)
        self._was_member = self.is_member

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
        shown, size = list[tuple[str, str]](), 0
        vouching = [*members.vouching(self.member), *members.pardons((self._ctx.me, self.member))]
        for one in self._statements().durable(vouching)[:MAX_SHOWN]:
            size += one.size
            if size <= MAX_SHOWN_BYTES:
                shown.append((one.text, one.signature.hex()))
        return Membership(members.founder, self._guest, tuple(shown), invite)

    def member_of(self, peer: PeerId, shown: Membership) -> UserId:
        """Return the member that answers for a peer by what it shows; "" if that is wrong."""
        if shown.guest is None:
            return peer
        if self._network.is_named or not is_guest(self._network.id, peer, shown.guest):
            return ""
        return shown.guest.member

    def judge(self, peer: PeerId, member: UserId, shown: Membership, t: bytes) -> Verdict:
        """Return whether a peer is admitted by what it shows on the connection with transcript T."""
        if self._network.is_named:
            return Verdict()
        exchange = self._statements()
        if not member or not exchange.take_shown(shown) or exchange.members is None:
            return Verdict(NO_MEMBER)
        self._remember(peer, member)
        if self.admits(peer, member):
            return Verdict()
        if shown.invite is None or exchange.members.removals(member) or exchange.members.removals(peer):
            return Verdict(NO_MEMBER)
        fault = exchange.invites.fault(shown.invite, t, member, exchange.members.statements())
        if fault:
            return Verdict(fault)
        made = self._addition(exchange, member, shown.invite.id)
        exchange.say([made])
        return Verdict(awaits=made.id)

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
        member = self.last_members.get(peer, peer)
        return bool(self.removals(peer, member)) and not self.admits(peer, member)

    def take_removals(self, frame: Members) -> None:
        """Take the statements that a peer sends before its goodbye, so that people here read who removed them."""
        self._statements().take_shown(Membership(s=tuple(frame.s[:MAX_SHOWN])))

    def report(self, change: Change) -> set[PeerId]:
        """Report what statements that are durable now change. Return the peers that are not out any more.

        A peer that is no member yet learns who all the others are, and reports only what concerns itself.
        """
        members = self._statements().members
        assert members is not None
        former, was_member = self._reported, self._was_member
        now = self._reported = _Sides(members.members, members.admins, members.removed)
        self._was_member = self.is_member
        changes = {
            "admitted": now.members - former.members - former.removed,
            "expelled": now.removed - former.removed,
            "pardoned": former.removed - now.removed,
            "admin": now.admins - former.admins,
            "unadmin": former.admins - now.admins - now.removed,
        }
        own = {self._ctx.me, self.member}
        for what, users in changes.items():
            for user in sorted(users if was_member else users & own):
                if self.last_members.get(user, user) in users - {user}:
                    continue  # its member is said to be
                self._ctx.emit(MemberChanged(user, self._author(change, what, user), what))
        back = changes["pardoned"]
        return {*back, *(peer for peer, member in self.last_members.items() if member in back)}

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
