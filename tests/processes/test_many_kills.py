"""Small meshes whose peers are killed repeatedly, at points drawn from a seed; kills.py runs this for any time.

P2PCHAT_TEST_MESH_KILLS is the number of kills, P2PCHAT_TEST_SEED draws other plans. A failure prints the command that
repeats its mesh.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.processes.fork_server import AVAILABLE
from tests.processes.kills import POINTS, LifePlan, Tally, run

KILLS = int(os.environ.get("P2PCHAT_TEST_MESH_KILLS", "60"))  # test_failpoints.py has 250 more
SEED = os.environ.get("P2PCHAT_TEST_SEED", "7")


@pytest.mark.skipif(not AVAILABLE, reason="addresses in 127.0.0.0/8, and processes forked with descriptors")
@pytest.mark.timeout(240 + 3 * KILLS)
async def test_meshes_with_repeatedly_killed_peers(tmp_path: Path, tell: Tell, killed: Callable[[int], None]) -> None:
    # On a busy machine fewer lives reach their points in time: then further meshes start.
    tally, began = Tally(wanted=KILLS, wanted_points=len(POINTS) // 2 + 1), time.monotonic()
    await run(SEED, itertools.count(), tally, home=tmp_path)
    killed(tally.kills.total())
    tell(f"{tally}; {time.monotonic() - began:.0f} s")
    assert tally.enough and tally.cuts > 0


def test_a_seed_repeats_the_same_plans() -> None:
    drawn = [[LifePlan.draw(random.Random("7/0/ada")) for _ in range(8)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert {LifePlan.draw(random.Random(seed)).point for seed in range(300)} == {*POINTS, ""}
