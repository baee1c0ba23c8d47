"""Places that members share: one member may hold a bounded number, and where all are taken the fullest gives way.

All users of a member count at it, whatever keys they have; those who count by themselves (UserMembers.share) each have
a share of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from p2pchat.protocol import UserId

Item = TypeVar("Item", bound=Hashable)


class MemberShares(Generic[Item]):
    """Places of one kind: for links, peers, requests or conversations.

    Args:
        most: How many there are.
        each: How many of them a member may hold; None for no such limit.

    Attributes:
        taken: How many each member holds.
    """

    def __init__(self, most: int, each: int | None = None) -> None:
        self.taken: Counter[UserId] = Counter()
        self._most = most
        self._each = most if each is None else each
        self._members: dict[Item, UserId] = {}  # the oldest item first

    def __contains__(self, item: object) -> bool:
        return item in self._members

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, the oldest first."""
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def has_room(self, member: UserId) -> bool:
        """Return whether there is a place for one more of this member."""
        return len(self) < self._most and self.taken[member] < self._each

    def add(self, item: Item, member: UserId) -> None:
        """Count an item that is not here. The limits are not checked."""
        if item not in self._members:
            self._members[item] = member
            self.taken[member] += 1

    def remove(self, item: Item) -> None:
        """Free the place of an item, if it has one."""
        member = self._members.pop(item, None)
        if member is not None:
            self.taken[member] -= 1
            if not self.taken[member]:
                del self.taken[member]

    def make_room(self, member: UserId, evict: Callable[[Item], None]) -> bool:
        """Return whether there is a place for one more, after another item gave way if need be.

        Args:
            evict: Called with the item that gives way; it must remove it.
        """
        if self.has_room(member):
            return True
        gone = self.giving_way(member) if self.taken[member] < self._each else None
        if gone is None:
            return False
        evict(gone)
        return self.has_room(member)

    def giving_way(self, member: UserId = "") -> Item | None:
        """Return the newest item of the fullest member, whose place a newcomer takes; None if it must be refused.

        The newcomer's member must hold fewer with it than the fullest one, so nobody comes back by the same rule. Who
        comes for no member ("") is never refused while anything is here.
        """
        if not self.taken:
            return None
        fullest = max(reversed(self.taken), key=self.taken.__getitem__)
        if member and self.taken[member] + 1 >= self.taken[fullest]:
            return None
        return next(item for item in reversed(self._members) if self._members[item] == fullest)
