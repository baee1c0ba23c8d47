"""Hundreds of random histories: peers write while others crash, disks come back old, links break. Every promise holds.

Each seed is one history of whole nodes on virtual time (p2pchat/testing/faults.py); p2pchat/testing/promises.py judges
it. A failing seed prints the one command that replays it with everything that happens. What must have happened at
least once in the whole run, for otherwise it would prove little, is checked at the end.
"""

from __future__ import annotations

from collections import Counter

import pytest

from p2pchat.testing.__main__ import judge, replay
from tests.conftest import Tell

SEEDS = 360
CHUNK = 30

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
)


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    """What happened so far in this run."""
    return Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_in_the_histories_from(first: int, counts: Counter[str]) -> None:
    failed = []
    for seed in range(first, first + CHUNK):
        faults = judge(seed, counts)
        if faults:
            shown = "\n".join(f"    {fault}" for fault in faults[:10])
            failed.append(f"seed {seed} broke {len(faults)} promises; to see how: {replay(seed)}\n{shown}")
        counts["histories"] += 1
    assert not failed, "\n".join(failed)


def test_everything_that_can_go_wrong_went_wrong(counts: Counter[str], tell: Tell) -> None:
    if counts["histories"] < SEEDS:
        pytest.skip("counts what happened in all histories: run the whole file")
    tell(f"{counts['histories']} simulated histories, in which happened:")
    for what in MUST_HAPPEN:
        tell(f"  {counts[what]:7} {what.replace('_', ' ')}")
    assert [what for what in MUST_HAPPEN if not counts[what]] == []
