"""Which members answer for a user, and for which users a member answers, by all that this peer knows.

The header of a log names the member that answers for its writer, whose key signs it; so does the certificate that a
peer shows on a link. A user belongs to every member that it has ever named like that, and is out when one of them is.
A certificate that it never used says nothing: any member could make one for the key of another.

Of whom no statement names any of its members, as those that only a former admin had named, nothing is taken or told to
others; what it wrote before stays, and shows that it is of no member.

Storage keeps that of users who wrote. Of peers without a log those are remembered that were here last. When they are
too many, the member that answers for most of them loses its oldest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Set
from itertools import chain, filterfalse
from typing import Generic, Protocol, TypeVar

from p2pchat.bounded import Counts, drop, remember
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import Statement, StatementId, is_guest
from p2pchat.core.node_context import HostedIdentities
from p2pchat.protocol import MAX_INT, GuestCertificate, Hosted, PeerId, UserId

MAX_REMEMBERED = 4096  # peers of whom is known which member they showed: as many as have addresses
MAX_EARLY = 64  # users whose first log is asked for again, by the member that a later one names; a guess

Members = tuple[UserId, ...]
Line = tuple[UserId, ...]  # a member and a user of it, or a user that counts by itself


class KnownStatements(Protocol):
    """The statements of a peer that runs (statement_exchange.py), or of a stored history."""

    @property
    def members(self) -> MemberList | None: ...

    @property
    def heard(self) -> Mapping[StatementId, int]: ...

    def durable(self, statements: Iterable[Statement]) -> list[Statement]: ...

    def is_named(self, user: UserId) -> bool: ...


class MemberLink(Protocol):
    """A link that is up: the member that answers for its peer, and the users there."""

    member: UserId
    users: dict[UserId, Hosted]


class MemberDirectory:
    """The members that answer for users known here.

    Args:
        network: The id of the network (hex).
        me: This peer's id.
        own: The member that answers for the users hosted here.
        hosted: The users hosted here.
        up: The links that are up, by number.
        statements: The statements of this peer.
        is_named: The network is made from a word.

    Attributes:
        names: The names of users.
        named_last: The members that the newest headers of users name, as far as they name one that is known.
        unnamed: Users that wrote here, not hosted here, of whom no member is named any more.
    """

    def __init__(
        self, network: str, me: PeerId, own: UserId, hosted: HostedIdentities, up: Mapping[int, MemberLink],
        statements: KnownStatements, *, is_named: bool = False,
    ) -> None:  # fmt: skip
        self._network = network
        self._me = me
        self._own = own
        self._hosted = hosted
        self._up = up
        self._statements = statements
        self._is_named = is_named
        self.names: Mapping[UserId, str] = {}
        self.named_last: dict[UserId, UserId] = {}
        self.unnamed: set[UserId] = set()
        self._early: dict[UserId, Members] = {}  # of users without a log here; the last one stands last
        self._written: dict[UserId, dict[UserId, None]] = {}  # in headers
        self._shown: dict[PeerId, Members] = {}  # on links; the last one stands last
        self._users: dict[UserId, dict[UserId, None]] = {}  # by the members that they wrote
        self._peers: dict[UserId, dict[PeerId, None]] = {}  # by the members that they showed last
        self._concealed: set[UserId] | None = None  # once somebody asked
        self._since: dict[Members, int | None] = {}  # of users with members that they named, as far as somebody asked

    def load(self, written: Iterable[tuple[UserId, UserId]], names: Mapping[UserId, str]) -> None:
        """Take users and members that stored headers name, in place of those that were noted; and the names of users,
        as they are at any time.
        """
        self.named_last, self._written, self._users, self.names, self.unnamed = {}, {}, {}, names, set()
        for user, member in written:
            self.note(user, member)

    def vouches(self, user: UserId, certificate: GuestCertificate) -> bool:
        """Return whether the member in a certificate signed that it answers for this user."""
        return is_guest(self._network, user, certificate)

    def note(self, user: UserId, member: UserId) -> Members:
        """Take the member that the header of a user's log names, "" for none, and those that the user showed on links.

        Returns:
            Those of them that are new, and are to be stored.
        """
        known, said = self._written.setdefault(user, {}), self._shown.get(user, ())
        if member:
            said = (*said, member)
            if self._statements.is_named(member):
                self.named_last[user] = member
        new = tuple(dict.fromkeys(one for one in said if one not in known and one != user))
        for one in new:
            known[one] = None
            self._users.setdefault(one, {})[user] = None
        if new:
            self._refresh_concealed([user])
        return new

    def on_shown(self, peer: PeerId, member: UserId) -> None:
        """Take the member that a peer has shown on a link of its own."""
        former = self._shown.pop(peer, ())
        if former:
            drop(self._peers, former[-1], peer)
        rest = tuple(one for one in former if one != member)
        self._shown[peer] = (*rest, member)
        self._peers.setdefault(member, {})[peer] = None
        if len(self._shown) > MAX_REMEMBERED:
            most = max(self._peers, key=lambda one: len(self._peers[one]))
            oldest = next(iter(self._peers[most]))
            del self._shown[oldest]
            drop(self._peers, most, oldest)

    def on_members_changed(self, users: Iterable[UserId]) -> None:
        """Take that other statements about these users, or about their members, are durable now."""
        self._since.clear()
        self._refresh_concealed(users)

    def _refresh_concealed(self, users: Iterable[UserId]) -> None:
        if self._concealed is None:
            return
        for user in users:
            if any(one.hide for one in self.removals(user)):
                self._concealed.add(user)
            else:
                self._concealed.discard(user)

    # ---- who answers for whom

    def refresh(self, members: Iterable[UserId], wrote: Callable[[UserId], bool]) -> set[UserId]:
        """Look again at whether somebody names members and the users that wrote as theirs. Return who changed.

        Args:
            wrote: Returns whether logs of a user are here.
        """
        users = {user for member in members for user in (member, *self._users.get(member, ()))}
        others = users - self._hosted.keys() - {self._me}
        unnamed = {user for user in others if wrote(user) and not self.is_named(user)}
        changed = unnamed ^ (self.unnamed & users)
        self.unnamed ^= changed
        return changed

    def is_named(self, user: UserId) -> bool:
        """Return whether a statement names a user, or a member that the header of a log of it names."""
        named = chain([user], self._written.get(user, ()), self._early.get(user, ()))
        return any(map(self._statements.is_named, named))

    def is_added(self, member: UserId) -> bool:
        """Return whether somebody belongs to the network as a member, or did by an addition that is kept."""
        members = self._statements.members
        return members is not None and (member in members.members or bool(members.admitting(member)))

    def on_early(self, user: UserId, member: UserId) -> None:
        """Take the member that the header of a log names which builds on one that is not here: that may come now."""
        remember(self._early, user, (member,), MAX_EARLY)

    def members_of(self, user: UserId) -> Members:
        """Return all members that a user has named."""
        named = (*self._written.get(user, ()), *self._shown.get(user, ()))
        return (*named, self._own) if user == self._me or user in self._hosted else named

    def member_of(self, user: UserId) -> UserId:
        """Return the one member to show for a user: of who is out one that is out, else one that is in, and last those
        that nobody named. "" where none is known. Of a machine first one that has not revoked its key.
        """
        if user in self._hosted:
            return self._own
        for link in self._up.values():
            if user in link.users:
                return link.member
        members, named = self._statements.members, self.members_of(user)
        if not named:
            return user if self.is_added(user) else ""  # a removal can name made-up keys
        is_out, is_named = self.is_out(user), self._statements.is_named
        revoking = [one.by for one in self.revocations(user) if user not in self.names]
        return min(
            reversed(named),
            key=lambda one: (one in revoking, members is None or (one in members.removed) != is_out, not is_named(one)),
        )

    def share(self, peer: PeerId) -> UserId:
        """Return at whom a user or peer counts in places that members share: its member, or itself."""
        return self.line(peer)[0]

    def line(self, user: UserId, member: UserId = "") -> Line:
        """Return where a user or peer counts in what others may take: its member, by default as shown, and itself.

        Users of one's own member, and all users of a network that is made from a word, count by themselves: they are
        the terminals of one login, or a classroom, and must not starve each other. Those of whom no member is known
        count together.
        """
        member = member or self.member_of(user)
        return (user,) if self._is_named or member == self._own else (member, user)

    def is_own(self, member: UserId) -> bool:
        """Return whether a member is the one that answers for the users here: of the terminals of one login."""
        return member == self._own and not self._is_named

    def may_be_own(self, peer: PeerId) -> bool:
        """Return whether the own member answers for a peer, as far as it is known who does. In a named network each
        peer answers for itself.
        """
        return self._is_named or self.member_of(peer) in ("", self._own)

    def users_of(self, member: UserId) -> set[UserId]:
        """Return the users for whom a member answers; not those of others that a machine of it hosts: a thief could."""
        found = {*self._peers.get(member, ()), *self._users.get(member, ())}
        for link in self._up.values():
            if link.member == member:
                found.update(user for user in link.users if member in (self.members_of(user) or [member]))
        return found | (set(self._hosted) if member == self._own else set())

    def all_of(self, members: Iterable[UserId]) -> set[UserId]:
        """Return members, and the users for whom they answer."""
        return {user for member in members for user in (member, *self.users_of(member))}

    def speaker(self, member: UserId) -> UserId:
        """Return the user that stands for a member: the own one here, else one with a peer of its own, else any.

        So a gateway is named by its own user and not by an account. Of nobody known it is the member itself. Who is
        out does not speak for a member that is not, but for its own login here.
        """
        users = self.users_of(member)
        if member != self._own:  # whose user that is here once was, or a thief of its key
            users = users - self._hosted.keys() or users
        if self._me in users:
            return self._me
        if not self.is_out(member):
            users = {user for user in users if not self.is_out(user)}
        named = {user for user in users if user in self.names} or users
        return min(named & self._shown.keys() or named, default=member)

    def admitter(self, user: UserId) -> UserId:
        """Return the user that stands for who admitted the member of a user; "" where that is not known."""
        members = self._statements.members
        if members is None or (said := members.addition(self.member_of(user))) is None:
            return ""
        return self.speaker(members.admitter(said))

    def known(self, members: Iterable[UserId]) -> list[UserId]:
        """Return the users with a name that stand for members, or are such users themselves."""
        there = (one for one in members if one in self._users or one in self._peers or one in self.names)
        return [user for user in map(self.speaker, there) if user in self.names]

    def leader(self, user: UserId, removal: Statement) -> UserId:
        """Return for whom a removal stands that a user is out by: its member, or the user itself if it is out alone.

        Of a user that nobody knows it is the first one in that removal.
        """
        for member in self.members_of(user):
            if member in removal.who:
                return member
        members = self._statements.members
        is_known = self.member_of(user) not in ("", user) or members is None or bool(members.additions(user))
        return user if is_known else removal.who[0]

    # ---- who is out

    def removals(self, user: UserId, *named: UserId) -> list[Statement]:
        """Return the durable removals by which a user is out, the oldest first. `named`: a member that it names now."""
        members, all_named = self._statements.members, (*self.members_of(user), *named)
        return [] if members is None else self._statements.durable(members.against(user, all_named))

    def revocations(self, peer: PeerId, *named: UserId) -> list[Statement]:
        """Return the durable statements by which a key is no peer's any more. `named`: as in removals()."""
        members, all_named = self._statements.members, (*self.members_of(peer), *named)
        return [] if members is None else self._statements.durable(members.revocations(peer, all_named))

    def is_out(self, user: UserId, *named: UserId) -> bool:
        """Return whether a user is removed, as far as this peer knows which members it named, or of no member."""
        return self.since(user, *named) is not None

    def within(self, users: Iterable[UserId]) -> list[UserId]:
        """Return those of these users who are not out, sorted: of a group's members those for whom anything counts."""
        return sorted(filterfalse(self.is_out, users))

    def since(self, user: UserId, *named: UserId) -> int | None:
        """Return since when a user is out, in UTC microseconds; None for one who is not, 0 for one who never was in.

        Where the clock here is behind that of who said so, it is since that came. Asked for each message that is shown,
        and one admin can remove somebody a thousand times.
        """
        key = user, *self.members_of(user), *named
        if key not in self._since:
            members, heard = self._statements.members, self._statements.heard
            removals = self.removals(user, *named)
            times = [members.time_of(one, heard.get(one.id, MAX_INT)) for one in removals if members is not None]
            if len(self._since) >= MAX_REMEMBERED:
                self._since.clear()
            self._since[key] = min(times, default=None)
        since = self._since[key]
        return 0 if since is None and user in self.unnamed else since

    def concealed(self) -> Set[UserId]:
        """The users of whom nothing is shown any more."""
        members = self._statements.members
        if members is None or not members.concealed:
            return frozenset()
        if self._concealed is None:
            self._concealed = set()
            self._refresh_concealed(self.all_of(members.concealed))
        return self._concealed


# ---- places that members share
#
# One member may hold a bounded number of them, and where all are taken the fullest gives way. All users of a member
# count at it, whatever keys they have; those who count by themselves (MemberDirectory.share) each have a share of their
# own.


Item = TypeVar("Item", bound=Hashable)


class MemberShares(Generic[Item]):
    """Places of one kind: for links, peers, logs or frames.

    Args:
        most: How many there are.

    Attributes:
        taken: How many each member holds.
    """

    def __init__(self, most: int) -> None:
        self.taken: Counter[UserId] = Counts()
        self._most = most
        self._members: dict[Item, UserId] = {}  # the oldest item first

    def __contains__(self, item: object) -> bool:
        return item in self._members

    @property
    def has_room(self) -> bool:
        """True if there is a free place."""
        return len(self._members) < self._most

    def add(self, item: Item, member: UserId) -> None:
        """Count an item, unless it is here. The limit is not checked."""
        if item not in self._members:
            self._members[item] = member
            self.taken[member] += 1

    def remove(self, item: Item) -> None:
        """Free the place of an item, if it has one."""
        member = self._members.pop(item, None)
        if member is not None:
            self.taken[member] -= 1

    def take(self, item: Item, member: UserId, evict: Callable[[Item], object]) -> bool:
        """Give an item a place, that of another one if need be. Return whether it has one.

        Args:
            evict: Called with the item that gave way.
        """
        if item not in self and not self.has_room:
            gone = self.giving_way(member)
            if gone is None:
                return False
            self.remove(gone)
            evict(gone)
        self.add(item, member)
        return True

    def giving_way(self, member: UserId = "") -> Item | None:
        """Return the newest item of the fullest member, whose place a newcomer takes; None if it must be refused.

        The newcomer's member must hold fewer with it than the fullest one, so nobody comes back by the same rule. Who
        comes for no member ("") is never refused while anything is here.
        """
        if not self.taken:
            return None
        fullest = max(reversed(self.taken), key=self.taken.__getitem__)
        if member and self.taken[member] + 1 >= self.taken[fullest]:
            return None
        return next(item for item in reversed(self._members) if self._members[item] == fullest)
