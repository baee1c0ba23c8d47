"""Rate limits of accounts and addresses: token buckets, bounded in number.

A full bucket carries no information, so it may be forgotten; memory is for callers that come often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address
from time import monotonic

from p2pchat.web import Pace, WebSettings
from p2pchat.web.errors import WebError

_MAX_BUCKETS = 65_536  # a few MiB; the least recently used is dropped first
ROWS_A_CALL = 50  # rows that take as long to make as the rest of a call, 1 to 2 ms


class TooMany(WebError):
    """A rate limit was exceeded; `wait` is the number of seconds until the request will work."""

    def __init__(self, wait: float) -> None:
        seconds = max(1, round(wait + 0.5))
        super().__init__(429, "too_many", f"too many requests: try again in {seconds} s", {"Retry-After": str(seconds)})
        self.wait = wait


class RateLimiter:
    """Token buckets of one kind, by key."""

    def __init__(self, pace: Pace, clock: Callable[[], float] = monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens left, and when

    def wait(self, key: Hashable, count: int = 1) -> float:
        """Take `count` tokens and return 0.0, or return the seconds until there are enough."""
        now, pace = self._clock(), self._pace
        left, at = self._buckets.pop(key, (float(pace.burst), now))
        left = min(float(pace.burst), left + (now - at) * pace.per_second)
        wait = 0.0 if left >= count else (count - left) / pace.per_second
        self._buckets[key] = (left if wait else left - count, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait

    def take(self, key: Hashable, count: int = 1) -> None:
        """Take `count` tokens. Raises TooMany, and takes none, if there are not enough."""
        wait = self.wait(key, count)
        if wait:
            raise TooMany(wait)

    def charge(self, key: Hashable, count: int) -> None:
        """Take `count` tokens for work already done; the bucket may go below zero."""
        self.wait(key, 0)
        left, at = self._buckets[key]
        self._buckets[key] = (max(left - count, -float(self._pace.burst)), at)


class RateLimits:
    """The limiters of a gateway. The keys of calls, messages and small are user keys (hex), of the others sites."""

    def __init__(self, settings: WebSettings, clock: Callable[[], float] = monotonic) -> None:
        self.calls = RateLimiter(settings.calls, clock)
        self.messages = RateLimiter(settings.messages, clock)
        self.small = RateLimiter(settings.small, clock)
        self.sign_ups = RateLimiter(settings.sign_ups, clock)
        self.strangers = RateLimiter(settings.strangers, clock)
        self.addresses = RateLimiter(settings.addresses, clock)

    def answered(self, key: str, rows: int) -> None:
        """Charge the rows of an answer as calls, because long answers delay other callers."""
        if rows >= ROWS_A_CALL:
            self.calls.charge(key, rows // ROWS_A_CALL)


def site_of(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or a /64 of IPv6, which is what one customer gets."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return str(found)
