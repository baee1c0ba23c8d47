"""Changes of presence, as programs are told them: at a rate for each member, and always the last one.

Whoever comes and goes all the time would fill the logs of everybody. So once a member has used up its rate, its users
are told at their latest state, one after the other as the rate allows: what was changed back meanwhile is not told.
"""

from __future__ import annotations

from p2pchat.core.effects import PresenceChanged, UserJoined, UserLeft
from p2pchat.core.node_context import NodeContext
from p2pchat.core.token_bucket import TokenBuckets
from p2pchat.protocol import UserId

AT_ONCE = 15  # seconds' worth of changes, 300: a mesh of 100 users of a member may form; a guess
TOLD_EVERY = 1.0  # seconds, while somebody waits


class LatestState:
    """News of a user that programs are to be told: that it came or left, and its status."""

    __slots__ = ("came", "status")

    def __init__(self) -> None:
        self.came: UserJoined | UserLeft | None = None
        self.status: PresenceChanged | None = None


class PresenceEvents:
    """Tells programs of presence. A member stands for where its users count, also where that is the peer of one."""

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self._buckets = TokenBuckets()
        self._waiting: dict[UserId, dict[UserId, LatestState]] = {}  # by member; those first that wait longest
        self._members: dict[UserId, UserId] = {}  # of those who wait

    def may_tell(self, member: UserId) -> bool:
        """Return whether something about a user of a member may be told now; if so, it is counted."""
        return member not in self._waiting and self._take(member)

    def _take(self, member: UserId) -> bool:
        return self._buckets.take(member, self._ctx.now.mono, self._ctx.settings.events_a_second, AT_ONCE)

    def tell(self, change: UserJoined | UserLeft | PresenceChanged, member: UserId) -> None:
        """Tell a change, now or later."""
        user = change.user
        if user not in self._members:
            if self.may_tell(member):
                self._ctx.emit(change)
                return
            self._members[user] = member
        if not self._waiting:
            self._ctx.after(TOLD_EVERY, self._tell_waiting)
        latest = self._waiting.setdefault(self._members[user], {}).setdefault(user, LatestState())
        if isinstance(change, PresenceChanged):
            latest.status = change
        else:
            latest.came = change if latest.came is None else None  # else it is again as it was told

    def forget(self, user: UserId) -> None:
        """Tell no status of a user of whom nothing is known any more."""
        if user in self._members:
            waiting = self._waiting[self._members[user]]
            waiting[user].status = None
            if waiting[user].came is None:
                del waiting[user], self._members[user]

    def _tell_waiting(self) -> None:
        for member, users in list(self._waiting.items()):
            for user, latest in list(users.items()):
                if not self._take(member):
                    break
                for change in (latest.came, latest.status):
                    if change is not None:
                        self._ctx.emit(change)
                del users[user], self._members[user]
            if not users:
                del self._waiting[member]
        if self._waiting:
            self._ctx.after(TOLD_EVERY, self._tell_waiting)
