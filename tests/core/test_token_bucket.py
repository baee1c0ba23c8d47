"""Token buckets: tokens come at a rate, up to a burst, and buckets that are full again are forgotten."""

from __future__ import annotations

from p2pchat.core.token_bucket import MOST_FULL, TokenBucket, TokenBuckets


def test_tokens_come_at_a_rate_up_to_a_burst() -> None:
    bucket = TokenBucket(a_second=2, burst=3, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(100.25) == 0.25 and not bucket.take(100.25)
    assert bucket.wait(100.5) == 0.0 and bucket.take(100.5)
    assert not bucket.is_full(101.0) and bucket.is_full(200.0)
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]


def test_a_charge_may_take_more_tokens_than_there_are() -> None:
    bucket = TokenBucket(a_second=2, burst=3, now=0.0)
    assert [bucket.charge(3, 0.0), bucket.charge(1, 0.0), bucket.charge(1, 0.5)] == [0.0, 0.5, 0.5]
    assert (bucket.wait(0.5), bucket.wait(1.5), bucket.tokens) == (1.0, 0.0, 1.0)


def test_each_has_a_bucket_of_its_own_and_those_that_waited_enough_are_forgotten() -> None:
    buckets = TokenBuckets()
    assert [buckets.take(key, 0.0, 1, 2.0) for key in ("a", "a", "a", "b")] == [True, True, False, True]
    for number in range(2 * MOST_FULL):
        buckets.take(f"member {number}", float(2 * number), 1)
    assert len(buckets._buckets) <= MOST_FULL
