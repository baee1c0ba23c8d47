"""Shares: lines of addresses, limits at every node, and whose place a newcomer takes."""

from __future__ import annotations

from random import Random

import pytest

from p2pchat.core.limits_by_origin import LINES_CACHED, Line, OriginShares, RateLimit, TokenBucket, address_line


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("192.0.2.7", ("192.0.2.0/24", "192.0.2.7", "p")),
        ("::ffff:192.0.2.7", ("192.0.2.0/24", "192.0.2.7", "p")),
        ("2001:db8:1:2:3::4", ("2001:db8:1::/48", "2001:db8:1:2::/64", "p")),
        ("fe80::1%eth0", ("fe80::/48", "fe80::/64", "p")),
        ("127.0.0.1", ("p",)),
        ("::1", ("p",)),
        ("box.example", ("box.example", "p")),
        ("", ("p",)),
    ],
)
def test_the_line_of_an_address(host: str, line: Line) -> None:
    assert address_line(host, "p") == line


def test_a_stranger_has_a_line_without_a_peer() -> None:
    assert [address_line(host, "") for host in ("192.0.2.7", "::1", "box", "")] == [
        ("192.0.2.0/24", "192.0.2.7"),
        ("loopback",),
        ("box",),
        ("",),
    ]


def test_every_node_of_a_line_has_the_same_limit() -> None:
    shares: OriginShares[str] = OriginShares(most=10, each=4)
    for item, line, amount in [("a", ("n", "h1", "p1"), 2), ("b", ("n", "h2", "p2"), 1)]:
        shares.add(item, line, amount)
    assert {line: shares.taken[line] for line in [(), ("n",), ("n", "h1"), ("n", "h1", "p1"), ("n", "h2")]} == {
        (): 3,
        ("n",): 3,
        ("n", "h1"): 2,
        ("n", "h1", "p1"): 2,
        ("n", "h2"): 1,
    }
    assert shares.has_room(("n", "h3", "p3")) and not shares.has_room(("n", "h3", "p3"), 2)
    assert shares.has_room(("m", "h", "p"), 4) and not shares.has_room(("m", "h", "p"), 5)


def test_all_together_have_a_limit() -> None:
    shares: OriginShares[str] = OriginShares(most=3, each=2)
    shares.add("a", ("n",), 2)
    assert shares.has_room(("m",)) and not shares.has_room(("m",), 2)


def test_more_of_an_item_is_counted_in_its_first_line() -> None:
    shares: OriginShares[str] = OriginShares(most=9)
    shares.add("a", ("n", "p"), 2)
    shares.add("a", ("m", "p"), 3)
    assert (shares.amount("a"), shares.line("a"), shares.taken[("n",)], shares.taken[("m",)]) == (5, ("n", "p"), 5, 0)


def test_what_is_removed_leaves_nothing() -> None:
    shares: OriginShares[str] = OriginShares(most=9)
    shares.add("a", ("n", "p"), 2)
    shares.add("b", ("n", "q"))
    shares.remove("a")
    shares.remove("a")
    shares.remove("never")
    assert (list(shares), dict(shares.taken)) == (["b"], {(): 1, ("n",): 1, ("n", "q"): 1})
    shares.remove("b")
    assert (dict(shares.taken), shares._children, shares._items_at) == ({(): 0}, {}, {})


def test_an_item_that_is_reduced_keeps_its_age() -> None:
    shares: OriginShares[str] = OriginShares(most=9)
    shares.add("a", ("n", "p"), 3)
    shares.add("b", ("n", "p"))
    shares.reduce("a", 2)
    assert (list(shares), shares.amount("a"), dict(shares.taken)) == (["a", "b"], 1, {(): 2, ("n",): 2, ("n", "p"): 2})
    shares.reduce("a", 1)
    shares.reduce("never", 1)
    assert (list(shares), shares.taken[()]) == (["b"], 1)


def fill(shares: OriginShares[str], line: Line, *items: str) -> None:
    for item in items:
        shares.add(item, (*line, item))


def test_the_newest_of_the_fullest_branch_gives_way() -> None:
    shares: OriginShares[str] = OriginShares(most=6)
    fill(shares, ("honest", "h1"), "a")
    fill(shares, ("mallory", "m1"), "m1", "m2")
    fill(shares, ("mallory", "m2"), "m3")
    assert shares.giving_way(("other", "o", "new")) == "m2"
    fill(shares, ("mallory", "m2"), "m4", "m5")
    assert shares.giving_way(("other", "o", "new")) == "m5"
    shares.add("second", ("mallory", "m2", "m3"))
    assert shares.giving_way(("other", "o", "new")) == "second"


def test_a_newcomer_takes_no_place_in_a_branch_that_is_as_full() -> None:
    """If it did, the other one would come back in the same way, and so on for ever."""
    shares: OriginShares[str] = OriginShares(most=4)
    fill(shares, ("n", "h"), "a", "b")
    fill(shares, ("m", "h"), "c")
    assert shares.giving_way(("m", "h", "new")) is None
    assert shares.giving_way(("n", "h", "new")) is None
    fill(shares, ("n", "h"), "d")
    assert shares.giving_way(("x", "h", "new")) == "d"


def test_inside_a_branch_the_lines_part_further_down() -> None:
    shares: OriginShares[str] = OriginShares(most=4)
    fill(shares, ("n", "h1"), "a", "b", "c")
    fill(shares, ("n", "h2"), "d")
    assert shares.giving_way(("n", "h3", "new")) == "c"
    assert shares.giving_way(("n", "h2", "new")) == "c"
    shares.remove("c")
    assert shares.giving_way(("n", "h2", "new")) is None


def test_nobody_gives_way_to_itself_or_where_nobody_is() -> None:
    shares: OriginShares[str] = OriginShares(most=1)
    assert shares.giving_way(("n", "p")) is None
    fill(shares, ("n",), "p")
    shares.add("again", ("n", "p"))
    assert shares.giving_way(("n", "p")) is None


def test_room_is_made_when_all_is_full_and_not_when_the_own_node_is() -> None:
    shares: OriginShares[str] = OriginShares(most=5, each=3)
    fill(shares, ("n",), "a", "b", "c")
    assert not shares.make_room(("n", "new"), shares.remove) and len(shares) == 3
    assert shares.make_room(("m", "new"), shares.remove) and len(shares) == 3
    fill(shares, ("m",), "d", "e")
    assert shares.make_room(("x", "new"), shares.remove) and list(shares) == ["a", "b", "d", "e"]
    fill(shares, ("x",), "f")
    assert not shares.make_room(("x", "new"), shares.remove) and len(shares) == 5


@pytest.mark.parametrize("seed", range(20))
def test_all_honest_branches_get_in_and_stay_in(seed: int) -> None:
    """One branch holds all places; honest ones of many branches come; then those that gave way come back."""
    chance = Random(seed)
    shares: OriginShares[str] = OriginShares(most=192)
    for number in range(192):
        shares.add(f"m{number}", ("evil", f"host{number % 5}", f"m{number}"))
    honest = [f"h{number}" for number in range(150)]
    out = []
    for name in honest:
        line = (f"branch{chance.randrange(30)}", f"host{chance.randrange(9)}", name)
        gone = shares.giving_way(line)
        assert gone is not None
        out.append(gone)
        shares.remove(gone)
        shares.add(name, line)
    for number in range(2000):
        line = ("evil", f"host{chance.randrange(9)}", f"again{number}")
        gone = shares.giving_way(line)
        if gone is not None:
            shares.remove(gone)
            shares.add(line[-1], line)
    assert {name for name in honest if name not in shares} == set()
    assert all(name.startswith("m") for name in out)
    assert len(shares) == 192


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


def test_a_rate_counts_at_every_node_and_says_how_long_to_wait() -> None:
    rate = RateLimit(a_second=2, burst=10)
    assert [rate.charge(("net", "host", peer), 5, now=0.0) for peer in "abc"] == [0.0, 0.0, 2.5]
    assert rate.charge(("other", "host", "d"), 10, now=0.0) == 0.0
    assert rate.charge(("net", "host", "a"), 1, now=2.5) == 0.5
    assert rate.charge(("net", "host", "a"), 10, now=100.0) == 0.0  # a long silence is worth a burst and no more


def test_nodes_that_have_waited_enough_are_forgotten() -> None:
    rate = RateLimit(a_second=1, burst=1)
    for number in range(2 * LINES_CACHED):
        rate.charge((f"net {number}",), 1, now=float(2 * number))
    assert len(rate._buckets) <= LINES_CACHED
