"""Who is who: users as programs hold them, the labels people see, and what a typed name means.

A name is only a label somebody chose; the key is the person. So two users whose names are equal, or look alike, are
both shown with the beginning of their id, and an address that fits both is refused with the two to choose from.
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
from p2pchat.identity.names import ROOM_SKELETON, base32, full_label, skeleton, split_label, suffix
from p2pchat.messaging.timestamps import aware
from p2pchat.protocol import PeerId, UserId

__all__ = ["UserDirectory", "User", "base32", "by_label", "id_of", "somebody", "suffix"]


Status = tuple[str, str, int]  # status, text, since in UTC microseconds (0: not told)
FULL_ID_CHARACTERS = 52  # 32 bytes in base32


class User:
    """Somebody who writes. Equal by id; name, label and status are those of this moment.

    Attributes:
        key: The id as it is inside and on the wire, hex.
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
        """The name by the newest profile; "" when nobody told one."""
        return self._people.name(self.key)

    @property
    def about(self) -> str:
        """What this user tells of itself by the newest profile; "" for nothing."""
        return self._people.abouts.get(self.key, "")

    @property
    def label(self) -> str:
        """The name to show: with the beginning of the id where the name alone could be taken for another's."""
        return self._people.label(self.key)

    @property
    def is_me(self) -> bool:
        return self.key == self._people.me

    @property
    def ignored(self) -> bool:
        """Whether the own user does not want to hear of this one (TCPPeer.ignore)."""
        return self.key in self._people.ignored

    @property
    def status(self) -> str:
        """online, idle, offline, or unknown (never heard of since this peer started)."""
        return self._people.status(self.key)[0]

    @property
    def status_text(self) -> str:
        """What the user tells with the status; "" for nothing."""
        return self._people.status(self.key)[1]

    @property
    def since(self) -> datetime | None:
        """Since when the status holds, by the user's own clock; None when not told."""
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


class UserDirectory:
    """All users known to one peer, as one of its own sees them.

    Args:
        me: The own user.
        status: Tells presence; the peer's core does, for a history that is only read nobody does.
    Attributes:
        ignored: Whom the own user does not want to hear of.
        abouts: What users tell of themselves.
    """

    __slots__ = ("_alike", "_looks", "_names", "_users", "abouts", "ignored", "me", "status")

    def __init__(self, me: UserId, status: Callable[[UserId], Status]) -> None:
        self.me = me
        self.status = status
        self.ignored: set[UserId] = set()
        self.abouts: dict[UserId, str] = {}
        self._names: dict[UserId, str] = {}
        self._looks: dict[UserId, str] = {}  # the skeleton of each name: a label is asked for with every line
        self._alike: dict[str, set[UserId]] = {}  # by skeleton
        self._users: dict[UserId, User] = {}

    def seen_by(self, me: UserId) -> UserDirectory:
        """Return the same people as another user of this peer sees them: what they are called is known once."""
        other = UserDirectory(me, self.status)
        other.abouts, other._names, other._looks, other._alike = self.abouts, self._names, self._looks, self._alike
        return other

    def learn(self, names: Iterable[tuple[UserId, str]]) -> None:
        """Take (new) names."""
        for id, name in names:
            if id in self._names:
                self._unlearn(id, self._looks[id])
            self._names[id] = name
            self._looks[id] = skeleton(name)
            self._alike.setdefault(self._looks[id], set()).add(id)

    def tell_about(self, id: UserId, about: str) -> None:
        """Take what a user tells of itself now."""
        if about:
            self.abouts[id] = about
        else:
            self.abouts.pop(id, None)

    def _unlearn(self, id: UserId, looks: str) -> None:
        self._alike[looks].discard(id)
        if not self._alike[looks]:
            del self._alike[looks]  # who takes one name after the other leaves nothing behind

    def user(self, id: UserId) -> User:
        """Return the one User object of an id, known or not."""
        user = self._users.get(id)
        if user is None:
            user = self._users[id] = User(self, id)
        return user

    def all(self) -> list[User]:
        """Return every user with a name, by label."""
        return sorted((self.user(id) for id in self._names), key=lambda user: user.label.casefold())

    @property
    def known(self) -> AbstractSet[UserId]:
        """The ids of all users with a name; a live view."""
        return self._names.keys()

    def alike(self, name: str) -> AbstractSet[UserId]:
        """Return those whose names could be taken for this one; a live view."""
        return self._alike.get(skeleton(name), set())

    def name(self, id: UserId) -> str:
        return self._names.get(id, "")

    def label(self, id: UserId) -> str:
        name = self._names.get(id)
        if not name or (looks := self._looks[id]) == ROOM_SKELETON or len(self._alike[looks]) > 1:
            return full_label(name, id)
        return name

    def find(self, text: str) -> User:
        """Return the user whom an address names: `bob`, `@bob`, `bob#K7QF2M3P`, or a full id.

        Raises:
            UnknownName: Nobody is called so.
            AmbiguousName: Several are, or look as if; candidates are their labels.
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
            raise AmbiguousName(text, sorted(full_label(self._names.get(id), id) for id in fitting))
        return self.user(fitting[0])

    def someone(self, text: str) -> User:
        """Return the user whom an address names, as find; also one of a full id that nobody here has met."""
        key = id_of(text.strip().removeprefix("@"))
        return self.user(key) if key else self.find(text)

    def _by_id(self, text: str) -> User | None:
        if len(text) != FULL_ID_CHARACTERS:
            return None
        key = id_of(text)
        return self.user(key) if key in self._names or key in self._users else None

    def _by_tail(self, name: str, tail: str) -> list[UserId]:
        known = self._names.keys() | self._users.keys()
        wanted = tail if len(tail) >= 8 else tail.ljust(8, "?")  # a shorter one is no address
        return [id for id in known if base32(id).startswith(wanted) and self._called(id, name)]

    def _called(self, id: UserId, name: str) -> bool:
        return skeleton(self._names.get(id) or "user") == skeleton(name)

    def _by_name(self, name: str) -> list[UserId]:
        alike = list(self._alike.get(skeleton(name), ()))
        if len(alike) == 1 and self._names[alike[0]].casefold() != name.casefold():
            return []  # looks like somebody, but is spelled otherwise
        return alike

    def _hint(self) -> str:
        others = ((name.casefold(), id) for id, name in self._names.items() if id != self.me)
        labels = [self.label(id) for _, id in nsmallest(8, others)]  # as quick as may be: names are waited for
        return f"known are {', '.join(ascii(label)[1:-1] for label in labels)}" if labels else ""


def somebody(people: UserDirectory, who: User | str) -> User:
    """Return who is meant by a user, a name as typed, or a full id, known or not; raises as People.find."""
    return people.user(who.key) if isinstance(who, User) else people.someone(who)


def id_of(text: str) -> UserId:
    """Return the id (hex) that people see as `text`, 52 characters of base32; "" when that is none."""
    if len(text) != FULL_ID_CHARACTERS:
        return ""
    try:
        id = base64.b32decode(text.upper() + "=" * (-len(text) % 8)).hex()
    except ValueError:  # another letter than of base32, or of ASCII
        return ""
    return id if base32(id) == text.upper() else ""  # bits beyond its 32 bytes


def by_label(users: Iterable[User]) -> tuple[User, ...]:
    """Return users in the order of their labels, the same at every call."""
    return tuple(sorted(users, key=lambda user: (user.label.casefold(), user.key)))


# ---- whois
#
# What is known of one user: names before, since when, and which peers speak for it.


@dataclass(frozen=True, slots=True)
class HostPeer:
    """A peer that speaks for a user.

    Attributes:
        id: Its id as people see it.
        linked: Whether a link to it is up.
        address: From where that link comes, without a port; "" without a link.
        endpoints: Where it is known to listen, "host:port", the place where it answered last first.
    """

    id: str
    linked: bool
    address: str
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whois:
    """What is known of one user.

    Attributes:
        names_before: Other names it had, by the profiles in the room, the newest first.
        known_since: When something it wrote came here first; None when nothing ever did.
        allowed: All it writes is stored here, without a limit (TCPPeer.allow).
        hosts: The peers that speak for it now, and its own peer where an address of that is known.
    """

    user: User
    names_before: tuple[str, ...]
    known_since: datetime | None
    allowed: bool
    hosts: tuple[HostPeer, ...]


def known_of(node: Node, user: User, first_heard: int) -> Whois:
    """Return what a node knows; `first_heard` is UTC microseconds, 0 for never."""
    hosts = tuple(_host(node, peer) for peer in _hosts(node, user.key))
    since = aware(first_heard) if first_heard else None
    return Whois(user, names_before(node, user), since, node.sync.quota.is_allowed(user.key), hosts)


def names_before(node: Node, user: User) -> tuple[str, ...]:
    """Return other names a user had, the newest first."""
    former = node.sync.people.former.get(user.key, {})
    return tuple(name for name in sorted(former, key=lambda name: -former[name]) if name != user.name)


def _hosts(node: Node, user: UserId) -> list[PeerId]:
    links = (node.links.up.get(id) for id in sorted(node.presence.hosts(user)))
    peers = dict.fromkeys(link.peer for link in links if link is not None)
    if user == node.peer or user in node.links.book:
        peers = {user: None, **peers}
    return list(peers)


def _host(node: Node, peer: PeerId) -> HostPeer:
    known = sorted(node.links.book.addresses(peer), key=lambda address: -address.verified_at)
    link = node.links.by_peer.get(peer)
    return HostPeer(
        base32(peer), link is not None, "" if link is None else link.host, tuple(address.endpoint for address in known)
    )


# ---- ignoring
#
# Whom the own user does not want to hear of: remembered by key, in the database, whatever they are called.
#
# Nothing is stored, passed on or acknowledged otherwise for it: it is only about what is shown. A program is told
# everything unless it asks not to be (`events(ignored=False)`), and finds `ignored` on every user.


OF_ONES_OWN = ("delivered", "read")  # what became of one's own messages, whoever has them


def ignored_of(user: UserId) -> str:
    """Return under which name it is kept whom a hosted user ignores."""
    return f"{META_IGNORED}:{user}"


def load_ignored(people: UserDirectory, meta: Mapping[str, str], name: str = META_IGNORED) -> None:
    """Take over who is ignored."""
    people.ignored = set(json.loads(meta.get(name, "[]")))


def ignored_meta(people: UserDirectory, name: str = META_IGNORED) -> dict[str, str]:
    """Return it as it is kept."""
    return {name: json.dumps(sorted(people.ignored))}


def is_of_ignored(event: Any) -> bool:
    """Whether an event is of somebody who is ignored: what they wrote or did, and how they are.

    What they make of a group is everybody's; only that they themselves come or go is theirs.
    """
    if event.event in OF_ONES_OWN:
        return False
    for name in ("target",) if event.event == "group" else ("sender", "by", "user"):
        who = getattr(event, name, None)
        if isinstance(who, User):
            return who.ignored
    return False
