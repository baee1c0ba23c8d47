"""People of the network: who is a member, by whose word, and what the founder and the admins decide about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from p2pchat.core.inputs import InviteRevoked, StatementsMade
from p2pchat.core.members.made_invites import MadeInvite
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.removal import NO_SAY, Plan, make_statements, plan_admin, plan_pardon, plan_removal
from p2pchat.core.members.statement import ADD, REMOVE, Statement
from p2pchat.errors import P2PChatError, StorageError, UnknownName
from p2pchat.messaging.events import aware
from p2pchat.messaging.name_resolution import id_of
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
        admission = self._lifecycle.started_driver.node.admission
        members = self._lifecycle.started_driver.node.sync.statements.members
        if members is None:
            return ""
        if admission.is_member:
            return self._role(members, admission.member)
        return "expelled" if self._own_removals() else ""

    @property
    def decides(self) -> bool:
        """Whether this peer may invite and expel: its member is the founder or an admin, and the key is here."""
        return self._lifecycle.started_driver.node.admission.may_invite

    @property
    def expelled_by(self) -> User | None:
        """Who expelled the own user or its member; None if nobody did."""
        removals = self._own_removals()
        return self.speaker(removals[-1].by) if removals and self.own_role == "expelled" else None

    @property
    def is_joining(self) -> bool:
        """True while this peer has an invite and nobody has admitted it."""
        network = self._lifecycle.started_driver.node.network
        return network.invitation is not None and self.own_role == ""

    def deciders(self) -> list[User]:
        """Return the users known here of the founder and the admins, whom others ask to invite or expel."""
        node = self._lifecycle.started_driver.node
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
        user = self._user(who)
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
        user = self._user(who)
        await self._say(self._plan_expel(user, only=only, hide=hide))
        return self.find(user)

    def would_expel(self, who: User | str, *, only: bool = False, hide: bool = False) -> list[User]:
        """Return whom expel() expels, as far as they are known here, the user itself first. Raises as expel()."""
        user = self._user(who)
        self._plan_expel(user, only=only, hide=hide)
        if self._is_alone(user, only=only):
            return [user]
        return [user, *(one for one in self.find(user).users if one != user)]

    def _plan_expel(self, user: User, *, only: bool, hide: bool = False) -> list[Plan]:
        found, signer = self.find(user), self._signer()
        if user.is_me:
            raise ValueError("that is you: nobody expels itself")
        if found.role == "expelled" and not hide:
            raise ValueError(f"{user.label} is expelled already")
        if not self._is_alone(user, only=only):
            return self._plan_member(found, hide=hide)
        plan = plan_removal(self._members(), signer, [user.key], hide=hide)
        if found.role in ("founder", "admin") and signer not in (found.key, self._members().founder):
            raise ValueError("the founder or an admin answers for this user: ask the founder")
        return plan

    def _is_alone(self, user: User, *, only: bool) -> bool:
        return only or self.is_account(user)

    async def expel_invited(self, invite: str, *, hide: bool = False) -> list[Member]:
        """Expel every member that came by an invite; return them when that is stored.

        Raises as expel. ValueError also if nobody came by it.
        """
        found = self._invited(invite)
        await self._say([plan for one in found for plan in self._plan_member(one, hide=hide)])
        return found

    def would_expel_invited(self, invite: str) -> list[User]:
        """Return whom expel_invited() expels, as far as they are known here. Raises as it does."""
        found = self._invited(invite)
        for one in found:
            self._plan_member(one)
        return [user for one in found for user in one.users or (self._lifecycle.directory.user(one.key),)]

    def _invited(self, invite: str) -> list[Member]:
        found = [one for one in self.members() if one.invite == invite and one.role in ("member", "admin")]
        if not found:
            raise ValueError(f"nobody came by the invite {invite}")
        return found

    def _plan_member(self, found: Member, *, hide: bool = False) -> list[Plan]:
        keys = [found.key, *(one.key for one in found.users)]
        return plan_removal(self._members(), self._signer(), list(dict.fromkeys(keys)), hide=hide)

    async def pardon(self, who: User | str) -> Member:
        """Take back that somebody was expelled; return that member when that is stored. Raises as expel."""
        user, node = self._user(who), self._lifecycle.require_running().node
        members, found = self._members(), self.find(user)
        out = [
            keys
            for keys in self._out(members)
            if user.key in {one for key in keys for one in (key, *node.answering.users_of(key))}
        ]
        await self._say(plan_pardon(members, self._signer(), [key for keys in out for key in keys]))
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
        node = self._lifecycle.require_running().node
        if user.key in node.hosted:
            return user.key != node.peer
        return any(user.key in link.users and user.key != link.peer for link in node.links.up.values())

    def is_expelled(self, user: User) -> bool:
        """Return whether a user is out, by itself or with the member that answers for it, as far as is known here."""
        node = self._lifecycle.require_running().node
        members = node.sync.statements.members
        if node.network.is_named or members is None:
            return False
        member = node.answering.member_of(user.key) or user.key
        return bool(node.admission.removals(user.key, member)) and not members.admits(user.key, member)

    def is_expelled_alone(self, user: User) -> bool:
        """Return whether a user of this peer is out by itself, and not only because this peer is."""
        removals = self._lifecycle.require_running().node.admission.removals(user.key, user.key)
        own = {one.id for one in self._own_removals()}
        return self.is_expelled(user) and any(one.id not in own for one in removals)

    def invites(self) -> list[MadeInvite]:
        """Return the invites that this peer made, the newest first."""
        statements = self._lifecycle.require_running().node.sync.statements
        return statements.invites.made(statements.members)

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
        node = self._lifecycle.started_driver.node
        members = node.sync.statements.members
        keys = dict.fromkeys([node.peer, node.admission.member])
        return [] if members is None else [one for key in keys for one in members.removals(key)]

    def _user(self, who: User | str) -> User:
        if isinstance(who, User):
            return who
        directory = self._lifecycle.directory
        try:
            return directory.find(who)
        except UnknownName:
            key, label = id_of(who.strip()), who.strip()  # of whom nothing but that is known
            named = self._members().named
            found = [one for one in named if one == key or directory.user(one).label == label]
            if len(found) != 1:
                raise
            return directory.user(found[0])

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
        admits = self._members().admits
        users = tuple(user for user in self._users(key) if admits(user.key, key))
        since = None if said is None else aware(said.at)
        by = None if said is None else self.speaker(said.by)
        return Member(users, role, since, by, "" if said is None else said.invite, key)

    def _expelled(self, members: MemberList) -> list[Member]:
        """Return who is out, one for each member, or for a user who is out alone."""
        found = list[Member]()
        for keys, removal in self._out(members).items():
            users = by_label({user for key in keys for user in self._users(key)})
            found.append(Member(users, "expelled", aware(removal.at), self.speaker(removal.by), "", keys[0]))
        return found

    def _out(self, members: MemberList) -> dict[tuple[UserId, ...], Statement]:
        """Return the newest removal of everybody who is out: of a member and its users, or of users alone.

        Who was removed by somebody who may not remove this guest is not out.
        """
        member_of = self._lifecycle.require_running().node.answering.member_of
        found = dict[tuple[UserId, ...], Statement]()
        for removal in {one.id: one for key in sorted(members.removed) for one in members.removals(key)}.values():
            for keys in self._parts(removal, members):
                if not all(members.admits(key, member_of(key) or key) for key in keys):
                    found[keys] = removal
        return found

    def _parts(self, removal: Statement, members: MemberList) -> list[tuple[UserId, ...]]:
        """Return whom a removal names, each member with the users that follow it. Many may be named at once."""
        node = self._lifecycle.require_running().node
        added = {user for one in members.statements() for user in (*one.keep, *(one.who if one.kind == ADD else ()))}
        parts = list[list[UserId]]()
        for key in removal.who:
            member = node.answering.member_of(key)
            is_other = bool(member) and bool(parts) and member not in (key, parts[-1][0])
            if not parts or key in added or is_other or node.answering.users_of(key):
                parts.append([])
            parts[-1].append(key)
        return [*map(tuple, parts)]

    def speaker(self, member: UserId) -> User:
        """Return the user that stands for a member: the own one here, else one with a peer of its own, else any."""
        return self._lifecycle.directory.user(self._lifecycle.started_driver.node.answering.speaker(member))

    def _users(self, key: UserId) -> tuple[User, ...]:
        node, directory = self._lifecycle.started_driver.node, self._lifecycle.directory
        known = {user for user in node.answering.users_of(key) | {key} if directory.name(user)}
        return by_label(map(directory.user, known))

    def _role(self, members: MemberList, key: UserId) -> Role:
        return "founder" if key == members.founder else "admin" if key in members.admins else "member"
