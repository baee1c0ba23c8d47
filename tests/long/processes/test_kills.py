"""Meshes with all accidents that a seed draws, for a while; tests/processes/kills.py runs them for any time.

P2PCHAT_TEST_SEED draws other plans. A failure prints the command that repeats its mesh.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tell
from tests.processes.fork_server import AVAILABLE
from tests.processes.kills import LIVES, OFTEN, Tally, plans, run

SECONDS = 40.0  # then meshes end, unless an accident did not happen yet
SEED = os.environ.get("P2PCHAT_TEST_SEED", "7")


@pytest.mark.skipif(not AVAILABLE, reason="addresses in 127.0.0.0/8, and processes forked with descriptors")
@pytest.mark.parametrize("kinds", [("tcp", "link"), ("proxied",)], ids=" ".join)
async def test_meshes_through_every_accident(
    tmp_path: Path, tell: Tell, killed: Callable[[int], None], kinds: tuple[str, ...]
) -> None:
    tally, began = Tally(), time.monotonic()
    await run(SEED, kinds, tally, began + SECONDS, home=tmp_path, all=True)
    killed(tally.kills)
    tell(f"{tally}; {time.monotonic() - began:.0f} s")
    assert tally.lacks(kinds) == set() and tally.meshes.keys() == {*kinds}


def test_a_seed_repeats_the_same_plans_and_all_ends_take_turns() -> None:
    assert plans("7", 0, 0) == plans("7", 0, 0) != plans("8", 0, 0)
    ends = [life.end for peer in range(3) for life in plans("7", 5, peer)]
    assert {*ends} == {*OFTEN} and len(ends) == 3 * LIVES
