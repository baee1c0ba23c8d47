"""TXT records: only members can read them, and no part of one is valid in another."""

from __future__ import annotations

import pytest

from p2pchat.discovery import MAX_ADDRESSES, identify, txt_record
from tests.vectors.files import vectors

VECTOR = vectors("discovery")["made"]
K, ADA = (VECTOR["given"][key] for key in ("key", "peer"))
KEY, SALT = bytes.fromhex(K), b"s" * 16
HERE = ["192.0.2.7", "2001:db8::7"]


def txt(told: dict[str, str], **other: str) -> dict[bytes, bytes | None]:
    return {name.encode(): value.encode() for name, value in (told | other).items()}


SAID = txt_record(KEY, ADA, 8080, HERE, SALT)


def test_addresses_may_be_written_in_another_way() -> None:
    assert identify(KEY, txt(SAID), 8080, ["2001:0db8:0::0007", "192.0.2.7"]) == ADA


@pytest.mark.parametrize(
    "port, addresses",
    [
        (8081, HERE),
        (8080, ["192.0.2.7"]),
        (8080, [*HERE, "192.0.2.8"]),
        (8080, ["192.0.2.8", "2001:db8::7"]),
        (8080, []),
        (None, HERE),
        (0, HERE),
        (65536, HERE),
        (8080, ["nonsense"]),
    ],
)
def test_the_proof_of_one_announcement_is_invalid_at_another_address(port: int | None, addresses: list[str]) -> None:
    assert identify(KEY, txt(SAID), port, addresses) is None


@pytest.mark.parametrize("name, value", [("s", "00" * 16), ("p", "00" * 32), ("m", "00" * 32), ("v", "2")])
def test_every_part_counts(name: str, value: str) -> None:
    assert identify(KEY, txt(SAID, **{name: value}), 8080, HERE) is None


@pytest.mark.parametrize("name", ["s", "p", "m"])
def test_hex_in_upper_case_is_no_announcement(name: str) -> None:
    said = txt_record(KEY, ADA, 8080, HERE, b"\xab" * 16)
    assert identify(KEY, txt(said), 8080, HERE) == ADA
    assert identify(KEY, txt(said, **{name: said[name].upper()}), 8080, HERE) is None


@pytest.mark.parametrize("name", ["v", "s", "p", "m"])
@pytest.mark.parametrize("value", [b"", None, b"zz" * 32, b"\xff" * 64, b"0 " * 32, b"00" * 5000])
def test_a_malformed_announcement_identifies_no_peer(name: str, value: bytes | None) -> None:
    assert identify(KEY, {**txt(SAID), name.encode(): value}, 8080, HERE) is None
    without = {key: said for key, said in txt(SAID).items() if key != name.encode()}
    assert identify(KEY, without, 8080, HERE) is None


def test_another_network_identifies_no_peer() -> None:
    assert identify(b"\x11" * 32, txt(SAID), 8080, HERE) is None


def test_two_announcements_have_nothing_in_common() -> None:
    again = txt_record(KEY, ADA, 8080, HERE, bytes(16))
    assert all(SAID[name] != again[name] for name in "spm")


def test_a_record_contains_no_id_or_key() -> None:
    said = "".join(SAID.values())
    assert all(secret not in said for secret in (K, ADA, ADA[:16]))


def test_more_addresses_than_anybody_has_are_not_looked_at() -> None:
    many = [f"192.0.2.{number}" for number in range(MAX_ADDRESSES + 1)]
    assert identify(KEY, txt(txt_record(KEY, ADA, 1, many[:-1], SALT)), 1, many[:-1]) == ADA
    assert identify(KEY, txt(txt_record(KEY, ADA, 1, many, SALT)), 1, many) is None
