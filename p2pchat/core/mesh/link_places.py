"""Places of links: which peers may be linked, and whose link ends for a newcomer when all places are taken.

Some places are kept for contacts; all others share the rest by their members (user_members.py). A contact that finds no
free place takes the newest of another peer, or else one of the contact that holds most. Another peer that finds none
takes one of the fullest member, or is refused. So one member with many keys leaves room for others.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.core.members.user_members import MemberShares, UserMembers
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.protocol import PeerId, UserId
from p2pchat.settings import Settings

MAX_OF_MEMBER = 8  # once half of the places are taken; of a contact, that are known because they host it; a guess


class LinkPlaces:
    """The places of the links of one node.

    Args:
        by_peer: The links that are up.
        members: Says at whom a peer counts: its member, or itself.
    """

    def __init__(self, settings: Settings, by_peer: Mapping[PeerId, PeerLink], members: UserMembers) -> None:
        self._by_peer = by_peer
        self._members = members
        self._most = settings.max_links
        self._others: MemberShares[PeerId] = MemberShares(self._most - min(settings.known_links, self._most // 2))
        self._known: MemberShares[PeerId] = MemberShares(self._most)  # below the contact that each is or hosts

    def giving_way(self, peer: PeerId, *, known: bool) -> list[PeerId] | None:
        """Return the peers whose links end for one with this peer, at most one. None when there is no place for it."""
        if peer in self._by_peer:
            return []
        member = "" if known else self._members.share(peer)
        is_scarce = 2 * len(self._by_peer) >= self._most
        if is_scarce and self._others.taken[member] >= MAX_OF_MEMBER:
            return None
        if len(self._by_peer) < self._most and (known or self._others.has_room(member)):
            return []
        gone = self._others.giving_way(member)
        if gone is None and known:
            gone = self._known.giving_way(peer)
        return None if gone is None else [gone]

    def take(self, link: PeerLink) -> None:
        """Count a link that comes up, perhaps in place of another one to that peer."""
        if link.known:
            self._others.remove(link.peer)
            self._known.add(link.peer, link.peer)
        else:
            self._others.add(link.peer, self._members.share(link.peer))

    def take_known(self, peer: PeerId, contact: PeerId | UserId) -> bool:
        """Count a linked peer as known: it is this contact, or hosts it. Return False if the contact has many already.

        A contact may be hosted by any number of peers, by a gateway for example, or by keys that it made up.
        """
        if contact == peer:
            self._known.remove(peer)
        elif peer in self._known:
            return True
        elif self._known.taken[contact] >= MAX_OF_MEMBER:
            return False
        self._others.remove(peer)
        self._known.add(peer, contact)
        return True

    def free(self, peer: PeerId) -> None:
        """Free the place of a peer that is not linked any more."""
        self._others.remove(peer)
        self._known.remove(peer)

    def __str__(self) -> str:
        """Return for people how many places are taken, and how many of them by one member."""
        most = max(self._others.taken.values(), default=0)
        of_one = f", {most} of them by one member" if most > 1 else ""
        return f"{len(self._by_peer)} of {self._most} places for links are taken{of_one}"
