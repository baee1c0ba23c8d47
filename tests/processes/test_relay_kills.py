"""SIGKILL of peers that listen on no socket, and of the engine that links them, while all write.

P2PCHAT_TEST_KILLS is the number of rounds; in each one peer and the engine are killed at drawn moments.
P2PCHAT_TEST_SEED draws other moments; a failing run prints its seed.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.nats import NatsServer
from tests.processes.peer_runs import PATIENCE, PeerRuns, check_nothing_lost_or_repeated, wait_for_everything
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
KILLS = int(os.environ.get("P2PCHAT_TEST_KILLS", "3"))
SEED = int(os.environ.get("P2PCHAT_TEST_SEED", "7"))
BURST = 150  # lines of each peer; a third of them go to the room
NAMES = ("ada", "bob", "cyd")


async def relayed(quick: Cluster, engine: NatsServer) -> list[PeerRuns]:
    """Start three peers that are linked through the engine only."""
    words = ("--engine", engine.url, "--no-listen")
    sides = [PeerRuns(quick, name, NAMES[(number + 1) % 3], *words) for number, name in enumerate(NAMES)]
    await sides[0].start()
    listening = sides[0].now.listening
    assert listening["port"] == 0
    for side in sides[1:]:
        await side.start(f"{listening['peer_id']}.relay:1")
    for side in sides:
        for other in sides:
            if other is not side:
                await side.now.event("joined", PATIENCE, user=other.name)
        await side.remembers(2)
    return sides


@pytest.mark.timeout(240 + 15 * KILLS)
async def test_peers_and_the_engine_are_killed_while_three_write(quick: Cluster, engine: NatsServer) -> None:
    print(f"seed {SEED}, {KILLS} kills of the engine and of a peer")
    chance = random.Random(SEED)
    sides = await relayed(quick, engine)
    for number in range(KILLS):
        writing = [asyncio.create_task(side.burst(BURST)) for side in sides]
        await asyncio.sleep(chance.uniform(0, 0.25))  # the drawn moment
        await asyncio.to_thread(engine.kill)
        dies = sides[number % 3]
        await dies.kill()
        await asyncio.gather(*writing)
        await asyncio.to_thread(engine.start)
        await dies.start()
    await wait_for_everything(*sides)
    await check_nothing_lost_or_repeated(quick, *sides)
    assert all(
        line["address"] == "relay"
        for side in sides
        for line in side.now.lines
        if line.get("state") == "up" and line["peer_id"]
    )
    assert [await side.now.leave() for side in sides] == [0, 0, 0]


async def test_who_was_away_gets_everything_through_the_engine(quick: Cluster, engine: NatsServer) -> None:
    ada, bob, cyd = await relayed(quick, engine)
    await bob.kill()
    await asyncio.gather(ada.burst(BURST), cyd.burst(BURST))
    await bob.start()
    await wait_for_everything(ada, bob, cyd)
    await check_nothing_lost_or_repeated(quick, ada, bob, cyd)
    assert [await side.now.leave() for side in (ada, bob, cyd)] == [0, 0, 0]
