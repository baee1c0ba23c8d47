"""Rates with bursts: one token bucket, and many of a kind."""

from __future__ import annotations

MOST_FULL = 1024  # buckets are looked through above this number


class TokenBucket:
    """A rate with bursts: tokens come steadily, up to a number, and whatever has the rate takes them.

    Args:
        a_second: Tokens that come in a second.
        burst: The most that it holds. It begins full.
        now: Seconds on a monotonic clock, as in all methods.

    Attributes:
        burst: The most that it holds.
        tokens: What it held at the last call; below zero after a charge of more than that.
    """

    __slots__ = ("_a_second", "_at", "burst", "tokens")

    def __init__(self, a_second: float, burst: float, now: float) -> None:
        self.tokens: float = burst
        self.burst: float = burst
        self._a_second = a_second
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one, and return whether there was."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def charge(self, count: float, now: float) -> float:
        """Take tokens for something done already. Return the seconds until none is missing, 0 if none is."""
        self._fill(now)
        self.tokens -= count
        return self._until(0)

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token, 0 if there is one."""
        self._fill(now)
        return self._until(1)

    def is_full(self, now: float) -> bool:
        """Return whether it says no more than a new one."""
        self._fill(now)
        return self.tokens >= self.burst

    def _fill(self, now: float) -> None:
        self.tokens = min(self.tokens + (now - self._at) * self._a_second, self.burst)
        self._at = now

    def _until(self, tokens: int) -> float:
        return (tokens - self.tokens) / self._a_second if self.tokens < tokens else 0.0


class TokenBuckets:
    """A bucket for each of many members, addresses or peers. Those that are full again are forgotten."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._drop_above = MOST_FULL

    def take(self, key: str, now: float, a_second: float, at_once: float = 1.0) -> bool:
        """Take a token of a bucket, which holds those of `at_once` seconds. Return whether there was one."""
        return self._bucket(key, now, a_second, at_once).take(now)

    def charge(self, key: str, count: float, now: float, a_second: float, at_once: float = 1.0) -> float:
        """Take tokens for something done already. Return the seconds until none is missing, 0 if none is."""
        return self._bucket(key, now, a_second, at_once).charge(count, now)

    def _bucket(self, key: str, now: float, a_second: float, at_once: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._drop_above:
                self._buckets = {key: one for key, one in self._buckets.items() if not one.is_full(now)}
                self._drop_above = max(MOST_FULL, 2 * len(self._buckets))  # else each call might look at all of them
            bucket = self._buckets[key] = TokenBucket(a_second, a_second * at_once, now)
        return bucket
