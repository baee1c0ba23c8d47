"""Addresses of this machine, on simulated machines with a known network."""

from __future__ import annotations

import pytest

from p2pchat.identity.own_addresses import is_reachable


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.3.4", "fe80::1", "fe80::1%eth0", "0.0.0.0", "", "ada"]
)
def test_unreachable_addresses_are_left_out(address: str) -> None:
    assert not is_reachable(address)
