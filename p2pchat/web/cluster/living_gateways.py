"""Placement of users in a cluster: the gateways that live, and the two that host a user. Without I/O.

A gateway says every other second that it lives. While the engine is away nobody is heard and nothing changes: a list
that the engine could empty would make every gateway host everybody. Time is an argument.

The home and the standby of a user are the two living gateways with the highest hash of gateway and user (rendezvous
hashing, Thaler and Ravishankar 1998): all gateways find the same two without a table, and a gateway that comes or goes
moves only the users that it gets or had.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

COPIES = 2  # home and standby
BEAT_EVERY = 2.0  # seconds
DEAD_AFTER = 10.0  # seconds without a beat: a guess, five lost in a row
SETTLED_AFTER = 5.0  # seconds until all that live have been heard, or sessions of one that left are at others: a guess
UNHOST_AFTER = 600.0  # seconds after the last session at a gateway that is neither home nor standby
# Seconds for which what a gateway said last is known, so that nobody who repeats its words brings it back; older words
# are not believed. The clocks of gateways may differ by as much. A guess: more than any clock that is kept right.
REMEMBERED = 3600.0


@dataclass(frozen=True)
class ClusterTimes:
    """The times of a cluster, in seconds; tests have shorter ones."""

    beat_every: float = BEAT_EVERY
    dead_after: float = DEAD_AFTER
    settled_after: float = SETTLED_AFTER
    unhost_after: float = UNHOST_AFTER


def hosts_of(user: str, living: Collection[str]) -> tuple[str, ...]:
    """Return the home and the standby of a user among living gateways; fewer if there are not as many."""
    return tuple(sorted(living, key=lambda gateway: (_weight(user, gateway), gateway), reverse=True)[:COPIES])


def _weight(user: str, gateway: str) -> bytes:
    return blake2b(user.encode(), key=gateway.encode()[:64], digest_size=8, person=b"p2pchat/home").digest()


class LivingGateways:
    """The gateways that live, by what was heard of them.

    Args:
        me: This gateway, which always lives.
    """

    def __init__(self, me: str, times: ClusterTimes) -> None:
        self._me = me
        self._times = times
        self._heard: dict[str, tuple[float, int]] = {}  # when, and the newest number it said, of dead ones too
        self._living: set[str] = set()
        self._connected_at: float | None = None
        self._left_at = float("-inf")  # when a gateway said that it leaves

    @property
    def all(self) -> frozenset[str]:
        """All living gateways, this one included."""
        return frozenset({*self._living, self._me})

    def is_settled(self, now: float) -> bool:
        """Return whether users may be given other hosts.

        Not until the engine has been there long enough to know all that live, nor soon after a gateway left: its
        sessions come first, and after an upgrade it is back at once.
        """
        if self._connected_at is None:
            return False
        return now - max(self._connected_at, self._left_at) >= self._times.settled_after

    def on_connected(self, now: float) -> None:
        """The engine is there: who was silent only because it was away gets its time again."""
        self._connected_at = now
        self._heard.update({gateway: (now, self._heard[gateway][1]) for gateway in self._living})

    def on_disconnected(self) -> None:
        """The engine is away: nothing changes until it is back."""
        self._connected_at = None

    def on_beat(self, gateway: str, number: int, now: float, *, leaves: bool = False) -> None:
        """Take the word of a gateway. Numbers rise with the clock; a repeated one proves nothing."""
        if gateway == self._me or number <= self._heard.get(gateway, (0.0, -1))[1]:
            return
        self._heard[gateway] = now, number
        if leaves:
            self._left_at = now
            self._living.discard(gateway)
        else:
            self._living.add(gateway)

    def tick(self, now: float) -> None:
        """Drop who has been silent for too long."""
        if self._connected_at is not None:
            oldest = now - self._times.dead_after
            self._living = {gateway for gateway in self._living if self._heard[gateway][0] >= oldest}
            self._heard = {gateway: one for gateway, one in self._heard.items() if now - one[0] <= REMEMBERED}


class UserVisits:
    """The last use of each user here, so that a gateway that is neither home nor standby lets it go."""

    def __init__(self, times: ClusterTimes) -> None:
        self._times = times
        self._last: dict[str, float] = {}

    def may_leave(self, user: str, now: float, *, in_use: bool) -> bool:
        """Return whether nobody used this user here for long enough. The first question counts as a use."""
        if in_use or user not in self._last:
            self._last[user] = now
        return now - self._last[user] >= self._times.unhost_after

    def keep(self, users: Collection[str]) -> None:
        """Forget all others: they are no longer hosted here."""
        self._last = {user: at for user, at in self._last.items() if user in users}
