"""What is known of one user: names before, since when, and which peers speak for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from p2pchat.core.node import Node
from p2pchat.identity.names import base32
from p2pchat.messaging.timestamps import aware
from p2pchat.messaging.users import User
from p2pchat.protocol import PeerId, UserId


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
