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
from p2pchat.core.members.user_members import Line, UserMembers
from p2pchat.protocol import UserId


class MemberBytes:
    """Bytes of one kind.

    Args:
        members: Which member answers for a user.
        contacts: A live view of the contacts.
        is_free: Returns whether nothing limits a user.

    Attributes:
        of_user: What each user takes, contacts and free ones included.
        lines: Where users count who share the room of their member, or who did: the member, and the user.
    """

    def __init__(
        self, limits: MemberLimits, members: UserMembers, contacts: Container[UserId], is_free: Callable[[UserId], bool]
    ) -> None:
        self._limits = limits
        self._members = members
        self._contacts = contacts
        self._is_free = is_free
        self.of_user: Counter[UserId] = Counter()
        self.lines: dict[UserId, Line] = {}
        self._taken: Counter[Line] = Counter()  # by all of them, (), and by each member

    def beside(self) -> MemberBytes:
        """Return a count of bytes of another kind, with limits as high."""
        return MemberBytes(self._limits, self._members, self._contacts, self._is_free)

    def load(self, sizes: Iterable[tuple[UserId, int]]) -> None:
        """Count what is stored, once the contacts are known."""
        for user, size in sizes:
            self.settle(user)
            self.add(user, size)

    def line(self, user: UserId, named_now: UserId = "") -> Line:
        """Return where a user counts, () for one who shares nothing.

        Args:
            named_now: A member that a header names, and that is not noted yet.
        """
        is_limited = not (user in self._contacts or self._is_free(user) or self._members.is_out(user))
        return self._members.line(user, named_now) if is_limited else ()

    def places(self, user: UserId, line: Line) -> tuple[Line, ...]:
        """Return where a user with this line may exceed a limit."""
        return ((), line[:1], line) if line else ((user, ""),)

    # ---- counting

    def settle(self, user: UserId, named_now: UserId = "") -> bool:
        """Count all of a user where it belongs now. Return whether it shared the room of another member before."""
        former, line, size = self.lines.get(user, ()), self.line(user, named_now), self.of_user[user]
        if line == former:
            return False
        self.add(user, -size)
        self.lines[user] = line
        self.add(user, size)
        return bool(former)

    def settle_all(self) -> bool:
        """Count what the expelled have here in no room that others need, and what the pardoned have where it belongs.

        Return whether any of it shared the room of another member before.
        """
        return sum(self.settle(user) for user in [*self.of_user]) > 0

    def add(self, user: UserId, more: int) -> None:
        """Count so much more of a user. The limits are not checked here."""
        self.of_user[user] += more
        if line := self.lines.get(user):
            self._taken[()] += more
            self._taken[line[:1]] += more

    def full(self, user: UserId, more: int) -> Line | None:
        """Return where a user would exceed a limit with so much more; None if there is room."""
        own, line, limits = self.of_user[user] + more, self.lines.get(user), self._limits
        if not line:
            return (user, "") if own > limits.contact_bytes and not self._is_free(user) else None
        if self._taken[()] + more > limits.others_bytes:
            return ()
        left = limits.member_bytes - self._taken[line[:1]]
        if more > left:
            return line[:1]
        is_part = line[0] != user
        return line if is_part and own > max(limits.user_least_bytes, left // limits.user_part) else None

    def used(self, user: UserId) -> float:
        """Return which part of the room of a contact, or of a user's member, is taken."""
        line, limits = self.lines.get(user), self._limits
        return self._taken[line[:1]] / limits.member_bytes if line else self.of_user[user] / limits.contact_bytes
