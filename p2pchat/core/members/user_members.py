"""The members that answer for users with logs here.

The header of a log names the member that answers for its writer. Without one the writer is a member itself. Storage
keeps what headers say, so a user is known here as soon as something that it wrote is.

A log begins here only if its member was ever named by a statement that is kept: anybody can make up members, and have
others store and pass on what they write. Logs that were refused are remembered, so that they are not fetched again
until a statement names their member.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from p2pchat.core.log import LogId
from p2pchat.core.members.guests import is_guest
from p2pchat.protocol import GuestCertificate, UserId

MAX_UNNAMED = 4096  # logs that are remembered as refused; a guess: 2 MiB


class UserMembers:
    """Which member answers for each user.

    Args:
        network: The id of the network (hex).
        known: The members that answer for users, by user. It is kept and added to.
        is_named: Returns whether somebody was ever said to be a member.
        proved: Returns the member that answered for a peer when it was last here; None where that is not known.

    Attributes:
        unnamed: The newest logs that were refused because nobody named their members, and these members.
    """

    def __init__(
        self,
        network: str,
        known: dict[UserId, UserId],
        is_named: Callable[[UserId], bool] = lambda member: True,
        proved: Callable[[UserId], UserId | None] = lambda user: None,
    ) -> None:
        self._members = known
        self._is_named = is_named
        self._proved = proved
        self._strings: dict[UserId, UserId] = {member: member for member in known.values()}
        self.unnamed: dict[LogId, UserId] = {}
        # A user begins many logs, each with the same certificate.
        self._is_guest = lru_cache(maxsize=1024)(
            lambda user, member, sig: is_guest(network, user, GuestCertificate(member, sig))
        )

    def vouches(self, user: UserId, certificate: GuestCertificate) -> bool:
        """Return whether the member in a certificate signed that it answers for this user."""
        return self._is_guest(user, certificate.member, certificate.sig)

    def may_begin(self, log: LogId, certificate: GuestCertificate | None) -> bool:
        """Return whether somebody named the member of a log, whose writer signed its header; remember it if not."""
        member = log.user if certificate is None else certificate.member
        if self._is_named(member):
            return True
        self.unnamed[log] = member
        if len(self.unnamed) > MAX_UNNAMED:
            del self.unnamed[next(iter(self.unnamed))]
        return False

    def forget_named(self) -> bool:
        """Forget refused logs whose members are named now. Return whether there were any."""
        named = [log for log, member in self.unnamed.items() if self._is_named(member)]
        for log in named:
            del self.unnamed[log]
        return bool(named)

    def note(self, user: UserId, claimed: UserId | None) -> UserId | None:
        """Note which member answers for a user, as the header of a log claims, None for none; return which counts.

        One that was said to be a member counts before one that anybody can make up, then the one that was proved on a
        link, then that with the smallest key.
        """
        proved = self._proved(user)
        found = {member for member in (claimed, proved, self._members.get(user)) if member not in (None, user)}
        if not found:
            return None
        counts = min(found, key=lambda member: (not self._is_named(member), member != proved, member))
        self._members[user] = self._strings.setdefault(counts, counts)
        return counts

    def users_of(self, member: UserId) -> list[UserId]:
        """Return the users with logs here for whom a member answers."""
        return [user for user, known in self._members.items() if known == member] if member in self._strings else []

    def member_of(self, user: UserId) -> UserId:
        """Return the member that answers for a user; the user itself if it is a member."""
        return self._members.get(user, user)
