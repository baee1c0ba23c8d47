"""Forgetting where a peer is: what a typed word means there, and what was forgotten.

It ends dialling, nothing else: a link that is up stays up, and whoever is linked with that peer may tell of it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pchat.core.inputs import Forget
from p2pchat.core.node import Node
from p2pchat.errors import UnknownName
from p2pchat.identity.names import base32
from p2pchat.messaging.users import FULL_ID_CHARACTERS, People, User
from p2pchat.peer.endpoints import normal
from p2pchat.protocol import PeerId


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` did.

    Attributes:
        endpoints: Not dialled any more; () when none was known (a peer that only ever dialled here).
        linked: A link to that peer is up: it stays until it ends.
    """

    endpoints: tuple[str, ...]
    linked: bool


def forgetting(node: Node, people: People, who: User | str | int) -> tuple[Forgotten, list[Forget]]:
    """Return what will be forgotten, and the inputs that do it.

    Raises:
        UnknownName: No peer and no user is called so, or nobody knows that endpoint.
        ValueError: That is this peer itself.
    """
    text = who if isinstance(who, str) else str(who)
    if not isinstance(who, User) and (isinstance(who, int) or ":" in text or text.strip().isdecimal()):
        return _endpoint(node, normal(who))
    peers = _peers(node, people, who)
    endpoints = dict.fromkeys(endpoint for peer in peers for endpoint in node.links.endpoints(peer))
    linked = any(peer in node.links.by_peer for peer in peers)
    return Forgotten(tuple(endpoints), linked), [Forget(peer) for peer in peers]


def _endpoint(node: Node, endpoint: str) -> tuple[Forgotten, list[Forget]]:
    if not node.links.is_dialled(endpoint):
        raise UnknownName(endpoint, text=f"{endpoint} is not dialled, and no peer is known there")
    linked = any(endpoint in node.links.endpoints(peer) for peer in node.links.by_peer)
    return Forgotten((endpoint,), linked), [Forget(endpoint=endpoint)]


def _peers(node: Node, people: People, who: User | str) -> list[PeerId]:
    """Return the peers meant: the one with this id, or those that host this user and the user's own."""
    known = {*node.links.book, *node.links.by_peer}
    if isinstance(who, str) and len(who.strip()) == FULL_ID_CHARACTERS:
        named = [peer for peer in known if base32(peer) == who.strip().upper()]
        if named:
            return named
    user = who if isinstance(who, User) else people.find(who)
    if user.key == node.peer:
        raise ValueError("that is this peer itself: it does not dial itself")
    hosting = {node.links.up[link].peer for link in node.presence.hosts(user.key) if link in node.links.up}
    return sorted({user.key, *hosting})


__all__ = ["Forgotten", "forgetting"]
