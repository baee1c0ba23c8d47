"""Addresses of this machine that are announced, and services seen on the network."""

from __future__ import annotations

import pytest

from p2pchat.discovery import (
    ANY_V4,
    ANY_V6,
    MAX_ADDRESSES,
    MAX_SERVICES,
    Advertisement,
    NetworkInterfaces,
    SeenServices,
    addresses_of,
    advertisement_for,
)

OWN = ("192.168.1.5", "10.0.0.1", "2001:db8::5")


@pytest.mark.parametrize(
    "listening, advertise, place",
    [
        (("127.0.0.1",), None, None),
        (("::1", "127.0.0.1"), None, None),
        (("127.0.0.1",), "192.0.2.1:9000", None),  # unreachable, even with an address to advertise
        ((ANY_V4,), None, Advertisement(8080, ("192.168.1.5", "10.0.0.1"))),
        ((ANY_V6,), None, Advertisement(8080, ("2001:db8::5",))),
        ((ANY_V4, ANY_V6), None, Advertisement(8080, OWN)),
        (("10.0.0.1",), None, Advertisement(8080, ("10.0.0.1",))),
        (("10.9.9.9",), None, None),  # it has moved away from the address it listens on
        ((ANY_V4,), "192.0.2.1:9000", Advertisement(9000, ("192.0.2.1",))),
        ((ANY_V4,), "[2001:db8::9]:9000", Advertisement(9000, ("2001:db8::9",))),
        ((ANY_V4,), "chat.example.org:9000", Advertisement(8080, ("192.168.1.5", "10.0.0.1"))),
    ],
)
def test_the_announced_address(listening: tuple[str, ...], advertise: str | None, place: Advertisement | None) -> None:
    assert advertisement_for(listening, 8080, advertise, OWN) == place


def test_a_machine_without_addresses_is_not_announced() -> None:
    assert advertisement_for((ANY_V4,), 8080, None, ()) is None


def test_the_first_few_of_many_addresses_are_announced() -> None:
    place = advertisement_for((ANY_V4,), 8080, None, [f"10.0.{number}.1" for number in range(30)])
    assert place is not None and place.addresses == tuple(f"10.0.{number}.1" for number in range(MAX_ADDRESSES))


def test_discovery_uses_every_interface_or_the_listening_one() -> None:
    network = NetworkInterfaces(("192.168.1.5", "2001:db8::5", "2001:db8::6"), (("2001:db8::5", 2), ("2001:db8::6", 2)))
    assert network.interfaces_for("0.0.0.0") == ["192.168.1.5", 2]
    assert network.interfaces_for("192.168.1.5") == ["192.168.1.5"]
    assert network.interfaces_for("2001:db8::6") == [2]
    assert network.interfaces_for("127.0.0.1") == ["192.168.1.5", 2]


async def test_listening_on_a_name_is_listening_on_its_addresses() -> None:
    assert await addresses_of("") == (ANY_V4, ANY_V6)
    assert await addresses_of("0.0.0.0") == (ANY_V4,)
    assert set(await addresses_of("localhost")) & {"127.0.0.1", "::1"}
    assert await addresses_of("no-such-host.invalid") == ()


ADA, BOB = "a" * 64, "b" * 64
HERE, THERE = ("10.0.0.1:1",), ("10.0.0.2:1",)


def test_a_seen_service_is_news_once() -> None:
    sightings = SeenServices()
    assert sightings.note("one", (ADA, HERE)) == [(ADA, HERE)]
    assert sightings.note("one", (ADA, HERE)) == []
    assert sightings.note("one", (ADA, THERE)) == [(ADA, THERE)]


def test_a_restarted_peer_is_announced_twice_until_the_former_ends() -> None:
    sightings = SeenServices()
    sightings.note("one", (ADA, HERE))
    assert sightings.note("two", (ADA, THERE)) == [(ADA, HERE + THERE)]
    assert sightings.note("one", None) == [(ADA, THERE)]
    assert sightings.note("two", None) == [(ADA, ())]
    assert sightings.note("two", None) == []


def test_a_service_that_changes_its_peer_is_reported_for_both() -> None:
    sightings = SeenServices()
    sightings.note("one", (ADA, HERE))
    assert sightings.note("one", (BOB, HERE)) == [(ADA, ()), (BOB, HERE)]


def test_a_stranger_s_service_is_no_news() -> None:
    assert SeenServices().note("stranger", None) == []


def test_stored_sightings_are_limited() -> None:
    sightings = SeenServices()
    for number in range(MAX_SERVICES):
        assert sightings.note(f"{number}", (f"{number:064x}", HERE))
    assert sightings.note("one more", (ADA, HERE)) == []
    assert sightings.note("0", (f"{0:064x}", THERE))  # a stored peer may move
    sightings.note("1", None)
    assert sightings.note("one more", (ADA, HERE)) == [(ADA, HERE)]


def test_after_a_change_of_the_network_all_members_are_reported_again() -> None:
    sightings = SeenServices()
    sightings.note("one", (ADA, HERE))
    sightings.clear()
    assert sightings.note("two", (ADA, HERE)) == [(ADA, HERE)]
