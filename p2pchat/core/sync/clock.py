"""The clock entries are sorted by: as near to the time of day as order allows.

c = max(now, own previous + 1, newest other here + 1), in UTC microseconds, where stamps more than five minutes
ahead of the local time do not count: a writer whose clock is wrong must not drag everyone's along.
It is a hybrid logical clock without the second counter (Kulkarni et al., "Logical Physical Clocks", 2014).
"""

from __future__ import annotations


def next_c(now_us: int, own_last: int, newest_other: int) -> int:
    """Return the clock of the next entry; own_last and newest_other are 0 when there is none."""
    return max(now_us, own_last + 1, newest_other + 1)


def counts(c: int, now_us: int, ahead_s: float) -> bool:
    """Say whether a stamp is near enough to the local time to drive the clock."""
    return c <= now_us + int(ahead_s * 1_000_000)
