"""Places of links: which peers may be linked, and whose link ends for a newcomer when all places are taken.

Some places are kept for contacts, and unknown peers share the others by where they come from. A contact that finds no
free place takes one of an unknown peer, or else one of the contact that holds most. An unknown peer that finds none
takes that of the fullest branch, or is refused (limits_by_origin.py). So one party with many keys leaves room for
others.

Over an engine all unknown peers are one branch, and nothing tells a newcomer from one more key of the party that has
all places. So relayed peers that find no place are given turns, one every few seconds. A turn says from when on, and
until when, a peer may take one of a few places, when it comes again by itself: at first that of the newest peer, later
that of the peer whose own turn was longest ago. The other places stay. With n keys that were refused before it, a
newcomer waits for n turns, is linked for a minute or more, and hears everything meanwhile. Turns are kept for a limited
number of keys: where more come all the time, a newcomer may be given none.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.config import Settings
from p2pchat.core.limits_by_origin import RELAY_HOST, Line, OriginShares, address_line
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.protocol import PeerId, UserId

TURN_EVERY = 5.0  # seconds; a guess, as all of these
TURN_LASTS = 60.0  # seconds for which nobody's turn ends the link of who came by its own
TURN_KEPT = 600.0  # seconds for which a turn is good: who was refused comes again within 300 (dialer.py)
MAX_TURNS = 1024
TURN_PART = 8  # of the places for unknown peers, one in so many is for those who come by their turn
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
        self.unknown: OriginShares[PeerId] = OriginShares(self._most_unknown)
        self.known: OriginShares[PeerId] = OriginShares(self._most)
        self._turns: dict[PeerId, float] = {}  # of relayed peers that were refused: from when on
        self._last_turn = 0.0
        self._by_turn: dict[PeerId, float] = {}  # unknown relayed peers that came by their turn, and when

    def giving_way(self, peer: PeerId, host: str, now: float, *, known: bool) -> list[PeerId] | None:
        """Return the peers whose links end for one with this peer, at most one. None when there is no place for it."""
        if peer in self._by_peer:
            return []
        line = () if known else address_line(host, peer)
        if len(self._by_peer) < self._most and (known or self.unknown.has_room(line)):
            return []
        gone = self.unknown.giving_way(line)
        if gone is None and known:
            gone = self.known.giving_way((peer,))
        elif gone is None and _is_relayed(line) and self._has_turn(peer, now):
            gone = self._ends_for_turn(now)
        return None if gone is None else [gone]

    def _has_turn(self, peer: PeerId, now: float) -> bool:
        at = self._turns.get(peer)
        return at is not None and at <= now < at + TURN_KEPT

    def _ends_for_turn(self, now: float) -> PeerId | None:
        """Return the relayed peer that gives way to one whose turn it is; None while those before have theirs."""
        if len(self._by_turn) < max(1, self._most_unknown // TURN_PART):
            newest_first = reversed([*self.unknown])
            return next((p for p in newest_first if _is_relayed(self.unknown.line(p)) and p not in self._by_turn), None)
        first, came_at = next(iter(self._by_turn.items()))
        return first if now - came_at >= TURN_LASTS else None

    def refuse(self, peer: PeerId, host: str, now: float) -> None:
        """Give a peer that finds no place a turn, if it is relayed: one after those of all who were refused before."""
        if not _is_relayed(address_line(host, peer)) or now < self._turns.get(peer, -TURN_KEPT) + TURN_KEPT:
            return
        if len(self._turns) >= MAX_TURNS:  # they are in order
            self._turns = {one: at for one, at in self._turns.items() if now < at + TURN_KEPT}
        if len(self._turns) < MAX_TURNS:
            self._last_turn = max(self._last_turn, now) + TURN_EVERY
            self._turns.pop(peer, None)
            self._turns[peer] = self._last_turn

    def take(self, link: PeerLink) -> None:
        """Count a link that comes up, perhaps in place of another one to that peer."""
        line = address_line(link.host, link.peer)
        if link.known or not link.relayed:
            self._by_turn.pop(link.peer, None)
        else:
            if self._has_turn(link.peer, link.up_at):
                self._by_turn[link.peer] = link.up_at
            self._turns.pop(link.peer, None)
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
        self._by_turn.pop(peer, None)
        return True

    def free(self, peer: PeerId) -> None:
        """Free the place of a peer that is not linked any more."""
        self.unknown.remove(peer)
        self.known.remove(peer)
        self._by_turn.pop(peer, None)

    def __str__(self) -> str:
        """Return for people how many places of unknown peers are taken, and from where most of them come."""
        branches = {line[0]: taken for line, taken in self.unknown.taken.items() if len(line) == 1}
        fullest = max(branches, key=branches.__getitem__, default="")
        most = f", {branches[fullest]} of them from {fullest}" if fullest and branches[fullest] > 1 else ""
        return f"{len(self.unknown)} of {self._most_unknown} places for peers nobody here knows are taken{most}"


def _is_relayed(line: Line) -> bool:
    """Return whether a line is that of a relayed peer. A known peer has none."""
    return line[:1] == (RELAY_HOST,)
