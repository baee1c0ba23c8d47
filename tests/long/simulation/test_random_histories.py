"""Long tests of `tests/simulation/test_random_histories.py`."""

from __future__ import annotations

import pytest

from simulation.random_histories import (
    RandomHistory,
    play,
)


@pytest.mark.weekly  # each has ten thousand made-up users, and costs as much as sixty others
def test_what_a_crowd_makes_up_reaches_the_honest_and_costs_them_a_bounded_amount() -> None:
    crowded = [seed for seed in range(300) if "join_crowd" in RandomHistory(seed).program][:3]
    assert len(crowded) == 3
    dialled = stored = 0
    for seed in crowded:
        sim, faults = play(seed)
        assert faults == []
        assert sim.counts["attack"]
        dialled += sim.counts["third_host_dialled"]
        stored += sum(log.user in sim.made_up for peer in sim.honest_up for log in peer.disk.logs)
    assert dialled and stored  # a crowd may also come while it is cut off
