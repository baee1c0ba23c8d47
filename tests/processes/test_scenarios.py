"""The two main scenarios over real processes, checked from their event logs (in logs/).

1. Peers that know one endpoint exchange messages: everyone gets every message of the others, once, in order.
2. Peers leave with a goodbye, by SIGKILL and silently: all others report it, with the right reason, in time.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import pytest

from p2pchat.testing import Log, check
from p2pchat.testing.process_mesh import Child
from tests.processes.commands import one_loop
from tests.processes.peers import Cluster

pytestmark = one_loop

NAMES = ("ada", "bob", "cyd", "dan", "eva")
EACH = 20
REPORTED_WITHIN = 60.0  # seconds. `left` and `lost` come without a timeout, which has a reason of its own
TIMEOUT_WITHIN = 55.0  # 35 by docs/guarantees.md, and what a busy machine may be late


async def five(cluster: Cluster) -> list[Child]:
    """Start five peers that know only the first one's endpoint; return when all see each other."""
    first = cluster.child(NAMES[0])
    await first.start()
    others = [cluster.child(name, first.endpoint) for name in NAMES[1:]]
    await asyncio.gather(*(child.start() for child in others))
    children = [first, *others]
    for child in children:
        for name in NAMES:
            if name != child.name:
                await child.event("joined", user=name)
    return children


def judge(cluster: Cluster, *, complete: bool) -> list[str]:
    return [str(fault) for fault in check([Log.read(cluster.log(name)) for name in NAMES], complete=complete)]


async def say(child: Child, count: int) -> None:
    for number in range(count):
        await child.do(do="send", text=f"{child.name} {number}")


def received(child: Child, sender: str) -> list[str]:
    return [line["text"] for line in child.lines if line["event"] == "message" and line["sender"] == sender]


@pytest.mark.relayed
async def test_scenario_1_everyone_gets_everything_once_and_in_order(quick: Cluster) -> None:
    children = await five(quick)
    await asyncio.gather(*(say(child, EACH) for child in children))
    for child in children:
        await child.wait(lambda line: line["event"] == "message", count=EACH * (len(NAMES) - 1))
        await child.wait(lambda line: line["event"] == "delivered", count=EACH * (len(NAMES) - 1))
    codes = [await child.leave() for child in children]
    assert codes == [0] * len(NAMES)
    for child in children:
        for sender in NAMES:
            wanted = [] if sender == child.name else [f"{sender} {number}" for number in range(EACH)]
            assert received(child, sender) == wanted
    assert judge(quick, complete=True) == []


async def wait_until_left(children: Sequence[Child], user: str, reason: str) -> None:
    for child in children:
        line = await child.event("left", REPORTED_WITHIN, user=user)
        assert line["reason"] == reason, f"{child.name} says that {user} {line['reason']}"


@pytest.mark.relayed(always=False)
async def test_scenario_2_everyone_learns_who_left_and_why(quick: Cluster) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows cannot stop a process without ending it")
    ada, bob, cyd, dan, eva = await five(quick)
    await asyncio.gather(*(say(child, 1) for child in (ada, bob, cyd, dan, eva)))
    for child in (ada, bob, cyd, dan, eva):
        await child.wait(lambda line: line["event"] == "message", count=4)

    assert await bob.leave() == 0
    await wait_until_left([ada, cyd, dan, eva], "bob", "left")

    cyd.kill()
    await cyd.ended()
    await wait_until_left([ada, dan, eva], "cyd", "lost")

    # The limit counts from dan's last byte, which may be up to one ping interval old.
    started = asyncio.get_running_loop().time()
    dan.process.send_signal(signal.SIGSTOP)
    await wait_until_left([ada, eva], "dan", "timeout")
    assert asyncio.get_running_loop().time() - started <= TIMEOUT_WITHIN

    assert [await ada.leave(), await eva.leave()] == [0, 0]
    for child in (ada, eva):
        assert [line["user"] for line in child.lines if line["event"] == "left"][:3] == ["bob", "cyd", "dan"]
    dan.kill()  # before it resumes and reports the others as gone
    await dan.ended()
    assert judge(quick, complete=False) == []
