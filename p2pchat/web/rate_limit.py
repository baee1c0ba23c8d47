"""How often one account or one address may do something: token buckets, as many as there are callers, and no more.

A full bucket says nothing about its owner, so it is forgotten: memory is for those who come often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from p2pchat.web.errors import TooMany
from p2pchat.web.settings import Pace, WebSettings

_MOST_BUCKETS = 65_536  # a few MiB; the one not asked for longest goes first
ROWS_A_CALL = 50  # so many take as long to be made as everything else of a call, 1 to 2 ms


class RateLimiter:
    """The buckets of one kind."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._filled: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # key: what is left, and when

    def wait(self, key: Hashable, count: int = 1) -> float:
        """Take `count` out of a bucket. Returns 0.0, or when not so much is in it, the seconds until it will be."""
        now, pace = self._clock(), self._pace
        left, at = self._filled.pop(key, (float(pace.burst), now))
        left = min(float(pace.burst), left + (now - at) * pace.per_second)
        wait = 0.0 if left >= count else (count - left) / pace.per_second
        self._filled[key] = (left if wait else left - count, now)
        if len(self._filled) > _MOST_BUCKETS:
            self._filled.popitem(last=False)
        return wait

    def take(self, key: Hashable, count: int = 1) -> None:
        """Take `count` out of a bucket. Raises TooMany when not so much is in it, and takes nothing."""
        wait = self.wait(key, count)
        if wait:
            raise TooMany(wait)

    def charge(self, key: Hashable, count: int) -> None:
        """Take `count` out of a bucket for what was done already; there may be less than nothing in it then."""
        self.wait(key, 0)
        left, at = self._filled[key]
        self._filled[key] = (max(left - count, -float(self._pace.burst)), at)


class RateLimits:
    """All buckets of a gateway, by what they count; the keys of calls, messages and small are user keys (hex)."""

    def __init__(self, settings: WebSettings, clock: Callable[[], float] = monotonic) -> None:
        self.calls = RateLimiter(settings.calls, clock)
        self.messages = RateLimiter(settings.messages, clock)
        self.small = RateLimiter(settings.small, clock)
        self.sign_ups = RateLimiter(settings.sign_ups, clock)
        self.strangers = RateLimiter(settings.strangers, clock)
        self.addresses = RateLimiter(settings.addresses, clock)

    def answered(self, key: str, rows: int) -> None:
        """An account was answered so many rows: they count as calls, for who asks for many keeps others waiting."""
        if rows >= ROWS_A_CALL:
            self.calls.charge(key, rows // ROWS_A_CALL)


def site_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or a /64 of IPv6, which is what one customer is given."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)
