"""Users that came from another peer: waits until what this peer holds of their conversations was compared with it.

A user who was hosted elsewhere before has conversations of which this peer holds nothing yet. A comparison that began
before the other peer knew that the user is hosted here, too, says nothing about them, and its last frames may still be
on their way. So the other peer is pinged behind the announcement: what comes after its pong is about these
conversations, too. Then the next comparison counts, and when it is over, what is fetched has to come and to be durable.
If a group came, one more is needed, since nothing was known of its messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from p2pchat.core.effects import ComparisonEnded, Send
from p2pchat.core.inputs import ComparisonAwaited
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Ping, UserId

CHECKED_EVERY = 0.02  # seconds; a comparison takes some round trips
CHECKED_EVERY_OF_EACH = 0.0001  # seconds for each that waits, so that a thousand at once cost no more than one


@dataclass(slots=True)
class ComparisonWait:
    """One wait of a program for one user."""

    user: UserId
    until: float  # monotonic
    pongs: dict[int, int] = field(default_factory=dict)  # by link: the pong awaited
    comparisons: dict[int, int] = field(default_factory=dict)  # by link: the comparison awaited behind the pong
    commit: int | None = None  # the commit that has to be durable; None: nothing was compared yet


class ComparedUsers:
    """Waits for comparisons of hosted users' conversations.

    Args:
        begin: Begins a comparison with a remote that answers in any case, once the present one is over. Returns its
            number.
        pending: The commits that are not durable, by number, the oldest first.
    """

    def __init__(
        self, sync: SyncContext, begin: Callable[[RemoteState], int], pending: Mapping[int, object]
    ) -> None:  # fmt: skip
        self._sync = sync
        self._begin = begin
        self._pending = pending
        self._waits: dict[int, ComparisonWait] = {}  # by ticket

    def on_awaited(self, request: ComparisonAwaited) -> None:
        """Begin a wait; the check comes with the next input, so that users who come together share a comparison."""
        if not self._waits:
            self._sync.after(0.0, self._check)
        self._waits[request.ticket] = ComparisonWait(request.user, self._sync.ctx.now.mono + request.within)

    def on_group_changed(self, named: AbstractSet[UserId]) -> None:
        """Have users who are named in a group that is changed durably wait for a comparison that begins now."""
        for wait in self._waits.values():
            if wait.user in named:
                wait.pongs, wait.comparisons, wait.commit = {}, {}, None

    def end_all(self) -> None:
        """End all waits: storage failed, and everything held is loaded anew."""
        for ticket in [*self._waits]:
            self._end(ticket, False)

    def _end(self, ticket: int, compared: bool) -> None:
        del self._waits[ticket]
        self._sync.ctx.emit(ComparisonEnded(ticket, compared))

    def _check(self) -> None:
        pinged: dict[int, int] = {}
        begun: dict[int, list[ComparisonWait]] = {}
        behind: dict[int, set[UserId]] = {}
        for ticket, wait in list(self._waits.items()):
            for remote in self._hosts(wait.user) if wait.commit is None else ():
                link = remote.link
                if link.id not in wait.pongs:
                    wait.pongs[link.id] = pinged.get(link.id) or pinged.setdefault(link.id, self._ping(remote))
                elif link.id not in wait.comparisons:
                    if link.pongs >= wait.pongs[link.id]:
                        begun.setdefault(link.id, []).append(wait)
                elif remote.comparison.ended >= wait.comparisons[link.id]:
                    if link.id not in behind:
                        behind[link.id] = self._users_behind(remote)
                    if wait.user not in behind[link.id]:
                        wait.commit = max(self._pending, default=0)
            if wait.commit is not None and next(iter(self._pending), wait.commit + 1) > wait.commit:
                self._end(ticket, True)
            elif self._sync.ctx.now.mono >= wait.until or wait.user not in self._sync.hosted:
                self._end(ticket, False)
        for id, waits in begun.items():
            number = self._begin(self._sync.remotes[id])
            for wait in waits:
                wait.comparisons[id] = number
        if self._waits:
            self._sync.after(max(CHECKED_EVERY, CHECKED_EVERY_OF_EACH * len(self._waits)), self._check)

    def _hosts(self, user: UserId) -> list[RemoteState]:
        links = sorted(self._sync.presence.hosts.get(user, ()))
        found = (self._sync.remotes.get(link) for link in links)
        return [remote for remote in found if remote is not None and remote.comparison.begun]

    def _ping(self, remote: RemoteState) -> int:
        """Ask for a pong behind the announcement of all users hosted here; return its number."""
        self._sync.presence.announcer.introduce()
        remote.link.pings += 1
        self._sync.ctx.emit(Send(Ping(), [remote.link.id]))
        return remote.link.pings

    def _users_behind(self, remote: RemoteState) -> set[UserId]:
        """Return the users in whose conversations a remote holds more; the room, which never rests, does not count.

        Of a group whose first operation is not here yet nobody knows the members: it counts for all who wait.
        """
        ids = {id for id, _ in remote.ahead}
        found = [each for id in ids if (each := self._sync.conversations.by_id.get(id)) is not None]
        if any(each.is_operations and not each.writers for each in found):
            return {wait.user for wait in self._waits.values()}
        return {user for each in found for user in each.members or ()}
