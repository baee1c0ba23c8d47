"""Bytes that users take on this disk, counted by the member that answers for each.

A contact has room of its own (Settings.contact_bytes). All other users of a member share that of their member, whatever
keys they write under, and each but the member itself has a part of what is left: one account of a gateway leaves room
to the others. A little is free to each while there is room. Users who count by themselves (user_members.py) have as
much as a member. The limits and what they add up to stand in one table, config.py.

Nothing is stored for it: the bytes of a member are those of its users, which storage knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable

from p2pchat.config import MemberLimits
from p2pchat.core.limits_by_origin import Line
from p2pchat.core.members.user_members import UserMembers
from p2pchat.protocol import UserId


class MemberBytes:
    """Bytes of one kind.

    Args:
        members: Which member answers for a user.
        contacts: A live view of the contacts.
        is_free: Returns whether nothing limits a user.

    Attributes:
        of_user: What each user takes, contacts and free ones included.
    """

    def __init__(
        self, limits: MemberLimits, members: UserMembers, contacts: Container[UserId], is_free: Callable[[UserId], bool]
    ) -> None:
        self._limits = limits
        self._members = members
        self._contacts = contacts
        self._is_free = is_free
        self.of_user: Counter[UserId] = Counter()
        self._taken: Counter[Line] = Counter()  # by all others, (), and by each of their members
        self._lines: dict[UserId, Line] = {}  # of users who are counted there

    def beside(self) -> MemberBytes:
        """Return a count of bytes of another kind, with limits as high."""
        return MemberBytes(self._limits, self._members, self._contacts, self._is_free)

    def load(self, sizes: Iterable[tuple[UserId, int]]) -> None:
        """Count what is stored, once the contacts are known."""
        for user, size in sizes:
            self.add(user, size, () if self._members.is_out(user) else self.line(user))

    def release_expelled(self) -> bool:
        """Count what the expelled have here in no room that others need. Return whether any of it counted."""
        gone = [user for user, line in self._lines.items() if line and self._members.is_out(user)]
        for user in gone:
            self.settle(user, ())
        return bool(gone)

    def is_limited(self, user: UserId) -> bool:
        """Return whether a user shares the room of its member."""
        return not (user in self._contacts or self._is_free(user))

    def line(self, user: UserId, member: UserId = "") -> Line:
        """Return where a user counts; () for one that shares nothing.

        Args:
            member: A member that a header names, and that is not noted yet.
        """
        return self._members.line(user, member) if self.is_limited(user) else ()

    def places(self, user: UserId, line: Line) -> tuple[Line, ...]:
        """Return where a user with this line may exceed a limit."""
        return ((), line[:1], line) if line else ((user, ""),)

    def full(self, user: UserId, more: int, line: Line) -> Line | None:
        """Return where a user, settled at this line, would exceed a limit with so much more; None if there is room."""
        own, limits = self.of_user[user] + more, self._limits
        if not line:
            return (user, "") if own > limits.contact_bytes else None
        if self._taken[()] + more > limits.others_bytes:
            return ()
        left = limits.member_bytes - self._taken[line[:1]]
        if more > left:
            return line[:1]
        is_part = line[0] != user
        return line if is_part and own > max(limits.user_least_bytes, left // limits.user_part) else None

    def used(self, user: UserId, line: Line) -> float:
        """Return which part of the room of a contact, or of a user's member, is taken."""
        limits = self._limits
        return self._taken[line[:1]] / limits.member_bytes if line else self.of_user[user] / limits.contact_bytes

    def add(self, user: UserId, more: int, line: Line) -> None:
        """Count so much more at this line. The limits are not checked here."""
        self.settle(user, line)
        self.of_user[user] += more
        if line:
            self._taken[()] += more
            self._taken[line[:1]] += more

    def settle(self, user: UserId, line: Line) -> bool:
        """Count all of a user at this line from now on. Return whether it shared the room of another member before."""
        former = self._lines.get(user, ())
        if line == former:
            return False
        for place, size in ((former, -self.of_user[user]), (line, self.of_user[user])):
            if place:
                self._taken[()] += size
                self._taken[place[:1]] += size
        self._lines[user] = line
        return bool(former)
