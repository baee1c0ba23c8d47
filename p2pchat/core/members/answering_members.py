"""Which member answers for a user, and for which users a member answers, by all that this peer knows.

That are its own users, its links, the logs here (user_members.py), and who answered for a peer when it was last here.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.core.members.admission import Admission
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import HostedIdentities
from p2pchat.protocol import PeerId, UserId


class AnsweringMembers:
    """The members that answer for users known here.

    Args:
        me: This peer's id.
        hosted: The users hosted here.
        up: The links that are up, by number.
        by_logs: The members that answer for users with logs here.
        names: Names of users.
    """

    def __init__(
        self,
        me: PeerId,
        hosted: HostedIdentities,
        admission: Admission,
        up: Mapping[int, PeerLink],
        by_logs: UserMembers,
        statements: StatementExchange,
        names: Mapping[UserId, str],
    ) -> None:
        self._me = me
        self._hosted = hosted
        self._admission = admission
        self._up = up
        self._by_logs = by_logs
        self._statements = statements
        self._names = names

    def member_of(self, user: UserId) -> UserId:
        """Return the member that answers for a user; "" where that is not known."""
        if user in self._hosted:
            return self._admission.member
        for link in self._up.values():
            if user in link.users:
                return link.member
        last, wrote = self._admission.last_members, self._by_logs.member_of(user)
        if user in last or wrote != user:
            return last.get(user, wrote)
        members = self._statements.members
        return user if members is not None and user in members.named else ""

    def users_of(self, member: UserId) -> set[UserId]:
        """Return the users for whom a member answers."""
        found = {peer for peer, known in self._admission.last_members.items() if known == member}
        found.update(self._by_logs.users_of(member))
        for link in self._up.values():
            if link.member == member:
                found.update(link.users)
        return found | (set(self._hosted) if member == self._admission.member else set())

    def expelled(self) -> tuple[dict[UserId, int], set[UserId]]:
        """Return the users who are out, and since when, in UTC microseconds; and those of whom nothing is shown."""
        members, since, concealed = self._statements.members, dict[UserId, int](), set[UserId]()
        removed = {} if members is None else {who: members.removals(who) for who in sorted(members.removed)}
        for who, removals in removed.items():
            for user in {who, *self.users_of(who)}:
                if self._admission.is_out(user):
                    since[user] = min(since.get(user, removals[0].at), removals[0].at)
                    concealed |= {user} if any(one.hide for one in removals) else set()
        return since, concealed

    def is_nobody(self, user: UserId) -> bool:
        """Return whether nobody ever said that a user is a member, nor one that answers for it.

        Anybody can make up such users, and members that answer for them, and have others pass on what they write.
        """
        is_named, wrote = self._statements.is_named, self._by_logs.member_of(user)
        return not (user in self._hosted or is_named(user) or is_named(wrote) or is_named(self.member_of(user)))

    def speaker(self, member: UserId) -> UserId:
        """Return the user that stands for a member: the own one here, else one with a peer of its own, else any.

        So a gateway is named by its own user and not by an account. Of nobody known it is the member itself.
        """
        users = self.users_of(member)
        if self._me in users:
            return self._me
        named = {user for user in users if user in self._names} or users
        return min(named & self._admission.last_members.keys() or named, default=member)
