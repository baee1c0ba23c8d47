"""The class of users, and facts about a user. Labels and names are in name_resolution.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from p2pchat.core.names import base32
from p2pchat.core.node import Node
from p2pchat.messaging.events import aware, json_fields
from p2pchat.protocol import PeerId, UserId

if TYPE_CHECKING:
    from p2pchat.messaging.name_resolution import UserDirectory


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
    def ignored(self) -> bool:
        """True if the own user ignores or blocks this one (TCPPeer.ignore, TCPPeer.block), so it is not shown."""
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
        return self._people.status(self.key)[1]

    @property
    def since(self) -> datetime | None:
        """Since when the status holds, by the user's own clock; None if unknown, or if nobody has set one there."""
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


@json_fields.register(User)
def _user_fields(user: User, name: str) -> dict[str, str]:
    return {name: user.label, f"{name}_id": user.id}


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
    hosts = tuple(_host_peer(node, peer) for peer in host_peers(node, user.key))
    since = aware(first_heard) if first_heard else None
    return Whois(user, since, node.sync.quota.is_allowed(user.key), hosts)


def host_peers(node: Node, user: UserId) -> list[PeerId]:
    """Return the peers that are known to act for a user: those linked, and the user's own if an address is known."""
    links = (node.links.up.get(id) for id in sorted(node.presence.hosts.get(user, ())))
    peers = dict.fromkeys(link.peer for link in links if link is not None)
    if user == node.peer or user in node.links.book:
        peers = {user: None, **peers}
    return list(peers)


def _host_peer(node: Node, peer: PeerId) -> HostPeer:
    known = sorted(node.links.book.addresses(peer), key=lambda address: -address.verified_at)
    link = node.links.by_peer.get(peer)
    address = "" if link is None else link.host
    return HostPeer(base32(peer), link is not None, address, tuple(one.endpoint for one in known))
