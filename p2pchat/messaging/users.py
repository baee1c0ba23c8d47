"""Users as programs hold them: their labels, what a typed name means, and who is ignored.

A name is a label that somebody chose; the key identifies the user. Two users whose names are equal, or look alike, are
both shown with the beginning of their id. An address that fits both is refused, with the labels to choose from.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from heapq import nsmallest
from typing import Any

from p2pchat.core.node import Node
from p2pchat.core.records import META_IGNORED
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.identity.names import ROOM_SKELETON, base32, full_label, skeleton, split_label
from p2pchat.messaging.events import aware
from p2pchat.protocol import PeerId, UserId

Status = tuple[str, str, int]  # status, text, since in UTC microseconds (0: unknown)
FULL_ID_CHARACTERS = 52  # 32 bytes in base32


class User:
    """A user. Two with the same id are equal; name, label and status are those of the present moment.

    Attributes:
        key: The id in hex, as inside and on the wire.
    """

    __slots__ = ("_id", "_people", "key")

    def __init__(self, people: UserDirectory, key: UserId) -> None:
        self._people = people
        self.key = key
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
    def about(self) -> str:
        """The `about` text of the user's newest profile; "" for none."""
        return self._people.abouts.get(self.key, "")

    @property
    def label(self) -> str:
        """The name to show, with the beginning of the id if another user's name looks like it."""
        return self._people.label(self.key)

    @property
    def is_me(self) -> bool:
        """Whether this is the own user."""
        return self.key == self._people.me

    @property
    def ignored(self) -> bool:
        """Whether the own user ignores this one (TCPPeer.ignore)."""
        return self.key in self._people.ignored

    @property
    def status(self) -> str:
        """online, idle, offline, or unknown if nothing was heard of the user since this peer started."""
        return self._people.status(self.key)[0]

    @property
    def status_text(self) -> str:
        """The text shown with the status; "" for none."""
        return self._people.status(self.key)[1]

    @property
    def since(self) -> datetime | None:
        """Since when the status holds, by the user's own clock; None while that is unknown."""
        micros = self._people.status(self.key)[2]
        return aware(micros) if micros else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<User {self.label!a}>"


class NameIndex:
    """Names by id, and which of them look alike.

    Attributes:
        names: The name of each id.
        looks: The skeleton of each name, computed once, since labels are asked for with every line.
        alike: The ids by skeleton.
    """

    __slots__ = ("alike", "looks", "names")

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.looks: dict[str, str] = {}
        self.alike: dict[str, set[str]] = {}

    def learn(self, id: str, name: str) -> None:
        """Set the name of an id. A former name leaves nothing behind."""
        former = self.looks.get(id)
        if former is not None:
            self.alike[former].discard(id)
            if not self.alike[former]:
                del self.alike[former]
        self.names[id] = name
        self.looks[id] = look = skeleton(name)
        self.alike.setdefault(look, set()).add(id)


class UserDirectory:
    """All users known to one peer, as one of its own users sees them.

    Args:
        me: The id (hex) of the own user.
        status: Returns the presence of a user.
    Attributes:
        ignored: The ids of the users that the own user ignores.
        abouts: What users tell about themselves.
    """

    __slots__ = ("_index", "_users", "abouts", "ignored", "me", "status")

    def __init__(self, me: UserId, status: Callable[[UserId], Status]) -> None:
        self.me = me
        self.status = status
        self.ignored: set[UserId] = set()
        self.abouts: dict[UserId, str] = {}
        self._index = NameIndex()
        self._users: dict[UserId, User] = {}

    def seen_by(self, me: UserId) -> UserDirectory:
        """Return the same users as another user of this peer sees them; names are shared."""
        other = UserDirectory(me, self.status)
        other.abouts, other._index = self.abouts, self._index
        return other

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

    def user(self, id: UserId) -> User:
        """Return the one User object of an id, known or not."""
        user = self._users.get(id)
        if user is None:
            user = self._users[id] = User(self, id)
        return user

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
        """Return the label of a user; see User.label."""
        index = self._index
        name = index.names.get(id)
        if not name or (look := index.looks[id]) == ROOM_SKELETON or len(index.alike[look]) > 1:
            return full_label(name, id)
        return name

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored."""
        return bool(self.ignored) and id_of(id) in self.ignored

    def find(self, text: str) -> User:
        """Return the user that an address names: `bob`, `@bob`, `bob#K7QF2M3P`, or a full id.

        Raises:
            UnknownName: No user has this name.
            AmbiguousName: Several have, or have names that look like it; `.candidates` are their labels.
        """
        name, tail = split_label(unicodedata.normalize("NFC", text.strip()).removeprefix("@"))
        if not tail:
            by_id = self._by_id(name.upper())
            if by_id is not None:
                return by_id
        fitting = self._by_tail(name, tail) if tail else self._by_name(name)
        if not fitting:
            raise UnknownName(text, self._hint())
        if len(fitting) > 1:
            raise AmbiguousName(text, sorted(full_label(self._index.names.get(id), id) for id in fitting))
        return self.user(fitting[0])

    def _by_id(self, text: str) -> User | None:
        if len(text) != FULL_ID_CHARACTERS:
            return None
        key = id_of(text)
        return self.user(key) if key in self._index.names or key in self._users else None

    def _by_tail(self, name: str, tail: str) -> list[UserId]:
        names = self._index.names
        beginning = tail if len(tail) >= 8 else tail.ljust(8, "?")  # a shorter one is no address
        fitting = [id for id in names.keys() | self._users.keys() if base32(id).startswith(beginning)]
        return [id for id in fitting if skeleton(names.get(id) or "user") == skeleton(name)]

    def _by_name(self, name: str) -> list[UserId]:
        alike = list(self.alike(name))
        if len(alike) == 1 and self._index.names[alike[0]].casefold() != name.casefold():
            return []  # it looks like a user's name, but is spelled differently
        return alike

    def _hint(self) -> str:
        others = ((name.casefold(), id) for id, name in self._index.names.items() if id != self.me)
        labels = [self.label(id) for _, id in nsmallest(8, others)]  # the quickest way: names are waited for
        return f"known are {', '.join(ascii(label)[1:-1] for label in labels)}" if labels else ""


def resolve_user(people: UserDirectory, who: User | str) -> User:
    """Return a user, given as such, by a name as typed, or by any full id; raises as UserDirectory.find."""
    if isinstance(who, User):
        return people.user(who.key)
    key = id_of(who.strip().removeprefix("@"))
    return people.user(key) if key else people.find(who)


def id_of(text: str) -> UserId:
    """Return the id in hex that people see as `text`, 52 characters of base32; "" for other text."""
    if len(text) != FULL_ID_CHARACTERS:
        return ""
    try:
        id = base64.b32decode(text.upper() + "=" * (-len(text) % 8)).hex()
    except ValueError:  # a character outside of base32, or of ASCII
        return ""
    return id if base32(id) == text.upper() else ""  # not equal: bits are set beyond the 32 bytes


def by_label(users: Iterable[User]) -> tuple[User, ...]:
    """Return users sorted by label, in the same order at every call."""
    return tuple(sorted(users, key=lambda user: (user.label.casefold(), user.key)))


# ---- whois


@dataclass(frozen=True, slots=True)
class HostPeer:
    """A peer that acts for a user.

    Attributes:
        id: The id of the peer as people see it.
        linked: Whether a link to it is up.
        address: The address from which it is linked, without a port; "" without a link.
        endpoints: Where it is known to listen, "host:port", the one that answered last first.
    """

    id: str
    linked: bool
    address: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whois:
    """Facts about one user.

    Attributes:
        names_before: Former names, by the profiles in the room, the newest first.
        known_since: When the first entry of the user arrived here; None if none did.
        allowed: Everything the user writes is stored here, without a limit (TCPPeer.allow).
        hosts: The peers that act for the user now, and the user's own peer if an address of it is known.
    """

    user: User
    names_before: tuple[str, ...]
    known_since: datetime | None
    allowed: bool
    hosts: tuple[HostPeer, ...]


def whois(node: Node, user: User, first_heard: int) -> Whois:
    """Return what a node knows of a user; `first_heard` is in UTC microseconds, 0 for never."""
    hosts = tuple(_host_peer(node, peer) for peer in _host_peers(node, user.key))
    since = aware(first_heard) if first_heard else None
    return Whois(user, former_names(node, user), since, node.sync.quota.is_allowed(user.key), hosts)


def former_names(node: Node, user: User) -> tuple[str, ...]:
    """Return the former names of a user, the newest first."""
    former = node.sync.people.former.get(user.key, {})
    return tuple(name for name in sorted(former, key=lambda name: -former[name]) if name != user.name)


def _host_peers(node: Node, user: UserId) -> list[PeerId]:
    links = (node.links.up.get(id) for id in sorted(node.presence.hosts(user)))
    peers = dict.fromkeys(link.peer for link in links if link is not None)
    if user == node.peer or user in node.links.book:
        peers = {user: None, **peers}
    return list(peers)


def _host_peer(node: Node, peer: PeerId) -> HostPeer:
    known = sorted(node.links.book.addresses(peer), key=lambda address: -address.verified_at)
    link = node.links.by_peer.get(peer)
    address = "" if link is None else link.host
    return HostPeer(base32(peer), link is not None, address, tuple(one.endpoint for one in known))


# ---- ignored users
#
# Ignoring affects only what programs show: entries of ignored users are stored, passed on and acknowledged as all
# others. The ids are stored in the database, so that another name makes no difference.


def load_ignored(people: UserDirectory, meta: Mapping[str, str], key: str = META_IGNORED) -> None:
    """Load the ids of ignored users from what storage keeps under `key`."""
    people.ignored = set(json.loads(meta.get(key, "[]")))


def ignored_meta(people: UserDirectory, key: str) -> dict[str, str]:
    """Return what to store for load_ignored."""
    return {key: json.dumps(sorted(people.ignored))}


def is_of_ignored(event: Any) -> bool:
    """Return whether an event shows what an ignored user wrote or did, or their presence.

    Receipts of one's own messages do not count, whoever they are from. Of changes of a group only those count that
    concern the ignored user alone: as a new or leaving member.
    """
    if event.event in ("delivered", "read"):
        return False
    for name in ("target",) if event.event == "group" else ("sender", "by", "user"):
        who = getattr(event, name, None)
        if isinstance(who, User):
            return who.ignored
    return False
