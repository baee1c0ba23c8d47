"""Token buckets, and what counts as one caller."""

from __future__ import annotations

from p2pchat.web import Pace
from p2pchat.web.rate_limit import RateLimiter, site_of


def test_a_bucket_allows_its_burst_and_then_its_rate() -> None:
    now = 0.0
    buckets = RateLimiter(Pace(2.0, 3), lambda: now)
    assert [buckets.wait("ada") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.wait("bob", 3) == 0.0  # each key has its own bucket
    now = 0.5
    assert buckets.wait("ada") == 0.0
    assert buckets.wait("ada", 2) == 1.0
    now = 1000.0
    assert buckets.wait("ada", 3) == 0.0  # never more than the burst
    assert buckets.wait("ada") == 0.5


def test_callers_are_counted_by_ipv4_address_or_ipv6_network() -> None:
    assert site_of("203.0.113.9") == "203.0.113.9"
    assert site_of("2001:db8:1:2:3:4:5:6") == site_of("2001:db8:1:2::1") != site_of("2001:db8:1:3::1")
    assert site_of("::ffff:203.0.113.9") == "203.0.113.9"
    assert site_of("fe80::1%eth0") == site_of("fe80::2")
    assert site_of("a socket") == "a socket"
