"""Where a peer says that it is: only where others reach it."""

from __future__ import annotations

import pytest

from p2pchat.discovery import ANY_V4, ANY_V6, MAX_ADDRESSES, Advertisement, Interfaces, addresses_of, advertisement_for

OWN = ("192.168.1.5", "10.0.0.1", "2001:db8::5")


@pytest.mark.parametrize(
    "listening, advertise, place",
    [
        (("127.0.0.1",), None, None),
        (("::1", "127.0.0.1"), None, None),
        (("127.0.0.1",), "192.0.2.1:9000", None),  # nobody reaches it, whatever it is told to say
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
def test_what_is_announced(listening: tuple[str, ...], advertise: str | None, place: Advertisement | None) -> None:
    assert advertisement_for(listening, 8080, advertise, OWN) == place


def test_a_machine_without_addresses_is_not_announced() -> None:
    assert advertisement_for((ANY_V4,), 8080, None, ()) is None


def test_the_first_few_of_many_addresses_are_announced() -> None:
    place = advertisement_for((ANY_V4,), 8080, None, [f"10.0.{number}.1" for number in range(30)])
    assert place is not None and place.addresses == tuple(f"10.0.{number}.1" for number in range(MAX_ADDRESSES))


def test_it_speaks_on_every_interface_or_on_the_one_it_listens_on() -> None:
    network = Interfaces(("192.168.1.5", "2001:db8::5", "2001:db8::6"), (("2001:db8::5", 2), ("2001:db8::6", 2)))
    assert network.speaking("0.0.0.0") == ["192.168.1.5", 2]
    assert network.speaking("192.168.1.5") == ["192.168.1.5"]
    assert network.speaking("2001:db8::6") == [2]
    assert network.speaking("127.0.0.1") == ["192.168.1.5", 2]


async def test_listening_on_a_name_is_listening_on_its_addresses() -> None:
    assert await addresses_of("") == (ANY_V4, ANY_V6)
    assert await addresses_of("0.0.0.0") == (ANY_V4,)
    assert set(await addresses_of("localhost")) & {"127.0.0.1", "::1"}
    assert await addresses_of("no-such-host.invalid") == ()
