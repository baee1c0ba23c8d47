"""Faults of networks: unplugged cables, black holes, one-way links, changing addresses, slow lines.

Each scenario has its own switch and machines (machines.py) and ends with the checker over all its logs. Scenarios run
concurrently, because they mostly wait; each is still a separate test.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from p2pchat.testing.process_mesh import Child, Line
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.machines import Lan, Machine, NoNamespaces
from tests.processes.peers import Cluster
from tests.processes.settings_override import changes

AT_ONCE = 3  # scenarios that start processes at the same time; the longest begin first
Settled = Mapping[str, float]  # fields of Settings
USUAL: Settled = {}
QUICK: Settled = {
    "ping_after": 0.5,
    "dead_after": 2.0,
    "handshake_timeout": 2.0,
    "redial_most": 0.5,
}  # instead of half a minute
START = 60.0  # seconds until a process listens, while all others start too
ARRIVES = 60.0  # seconds until any expected message or event
BACKLOG = 9  # texts of 32 KiB: at least 36 s on a line of 64 kbit/s
SLOW_KBITS = 64


class Network(Cluster):
    """The machines of one scenario, numbered from 1 (10.77.0.1), and their peers. One login: no invite needed."""

    def __init__(self, home: Path, logs: Path, lan: Lan, fork_server: ForkServer | None) -> None:
        super().__init__(home, logs, fork_server)
        self._lan = lan
        self._machines: dict[int, Machine] = {}

    def machine(self, number: int) -> Machine:
        if number not in self._machines:
            self._machines[number] = self._lan.machine(f"10.77.0.{number}/24")
        return self._machines[number]

    async def peer(self, name: str, at: int, *endpoints: str, port: int = 0, settings: Settled = USUAL) -> Child:
        """Start a peer of that name on a machine; the same name again is its next life."""
        words = [*endpoints, "--host", "0.0.0.0"]
        child = self.child(name, *words, port=port, changes=changes(settings), place=self.machine(at))
        await child.start(START)
        return child

    def endpoint(self, child: Child, at: int) -> str:
        return f"{self.machine(at).address}:{child.listening['port']}"

    async def shown(self, name: str) -> list[str]:
        """Return the lines of `p2pchat history`, without the times."""
        code, out = await self.run("history", "--data", str(self.home / name))
        assert code == 0
        return [re.sub(r"^\d+-\d+-\d+ \d+:\d+ ", "", line) for line in out.decode().splitlines()]

    async def close(self) -> None:
        await self.destroy()
        self._lan.close()


async def met(*children: Child) -> None:
    for one in children:
        for other in children:
            if one is not other:
                await one.event("joined", START, user=other.name)


async def says(child: Child, to: str, text: str) -> Line:
    """Have it send a text; return its `sent` line."""
    await child.do(do="send", to=to, text=text)
    return await child.event("sent", START, text=text)


async def hears(child: Child, text: str, timeout: float = ARRIVES) -> Line:
    return await child.event("message", timeout, text=text)


async def address_of(child: Child, user: str) -> str:
    """Return the address from which a user's peer is linked, as `whois` tells it now."""
    ref = f"whois {child.count('answer')}"
    await child.do(do="whois", user=user, ref=ref)
    answer = await child.event("answer", ARRIVES, ref=ref)
    [host] = answer["rows"][0]["hosts"]
    return str(host["address"])


async def leave(*children: Child) -> None:
    assert [await child.leave() for child in children] == [0] * len(children)


# ---- the scenarios


async def a_cable_unplugged_for_a_moment_is_no_departure(network: Network) -> None:
    ada = await network.peer("ada", 1)
    bob = await network.peer("bob", 2, network.endpoint(ada, 1))
    await met(ada, bob)
    for number in range(3):
        network.machine(2).unplug()
        await says(ada, "room", f"to you {number}")
        await says(bob, "room", f"to me {number}")
        await asyncio.sleep(0.7)  # the duration of the fault
        network.machine(2).plug()
        await hears(bob, f"to you {number}")
        await hears(ada, f"to me {number}")
    for child in (ada, bob):
        await child.wait(lambda line: line["event"] == "delivered", count=3)
    assert ada.count("left") == bob.count("left") == 0
    await network.judge()
    await leave(ada, bob)


async def a_black_hole_is_reported_in_time_and_messages_arrive_later(network: Network) -> None:
    """With the default times. Nothing resets this connection; only silence shows that it is dead."""
    ada = await network.peer("ada", 1, settings={"redial_most": 1.0})
    bob = await network.peer("bob", 2, network.endpoint(ada, 1), settings={"redial_most": 1.0})
    await met(ada, bob)
    await says(ada, "room", "before")
    await hears(bob, "before")
    network.machine(1).lose("10.77.0.2")
    network.machine(2).lose("10.77.0.1")
    began = time.monotonic()
    await says(ada, "room", "into the hole")  # ada may get an error of the system, bob only silence
    await bob.event("left", 2 * ARRIVES, user="ada", reason="timeout")
    assert time.monotonic() - began < 55, "not with the first silence of 30 s"
    await ada.event("left", ARRIVES, user="bob", reason="timeout")
    await says(bob, "ada", "are you there?")
    network.machine(1).find("10.77.0.2")
    network.machine(2).find("10.77.0.1")
    await hears(bob, "into the hole")
    await hears(ada, "are you there?")
    await bob.event("delivered", user="ada")
    await network.judge()
    await leave(ada, bob)


async def a_one_way_link_is_no_link(network: Network) -> None:
    ada = await network.peer("ada", 1, settings=QUICK)
    bob = await network.peer("bob", 2, network.endpoint(ada, 1), settings=QUICK)
    await met(ada, bob)
    network.machine(2).lose("10.77.0.1")  # bob receives from ada, but not the other way round
    await asyncio.gather(ada.event("left", ARRIVES, user="bob", reason="timeout"), bob.event("left", ARRIVES))
    await says(ada, "bob", "can you hear me?")
    await says(bob, "ada", "I cannot answer")
    links = ada.count("link", state="up")
    await asyncio.sleep(2.5)  # failed attempts are not reported: time for several, none of which completes a handshake
    assert ada.count("link", state="up") == links
    assert ada.count("message") == bob.count("message") == 0
    network.machine(2).find("10.77.0.1")
    await hears(bob, "can you hear me?")
    await hears(ada, "I cannot answer")
    await network.judge()
    await leave(ada, bob)


async def a_moved_peer_is_found_again_even_by_later_starters(network: Network) -> None:
    ada = await network.peer("ada", 1, settings=QUICK)
    bob = await network.peer("bob", 2, network.endpoint(ada, 1), settings=QUICK)
    await met(ada, bob)
    assert await address_of(ada, "bob") == "10.77.0.2"
    network.machine(2).move("10.77.0.22/24")  # found again so soon that ada may report neither `left` nor a new link
    await says(ada, "bob", "where are you?")
    await hears(bob, "where are you?")
    assert await address_of(ada, "bob") == "10.77.0.22"
    await says(bob, "ada", "elsewhere")
    await hears(ada, "elsewhere")
    await leave(ada)
    network.machine(1).move("10.77.0.11/24")  # moved, started without an endpoint: she remembers bob's
    ada = await network.peer("ada", 1, settings=QUICK)
    await says(bob, "ada", "so you moved too")
    await hears(ada, "so you moved too")
    await network.judge()
    await leave(ada, bob)


async def two_that_never_meet_get_messages_but_no_receipts(network: Network) -> None:
    network.machine(1), network.machine(2), network.machine(3)
    network.machine(1).lose("10.77.0.3")
    network.machine(3).lose("10.77.0.1")
    bob = await network.peer("bob", 2, "--no-carry", settings=QUICK)
    ada = await network.peer("ada", 1, network.endpoint(bob, 2), settings=QUICK)
    cyd = await network.peer("cyd", 3, network.endpoint(bob, 2), settings=QUICK)
    await met(ada, bob)
    await met(bob, cyd)
    first = await says(ada, "room", "hello both")
    await hears(cyd, "hello both")
    answer = await says(cyd, "room", "hello ada")
    assert (await hears(ada, "hello ada"))["sender"] == "cyd"
    await says(ada, "room", "so it goes")
    await hears(cyd, "so it goes")
    # Bob acknowledges to ada. Cyd cannot: receipts are not relayed.
    await ada.event("delivered", id=first["id"], user="bob")
    await cyd.event("delivered", id=answer["id"], user="bob")
    assert {line["user"] for line in [*ada.lines, *cyd.lines] if line["event"] == "delivered"} == {"bob"}
    assert ada.count("joined", user="cyd") == cyd.count("joined", user="ada") == 0
    await says(ada, "cyd", "only for you")  # a direct message waits for its recipient
    assert network.faults(complete=False) == []
    network.machine(1).find("10.77.0.3")
    network.machine(3).find("10.77.0.1")
    await hears(cyd, "only for you")
    await ada.event("delivered", ARRIVES, id=first["id"], user="cyd")
    await cyd.event("delivered", ARRIVES, id=answer["id"], user="ada")
    assert bob.count("message", text="only for you") == 0
    await network.judge()
    await leave(ada, bob, cyd)


async def an_unavailable_message_leaves_a_gap_mark_until_it_arrives(network: Network) -> None:
    """Bob answers ada and leaves before cyd, who cannot reach her, has received what she wrote."""
    # A link that is silent on a busy machine must not end: the next one compares, and brings what is to be missing.
    slow = {**QUICK, "dead_after": 120.0, "order_wait": 1.0, "gossip_within": 600.0, "digest_every": 600.0}
    slow["want_after"] = 240.0  # cyd would ask bob for the message after a quarter of it
    network.machine(1), network.machine(2), network.machine(3)
    network.machine(1).lose("10.77.0.3")
    network.machine(3).lose("10.77.0.1")
    bob = await network.peer("bob", 2, settings=slow)
    ada = await network.peer("ada", 1, network.endpoint(bob, 2), settings=slow)
    await met(ada, bob)
    await says(ada, "room", "I am ada")  # her name comes with it
    await hears(bob, "I am ada")
    cyd = await network.peer("cyd", 3, network.endpoint(bob, 2), settings=slow)
    await met(bob, cyd)
    await says(bob, "room", "hello")  # when this arrives, both have compared all logs with bob
    await asyncio.gather(hears(ada, "hello"), hears(cyd, "hello"))
    asked = await says(ada, "room", "shall we?")
    await hears(bob, "shall we?")
    await says(bob, "room", "yes")
    answer = await hears(cyd, "yes")  # shown after a second without the message it answers
    assert answer.get("gap") and asked["id"] in answer["after"]
    gap = await cyd.event("gap", about=answer["id"])
    assert (gap["missing"], gap["text"]) == ([asked["id"]], "1 earlier message is missing here")
    assert sorted(gap["last_seen_with"]) == ["ada", "bob"]  # cyd knows ada by her name in the room
    bob.kill()
    await bob.ended()
    assert (await network.shown("cyd"))[2:] == [
        "-- 1 earlier message is missing here; last seen with ada, bob",
        "bob: yes",
    ]
    *_, line = await network.history("cyd")
    assert (line.get("gap"), line.get("missing"), line.get("last_seen_with")) == (True, [asked["id"]], ["ada", "bob"])

    network.machine(1).find("10.77.0.3")
    network.machine(3).find("10.77.0.1")
    await cyd.do(do="connect", endpoint=network.endpoint(ada, 1))
    await hears(cyd, "shall we?")
    assert (await network.shown("cyd"))[1:] == ["bob: hello", "ada: shall we?", "bob: yes"]
    line = (await network.history("cyd"))[-1]
    assert line.get("gap") and "missing" not in line  # shown after a gap, which is now filled
    assert network.faults(complete=False) == []
    await leave(ada, cyd)


async def a_slow_link_with_a_backlog_is_not_dead(network: Network) -> None:
    """With the default times: the backlog takes longer than `dead_after`."""
    ada = await network.peer("ada", 1)
    bob = await network.peer("bob", 2, network.endpoint(ada, 1))
    await met(ada, bob)
    network.machine(1).throttle(SLOW_KBITS)
    network.machine(2).throttle(SLOW_KBITS)
    began = time.monotonic()
    for number in range(BACKLOG):
        await says(ada, "bob", f"{number} " + "\u00e4" * 16_000)
    came = await bob.wait(lambda line: line["event"] == "message", 2 * ARRIVES, count=BACKLOG)
    assert [line["text"].split()[0] for line in came] == [str(number) for number in range(BACKLOG)]
    await ada.wait(lambda line: line["event"] == "delivered", count=BACKLOG)
    assert time.monotonic() - began > 31, "too quick to show anything"
    assert ada.count("left") == bob.count("left") == 0
    assert ada.count("link", state="up") == bob.count("link", state="up") == 1
    await network.judge()
    await leave(ada, bob)


async def another_identity_at_a_known_address_is_not_mistaken(network: Network) -> None:
    ada = await network.peer("ada", 1, port=8080)
    bob = await network.peer("bob", 2, network.endpoint(ada, 1))
    await met(ada, bob)
    await leave(bob, ada)
    eve = await network.peer("eve", 1, port=8080)  # another member of the same network
    # Without an endpoint: a remembered one is dialled for ada, and then for whichever member is there.
    bob = await network.peer("bob", 2, settings={"redial_most": 0.5})
    refused = await bob.event("link", ARRIVES, state="refused", code="identity")
    assert refused["endpoint"] == "10.77.0.1:8080" and refused["reason"].startswith("another peer answers")
    await says(bob, "ada", "is it you?")
    await asyncio.sleep(1.5)  # a repeated refusal is not reported: time for three more attempts
    assert bob.count("joined", user="ada") == eve.count("message") == 0
    assert bob.count("joined", user="eve") == 1
    await leave(eve)
    ada = await network.peer("ada", 1, port=8080)
    await hears(ada, "is it you?")
    await bob.event("delivered", user="ada")
    await network.judge()
    await leave(ada, bob)


Scenario = Callable[[Network], Awaitable[None]]
LONG: Sequence[Scenario] = (
    a_black_hole_is_reported_in_time_and_messages_arrive_later,
    a_slow_link_with_a_backlog_is_not_dead,
)
SHORT: Sequence[Scenario] = (
    a_cable_unplugged_for_a_moment_is_no_departure,
    a_one_way_link_is_no_link,
    a_moved_peer_is_found_again_even_by_later_starters,
    two_that_never_meet_get_messages_but_no_receipts,
    an_unavailable_message_leaves_a_gap_mark_until_it_arrives,
    another_identity_at_a_known_address_is_not_mistaken,
)
Results = dict[str, BaseException | None]  # scenario -> the error it failed with, or None


async def _play(
    scenario: Scenario, home: Path, at_once: asyncio.Semaphore, fork_server: ForkServer | None
) -> BaseException | None:
    name = scenario.__name__
    logs = home / name / "logs"
    logs.mkdir(parents=True)
    async with at_once:
        try:
            network = Network(home / name, logs, Lan(), fork_server)
        except NoNamespaces as error:
            return error
        try:
            await scenario(network)
        except (Exception, pytest.skip.Exception) as error:
            return error
        finally:
            await network.close()
    return None


async def _play_all(home: Path, chosen: Sequence[Scenario]) -> Results:
    unbounded, bounded = asyncio.Semaphore(len(LONG)), asyncio.Semaphore(AT_ONCE)
    async with ForkServer() if AVAILABLE else nullcontext() as fork_server:
        playing = (_play(one, home, unbounded if one in LONG else bounded, fork_server) for one in chosen)
        ends = await asyncio.gather(*playing)
    return {one.__name__: end for one, end in zip(chosen, ends, strict=True)}


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run the selected scenarios; return their results."""
    wanted = {_scenario(item) for item in request.session.items if _is_ours(item)}
    chosen = [scenario for scenario in (*LONG, *SHORT) if scenario in wanted]
    return asyncio.run(_play_all(tmp_path_factory.mktemp("networks"), chosen))


def _is_ours(item: pytest.Item) -> bool:
    return getattr(item, "function", None) is test_network


def _scenario(item: pytest.Item) -> Scenario:
    return vars(item)["callspec"].params["scenario"]  # type: ignore[no-any-return]


@pytest.mark.timeout(600)  # the first waits for all
@pytest.mark.parametrize("scenario", [*LONG, *SHORT], ids=lambda scenario: scenario.__name__)
def test_network(scenario: Scenario, ends: Results) -> None:
    end = ends[scenario.__name__]
    if isinstance(end, NoNamespaces):
        pytest.skip(f"no such network here: {end}")
    if end is not None:
        raise end
