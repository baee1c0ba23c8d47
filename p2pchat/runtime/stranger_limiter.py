"""Limits on strangers: accepted connections that have not finished their handshake.

StrangerLimiter caps strangers, in total and per address, and the rate of new ones. A connection above a cap is closed
before a byte is read. This bounds what strangers cost. When all places are taken, a newcomer takes that of a silent
stranger of the fullest network, so a few addresses with silent connections keep nobody out.
A network with many of the places gives way before it was silent for a while, as it may come again before that. When
those of its address are taken, it takes that of a silent one there: behind one address are many people.

A stranger that a linked peer carries counts at that link, as at an address of a network of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from p2pchat.addresses import is_loopback, is_private, network_and_host
from p2pchat.core.work_limits import WorkLimits, rates_of
from p2pchat.settings import Settings

SILENT_AFTER = 1.0  # seconds; a handshake takes a few round trips, so also a slow network says something within it
MAX_OF_ADDRESS = 8  # strangers; an address is an IPv6 /64 or an IPv4 address
MAX_OF_CARRIER = 24  # of those that one peer carries: all its links may come at one moment. A guess
NEAR_PART = 4  # the part of all places that is kept for those who are near
CROWD_PART = 4  # a network with more than this part of all places gives way at once: it may reconnect all the time


Line = tuple[str, ...]  # where a stranger comes from: its network and its address


@dataclass(slots=True, eq=False)
class Stranger:
    """One accepted connection.

    Attributes:
        line: Where it comes from.
        close: Ends the connection at once.
        heard_at: When it began or last sent a whole valid frame, monotonic seconds.
    """

    line: Line
    close: Callable[[], None]
    heard_at: float


class StrangerPlaces:
    """Places of one kind, and how many of them each network and each address has.

    Attributes:
        taken: The number of strangers below each node of their lines, and at () of all.
    """

    def __init__(self, most: int) -> None:
        self.taken: Counter[Line] = Counter()
        self._most = most
        self._strangers: dict[Stranger, None] = {}  # the oldest first

    def __iter__(self) -> Iterator[Stranger]:
        return iter(self._strangers)

    @property
    def has_room(self) -> bool:
        """True if a place is free."""
        return self.taken[()] < self._most

    def add(self, stranger: Stranger) -> None:
        self._strangers[stranger] = None
        self.taken.update(_nodes(stranger.line))

    def remove(self, stranger: Stranger) -> None:
        if stranger in self._strangers:
            del self._strangers[stranger]
            self.taken -= Counter(_nodes(stranger.line))  # nothing is left of those at 0

    def fullest(self, newcomer: Line) -> Line | None:
        """Return the address with most of the places of the fullest network, the newest of equal ones.

        None if a newcomer would make its own network or address as full: then that one would come back in its turn.
        """
        lines = [one.line for one in reversed(self._strangers)]
        line = max(lines, key=lambda line: (self.taken[line[:1]], self.taken[line]), default=None)
        if line is None or not newcomer:
            return line
        for one, other in zip(_nodes(newcomer)[1:], _nodes(line)[1:], strict=False):
            if one != other:
                return line if self.taken[one] + 1 < self.taken[other] else None
        return None


def _nodes(line: Line) -> list[Line]:
    return [line[:depth] for depth in range(len(line) + 1)]


class StrangerLimiter:
    """Caps on strangers, in total and per address, and a rate of new ones from each address.

    An address is what one party controls: an IPv4 address, or the /64 network of an IPv6 address; all of loopback is
    one. Those of one second may come at once. Some places are kept for addresses that are near: private ones, those
    of this machine, and those at which the address book has a peer.

    Attributes:
        knows: Returns whether the address book has a peer at a host; replaced once there is a node.
        refused: Number of connections refused since the start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._near = StrangerPlaces(settings.max_strangers)
        self._far = StrangerPlaces(settings.max_strangers - settings.max_strangers // NEAR_PART)
        self._now = 0.0
        self._work = WorkLimits(rates_of(settings), lambda: self._now)
        self.knows: Callable[[str], bool] = lambda host: False
        self.refused: int = 0

    @property
    def count(self) -> int:
        """Number of strangers now."""
        return self._near.taken[()] + self._far.taken[()]

    def admit(self, host: str, now: float, close: Callable[[], None], through: int = 0) -> Stranger | None:
        """Count one more stranger, perhaps in place of another one. None: the connection must be closed.

        Args:
            host: The address of its far end.
            now: Seconds on a monotonic clock.
            close: Called when another stranger takes its place, which then is free already.
            through: The link of the peer that carries it, 0 for none.
        """
        self._now = now
        line = (host, f"{host} {through}") if through else network_and_host(host)
        if is_loopback(host):  # one machine's own peers and tests: trusted a little more, still bounded
            line = ("loopback", "loopback")
            max_strangers, kind = self._settings.max_strangers_loopback, "own strangers"
        else:
            max_strangers, kind = MAX_OF_CARRIER if through else MAX_OF_ADDRESS, "strangers"
        near = is_loopback(host) or is_private(host) or self.knows(host)
        shares = self._near if near else self._far
        has_token = self._work.take(kind, line[-1])
        if shares.taken[line] < max_strangers:
            has_place = has_token and self._has_place(line, near=near)
        else:
            has_place = has_token and self._close_longest([one for one in shares if one.line == line])
        return self._admit(Stranger(line, close, now), shares, has_place)

    def _admit(self, stranger: Stranger, shares: StrangerPlaces, has_place: bool) -> Stranger | None:
        if not has_place:
            self.refused += 1
            return None
        shares.add(stranger)
        return stranger

    def release(self, stranger: Stranger) -> None:
        """Uncount an admitted stranger: it became a member, or its connection ended. Once is enough."""
        self._near.remove(stranger)
        self._far.remove(stranger)

    def _has_place(self, line: Line, *, near: bool) -> bool:
        """Return whether there is a place for a newcomer, after a silent stranger was closed for it if need be."""
        if self.count < self._settings.max_strangers and (near or self._far.has_room):
            return True
        if near:
            return self._make_room(self._far, ()) or self._make_room(self._near, line)
        return self._make_room(self._far, line)

    def _make_room(self, shares: StrangerPlaces, line: Line) -> bool:
        """Close the stranger that was silent longest in the fullest branch, if the newcomer may take its place.

        Of another network with many places that may be anybody. Otherwise it is the one that was silent longest of
        those in no lighter branch than the newcomer's will be. So an address for each silent stranger, all of one
        network, keeps nobody of that network out.
        """
        fullest = shares.fullest(line)
        no_lighter = [one for one in shares if _is_no_lighter(shares, one.line, line)]
        if self._close_longest([one for one in shares if one.line == fullest]):
            return True
        network = line[:1] if fullest is None else fullest[:1]
        if network != line[:1] and shares.taken[network] > self._settings.max_strangers // CROWD_PART:
            return self._close_longest([one for one in shares if one.line[:1] == network], silent_after=0.0)
        return self._close_longest(no_lighter)

    def _close_longest(self, strangers: Iterable[Stranger], silent_after: float = SILENT_AFTER) -> bool:
        """Close the one of them that was silent longest. Return False if none was."""
        silent = [one for one in strangers if self._now - one.heard_at >= silent_after]
        if not silent:
            return False
        longest = min(silent, key=lambda one: one.heard_at)
        self.release(longest)
        longest.close()
        return True


def _is_no_lighter(shares: StrangerPlaces, line: Line, newcomer: Line) -> bool:
    """Return whether, where two lines part, the first one's branch has as many as the newcomer's with the newcomer."""
    for depth, (one, other) in enumerate(zip(line, newcomer, strict=False), start=1):
        if one != other:
            return shares.taken[newcomer[:depth]] < shares.taken[line[:depth]]
    return not newcomer
