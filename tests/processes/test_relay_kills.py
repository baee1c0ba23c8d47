"""SIGKILL of the engine that links three peers, and of a peer, while all write; engine_kills.py has a hundred.

P2PCHAT_TEST_KILLS is the number of kills of the engine; P2PCHAT_TEST_SEED draws other moments.
"""

from __future__ import annotations

import os

import pytest

from tests.amounts import KILLS
from tests.conftest import Tell
from tests.nats import NatsServer
from tests.processes.engine_kills import mesh_with_kills, summary
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEED = os.environ.get("P2PCHAT_TEST_SEED", "7")


@pytest.mark.sampled
@pytest.mark.timeout(240 + 15 * KILLS)
async def test_peers_and_the_engine_are_killed_while_three_write(
    quick: Cluster, engine: NatsServer, tell: Tell
) -> None:
    print(f"seed {SEED}, {KILLS} kills of the engine")
    quick.engine = engine.url
    took = await mesh_with_kills(quick, engine, SEED, KILLS)
    tell(summary(took, sum(child.count("sent") for child in quick.children)))
