"""Floods of work by one member, while two others write to each other: real processes, links and disks.

At its end `pytest tests/long/hostile/test_floods.py` prints how long a message took until it was delivered.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import pytest

from p2pchat.protocol import encode
from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.hostile.attacker import Attacker, invented_identity
from tests.processes.peers import Cluster
from tests.processes.strangers import two_members

LOGS = 30_000
FLOODED_FOR = 6.0  # seconds; without limits the logs took nine
MEDIAN, WORST = 0.1, 1.0  # seconds until a message is delivered, on a machine with nothing else to do
QUIET = 0.01  # the same without a flood, on such a machine; on a busy one all of these are longer alike


async def send_and_wait(one: Child, other: str, text: str) -> float:
    """Send a direct message; return the seconds until it is delivered."""
    began = time.perf_counter()
    await one.do(do="send", to=other, text=text, ref=text)
    sent = await one.event("sent", 60, ref=text)
    await one.event("delivered", 60, id=sent["id"])
    one.lines[1:] = []  # a flood shows thousands of events, and each wait looks at all of them
    return time.perf_counter() - began


async def write_until(one: Child, other: str, over: asyncio.Event) -> list[float]:
    """Send messages one after the other; return the seconds that each took."""
    took: list[float] = []
    while not over.is_set():
        took.append(await send_and_wait(one, other, f"{one.name} {time.perf_counter()}"))
    return took


async def both_write(ada: Child, bob: Child, seconds: float) -> list[float]:
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(write_until(*pair, over)) for pair in ((ada, "bob"), (bob, "ada"))]
        await asyncio.sleep(seconds)  # how long they are watched
        over.set()
    return [seconds for task in writing for seconds in task.result()]


@pytest.mark.weekly
async def test_who_begins_30_000_logs_delays_others_by_less_than_a_second(cluster: Cluster, tell: Tell) -> None:
    ada, bob = await two_members(cluster)
    await send_and_wait(ada, "bob", "now you are no stranger")
    network = cluster.network
    eve = Attacker("eve", network)
    await eve.join(ada.listening["port"])
    logs = [encode(eve.pen(invented_identity(f"nobody {n}"), eve.room).say("x")) for n in range(LOGS)]
    before = await both_write(ada, bob, 1.0)
    flood = asyncio.create_task(eve.flood(logs))
    took = await both_write(ada, bob, FLOODED_FOR)
    assert not eve.over
    flood.cancel()
    await eve.disconnect()
    slower = max(1.0, median(before) / QUIET)
    tell(
        f"beside a flood of logs {len(took)} messages were delivered within {median(took) * 1000:.0f} ms (median), "
        f"{max(took) * 1000:.0f} at most; without it {median(before) * 1000:.0f} ms"
    )
    assert median(took) < MEDIAN * slower
    assert max(took) < WORST * slower
