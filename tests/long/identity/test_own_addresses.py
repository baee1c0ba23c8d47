"""Long tests of `tests/identity/test_own_addresses.py`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.machines import Lan, Machine, lan_or_skip

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def lan() -> Iterator[Lan]:
    with lan_or_skip() as lan:
        yield lan


def ask(machine: Machine, what: str) -> str:
    """Return the value of an expression over p2pchat/identity/own_addresses.py, on that machine."""
    code = f"from p2pchat.identity.own_addresses import *; print({what})"
    done = subprocess.run(
        machine.under(sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_two_machines_on_one_cable_know_their_addresses(lan: Lan) -> None:
    assert ask(lan.machine("10.77.0.1/24", "fd77::1/64"), "own_addresses()") == "['10.77.0.1', 'fd77::1']"


def test_all_addresses_of_one_network_card_are_told(lan: Lan) -> None:
    machine = lan.machine("10.77.0.1/24", "10.77.0.9/24", "10.78.0.1/24")
    assert ask(machine, "own_endpoints('0.0.0.0', 80)") == "['10.77.0.1:80', '10.78.0.1:80', '10.77.0.9:80']"


def test_a_machine_without_a_network_has_none(lan: Lan) -> None:
    assert ask(lan.machine(), "own_addresses()") == "[]"


def test_the_address_towards_the_internet_is_the_first(lan: Lan) -> None:
    machine = lan.machine("10.77.0.1/24")
    machine.run("ip", "link", "add", "a-first", "type", "bridge")
    machine.run("ip", "address", "add", "10.1.0.1/24", "dev", "a-first")
    assert ask(machine, "own_addresses()") == "['10.77.0.1', '10.1.0.1']"  # in the order of the interfaces
    machine.run("ip", "link", "set", "a-first", "up")
    machine.run("ip", "route", "add", "default", "via", "10.1.0.2")
    assert ask(machine, "own_addresses()") == "['10.1.0.1', '10.77.0.1']"


def test_bridges_of_containers_come_last(lan: Lan) -> None:
    machine = lan.machine()
    machine.run("ip", "link", "add", "docker0", "type", "bridge")
    machine.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
    machine.run("ip", "link", "add", "wired", "type", "bridge")
    machine.run("ip", "address", "add", "10.1.0.1/24", "dev", "wired")
    assert ask(machine, "own_addresses()") == "['10.1.0.1', '172.17.0.1']"


@pytest.mark.parametrize(
    "host, endpoints",
    [
        ("0.0.0.0", ["10.77.0.1:8080"]),
        ("::", ["10.77.0.1:8080", "[fd77::1]:8080"]),
        ("", ["10.77.0.1:8080", "[fd77::1]:8080"]),
    ],
)
def test_endpoints_of_the_addresses_a_peer_listens_on(lan: Lan, host: str, endpoints: list[str]) -> None:
    assert ask(lan.machine("10.77.0.1/24", "fd77::1/64"), f"own_endpoints({host!r}, 8080)") == str(endpoints)
