"""A thousand random histories: peers write while others crash, disks come back old, links break. Every promise holds.

Each seed is one history of whole nodes on virtual time (p2pchat/testing/faults.py); p2pchat/testing/promises.py judges
it. A failing seed prints the one command that replays it with everything that happens. What must have happened often
in the whole run, for otherwise it would prove little, is checked at the end.
"""

from __future__ import annotations

import time

import pytest

from p2pchat.testing.__main__ import replay
from p2pchat.testing.many import Played, play_many
from tests.conftest import Tell

SEEDS = 1000
CHUNK = 250
JOBS = 2
BEGAN = time.monotonic()

# Each of these is a way in which a mesh that is tested gently never goes wrong.
MUST_HAPPEN = (
    "crash_with_commit_in_flight",
    "crash_between_commit_and_have",
    "link_replaced",
    "gap_batch_dropped",
    "want_source_changed",
    "digest_sum",
    "digest_sums",
    "page_boundary",
    "cursor_from_storage",
    "restore",
    "resume",
    "commit_failed",
    "cut",
    "gap",
    "warned_fork",
    "fault_head",
    "stick_carried",
    "stick_brought",
    "stick_again",
    "stick_damaged",
    "stick_no_file",
    "stick_failed",
    "stick_refused_head",
    "stick_refused_gap",
)


@pytest.fixture(scope="module")
def all_played() -> Played:
    """What happened so far in this run."""
    return Played()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_in_the_histories_from(first: int, all_played: Played) -> None:
    here = Played()
    for played in play_many(range(first, first + CHUNK), JOBS):
        here.add(played)
    all_played.add(here)
    failed = [
        f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed)}\n" + "\n".join(faults[:10])
        for seed, faults in here.broken.items()
    ]
    assert not failed, "\n".join(failed)


def test_everything_that_can_go_wrong_went_wrong(all_played: Played, tell: Tell) -> None:
    if all_played.histories < SEEDS:
        pytest.skip("counts what happened in all histories: run the whole file")
    tell(f"{all_played.histories} simulated histories in {time.monotonic() - BEGAN:.0f} s, in which happened:")
    for what in MUST_HAPPEN:
        tell(f"  {all_played.counts[what]:7} {what.replace('_', ' ')}")
    assert [what for what in MUST_HAPPEN if not all_played.counts[what]] == []
