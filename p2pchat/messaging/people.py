"""People of the network: who is a member, by whose word, and what the founder and the admins decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from p2pchat.core.inputs import InviteRevoked, StatementsMade
from p2pchat.core.members.invites import MadeInvite
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.removal import NO_SAY, Plan, make_statements, plan_admin, plan_pardon, plan_removal
from p2pchat.core.members.statement import ADD, REMOVE, Statement
from p2pchat.errors import P2PChatError, StorageError
from p2pchat.messaging.events import aware
from p2pchat.messaging.users import User, by_label
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from p2pchat.lifecycle import PeerLifecycle

Role = Literal["founder", "admin", "member", "expelled"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the network, or somebody who was expelled from it.

    Attributes:
        users: The users it answers for, as far as they are known here: the profiles of a login, the accounts of a
            gateway. Somebody who was expelled alone, without its member, is the one user.
        role: founder, admin, member or expelled.
        since: When it was added, or expelled, by the clock of who did it; None for the founder.
        by: Who added or expelled it; None for the founder.
        invite: The id of the invite by which it came; "" without one.
        key: Its id in hex.
    """

    users: tuple[User, ...]
    role: Role
    since: datetime | None
    by: User | None
    invite: str
    key: UserId

    @property
    def online(self) -> bool:
        """True if one of its users is online or idle."""
        return any(user.status in ("online", "idle") for user in self.users)

    @property
    def is_me(self) -> bool:
        """True if it answers for the own user."""
        return any(user.is_me for user in self.users)


class People:
    """The members of a peer's network. Only the founder and the admins decide about them, from a machine of theirs.

    In a network that is made from a word everybody is a member, and nobody is listed or expelled.
    """

    def __init__(self, lifecycle: PeerLifecycle) -> None:
        self._lifecycle = lifecycle

    @property
    def own_role(self) -> Role | Literal[""]:
        """What the own member is; "" while nobody has admitted it, and where everybody is a member."""
        admission = self._lifecycle.require_running().node.admission
        members = self._lifecycle.require_running().node.sync.statements.members
        if members is None:
            return ""
        if admission.is_member:
            return self._role(members, admission.member)
        return "expelled" if self._own_removals() else ""

    @property
    def expelled_by(self) -> User | None:
        """Who expelled the own user or its member; None if nobody did."""
        removals = self._own_removals()
        return self.speaker(removals[-1].by) if removals and self.own_role == "expelled" else None

    @property
    def is_joining(self) -> bool:
        """True while this peer has an invite and nobody has admitted it."""
        network = self._lifecycle.require_running().node.network
        return network.invitation is not None and self.own_role == ""

    @property
    def may_decide(self) -> bool:
        """True if this peer is one of the founder or of an admin: it may invite and expel."""
        return self._lifecycle.require_running().node.admission.may_invite

    def deciders(self) -> list[User]:
        """Return the users known here of the founder and the admins, whom others ask to invite or expel."""
        node = self._lifecycle.require_running().node
        members = None if node.network.is_named else node.sync.statements.members
        keys = [] if members is None else [members.founder, *members.admins]
        return list(by_label({user for key in keys for user in self._users(key)}))

    def members(self) -> list[Member]:
        """Return all members, the founder first, then by label, and behind them who was expelled."""
        members = self._members()
        said = sorted(members.statements(), key=lambda one: one.at)
        added = {user: one for one in reversed(said) if one.kind == ADD for user in one.who}
        kept = {user: one for one in said if one.kind == REMOVE for user in one.keep}
        every = ((key, self._role(members, key), added.get(key) or kept.get(key)) for key in members.members)
        found = [self._member(*one) for one in every]
        order = {"founder": 0, "admin": 1, "member": 2}
        found.sort(key=lambda one: (order[one.role], [user.label.casefold() for user in one.users], one.key))
        return [*found, *self._expelled(members)]

    def find(self, who: User | str) -> Member:
        """Return the member that answers for a user, by its name, id or label.

        Raises:
            UnknownName, AmbiguousName: As TCPPeer.find.
            P2PChatError: Nobody is known to answer for this user.
        """
        user = who if isinstance(who, User) else self._lifecycle.directory.find(who)
        for one in self.members():
            if user.key == one.key or user in one.users:
                return one
        raise P2PChatError(f"nobody is known to answer for {user.label}: it has not been linked with this peer lately")

    async def expel(self, who: User | str, *, only: bool = False, hide: bool = False) -> Member:
        """Expel the member that answers for a user, with all its users; return it when that is stored.

        No peer that knows keeps a link with them, takes anything from them or sends them anything. What they wrote
        before stays. An account of a gateway is expelled alone, as its gateway answers for others too.

        Args:
            only: Expel this user alone.
            hide: Do not show any more what they wrote.
        Raises:
            ValueError: This peer may not expel this person; the text says why.
            UnknownName, AmbiguousName, P2PChatError: As find. StorageError, PeerClosed: It could not be stored.
        """
        user = who if isinstance(who, User) else self._lifecycle.directory.find(who)
        found = self.find(user)
        keys = [user.key] if only or self.is_account(user) else [found.key, *(one.key for one in found.users)]
        await self._say(plan_removal(self._members(), self._signer(), list(dict.fromkeys(keys)), hide=hide))
        return found

    async def expel_invited(self, invite: str, *, hide: bool = False) -> list[Member]:
        """Expel every member that came by an invite; return them when that is stored.

        Raises as expel. ValueError also if nobody came by it.
        """
        found = [one for one in self.members() if one.invite == invite and one.role in ("member", "admin")]
        if not found:
            raise ValueError(f"nobody came by the invite {invite}")
        keys = [key for one in found for key in (one.key, *(user.key for user in one.users))]
        await self._say(plan_removal(self._members(), self._signer(), list(dict.fromkeys(keys)), hide=hide))
        return found

    async def pardon(self, who: User | str) -> Member:
        """Take back that somebody was expelled; return that member when that is stored. Raises as expel."""
        found = self.find(who)
        keys = [found.key, *(one.key for one in found.users)]
        await self._say(plan_pardon(self._members(), self._signer(), keys))
        return found

    async def make_admin(self, who: User | str, on: bool = True) -> Member:
        """Make a member an admin, who may invite and expel, or with `on=False` a plain member again. Raises as expel.

        Who was an admin once cannot be one again.
        """
        found = self.find(who)
        await self._say(plan_admin(self._members(), self._signer(), found.key, on=on))
        return found

    def is_account(self, user: User) -> bool:
        """Return whether a user is hosted by the peer of another one, as accounts are by a gateway."""
        links = self._lifecycle.require_running().node.links.up.values()
        return any(user.key in link.users and user.key != link.peer for link in links)

    def invites(self) -> list[MadeInvite]:
        """Return the invites that this peer made, the newest first."""
        statements = self._lifecycle.require_running().node.sync.statements
        return statements.invites.made([] if statements.members is None else statements.members.statements())

    async def revoke(self, invite: str) -> None:
        """Admit nobody any more by an invite that this peer made; returns when that is stored.

        Raises:
            ValueError: This peer has made no such invite.
        """
        if all(one.id != invite for one in self.invites()):
            raise ValueError(f"this peer has made no invite {invite}")
        driver = self._lifecycle.require_running()
        driver.put(InviteRevoked(invite))
        await driver.settle()

    def _own_removals(self) -> list[Statement]:
        """Return the removals by which the own user is out, also those that are not durable yet."""
        node = self._lifecycle.require_running().node
        members = node.sync.statements.members
        keys = dict.fromkeys([node.peer, node.admission.member])
        return [] if members is None else [one for key in keys for one in members.removals(key)]

    def _members(self) -> MemberList:
        node = self._lifecycle.require_running().node
        if node.network.is_named:
            raise P2PChatError("whoever knows the name of this network is a member: nobody is listed or expelled")
        if node.sync.statements.members is None:
            raise P2PChatError("nothing is known of the members yet: wait until a member is linked")
        return node.sync.statements.members

    def _signer(self) -> UserId:
        network = self._lifecycle.require_running().node.network
        if network.sign is None:
            raise ValueError(NO_SAY)
        return network.member

    async def _say(self, plans: Sequence[Plan]) -> None:
        driver = self._lifecycle.require_running()
        network, statements = driver.node.network, driver.node.sync.statements
        assert network.sign is not None
        made = make_statements(network.id, network.member, network.sign, statements.next_at(), plans)
        driver.put(StatementsMade(made))
        await driver.settle()
        if len(driver.node.sync.statements.durable(made)) < len(made):
            raise StorageError("storage does not work: nothing was decided")

    def _member(self, key: UserId, role: Role, said: Statement | None) -> Member:
        users = self._users(key)
        since = None if said is None else aware(said.at)
        by = None if said is None else self.speaker(said.by)
        return Member(users, role, since, by, "" if said is None else said.invite, key)

    def _expelled(self, members: MemberList) -> list[Member]:
        """Return who is out, one for all that one statement names."""
        found = dict[tuple[UserId, ...], Member]()
        for key in sorted(members.removed):
            removal = members.removals(key)[-1]
            users = tuple(user for who in removal.who for user in self._users(who) or ())
            by, since = self.speaker(removal.by), aware(removal.at)
            found.setdefault(removal.who, Member(by_label(set(users)), "expelled", since, by, "", removal.who[0]))
        return [*found.values()]

    def speaker(self, member: UserId) -> User:
        """Return the user that stands for a member: itself here, else the first that it answers for."""
        users = self._users(member)
        own = next((user for user in users if user.is_me), None)
        return own or (users[0] if users else self._lifecycle.directory.user(member))

    def _users(self, key: UserId) -> tuple[User, ...]:
        node, directory = self._lifecycle.require_running().node, self._lifecycle.directory
        known = node.users_of(key) | ({key} if key in node.names else set())
        return by_label(map(directory.user, known))

    def _role(self, members: MemberList, key: UserId) -> Role:
        return "founder" if key == members.founder else "admin" if key in members.admins else "member"
