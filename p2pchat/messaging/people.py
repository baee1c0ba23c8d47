"""People of the network: who is a member, by whose word, and what the founder and the admins decide about them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import nsmallest
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeVar

from p2pchat.core.inputs import StatementsMade
from p2pchat.core.members.admission import MadeInvite
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.member_list import MemberList, Plan, make_statements
from p2pchat.core.members.statement import ADD, REMOVE, REVOKE, Statement
from p2pchat.core.names import validate_name
from p2pchat.core.node import Node
from p2pchat.core.own_state import DEVICE
from p2pchat.errors import AmbiguousName, P2PChatError, StorageError, UnknownName
from p2pchat.messaging.events import aware, micros_of, now_micros
from p2pchat.messaging.users import Device, User, begin_of, by_label, devices_of, id_of
from p2pchat.protocol import PeerId, UserId

if TYPE_CHECKING:
    from p2pchat.lifecycle import Lifecycle

T = TypeVar("T")
Role = Literal["founder", "admin", "member", "expelled"]

MAX_USERS = 10
"""Users of a member that are listed, and named when it is expelled; a guess."""
AT_ONCE = 50
"""Members that are looked up, or statements that are signed, in one step of the loop: about 5 ms."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the network, or somebody who was expelled from it.

    Attributes:
        users: The users it answers for, as far as they are known here, at most 10: the profiles of a login, the
            accounts of a gateway. Somebody who was expelled alone, without its member, is the one user.
        role: founder, admin, member or expelled.
        since: When it was added, or expelled, by the clock of who did it; None for the founder, where only is known by
            whom, and for who is out since only a former admin had named it.
        by: Who added or expelled it, perhaps somebody who is no admin any more; None for the founder, and for who is
            out by itself like that.
        invite: The id of the invite by which it came; "" without one.
        key: Its id in hex.
        count: How many users are known.
    """

    users: tuple[User, ...]
    role: Role
    since: datetime | None
    by: User | None
    invite: str
    key: UserId
    count: int

    @property
    def online(self) -> bool:
        """True if one of its users is online or idle."""
        return any(user.status in ("online", "idle") for user in self.users)


class People:
    """The members of a peer's network. Only the founder and the admins decide about them, from a machine of theirs.

    In a network that is made from a word everybody is a member, and nobody is listed or expelled.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    @property
    def _node(self) -> Node:
        return self._lifecycle.started_driver.node

    @property
    def own_role(self) -> Role | Literal[""]:
        """What the own member is; "" while nobody has admitted it, and where everybody is a member."""
        admission = self._node.admission
        members = self._node.replicator.statements.members
        if members is None:
            return ""
        if admission.is_member:
            return members.standing(admission.member)
        return "expelled" if self._own_removals() else ""

    @property
    def decides(self) -> bool:
        """Whether this peer may invite and expel: its member is the founder or an admin, and the key is here."""
        return self._node.admission.may_invite

    @property
    def expelled_by(self) -> User | None:
        """Who expelled the own user or its member; None if nobody did."""
        removals = self._own_removals()
        return self.speaker(removals[-1].by) if removals and self.own_role == "expelled" else None

    @property
    def shut_out_at(self) -> datetime | None:
        """When the own person shut out this machine for good, of which `expelled_by` speaks; None if nobody did."""
        said = self._answers.revocations(self._node.peer)
        if not said:
            return None
        return self._time_of(said[-1])

    @property
    def is_joining(self) -> bool:
        """True while this peer has an invite and nobody has admitted it."""
        network = self._node.network
        return network.invitation is not None and self.own_role == ""

    def deciders(self) -> list[User]:
        """Return the users known here of the founder and the admins, whom others ask to invite or expel."""
        node = self._node
        members = None if node.network.is_named else node.replicator.statements.members
        keys = [] if members is None else [members.founder, *members.admins]
        users = {user for key in keys for user in self._users(key)}
        return list(by_label(map(self._lifecycle.directory.user, users)))

    def members(self) -> list[Member]:
        """Return all members, the founder first, then by label, and behind them who was expelled.

        With thousands it takes a while: list_members() lets the loop go on.
        """
        return [member for _, member in sorted(self._each())]

    async def list_members(self) -> list[Member]:
        """Return what members() returns, looked up a few at a time."""
        return [member for _, member in sorted(await _in_steps(self._each()))]

    def _each(self) -> Iterator[tuple[tuple[int, list[str], UserId], Member]]:
        """Yield all members and who was expelled, each with its place in the list."""
        members = self._members()
        for key in [*members.members]:
            if key in members.members:
                yield _placed(self._member(key))
        for key in [*members.removed, *self._answers.unnamed]:
            if (found := self._expelled(key)) is not None and found.key == key:
                yield _placed(found)

    def find(self, who: User | str) -> Member:
        """Return the member that answers for a user, by its name, id or label.

        Raises:
            UnknownName, AmbiguousName: As TCPPeer.find.
            P2PChatError: Nobody is known to answer for this user.
        """
        return self._find(self._user(who))

    def _find(self, user: User, *, only: bool = False) -> Member:
        """Return the member that answers for a user; with `only` the user by itself if nobody is known to."""
        if (out := self._expelled(user.key)) is not None:
            return out
        member = self._answers.member_of(user.key) or user.key
        if member in self._members().members:
            return self._member(member)
        if only:
            return self._listed(user.key, [user.key], "member")
        raise P2PChatError(f"nobody is known to answer for {user.label}: it has not been linked with this peer lately")

    async def expel(
        self, who: User | str, *, only: bool = False, hide: bool = False, with_admitted: bool = False,
        since: datetime | None = None,
    ) -> Member:  # fmt: skip
        """Expel the member that answers for a user, with all its users; return it when that is stored.

        No peer that knows keeps a link with them or sends them anything. What they wrote before stays; what they write
        to others comes marked. An account of a gateway is expelled alone, as its gateway answers for others too. Whom
        an expelled admin had admitted stays, and the list goes on saying who admitted them.

        Args:
            only: Expel this user alone.
            hide: Do not show any more what they wrote.
            with_admitted: Expel everybody, too, whom this admin admitted.
            since: Only those whom it admitted then or later, by its clock.
        Raises:
            ValueError: This peer may not expel this person; the text says why.
            UnknownName, AmbiguousName, P2PChatError: As find. StorageError, PeerClosed: It could not be stored.
        """
        user = self._user(who)
        admitted = await self.admitted(user, since) if with_admitted else []
        await self._say(self._plan_expel(user, only=only, hide=hide, admitted=admitted))
        return self.find(user)

    def would_expel(self, who: User | str, *, only: bool = False, hide: bool = False) -> list[User]:
        """Return whom expel() expels, at most 10 that are known here, the user itself first. Raises as expel()."""
        user = self._user(who)
        self._plan_expel(user, only=only, hide=hide)
        if only or self.is_account(user):
            return [user]
        return [user, *(one for one in self.find(user).users if one != user)]

    async def admitted(self, who: User | str, since: datetime | None = None) -> list[Member]:
        """Return the members whom nobody but this admin admitted, the newest first. Raises as find()."""
        return [found for *_, found in sorted(await _in_steps(self._each_admitted(who, since)), reverse=True)]

    def _each_admitted(self, who: User | str, since: datetime | None) -> Iterator[tuple[int, UserId, Member]]:
        members, admin, first = self._members(), self.find(who).key, 0 if since is None else micros_of(since)
        said = (one for by in {admin, members.founder} for one in members.said_by(by) if members.admitter(one) == admin)
        keys = {key for one in said for key in (one.keep if one.kind == REMOVE else one.who)}
        for key in keys & members.members - members.admins:
            about = members.admitting(key)
            if {members.admitter(one) for one in about} == {admin} and (at := max(one.at for one in about)) >= first:
                yield at, key, self._member(key)

    def _plan_expel(
        self, user: User, *, only: bool, hide: bool = False, admitted: Sequence[Member] = ()
    ) -> Iterable[Plan]:
        found, signer = self._find(user, only=only), self._signer()
        if user.is_me:
            raise ValueError("that is you: nobody expels itself")
        if found.role == "expelled" and self._is_out(user.key) and not hide:
            host = self.speaker(found.key)
            if host == user or self.is_expelled_alone(user):
                raise ValueError(f"{user.label} is expelled already")
            if not only:
                raise ValueError(f"{user.label} is out with {host}: --only keeps them out when {host} is let back in")
        if not (only or self.is_account(user)):
            if found.key == signer:
                own = "is of your own login: the founder of a network cannot be expelled from it, nor anybody by itself"
                raise ValueError(f"{user.label} {own}; --only expels {user.label} alone")
            plan = self._plan_member(found, hide=hide, without=[one.key for one in admitted])
            others = (plan for one in admitted for plan in self._plan_member(one, hide=hide))
            return chain(others, plan)
        plan = self._members().plan_removal(signer, [user.key], self._is_out, self._wrote, hide=hide)
        if found.role in ("founder", "admin") and signer not in (found.key, self._members().founder):
            raise ValueError("the founder or an admin answers for this user: ask the founder")
        return plan

    async def revoke_device(self, machine: str) -> Device:
        """Shut out a machine of the own person for good; return it when that is stored.

        No peer that knows links with it any more, whatever key of the person it has. It keeps what is on its disk.

        Args:
            machine: Its name, or the id of its peer, of which the beginning is enough if TCPPeer.devices() has it.
        Raises:
            UnknownName, AmbiguousName: No machine has this name or id, or several have.
            ValueError: It is this machine, or somebody else's.
            P2PChatError: The key of this member is elsewhere. StorageError, PeerClosed: It could not be stored.
        """
        node, device = self._lifecycle.require_running().node, self.device(machine)
        key, member = id_of(device.peer_id), node.admission.member
        if key == node.peer:
            raise ValueError("that is this machine: shut it out at another one")
        if self._lifecycle.directory.name(key) and member not in self._answers.members_of(key):
            raise ValueError(f"{self._lifecycle.directory.user(key).label} is no machine of yours")
        if node.network.sign is None:
            raise P2PChatError(
                "the key of this member is on another machine: do it there, or restore its copy here (network restore)"
            )
        who = {key}
        if node.peer != node.user and member not in [one.by for one in self._answers.revocations(node.user)]:
            who.add(node.user)  # the lost machine has the key of the person, too: it was that of the first one
        await self._say([(REVOKE, {"who": sorted(who)})])
        return device

    async def rename_device(self, machine: str, name: str) -> Device:
        """Call a machine of the own person otherwise, for that person alone; return it when that is stored.

        Args:
            machine: As revoke_device.
            name: As that of a user.
        Raises:
            ValueError: The name is invalid. Also raises as revoke_device.
        """
        device, name = self.device(machine), validate_name(name)
        since = now_micros() if device.since is None else micros_of(device.since)
        await self._name_device(id_of(device.peer_id), f"{since} {name}")
        return replace(device, name=name)

    async def _name_device(self, peer: PeerId, text: str) -> None:
        driver = self._lifecycle.require_running()
        await driver.requests.choose(driver.node.user, {f"{DEVICE}:{peer}": text})

    def device(self, machine: str) -> Device:
        """Return the machine with a name or an id, as revoke_device() takes it. Raises UnknownName, AmbiguousName."""
        given, known = machine.strip(), devices_of(self._lifecycle.require_running().node)
        by_name = [one for one in known if one.name and one.name.casefold() == given.casefold()]
        by_id = [one for one in known if given and one.peer_id.startswith(given.upper())]
        found = list(dict.fromkeys([*by_name, *by_id]))  # a machine may be called as the id of another one begins
        if len(found) > 1:
            raise AmbiguousName(machine, [one.peer_id for one in found])
        if not found and not id_of(given):
            raise UnknownName(machine, text=f"no machine of yours is known as {machine!r}: /devices has their names")
        return found[0] if found else Device(given.upper())

    async def expel_invited(self, invite: str, *, hide: bool = False) -> list[Member]:
        """Expel every member that came by an invite, which admits nobody more; return them when that is stored.

        Raises as expel.
        """
        found = self.invited(invite)
        plans = self._members().plan_closing(self._signer(), [invite])
        await self._say([*plans, *(plan for one in found for plan in self._plan_member(one, hide=hide))])
        return found

    def invited(self, invite: str) -> list[Member]:
        """Return the members that came by an invite and were not expelled. Raises as expel_invited().

        Any admin can say that somebody came by it. So who was added otherwise too counts only if this peer made the
        invite, and admitted them.
        """
        members, signer = self._members(), self._signer()
        is_own = any(one.id == invite for one in self.invites())
        keys = dict.fromkeys(
            key for one in members.additions_by(invite) for key in one.who
            if (is_own and one.by == signer) or all(each.invite == invite for each in members.additions(key))
        )  # fmt: skip
        return [self._member(key) for key in keys if members.standing(key) in ("member", "admin")]

    def _plan_member(self, found: Member, *, hide: bool = False, without: Sequence[UserId] = ()) -> list[Plan]:
        signer = self._signer()
        others = (one.key for one in found.users if signer not in self._answers.members_of(one.key))
        few = [*dict.fromkeys([found.key, *others])][:MAX_USERS]
        return self._members().plan_removal(signer, few, self._is_out, self._wrote, hide=hide, without=without)

    async def pardon(self, who: User | str) -> Member:
        """Take back that somebody was expelled; return that member when that is stored. Raises as expel.

        Who is out since the admin that had admitted them is none any more is admitted again.
        """
        user, node, members = self._user(who), self._lifecycle.require_running().node, self._members()
        removals = self._removals(user.key)
        member = self._answers.member_of(user.key) or user.key
        if not removals and member in node.admission.fallen and member not in members.members:
            self._signer()
            await self._say([(ADD, {"who": [member]})])
            return self.find(user)
        found = self.find(user)
        users = {key for one in removals for key in one.who if self._answers.leader(key, one) == found.key}
        await self._say(members.plan_pardon(self._signer(), {user.key, *users}, removals))
        return found

    async def make_admin(self, who: User | str, on: bool = True) -> Member:
        """Make a member an admin, who may invite and expel, or with `on=False` a plain member again. Raises as expel.

        Who was an admin once cannot be one again. Users of it who were expelled alone stay out.
        """
        found, members = self.find(who), self._members()
        plans = members.plan_admin(self._signer(), found.key, self._is_out, self._wrote, on=on)
        out = [user for user in self._answers.users_of(found.key) if on and plans and members.removals(user)]
        await self._say([*((REMOVE, {"who": [user]}) for user in out), *plans])
        return found

    def is_account(self, user: User) -> bool:
        """Return whether a user is hosted by the peer of another one, as accounts are by a gateway."""
        node = self._lifecycle.require_running().node
        if user.key in node.hosted:
            return user.key != node.user
        hosting = node.presence.links_of(user.key)
        return any(link.peer in link.users and user.key != link.peer for link in hosting)

    def is_expelled(self, user: User) -> bool:
        """Return whether a user is out, by itself or with the member that answers for it, as far as is known here."""
        return self._answers.is_out(user.key)

    def is_expelled_alone(self, user: User) -> bool:
        """Return whether a user is out by itself, and not only with the member that answers for it."""
        return any(self._answers.leader(user.key, one) == user.key for one in self._removals(user.key))

    def invites(self) -> list[MadeInvite]:
        """Return the invites that this peer made, the newest first."""
        node = self._lifecycle.require_running().node
        return node.admission.invites.made(node.replicator.statements.members)

    async def revoke(self, invite: str) -> None:
        """Admit nobody any more by an invite that this peer made; returns when that is stored.

        Raises:
            ValueError: This peer has made no such invite, or its login is neither founder nor admin any more.
            StorageError, PeerClosed: It could not be stored.
        """
        if all(one.id != invite for one in self.invites()):
            raise ValueError(f"this peer has made no invite {invite}")
        await self._say(self._members().plan_closing(self._signer(), [invite]))

    @property
    def _answers(self) -> MemberDirectory:
        return self._node.member_directory

    def _own_removals(self) -> list[Statement]:
        """Return what says that the own user is out, also what is not durable yet, or that the key of this peer is."""
        return [*self._removals(self._node.user), *self._answers.revocations(self._node.peer)]

    def _wrote(self, user: UserId) -> bool:
        return self._node.replicator.quota.bytes.of_user[user] > 0

    def _is_out(self, user: UserId) -> bool:
        return bool(self._removals(user))

    def _removals(self, user: UserId) -> list[Statement]:
        """Return the removals by which a user is out, also those that are not durable yet."""
        members = self._node.replicator.statements.members
        return [] if members is None else members.against(user, self._answers.members_of(user))

    def _user(self, who: User | str) -> User:
        if isinstance(who, User):
            return who
        directory = self._lifecycle.directory
        try:
            return directory.find(who)
        except UnknownName:
            key, members = id_of(who.strip()), self._members()  # of whom nothing but that is known
            beginning = begin_of(who.strip().rpartition("#")[2])
            found = [key] if key else [one for one in members.named() if beginning and one.startswith(beginning)]
            if len(found) != 1 or not (members.is_named(found[0]) or self._answers.member_of(found[0])):
                raise
            return directory.user(found[0])

    def _members(self) -> MemberList:
        node = self._lifecycle.require_running().node
        if node.network.is_named:
            raise P2PChatError("whoever knows the name of this network is a member: nobody is listed or expelled")
        if node.replicator.statements.members is None:
            raise P2PChatError("nothing is known of the members yet: wait until a member is linked")
        return node.replicator.statements.members

    def _signer(self) -> UserId:
        self._members()
        if self.decides:
            return self._lifecycle.require_running().node.network.member
        raise ValueError(self.refusal("can do that"))

    def refusal(self, what: str) -> str:
        """Return why this peer decides nothing about members, where it does not; `what` is what others do."""
        if self.own_role in ("founder", "admin"):
            return "the key of this member is elsewhere: do it there, or `p2pchat network restore FILE` here"
        whom = " or ".join(user.label for user in self.deciders() if not user.is_me) or "one of them"
        return f"only the founder of this network and its admins {what}: ask {whom}"

    async def _say(self, plans: Iterable[Plan]) -> None:
        driver, members = self._lifecycle.require_running(), self._members()
        network, statements = driver.node.network, driver.node.replicator.statements
        assert network.sign is not None
        at = max(now_micros(), statements.next_at(network.member))  # the node may not have looked at its clock lately
        made = await _in_steps(make_statements(network.id, network.member, network.sign, at, plans))
        if not members.fits(made):
            raise ValueError("an admin cannot say so much: nothing was decided; ask the founder")
        for end in range(len(made) % AT_ONCE, len(made) + 1, AT_ONCE):  # a plan has its last word, and its end, in one
            driver.put(StatementsMade(made[max(0, end - AT_ONCE) : end]))
            await driver.settle()
        if len(driver.node.replicator.statements.durable(made)) < len(made):
            raise StorageError("storage does not work: nothing was decided, or a part of it")

    def _member(self, key: UserId) -> Member:
        members = self._members()
        said = None if key == members.founder else members.addition(key)
        users = [user for user in self._users(key) if not self._is_out(user)]
        standing = members.standing(key)
        assert standing
        if said is None:
            return self._listed(key, users, standing)
        by = members.admitter(said)
        since = self._time_of(said) if by == said.by else None
        return self._listed(key, users, standing, since, self.speaker(by), said.invite)

    def _expelled(self, key: UserId) -> Member | None:
        """Return the member that is out with a user, or the user that is out alone; None for one that is not out."""
        removals = self._removals(key)
        if not removals:
            return self._listed(key, [key], "expelled") if key in self._answers.unnamed else None
        newest = removals[-1]
        leader = self._answers.leader(key, newest)
        others = [user for user in newest.who if self._answers.leader(user, newest) == leader]
        users = {*self._users(leader), *filter(self._lifecycle.directory.name, others)}
        return self._listed(leader, users, "expelled", self._time_of(newest), self.speaker(newest.by))

    def _time_of(self, said: Statement) -> datetime:
        return aware(self._node.replicator.statements.time_of(said))

    def _listed(
        self, key: UserId, keys: Iterable[UserId], role: Role, since: datetime | None = None, by: User | None = None,
        invite: str = "",
    ) -> Member:  # fmt: skip
        directory, known = self._lifecycle.directory, [*keys]
        few = nsmallest(MAX_USERS, known, key=lambda user: (directory.label(user).casefold(), user))
        return Member(tuple(map(directory.user, few)), role, since, by, invite, key, len(known))

    def speaker(self, member: UserId) -> User:
        """Return the user that stands for a member: the own one here, else one with a peer of its own, else any."""
        return self._lifecycle.directory.user(self._answers.speaker(member))

    def _users(self, key: UserId) -> list[UserId]:
        """Return the users with a name for whom a member answers."""
        directory = self._lifecycle.directory
        return [user for user in self._answers.users_of(key) | {key} if directory.name(user)]


async def _in_steps(items: Iterable[T]) -> list[T]:
    """Return items that take long to make, a few in each step of the loop."""
    found = list[T]()
    for one in items:
        found.append(one)
        if len(found) % AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _placed(one: Member) -> tuple[tuple[int, list[str], UserId], Member]:
    order = ("founder", "admin", "member", "expelled").index(one.role)
    return (order, [user.label.casefold() for user in one.users], one.key), one
