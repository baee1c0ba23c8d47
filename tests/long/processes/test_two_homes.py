"""Two homes and no server: members whose routers let nobody in are linked through a third one.

The machines are network namespaces; routers are namespaces with rules of nftables.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.processes.machines import IS_ROOT, Lan, Machine, lan_or_skip
from tests.processes.peers import linked_directly

pytestmark = pytest.mark.skipif(
    not IS_ROOT or shutil.which("nft") is None or shutil.which("sysctl") is None, reason="needs root, nft and sysctl"
)
RITA, ADA, BOB = "10.77.0.1/24", "10.77.0.2/24", "10.77.0.3/24"
DROP, RESET = "drop", "reject with tcp reset"
RANDOM = "fully-random"
FIREWALL = """
table ip6 home {
  chain own { type filter hook input priority 0; policy accept; iifname "eth0" ct state new meta l4proto tcp drop; }
}"""


class Homes:
    """Rita, whom everybody can dial, and her guests on other machines."""

    def __init__(self, lan: Lan, path: Path, stack: AsyncExitStack) -> None:
        self.lan = lan
        self._path = path
        self._stack = stack
        self._invite = path / "invite"

    async def rita(self, machine: Machine | None = None, *, host: str = "0.0.0.0") -> Child:
        """Start the peer of the network's founder."""
        rita = await self._child("rita", machine or self.lan.machine(RITA), "--host", host)
        await rita.do(do="invite", uses=16, ref="invite")
        [row] = (await rita.event("answer", ref="invite"))["rows"]
        self._invite.write_text(row["invite"])
        return rita

    async def guest(self, name: str, machine: Machine, *words: str) -> Child:
        """Start a peer that joins with rita's invite."""
        return await self._child(name, machine, "--invite", str(self._invite), *words)

    async def _child(self, name: str, machine: Machine, *words: str) -> Child:
        home = self._path / name
        home.mkdir()
        child = Child(name, home, *words, "--data", str(home / "data"), under=machine.under())
        self._stack.push_async_callback(child.destroy)
        await child.start()
        return child


@pytest.fixture
async def homes(tmp_path: Path) -> AsyncIterator[Homes]:
    with lan_or_skip() as lan:
        async with AsyncExitStack() as stack:
            yield Homes(lan, tmp_path, stack)


async def joins(one: Child, other: Child) -> float:
    """Wait until two children are linked; return the seconds since this call."""
    began = time.perf_counter()
    await asyncio.gather(one.event("joined", user=other.name), other.event("joined", user=one.name))
    return time.perf_counter() - began


async def opens_directly(one: Child, other: Child) -> float:
    """Wait until nobody carries the link of two children; return the seconds since this call."""
    began = time.perf_counter()
    await linked_directly(one, other)
    return time.perf_counter() - began


async def delivers(one: Child, other: Child, text: str) -> None:
    """Have one tell the other something alone."""
    await one.do(do="send", to=other.name, text=text)
    await other.event("message", text=text)
    await one.event("delivered", user=other.name)


async def test_two_guests_on_loopback_are_linked_through_their_founder(homes: Homes, tell: Tell) -> None:
    rita = await homes.rita()
    bob = await homes.guest("bob", homes.lan.machine(BOB))
    cyd = await homes.guest("cyd", homes.lan.machine("10.77.0.4/24"))
    tell(f"two guests: linked {await joins(bob, cyd):.2f} s after the second one listened")
    await delivers(bob, cyd, "to cyd alone")
    await delivers(cyd, bob, "to bob alone")
    assert "alone" not in str(rita.lines)


async def are_linked_directly(homes: Homes, rita: Child, guests_at: Sequence[Machine], tell: Tell) -> None:
    """Start rita's two guests, wait until they are linked directly, and have one write to the other."""
    ada_at, bob_at = guests_at
    ada = await homes.guest("ada", ada_at)
    await joins(rita, ada)
    bob = await homes.guest("bob", bob_at)
    tell(f"linked {await joins(ada, bob):.2f} s after the second one listened")
    tell(f"direct {await opens_directly(ada, bob):.2f} s later")
    await delivers(ada, bob, "to bob alone")


async def test_routers_that_refuse_let_in_what_both_dial_at_one_moment(homes: Homes, tell: Tell) -> None:
    rita_at, *guests_at = homes.lan.machine(RITA), *(homes.lan.home(each, answers=RESET) for each in (ADA, BOB))
    homes.lan.slow(10)
    await are_linked_directly(homes, await homes.rita(rita_at), guests_at, tell)


async def test_two_behind_firewalls_of_ipv6_are_linked_directly(homes: Homes, tell: Tell) -> None:
    rita_at, *guests_at = (homes.lan.machine(f"fd00:77::{number}/64") for number in (1, 2, 3))
    for machine in guests_at:
        machine.run("nft", FIREWALL)
    await are_linked_directly(homes, await homes.rita(rita_at, host="::"), guests_at, tell)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {}, id="both-drop"),
        pytest.param({"answers": RESET}, {"answers": RESET}, id="both-reset"),
        pytest.param({}, {"answers": RESET}, id="drop-reset"),
        pytest.param({"ports": RANDOM}, {}, id="random-drop"),
        pytest.param({"ports": RANDOM}, {"ports": RANDOM}, id="both-random"),
        pytest.param({"ports": RANDOM, "answers": RESET}, {"answers": RESET}, id="random-reset"),
        pytest.param({"twice": True}, {}, id="double-drop"),
        pytest.param({"twice": True}, {"twice": True}, id="both-double"),
        pytest.param({"twice": True}, {"answers": RESET}, id="double-reset"),
        pytest.param({"twice": True}, {"ports": RANDOM}, id="double-random"),
        pytest.param({}, None, id="drop-public"),
        pytest.param({"twice": True, "ports": RANDOM}, None, id="double-random-public"),
    ],
)
async def test_two_homes_are_linked(
    homes: Homes, tell: Tell, one: dict[str, object], other: dict[str, object] | None
) -> None:
    rita = await homes.rita()
    ada = await homes.guest("ada", home(homes.lan, ADA, one), "--host", "0.0.0.0")
    await joins(rita, ada)
    bob = await homes.guest("bob", home(homes.lan, BOB, other), "--host", "0.0.0.0")
    tell(f"{one} and {other}: linked {await joins(ada, bob):.2f} s after the second one listened")
    await delivers(ada, bob, "to bob alone")
    # Without any delay two that refuse never dial at one moment: see below.
    if RANDOM not in str((one, other)) and str((one, other)).count(RESET) < 2:
        tell(f"direct {await opens_directly(ada, bob):.2f} s later")
    await delivers(bob, ada, "to ada alone")
    assert not [line for child in (ada, bob) for line in child.lines if line["event"] == "left"]


def home(lan: Lan, public: str, how: dict[str, object] | None) -> Machine:
    """Return a machine at home; None for one that everybody can dial."""
    if how is None:
        return lan.machine(public)
    routers = (public, "10.78.0.10/24") if how.get("twice") else (public,)
    return lan.home(*routers, answers=str(how.get("answers", DROP)), ports=str(how.get("ports", "")))


async def test_another_third_takes_over_when_one_is_killed(homes: Homes) -> None:
    rita = await homes.rita()
    dan = await homes.guest("dan", homes.lan.machine("10.77.0.5/24"), "--host", "0.0.0.0")
    await joins(rita, dan)
    ada = await homes.guest("ada", homes.lan.home(ADA))
    bob = await homes.guest("bob", homes.lan.home(BOB))
    await asyncio.gather(joins(ada, bob), joins(ada, dan), joins(bob, dan))
    await delivers(ada, bob, "before")
    rita.kill()
    await ada.do(do="send", to="bob", text="after")
    await bob.event("message", text="after")
    await ada.wait(lambda line: line["event"] == "delivered" and line["user"] == "bob", count=2)
    assert not [line for line in ada.lines if line["event"] == "left" and line["user"] == "bob"]
