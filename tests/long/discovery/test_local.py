"""Discovery over real multicast, between machines of a network of their own; warnings are errors in every process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from zeroconf import ServiceStateChange

from p2pchat import discovery
from tests.processes.machines import Lan, Machine

ROOT = Path(__file__).resolve().parents[3]
KEY, OTHER_KEY = "01" * 32, "02" * 32
ADA, BOB, EVE = "aa" * 32, "bb" * 32, "ee" * 32
PATIENCE = 60.0  # seconds; each wait takes one on a quiet machine


class Member:
    """A running tests/discovery/member.py. `told` has its lines so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.told: list[list[Any]] = []

    async def tells(self, *wanted: object) -> None:
        """Wait for this line, after the one waited for last."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await self._process.stdout.readline()
                assert line, f"ended without {wanted}; it told {self.told}"
                self.told.append(json.loads(line))
                if self.told[-1][: len(wanted)] == list(wanted):
                    return

    async def leave(self, *, silent: bool = True) -> None:
        """Let it leave; check that nothing was left behind and, if `silent`, that it printed no warning."""
        assert self._process.stdin is not None and self._process.stderr is not None
        self._process.stdin.close()
        await self.tells("left", 0)
        complaints = (await self._process.stderr.read()).decode()
        assert not silent or complaints == ""
        assert await self._process.wait() == 0


# Holds the port of multicast DNS as no program should.
SELFISH = """\
import socket, sys
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.bind(("", 5353))
print("mine", flush=True)
sys.stdin.read()"""

# Announces hundreds of services of our type: some with a proof that is none, some without anything.
FLOOD = """\
import asyncio, sys
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
from p2pchat.discovery import SERVICE_TYPE, txt_record
async def main():
    async with AsyncZeroconf() as zeroconf:
        for number in range(300):
            record = txt_record(b"?" * 32, "ee" * 32, 8080, ["10.77.0.3"], number.to_bytes(16, "big"))
            txt = record if number % 2 else {}
            info = AsyncServiceInfo(SERVICE_TYPE, f"{number}.{SERVICE_TYPE}", port=8080, properties=txt,
                                    server=f"eve{number}.local.", parsed_addresses=["10.77.0.3"])
            await zeroconf.async_register_service(info, cooperating_responders=True)
        print("flooded", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())"""


Join = Callable[..., Awaitable[Member]]


@pytest.fixture
async def member() -> AsyncIterator[Join]:
    processes = []

    async def join(machine: Machine, peer: str, key: str = KEY, host: str = "0.0.0.0", advertise: str = "") -> Member:
        command = [sys.executable, "-W", "error", "-m", "tests.discovery.member"]
        process = await asyncio.create_subprocess_exec(
            *machine.under(*command, peer, key, host, "8080", advertise),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        processes.append(process)
        return Member(process)

    yield join
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_members_see_each_other_and_when_one_has_gone(lan: Lan, member: Join) -> None:
    ada = await member(lan.machine("10.77.0.1/24", "fd77::1/64"), ADA)
    bob = await member(lan.machine("10.77.0.2/24"), BOB)
    await ada.tells("sighted", BOB, ["10.77.0.2:8080"])
    await bob.tells("sighted", ADA, ["10.77.0.1:8080"])
    await ada.leave()
    await bob.tells("sighted", ADA, [])
    await bob.leave()
    assert [one.told[0][0] for one in (ada, bob)] == ["sighted", "sighted"]  # and not a warning


async def test_over_ipv6_alone(lan: Lan, member: Join) -> None:
    ada = await member(lan.machine("fd77::1/64"), ADA, host="::")
    bob = await member(lan.machine("fd77::2/64"), BOB, host="::1")
    await bob.tells("sighted", ADA, ["[fd77::1]:8080"])
    await bob.leave()
    await ada.leave()
    assert ada.told == [["left", 0]]  # bob looks, but is not announced


async def test_another_network_sees_no_peer(lan: Lan, member: Join) -> None:
    machine = lan.machine("10.77.0.1/24")
    eve = await member(lan.machine("10.77.0.3/24"), EVE, OTHER_KEY)
    ada, bob = await member(machine, ADA), await member(lan.machine("10.77.0.2/24"), BOB)
    await ada.tells("sighted", BOB, ["10.77.0.2:8080"])
    await bob.tells("sighted", ADA, ["10.77.0.1:8080"])
    again = await member(lan.machine("10.77.0.4/24"), "dd" * 32, OTHER_KEY)
    await eve.tells("sighted", "dd" * 32, ["10.77.0.4:8080"])  # she sees her own, who came last
    for one in (again, ada, bob, eve):
        await one.leave()
    assert {line[1] for line in eve.told if line[0] == "sighted"} == {"dd" * 32}


async def test_a_peer_that_moves_is_seen_at_its_new_address(lan: Lan, member: Join) -> None:
    machine = lan.machine("10.77.0.1/24")
    ada, bob = await member(machine, ADA), await member(lan.machine("10.77.0.2/24"), BOB, host="127.0.0.1")
    await bob.tells("sighted", ADA, ["10.77.0.1:8080"])
    machine.move("10.77.0.9/24")
    # A goodbye cannot be sent from a lost address: the former announcement stays until it expires.
    await bob.tells("sighted", ADA, ["10.77.0.1:8080", "10.77.0.9:8080"])
    await ada.leave()
    await bob.leave()


async def test_without_a_network_there_is_one_warning_and_recovery(lan: Lan, member: Join) -> None:
    machine = lan.machine()
    ada, bob = await member(machine, ADA), await member(lan.machine("10.77.0.2/24"), BOB)
    await ada.tells("warned")
    machine.move("10.77.0.1/24")
    await ada.tells("sighted", BOB, ["10.77.0.2:8080"])
    await bob.tells("sighted", ADA, ["10.77.0.1:8080"])
    await ada.leave()
    await bob.leave()
    assert [line[0] for line in ada.told].count("warned") == 1


async def test_an_advertised_address_is_announced_instead_of_the_own_ones(lan: Lan, member: Join) -> None:
    ada = await member(lan.machine("10.77.0.1/24"), ADA, advertise="192.0.2.1:9000")
    bob = await member(lan.machine("10.77.0.2/24"), BOB)
    await bob.tells("sighted", ADA, ["192.0.2.1:9000"])
    await ada.leave()
    await bob.leave()


async def test_an_exclusive_port_5353_is_a_warning(lan: Lan, member: Join) -> None:
    machine = lan.machine("10.77.0.1/24")
    with subprocess.Popen(machine.under(sys.executable, "-c", SELFISH), stdin=PIPE, stdout=PIPE, text=True) as selfish:
        assert selfish.stdout is not None and selfish.stdout.readline() == "mine\n"
        ada = await member(machine, ADA)
        await ada.tells("warned")
        assert "in use" in ada.told[-1][1]
        selfish.communicate()
    await ada.leave(silent=False)  # zeroconf forgets to close the socket that it could not bind


async def test_members_find_each_other_in_a_flood_of_announcements(lan: Lan, member: Join) -> None:
    with subprocess.Popen(
        lan.machine("10.77.0.3/24").under(sys.executable, "-c", FLOOD), stdin=PIPE, stdout=PIPE, text=True
    ) as eve:
        assert eve.stdout is not None and eve.stdout.readline() == "flooded\n"
        ada, bob = await member(lan.machine("10.77.0.1/24"), ADA), await member(lan.machine("10.77.0.2/24"), BOB)
        await ada.tells("sighted", BOB, ["10.77.0.2:8080"])
        await bob.tells("sighted", ADA, ["10.77.0.1:8080"])
        await ada.leave()
        await bob.leave()
        eve.communicate()
    assert {line[1] for one in (ada, bob) for line in one.told if line[0] == "sighted"} == {ADA, BOB}


async def test_announcements_beyond_those_resolved_at_once_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_RESOLVES", 1)
    monkeypatch.setattr(discovery, "RESOLVE_TIMEOUT_MS", 50)  # nobody answers for these names
    reported: asyncio.Queue[str] = asyncio.Queue()
    session = discovery.MDNSSession(ADA, bytes.fromhex(KEY), lambda service, announced: reported.put_nowait(service))
    await session.open(["127.0.0.1"], None)
    names = [f"{number}.{discovery.SERVICE_TYPE}" for number in range(3)]
    for name in names:
        session._on_service_change(None, discovery.SERVICE_TYPE, name, ServiceStateChange.Added)
    async with asyncio.timeout(PATIENCE):
        assert [await reported.get() for _ in names] == names
    await session.close()
