"""Placement of users: living gateways, and the two of them that host a user; time is passed in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat.web.cluster.living_gateways import ClusterTimes, LivingGateways, UserVisits, hosts_of

TIMES = ClusterTimes(beat_every=2.0, dead_after=10.0, settled_after=5.0, unhost_after=600.0)
GATEWAYS = st.sets(st.text("ABCDEF", min_size=1, max_size=6), min_size=1, max_size=8)
USERS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(USERS, GATEWAYS)
def test_a_user_has_a_home_and_a_standby_whatever_the_order(user: str, gateways: set[str]) -> None:
    found = hosts_of(user, gateways)
    assert len(found) == len(set(found)) == min(2, len(gateways)) and set(found) <= gateways
    assert hosts_of(user, sorted(gateways)) == hosts_of(user, sorted(gateways, reverse=True)) == found


@given(USERS, GATEWAYS, st.data())
def test_a_gateway_that_goes_moves_only_its_users_and_the_standby_becomes_home(
    user: str, gateways: set[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(gateways)))
    before, after = hosts_of(user, gateways), hosts_of(user, gateways - {gone})
    if gone not in before:
        assert after == before
    elif len(before) == 2:
        assert after[0] == next(one for one in before if one != gone)


def test_users_are_spread_evenly() -> None:
    homes = Counter(hosts_of(f"{user:064x}", ["A", "B", "C"])[0] for user in range(3000))
    assert all(900 < count < 1100 for count in homes.values())


@pytest.fixture
def living() -> LivingGateways:
    """What a gateway knows that has just had its engine."""
    living = LivingGateways("me", TIMES)
    living.on_connected(0.0)
    return living


def test_who_is_silent_for_ten_seconds_is_dead(living: LivingGateways) -> None:
    living.on_beat("A", 1, 1.0)
    living.on_beat("B", 1, 2.0)
    living.on_beat("A", 2, 9.0)
    living.tick(12.0)
    assert living.all == {"me", "A", "B"}
    living.tick(12.5)
    assert living.all == {"me", "A"}


def test_a_repeated_beat_proves_nothing(living: LivingGateways) -> None:
    living.on_beat("A", 5, 0.0)
    for now in (4.0, 8.0, 12.0):
        living.on_beat("A", 5, now)
        living.on_beat("A", 4, now)
    living.tick(12.0)
    assert living.all == {"me"}


def test_words_of_one_that_died_or_left_bring_it_not_back(living: LivingGateways) -> None:
    for gateway in "AB":
        living.on_beat(gateway, 5, 0.0)
    living.on_beat("A", 6, 1.0, leaves=True)
    living.tick(12.0)
    assert living.all == {"me"} and living.is_settled(12.0)
    for number in range(1, 7):
        for gateway in "AB":
            living.on_beat(gateway, min(number, 5), 12.0)
        living.on_beat("A", 6, 12.0, leaves=True)
    assert living.all == {"me"} and living.is_settled(12.0)
    living.on_beat("B", 6, 13.0)
    assert living.all == {"me", "B"}


def test_a_gateway_whose_clock_was_put_back_is_heard_after_an_hour(living: LivingGateways) -> None:
    living.on_beat("A", 5, 0.0)
    for now, found in ((3600.0, {"me"}), (3601.0, {"me", "A"})):
        living.tick(now)
        living.on_beat("A", 1, now)
        assert living.all == found


def test_who_leaves_is_gone_at_once_and_oneself_never(living: LivingGateways) -> None:
    living.on_beat("A", 1, 0.0)
    living.on_beat("me", 1, 0.0)
    living.on_beat("me", 2, 0.0, leaves=True)
    living.on_beat("A", 2, 0.0, leaves=True)
    assert living.all == {"me"}


def test_sessions_of_a_gateway_that_left_come_before_its_users(living: LivingGateways) -> None:
    """Hosting all of its users at once, 600 sessions waited longer after an orderly end than after a kill."""
    living.on_beat("A", 1, 4.0)
    assert living.is_settled(5.0)
    living.on_beat("A", 2, 20.0, leaves=True)
    assert [living.is_settled(now) for now in (20.0, 24.9, 25.0)] == [False, False, True]


def test_nothing_changes_while_the_engine_is_away() -> None:
    living = LivingGateways("me", TIMES)
    assert not living.is_settled(100.0)
    living.on_connected(0.0)
    living.on_beat("A", 1, 4.0)
    assert not living.is_settled(4.9) and living.is_settled(5.0)
    living.on_disconnected()
    living.tick(600.0)
    assert living.all == {"me", "A"} and not living.is_settled(600.0)
    living.on_connected(600.0)
    living.tick(609.0)
    assert living.all == {"me", "A"} and living.is_settled(609.0)  # it had ten seconds to be heard again
    living.tick(610.5)
    assert living.all == {"me"}


def test_a_user_is_let_go_ten_minutes_after_its_last_use() -> None:
    visits = UserVisits(TIMES)
    assert not visits.may_leave("ada", 0.0, in_use=False)  # perhaps it came just now
    assert not visits.may_leave("ada", 599.0, in_use=False)
    assert not visits.may_leave("ada", 600.0, in_use=True)
    assert not visits.may_leave("ada", 1199.0, in_use=False)
    assert visits.may_leave("ada", 1200.0, in_use=False)
    visits.keep({"bob"})
    assert not visits.may_leave("ada", 5000.0, in_use=False)
