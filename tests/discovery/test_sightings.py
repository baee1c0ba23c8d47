"""Who is announced where, and what of it is news."""

from __future__ import annotations

from p2pchat.discovery import MAX_SERVICES, SeenServices

ADA, BOB = "a" * 64, "b" * 64
HERE, THERE = ("10.0.0.1:1",), ("10.0.0.2:1",)


def test_who_is_seen_is_news_once() -> None:
    sightings = SeenServices()
    assert sightings.seen("one", ADA, HERE) == [(ADA, HERE)]
    assert sightings.seen("one", ADA, HERE) == []
    assert sightings.seen("one", ADA, THERE) == [(ADA, THERE)]


def test_who_has_started_again_is_in_both_places_until_the_former_is_over() -> None:
    sightings = SeenServices()
    sightings.seen("one", ADA, HERE)
    assert sightings.seen("two", ADA, THERE) == [(ADA, HERE + THERE)]
    assert sightings.gone("one") == [(ADA, THERE)]
    assert sightings.gone("two") == [(ADA, ())]
    assert sightings.gone("two") == []


def test_a_service_that_is_another_peer_now_is_told_for_both() -> None:
    sightings = SeenServices()
    sightings.seen("one", ADA, HERE)
    assert sightings.seen("one", BOB, HERE) == [(ADA, ()), (BOB, HERE)]


def test_a_stranger_s_service_is_no_news() -> None:
    assert SeenServices().gone("stranger") == []


def test_so_many_are_kept_and_no_more() -> None:
    sightings = SeenServices()
    for number in range(MAX_SERVICES):
        assert sightings.seen(f"{number}", f"{number:064x}", HERE)
    assert sightings.seen("one more", ADA, HERE) == []
    assert sightings.seen("0", f"{0:064x}", THERE)  # who is kept may move
    sightings.gone("1")
    assert sightings.seen("one more", ADA, HERE) == [(ADA, HERE)]


def test_after_a_change_of_the_network_everybody_is_news_again() -> None:
    sightings = SeenServices()
    sightings.seen("one", ADA, HERE)
    sightings.clear()
    assert sightings.seen("two", ADA, HERE) == [(ADA, HERE)]
