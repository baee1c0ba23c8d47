"""Limits on strangers: accepted connections that have not finished their handshake.

StrangerLimiter caps strangers, in total and per address, and the rate of new ones. A connection above a cap is closed
before a byte is read. This bounds what strangers cost, and keeps one address from taking every place.
"""

from __future__ import annotations

import ipaddress

from p2pchat.config import Settings
from p2pchat.core.mesh.addressbook import is_loopback

SWEEP_ABOVE = 1024  # remembered addresses of strangers; above this number the idle ones are forgotten


class StrangerLimiter:
    """Caps on strangers, in total and per address, and a token bucket for new ones from each address.

    An address is what one party controls: an IPv4 address, or the /64 network of an IPv6 address. A bucket holds the
    tokens of one second.

    Attributes:
        count: Number of strangers now.
        refused: Number of connections refused since the start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counts: dict[str, int] = {}  # strangers by address
        self._buckets: dict[str, tuple[float, float]] = {}  # by address: (tokens, time of the last update)
        self.count = 0
        self.refused = 0

    def admit(self, address: str, now: float) -> bool:
        """Count one more stranger and return True, or return False: the connection must be closed.

        Args:
            address: As returned by address_of().
            now: Seconds on a monotonic clock.
        """
        s = self._settings
        if is_loopback(address):  # one machine's own peers and tests: trusted a little more, still bounded
            max_strangers, rate = s.max_strangers_loopback, s.strangers_a_second_loopback
        else:
            max_strangers, rate = s.max_strangers_an_address, s.strangers_a_second
        count = self._counts.get(address, 0)
        has_room = self.count < s.max_strangers and count < max_strangers
        if not self._take_token(address, now, rate) or not has_room:
            self.refused += 1
            return False
        self.count += 1
        self._counts[address] = count + 1
        return True

    def release(self, address: str) -> None:
        """Uncount one admitted stranger: it became a member, or its connection ended."""
        self.count -= 1
        remaining = self._counts[address] - 1
        if remaining:
            self._counts[address] = remaining
        else:
            del self._counts[address]

    def _take_token(self, address: str, now: float, rate: int) -> bool:
        tokens, updated_at = self._buckets.get(address, (float(rate), now))
        tokens = min(float(rate), tokens + (now - updated_at) * rate)
        if len(self._buckets) >= SWEEP_ABOVE and address not in self._buckets:
            self._sweep(now)
        self._buckets[address] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def _sweep(self, now: float) -> None:
        """Forget full buckets. A bucket is full after a second without a connection."""
        self._buckets = {address: bucket for address, bucket in self._buckets.items() if now - bucket[1] < 1.0}


def address_of(host: str) -> str:
    """Return the address that counts for caps: IPv4 as it is, also when mapped into IPv6, and IPv6 as its /64."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host  # an in-memory pipe, or a Unix socket
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        if not ip.is_loopback:
            return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
