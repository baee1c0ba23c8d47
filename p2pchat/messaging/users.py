"""Users: facts about each, their labels, and the user that a typed address means.

A name is a label that a user chose; the id identifies. Two names that are equal, or look alike, are both shown with
the beginning of the id. An address that fits both is refused, with the labels to choose from.
"""

from __future__ import annotations

import base64
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import nsmallest
from pathlib import Path

from p2pchat.bounded import Counts
from p2pchat.core.durable_changes import Stored
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.mesh import presence_tracker
from p2pchat.core.mesh.presence_tracker import AWAY, UNKNOWN, Status
from p2pchat.core.names import (
    MAX_NAME_CHARACTERS,
    MAX_TYPED_CHARACTERS,
    ROOM_SKELETON,
    base32,
    full_label,
    skeleton,
    split_label,
    suffix,
)
from p2pchat.core.node import Node
from p2pchat.core.own_state import BLOCKED, DEVICE, IGNORED, OwnState
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.messaging.events import aware, json_fields
from p2pchat.protocol import PeerId, UserId


class User:
    """A user. Two with the same id are equal; name, label and status are those of the present moment.

    Attributes:
        key: The id in hex, as inside and on the wire.
    """

    __slots__ = ("_id", "_people", "key")

    def __init__(self, people: UserDirectory, key: UserId) -> None:
        self._people = people
        self.key: UserId = key
        self._id = ""

    @property
    def id(self) -> str:
        """The id as people see it: 52 characters of base32."""
        self._id = self._id or base32(self.key)
        return self._id

    @property
    def name(self) -> str:
        """The name in the newest profile; "" while it is unknown."""
        return self._people.name(self.key)

    @property
    def names_before(self) -> tuple[str, ...]:
        """The former names, by the profiles in the room, the newest first."""
        return self._people.names_before(self.key)

    @property
    def about(self) -> str:
        """The `about` text of the user's newest profile; "" for none."""
        return self._people.abouts.get(self.key, "")

    @property
    def label(self) -> str:
        """The name to show, with the beginning of the id if another user's name looks like it."""
        return self._people.label(self.key)

    @property
    def is_me(self) -> bool:
        """True for the own user."""
        return self.key == self._people.me

    @property
    def expelled(self) -> bool:
        """True if the user was expelled from the network."""
        return self._people.facts.since(self.key) is not None

    @property
    def ignored(self) -> bool:
        """True if nothing of it is shown: the own user ignores or blocks it, or whoever expelled it hides it."""
        return self.key in self._people.hidden

    @property
    def blocked(self) -> bool:
        """True if the own user blocks this one (TCPPeer.block)."""
        return self.key in self._people.blocked

    @property
    def status(self) -> str:
        """online, idle, offline, or unknown if nothing was heard of the user since this peer started; unreachable if
        linked peers reach it and this one does not: `status_text` is the name of one.
        """
        return self._people.status(self.key)[0]

    @property
    def status_text(self) -> str:
        """The text shown with the status; "" for none."""
        status, text, _ = self._people.status(self.key)
        return self._people.status_text(status, text)

    @property
    def via(self) -> str:
        """The label of the one whose peer carries the link with this user; "" without such a link."""
        return self._people.label(self._people.facts.via(self.key))

    @property
    def since(self) -> datetime | None:
        """Since when the status holds, by the user's own clock; None if unknown, or if nobody has set one there."""
        micros = self._people.status(self.key)[2]
        return aware(micros) if micros else None

    @property
    def cause(self) -> Cause | None:
        """Why the user lacks a message that `Receipt.missing` says it lacks; None where nothing is known."""
        found = self._people.facts.cause(self._people.me, self.key)
        if found is None:
            return None
        kind, micros, by = found
        if kind == "away":
            by = self._people.facts.last_carrier(self.key)
        return Cause(kind, aware(micros) if micros else None, self._people.user(by) if by else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<User {self.label!a}>"


@json_fields.register(User)
def _user_fields(user: User, name: str) -> dict[str, str]:
    return {name: user.label, f"{name}_id": user.id}


def by_label(users: Iterable[User]) -> tuple[User, ...]:
    """Return users sorted by label, in the same order at every call."""
    return tuple(sorted(users, key=lambda user: (user.label.casefold(), user.key)))


@dataclass(frozen=True)
class Cause:
    """Why a user lacks a message.

    Attributes:
        kind: away: it comes with the user's return; online, or carried by a third peer: it is on its way; unreachable,
            except by a third peer, which says so; expelled from the network. Who blocks somebody, or is blocked, is
            away.
        since: Since when the user is away; None if unknown.
        by: Who carries, reaches, or expelled the user; of who is away, who carried the last link and is away, too, so
            that the user may be there. Else None.
    """

    kind: str
    since: datetime | None
    by: User | None


# ---- whois


@dataclass(frozen=True)
class HostPeer:
    """A peer that acts for a user.

    Attributes:
        id: The id of the peer as people see it.
        linked: Whether a link to it is up.
        address: The address from which it is linked, without a port; "" without a direct link.
        endpoints: Where it is known to listen, "host:port", the one that answered last first.
        via: The label of the one whose peer carries its link; "" for a direct link, and without one.
        is_this: It is the peer that was asked.
    """

    id: str
    linked: bool
    address: str
    endpoints: tuple[str, ...]
    via: str = ""
    is_this: bool = False


@dataclass(frozen=True)
class Whois:
    """Facts about one user.

    Attributes:
        user: The user.
        known_since: When the first entry of the user arrived here; None if none did.
        allowed: Everything the user writes is stored here, without a limit (TCPPeer.allow).
        hosts: The peers that act for the user now, and the user's own peer if an address of it is known.
    """

    user: User
    known_since: datetime | None
    allowed: bool
    hosts: tuple[HostPeer, ...]


def whois(node: Node, user: User, first_heard: int) -> Whois:
    """Return what a node knows of a user; `first_heard` is in UTC microseconds, 0 for never."""
    hosts = tuple(_host_peer(node, peer, user._people) for peer in host_peers(node, user.key))
    since = aware(first_heard) if first_heard else None
    return Whois(user, since, user.key in node.replicator.quota.allowed, hosts)


def host_peers(node: Node, user: UserId) -> list[PeerId]:
    """Return the peers that are known to act for a user: those linked, else the user's own if an address is known.

    Who has several machines had one with the key of the user, whose address stays known for a while.
    """
    peers = dict.fromkeys(link.peer for link in node.presence.links_of(user))
    if user in (peers or node.links.book) and not node.member_directory.revocations(user):
        peers = {user: None, **peers}
    if user == node.user:
        peers = {node.peer: None, **peers}
    return list(peers)


@dataclass(frozen=True)
class Device:
    """A machine of a person.

    Attributes:
        peer_id: The key of its peer (base32).
        name: What its person calls it; "" while it has not said.
        since: Since when it is that person's; None as for `name`.
        directory: Its data directory, where a call made it here.
        is_this: It is the machine that was asked.
        linked: A link to it is up.
        last_seen: When the last link to it ended; None while one is up, and for this machine.
    """

    peer_id: str
    name: str = ""
    since: datetime | None = None
    directory: Path | None = None
    is_this: bool = False
    linked: bool = False
    last_seen: datetime | None = None


def devices_of(node: Node) -> list[Device]:
    """Return the machines of the own user of a node: this one, those that are linked, then the others, newest first.

    What machines say of themselves are names and times only, and may be made up: any of them can say it of all. So of
    those that are away it lists what the own member answers for, as it is known to do.
    """
    presence, own, members = node.presence, node.own, node.member_directory
    linked = sorted({link.peer for link in presence.links_of(node.user)})
    said = own.ids(node.user, DEVICE)
    if not node.network.is_named:
        said = [peer for peer in said if node.admission.member in members.members_of(peer)]
    away = [peer for peer in (*reversed(presence.left), *said[:MOST_MACHINES]) if peer != node.user]
    found = list[Device]()
    for peer in dict.fromkeys([node.peer, *linked, *away]):
        if members.revocations(peer, node.admission.member):
            continue
        name = own.get(node.user, f"{DEVICE}:{peer}").partition(" ")[2]
        at, is_linked = machine_since(own, node.user, peer), peer in linked
        since = aware(at) if at else None
        seen = None if is_linked or peer not in presence.left else aware(presence.left[peer])
        name = name[:MAX_NAME_CHARACTERS]
        found.append(Device(base32(peer), name, since, None, peer == node.peer, is_linked, seen))
    return found


def machine_since(own: OwnState, me: UserId, peer: PeerId) -> int:
    """Return since when a machine is its person's, in UTC microseconds; 0 where it has not said."""
    at = own.get(me, f"{DEVICE}:{peer}").partition(" ")[0]
    if not at.isdecimal() or len(at) > MOST_DIGITS:
        return 0
    return int(at)


def carrier(node: Node, user: UserId) -> str:
    """Return the peer that carries the links with all peers of a user; "" if one is direct, or there is none."""
    carriers = {link.carrier for link in node.presence.links_of(user)}
    return min(carriers, default="")


def machine_label(node: Node, me: UserId, peer: PeerId) -> str:
    """Return what the machine of a person is called: `your attic`, or that person; "" for one that is not known."""
    name = node.own.get(me, f"{DEVICE}:{peer}").partition(" ")[2]
    if name:
        return f"your {name[:MAX_NAME_CHARACTERS]}"
    if peer not in node.links.by_peer:
        return ""
    users = sorted(node.links.by_peer[peer].users)
    if me in users:
        return f"your machine {base32(peer)[:8]}"
    return next(filter(None, map(node.names.get, users)), "")


def _host_peer(node: Node, peer: PeerId, directory: UserDirectory) -> HostPeer:
    known = sorted(node.links.book.addresses(peer), key=lambda address: -address.verified_at)
    link = node.links.by_peer.get(peer)
    via = "" if link is None else link.carrier
    address = "" if link is None or via else link.host
    return HostPeer(
        base32(peer),
        link is not None,
        address,
        tuple(one.endpoint for one in known),
        directory.label(via),
        peer == node.peer,
    )


MOST_MACHINES = 64  # listed of those that machines say there are; a guess
MOST_DIGITS = 16  # of a time in UTC microseconds: until the year 2286
FULL_ID_CHARACTERS = 52  # 32 bytes in base32
MAX_SUGGESTED = 3  # names in a "did you mean": a guess at what is read
MIN_SWEEP = 1000  # User objects; sweeping fewer is not worth it
MAX_LISTED = 8  # names in an error; the same


class UserFacts:
    """The answers of the core about users, for all users of one peer. Where no core runs, nothing is known.

    Attributes:
        status: Returns the presence of the second user as the first one sees it.
        former: Returns the former names of users with the clocks of their profiles, by id; it may include present ones.
        knows: Returns whether the first user chose to have to do with the second one.
        cause: Returns why the second user lacks a message of the first one.
        via: Returns the peer that carries the link with a user; see User.via.
        machine: Returns what the machine is called, for the first user, that has this key; "" if that is not known.
        joined_at: Returns since when this machine is its person's; see machine_since.
        since: Returns since when a user is out of the network, in UTC microseconds; None for one who is not.
        concealed: Returns those who are out of whom nothing is shown any more.
        share: Returns the member at whom a user counts with all its keys, or the user that counts by itself.
        carriers: Who carried the last link with a peer, or with the peer of a user; "" for a direct one.
        linked: The peers that are linked.
    """

    status: Callable[[UserId, UserId], Status] = staticmethod(lambda me, user: UNKNOWN)
    former: Callable[[], Mapping[UserId, Mapping[str, int]]] = staticmethod(dict)
    knows: Callable[[UserId, UserId], bool] = staticmethod(lambda me, user: False)
    cause: Callable[[UserId, UserId], presence_tracker.Cause | None] = staticmethod(lambda me, user: None)
    via: Callable[[UserId], PeerId] = staticmethod(lambda user: "")
    machine: Callable[[UserId, PeerId], str] = staticmethod(lambda me, peer: "")
    joined_at: Callable[[], int] = staticmethod(int)
    since: Callable[[UserId], int | None] = staticmethod(lambda user: None)
    concealed: Callable[[], AbstractSet[UserId]] = staticmethod(frozenset)
    share: Callable[[UserId], UserId] = staticmethod(lambda user: user)

    def __init__(self) -> None:
        self.carriers: dict[UserId, PeerId] = {}
        self.linked: Container[PeerId] = ()

    def last_carrier(self, user: UserId) -> PeerId:
        """Return who carried the last link with a user, and is not linked any more; "" for nobody."""
        by = self.carriers.get(user, "")
        if by in self.linked:
            return ""
        return by

    def follow(self, node: Node) -> None:
        """Take what this core says."""
        self.linked = node.links.by_peer
        self.follow_members(node.member_directory)
        self.status, self.via = partial(_status_at, node), partial(carrier, node)
        self.former = lambda: node.replicator.people.former
        self.knows, self.cause = node.contacts.are_known, node.cause
        self.machine = partial(machine_label, node)
        self.joined_at = partial(machine_since, node.own, node.user, node.peer)

    def follow_members(self, members: MemberDirectory) -> None:
        """Take who is a member from this directory."""
        self.since, self.concealed, self.share = members.since, members.concealed, members.share

    def place(self, user: UserId) -> UserId | None:
        """Return where a user counts in what others are shown; None for one who is out."""
        return None if self.since(user) is not None else self.share(user) or user


def _status_at(node: Node, me: UserId, user: UserId) -> Status:
    """Return the presence of a user as one of a peer's users sees it: they are away for each other if one blocks."""
    if user in node.blocks.of(me) or me in node.blocks.of(user):
        return AWAY
    return node.presence.status(user)


class UserDirectory:
    """All users known to one peer, as one of its own users sees them.

    Args:
        me: The id (hex) of the own user.
        facts: The answers of the core about them.
    Attributes:
        ignored, blocked: The ids of the users that the own user ignores, and of those that it blocks.
        abouts: What users tell about themselves.
    """

    __slots__ = ("_index", "_sweep_at", "_users", "abouts", "blocked", "facts", "ignored", "me")

    def __init__(self, me: UserId, facts: UserFacts) -> None:
        self.me: UserId = me
        self.facts: UserFacts = facts
        self.ignored: set[UserId] = set()
        self.blocked: set[UserId] = set()
        self.abouts: dict[UserId, str] = {}
        self._index = NameIndex()
        self._users: dict[UserId, User] = {}
        self._sweep_at = MIN_SWEEP  # users; those that were forgotten are dropped when there are so many

    def seen_by(self, me: UserId) -> UserDirectory:
        """Return the same users as another user of this peer sees them; names are shared."""
        other = UserDirectory(me, self.facts)
        other.abouts, other._index = self.abouts, self._index
        return other

    def load(self, me: UserId, stored: Stored) -> None:
        """Take the stored users, for this own user of the peer."""
        self.me = me
        self.load_hidden(OwnState(stored.meta))
        for user in stored.users:
            self._index.learn(user.id, user.name)
            self.set_about(user.id, user.about)

    def load_hidden(self, own: OwnState) -> None:
        """Take the ids of ignored and of blocked users."""
        self.ignored, self.blocked = ({*own.of(self.me, what)} for what in (IGNORED, BLOCKED))

    @property
    def hidden(self) -> AbstractSet[UserId]:
        """The ids of the users whom programs do not show to people."""
        concealed = self.facts.concealed() - {self.me}
        return self.ignored | self.blocked | concealed if self.blocked or concealed else self.ignored

    def status(self, id: UserId) -> Status:
        """Return the presence of a user."""
        return self.facts.status(self.me, id)

    def status_text(self, status: str, text: str) -> str:
        """Return the text of a status, as people see it: it names by id who reaches a user that is unreachable."""
        if status == "unreachable":
            return self.label(text)
        return text

    def learn(self, names: Iterable[tuple[UserId, str]]) -> None:
        """Set the names of users."""
        for id, name in names:
            self._index.learn(id, name)

    def set_about(self, id: UserId, about: str) -> None:
        """Set what a user tells about itself; "" for nothing."""
        if about:
            self.abouts[id] = about
        else:
            self.abouts.pop(id, None)

    def forget(self, id: UserId) -> None:
        """Forget a user of whom nothing is known any more."""
        self._index.forget(id)
        self.abouts.pop(id, None)
        self._users.pop(id, None)

    def user(self, id: UserId) -> User:
        """Return the User object of an id, known or not; the same one as long as the user has a name."""
        user = self._users.get(id)
        if user is None:
            if len(self._users) >= self._sweep_at:
                self._users = {id: user for id, user in self._users.items() if id in self._index.names}
                self._sweep_at = max(MIN_SWEEP, 2 * len(self._users))
            user = self._users[id] = User(self, id)
        return user

    def present(self, ids: Iterable[UserId]) -> tuple[User, ...]:
        """Return the users with these ids who are not expelled, sorted by label."""
        return by_label(user for user in map(self.user, ids) if not user.expelled)

    def all(self) -> list[User]:
        """Return every user with a name, sorted by label."""
        return sorted((self.user(id) for id in self._index.names), key=lambda user: user.label.casefold())

    @property
    def known(self) -> AbstractSet[UserId]:
        """The ids of all users with a name; a live view."""
        return self._index.names.keys()

    def alike(self, name: str) -> AbstractSet[UserId]:
        """Return the ids of the users whose names look like this one; a live view."""
        return self._index.alike.get(skeleton(name), set())

    def name(self, id: UserId) -> str:
        """Return the name of a user; "" while it is unknown."""
        return self._index.names.get(id, "")

    def label(self, id: UserId) -> str:
        """Return the label of a user, see User.label, or what the machine is called that has this key; "" for ""."""
        index = self._index
        name = index.names.get(id)
        if not name:
            return id and (self.facts.machine(self.me, id) or index.full_label(id))
        if (look := index.looks[id]) == ROOM_SKELETON or len(index.alike[look]) > 1:
            return index.full_label(id)
        return name

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored or blocked."""
        return id_of(id) in hidden if (hidden := self.hidden) else False

    def find(self, text: str) -> User:
        """Return the user that an address names; see NamedUser.user. A name fits all names that look like it: then the
        only one is meant whom the own user knows. Else a member could stop all who write to somebody by its name.
        """
        fitting = self.fitting(text)
        if not fitting:
            raise UnknownName(text, self._hint(split_typed(text, "@")[0]))
        if len(fitting) > 1 and not split_typed(text, "@")[1]:
            known = [user for user in fitting if self.facts.knows(self.me, user.key)]
            fitting = known if len(known) == 1 else fitting
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(self._index.full_label(user.key) for user in fitting))
        return fitting[0]

    def fitting(self, text: str) -> list[User]:
        """Return the users that an address fits. It is quick where there is none: names are waited for."""
        name, tail = split_typed(text, "@")
        by_id = None if tail else self._by_id(name.upper())
        if by_id is not None:
            return [by_id]
        return list(map(self.user, self._by_tail(name, tail) if tail else self._by_name(name)))

    def names_before(self, id: UserId) -> tuple[str, ...]:
        """Return the former names of a user, the newest first."""
        former = self.facts.former().get(id, {})
        return tuple(name for name in sorted(former, key=lambda name: -former[name]) if name != self.name(id))

    def near(self, name: str) -> list[User]:
        """Return the other users whose names are one letter away from this one, by label: it may be misspelt."""
        names = self._index.names
        found = [self.user(id) for id in names if id != self.me and is_misspelling(name, names[id])]
        return sorted(found, key=lambda user: user.label.casefold())

    def renamed_hint(self, name: str, among: Container[UserId] | None = None) -> str:
        """Return what those are called now who had this name before, as a hint in an error; "" if nobody had it.

        Args:
            among: The ids of the users who are meant; None for all.
        """
        typed, names = name.casefold(), self._index.names
        found = [
            quoted(self.label(id))
            for id, former in self.facts.former().items()
            if id in names and (among is None or id in among) and typed in map(str.casefold, former)
        ]
        return f"{quoted(name)} is now called {' or '.join(sorted(found)[:MAX_SUGGESTED])}" if found else ""

    def resolve(self, who: User | str) -> User:
        """Return a user, given as such, by a name as typed, or by the full id of any user; raises as find."""
        if isinstance(who, User):
            return self.user(who.key)
        if not isinstance(who, str):
            raise TypeError(f"a user is a User or a name, not {type(who).__name__}")
        key = id_of(who.strip().removeprefix("@"))
        return self.user(key) if key else self.find(who)

    def _by_id(self, text: str) -> User | None:
        key = id_of(text)
        return self.user(key) if key in self._index.names or key in self._users else None

    def _by_tail(self, name: str, tail: str) -> list[UserId]:
        names = self._index.names
        beginning = tail if len(tail) >= 8 else tail.ljust(8, "?")  # a shorter one is no address
        fitting = self.alike(name)  # few, while the ids of all users take 5 us each to spell
        if skeleton(name) == skeleton("user"):
            fitting = fitting | {id for id in names.keys() | self._users.keys() if not names.get(id)}
        return [id for id in fitting if base32(id).startswith(beginning)]

    def _by_name(self, name: str) -> list[UserId]:
        alike = list(self.alike(name))
        if len(alike) == 1 and self._index.names[alike[0]].casefold() != name.casefold():
            return []  # it looks like a user's name, but is spelled differently
        return alike

    def _hint(self, typed: str) -> str:
        if renamed := self.renamed_hint(typed):
            return renamed
        if near := self.near(typed):
            return f"did you mean {' or '.join(quoted(user.label) for user in near[:MAX_SUGGESTED])}?"
        others = ((name.casefold(), id) for id, name in self._index.names.items() if id != self.me)
        labels = [self.label(id) for _, id in nsmallest(MAX_LISTED, others)]  # the quickest way: names are waited for
        more = len(self._index.names) - (self.me in self._index.names) - len(labels)
        return f"known are {listed(map(quoted, labels), more)}" if labels else ""


class NameIndex:
    """Names by id, and which of them look alike: by skeleton, computed once, since every line asks for labels."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # by id
        self.looks: dict[str, str] = {}  # skeletons, by id
        self.alike: dict[str, set[str]] = {}  # ids, by skeleton
        self._labels: Counter[tuple[str, str]] = Counts()  # skeletons and suffixes: no two may be shown alike

    def full_label(self, id: str) -> str:
        """Return the name and the beginning of the id; the whole id where another one with this name begins alike."""
        name, look = self.names.get(id), self.looks.get(id)
        is_clear = look is None or self._labels[look, suffix(id)] < 2
        return full_label(name, id) if is_clear else f"{name}#{base32(id)}"

    def forget(self, id: str) -> None:
        """Remove an id and its name."""
        former = self.looks.pop(id, None)
        if former is not None:
            del self.names[id]
            self._labels[former, suffix(id)] -= 1
            self.alike[former].discard(id)
            if not self.alike[former]:
                del self.alike[former]

    def learn(self, id: str, name: str) -> None:
        """Set the name of an id. A former name leaves nothing behind."""
        self.forget(id)
        self.names[id] = name
        self.looks[id] = look = skeleton(name)
        self.alike.setdefault(look, set()).add(id)
        self._labels[look, suffix(id)] += 1


def split_typed(text: str, sign: str) -> tuple[str, str]:
    """Return the name, in normal form, and the suffix of an address; "" for both if it is longer than any."""
    if len(text) > MAX_TYPED_CHARACTERS:
        return "", ""
    return split_label(unicodedata.normalize("NFC", text.strip()).removeprefix(sign))


def quoted(name: str) -> str:
    """Return a name for a list of names: on one line, in quotes if it has blanks."""
    shown = repr(name)[1:-1]
    return f'"{shown}"' if " " in shown else shown


def check_several(values: object, name: str) -> None:
    """Raise TypeError for one value in place of several: the letters of a text would be taken for them."""
    if isinstance(values, str | bytes | User):
        raise TypeError(f"{name} takes several, as a list: this is one {type(values).__name__}")


def check_timeout(timeout: float | None) -> None:
    """Raise TypeError for a timeout that is no number of seconds."""
    if timeout is not None and not isinstance(timeout, int | float):
        raise TypeError(f"timeout is a number of seconds, not {type(timeout).__name__}")


def listed(names: Iterable[str], more: int) -> str:
    return ", ".join(names) + (f" and {more} more" if more else "")


def is_misspelling(typed: str, name: str) -> bool:
    """Return whether two names differ by one letter: missing, added, wrong, or swapped with the next one.

    Digits are no letters, because user1 and user2 are two names, and of names with one or two letters many are near.
    """
    one, other = typed.casefold(), name.casefold()
    if len(one) > len(other):
        one, other = other, one
    size, at = len(one), 0
    if len(other) < 3 or len(other) - size > 1 or one == other:
        return False
    while at < size and one[at] == other[at]:
        at += 1
    if len(other) > size:
        letters, fits = other[at], one[at:] == other[at + 1 :]
    else:
        letters, fits = one[at] + other[at], one[at + 1 :] == other[at + 1 :]
        fits = fits or (letters == other[at : at + 2][::-1] and one[at:] == letters + other[at + 2 :])
    return fits and not letters.isdecimal()


def begin_of(text: str) -> str:
    """Return how ids in hex begin that people see with this beginning of 8 characters; "" for other text."""
    try:
        return base64.b32decode(text.upper()).hex() if len(text) == 8 else ""
    except ValueError:
        return ""


def id_of(text: str) -> UserId:
    """Return the id in hex that people see as `text`, 52 characters of base32, in one line or broken into several; ""
    for other text.
    """
    text = "".join(text.split())
    if len(text) != FULL_ID_CHARACTERS:
        return ""
    try:
        id = base64.b32decode(text.upper() + "=" * (-len(text) % 8)).hex()
    except ValueError:  # a character outside of base32, or of ASCII
        return ""
    return id if base32(id) == text.upper() else ""  # not equal: bits are set beyond the 32 bytes
