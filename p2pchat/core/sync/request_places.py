"""Places of requests: few for each hosted user, shared by the peers that bring them, and who gives way to a newcomer.

The same rules hold for direct conversations (message_requests.py) and for groups (group_requests.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from p2pchat.config import Settings
from p2pchat.core.shares import Line, Shares
from p2pchat.protocol import ConversationId, PeerId, UserId

FEW, ALL, KNOWN = "few", "all", "known"
CHOICES = (FEW, ALL, KNOWN)
NODE = ""  # in place of a hosted user: the places of the groups of all of them
NODE_FACTOR = 16  # so many times the places of one user; a guess: 4,096 groups take 60 MiB


def source_line(peer: PeerId, network: str) -> str:
    """Return from where a request was brought, as its line in storage says it."""
    return f"{peer}@{network}" if network else peer


def make_room(
    places: Shares[ConversationId], line: Line, network: str, evict: Callable[[ConversationId], None],
    linked: Callable[[], Collection[PeerId]], network_of: Callable[[ConversationId], str],
) -> bool:  # fmt: skip
    """Return whether there is room for one more of a peer that has room for itself, after others gave way if need be.

    At last the oldest gives way whose peer is gone, to a peer that has nothing here yet: otherwise as many keys as
    places would close the door for good, and a few peers with many conversations would have all others deleted. It is
    one of the network that has most of those, with the new one: otherwise as many keys as places would have all others
    deleted.
    """
    while not places.make_room(line, evict):
        if places.taken[line[:1]]:
            return False
        here = linked()
        gone = [id for id in places if places.line(id)[0] not in here]
        if not gone:
            return False
        networks = Counter([network, *map(network_of, gone)])
        evict(max(gone, key=lambda id: networks[network_of(id)]))  # of equal ones the oldest
    return True


class GroupPlaces:
    """Places of groups at the hosted users that they name, shared by the peers that bring them, there by owner."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shares: dict[UserId, Shares[ConversationId]] = {}  # by the hosted user, or NODE
        self._users: dict[ConversationId, list[UserId]] = {}  # where a group has places

    def __contains__(self, id: object) -> bool:
        return id in self._users

    def at(self, user: UserId) -> Shares[ConversationId]:
        """Return the places at one user."""
        if user not in self._shares:
            most, factor = self._settings.max_requests, NODE_FACTOR if user == NODE else 1
            self._shares[user] = Shares(most * factor, self._settings.max_requests_a_peer * factor)
        return self._shares[user]

    def has_part(self, user: UserId, peer: PeerId, owner: UserId, most: int | None = None) -> bool:
        """Return whether one more of an owner may take one of the places of a peer, `most` by default.

        An owner who is not the peer's own user may have one, or a part of what is left.
        """
        taken, factor = self.at(user).taken, NODE_FACTOR if user == NODE else 1
        left = (self._settings.max_requests_a_peer * factor if most is None else most) - taken[peer,]
        part = max(1, left // self._settings.branch_part_of_user)
        return left > 0 and (owner == peer or taken[peer, owner] < part)

    def missing(self, id: ConversationId, users: Iterable[UserId]) -> list[UserId]:
        """Return those of these users at whom a group has no place."""
        return [user for user in users if id not in self.at(user)]

    def take(self, id: ConversationId, users: Iterable[UserId], peer: PeerId, owner: UserId) -> None:
        """Give a group a place at each of these users."""
        missing = self.missing(id, users)
        self._users.setdefault(id, []).extend(missing)
        for user in missing:
            self.at(user).add(id, (peer, owner))

    def free(self, id: ConversationId) -> None:
        """Free all places of a group."""
        for user in self._users.pop(id, ()):
            self.free_at(user, id)

    def free_at(self, user: UserId, id: ConversationId) -> None:
        """Free the place of a group at one user."""
        if user in self._shares:
            self._shares[user].remove(id)

    def drop(self, user: UserId) -> None:
        """Forget the places at a user that is not hosted any more."""
        self._shares.pop(user, None)
