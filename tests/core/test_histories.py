"""Random histories: peers write while others crash, restore old disks and lose links; all promises hold.

Each seed is one history of whole nodes in virtual time (simulation/), checked by
simulation/invariants/. A failing seed prints the command that replays it in detail, and the command that plays
only the necessary steps. Here are a few of each kind; tests/long/core/test_histories.py plays hundreds, and the soak
plays others.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simulation.__main__ import replay
from simulation.random_histories import NOTHING, PlayResult, WantedEvents, play_many, shrink

ROUTERS = WantedEvents(routers=True)
FILES = WantedEvents(files=True)
MEMBERS = WantedEvents(members=True)
MACHINES = WantedEvents(machines=True)


@pytest.mark.parametrize("seed", (4, 6, 7, 8, *range(10, 16), 17, 18))  # the others have crowds, and need a second
def test_every_promise_holds_in_history(seed: int) -> None:
    assert not failures(played([seed]), NOTHING)


@pytest.mark.parametrize("seed", (*range(4, 9), *range(10, 14)))
def test_every_promise_holds_with_routers_in_history(seed: int) -> None:
    assert not failures(played([seed], ROUTERS), ROUTERS)


def test_every_promise_holds_with_files_in_history() -> None:
    here = played([7, 8, 11], FILES)
    assert not failures(here, FILES)
    assert here.counts["content_arrived"]


@pytest.mark.parametrize("seed", (12, 124, 194, 317, 629, 1441, 20358))  # each broke a promise once
def test_every_promise_holds_with_members_in_history(seed: int) -> None:
    assert not failures(played([seed], MEMBERS), MEMBERS)


@pytest.mark.parametrize("seed", (0, 2, 13))
def test_every_promise_holds_with_machines_in_history(seed: int) -> None:
    assert not failures(played([seed], MACHINES), MACHINES)


def played(seeds: Sequence[int], wanted: WantedEvents = NOTHING, jobs: int = 1) -> PlayResult:
    """Return the result of these histories, played by so many processes; 1 is this one."""
    here = PlayResult()
    for some in play_many(seeds, jobs, wanted=wanted):
        here.add(some)
    return here


def failures(here: PlayResult, wanted: WantedEvents, *, tell_steps: bool = True) -> str:
    """Return for people what the histories broke, and how to see it; "" if nothing."""
    failed = [
        f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed, wanted=wanted)}\n"
        + "\n".join(faults[:10])
        for seed, faults in sorted(here.broken.items())
    ]
    if failed and tell_steps:
        seed = min(here.broken)
        failed.append(f"the steps that matter: {replay(seed, shrink(seed, wanted=wanted), wanted)}")
    return "\n".join(failed)
