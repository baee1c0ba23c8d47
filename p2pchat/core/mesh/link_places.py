"""Places of links: which peers may be linked, and whose link ends for a newcomer when all places are taken.

Some places are kept for contacts, and unknown peers share the others by where they come from. A contact that finds no
free place takes one of an unknown peer, or else one of the contact that holds most. An unknown peer that finds none
takes that of the fullest branch, or is refused (shares.py). So one party with many keys leaves room for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.config import Settings
from p2pchat.core.mesh.link import PeerLink
from p2pchat.core.shares import Shares, address_line
from p2pchat.protocol import PeerId, UserId

MAX_PEERS_OF_CONTACT = 8  # that are known because they host it, besides its own; a guess: one has few devices


class LinkPlaces:
    """The places of the links of one node.

    Args:
        by_peer: The links that are up.

    Attributes:
        unknown: The unknown peers among them.
        known: The others, each below the contact that it is or hosts.
    """

    def __init__(self, settings: Settings, by_peer: Mapping[PeerId, PeerLink]) -> None:
        self._by_peer = by_peer
        self._most = settings.max_links
        self._most_unknown = self._most - min(settings.known_links, self._most // 2)
        self.unknown: Shares[PeerId] = Shares(self._most_unknown)
        self.known: Shares[PeerId] = Shares(self._most)

    def giving_way(self, peer: PeerId, host: str, *, known: bool) -> list[PeerId] | None:
        """Return the peers whose links end for one with this peer, at most one. None when there is no place for it."""
        if peer in self._by_peer:
            return []
        line = () if known else address_line(host, peer)
        if len(self._by_peer) < self._most and (known or self.unknown.has_room(line)):
            return []
        gone = self.unknown.giving_way(line)
        if gone is None and known:
            gone = self.known.giving_way((peer,))
        return None if gone is None else [gone]

    def take(self, link: PeerLink) -> None:
        """Count a link that comes up, perhaps in place of another one to that peer."""
        line = address_line(link.host, link.peer)
        if link.known or self.unknown.line(link.peer) != line:
            self.unknown.remove(link.peer)
        if link.known and link.peer not in self.known:
            self.known.add(link.peer, (link.peer, link.peer))
        elif not link.known and link.peer not in self.unknown:
            self.unknown.add(link.peer, line)

    def take_known(self, peer: PeerId, contact: PeerId | UserId) -> bool:
        """Count a linked peer as known: it is this contact, or hosts it. Return False if the contact has many already.

        A contact may be hosted by any number of peers, by a gateway for example, or by keys that it made up.
        """
        if contact == peer:
            self.known.remove(peer)
        elif peer in self.known:
            return True
        elif self.known.taken[contact,] >= MAX_PEERS_OF_CONTACT:
            return False
        self.unknown.remove(peer)
        self.known.add(peer, (contact, peer))
        return True

    def free(self, peer: PeerId) -> None:
        """Free the place of a peer that is not linked any more."""
        self.unknown.remove(peer)
        self.known.remove(peer)

    def __str__(self) -> str:
        """Return for people how many places of unknown peers are taken, and from where most of them come."""
        branches = {line[0]: taken for line, taken in self.unknown.taken.items() if len(line) == 1}
        fullest = max(branches, key=branches.__getitem__, default="")
        most = f", {branches[fullest]} of them from {fullest}" if fullest and branches[fullest] > 1 else ""
        return f"{len(self.unknown)} of {self._most_unknown} places for peers nobody here knows are taken{most}"
