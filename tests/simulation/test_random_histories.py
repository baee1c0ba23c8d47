"""Shrinking of failing histories to the necessary steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pchat.core.log import decode_entry
from p2pchat.kinds import KINDS
from simulation.__main__ import main, replay
from simulation.random_histories import (
    RandomHistory,
    Steps,
    WantedEvents,
    fewest,
    play,
    shrink,
)
from simulation.simulated_peer import SimPeer

SEED = 11
SHORT = 26  # a history that is quickly played and stops a peer


@pytest.mark.parametrize("needed", [set(), {3}, {0, 39}, {5, 6, 7}, {*range(0, 40, 7)}])
def test_shrinking_leaves_exactly_the_necessary_steps(needed: set[int]) -> None:
    def breaks(steps: Steps) -> bool:
        return needed <= {*steps}

    assert {*fewest([*range(40)], breaks, lambda: False)} == needed


def test_shrinking_returns_its_best_result_at_the_time_limit() -> None:
    tried: list[Steps] = []

    def breaks(steps: Steps) -> bool:
        tried.append(steps)
        return {9} <= {*steps}

    steps = fewest([*range(16)], breaks, lambda: len(tried) >= 4)
    assert 9 in steps and 1 < len(steps) < 16


def test_removing_a_step_changes_no_other() -> None:
    program = RandomHistory(SEED).program
    whole, again = play(SEED, steps=range(len(program)))[0], play(SEED)[0]
    assert whole.fingerprint() == again.fingerprint()
    assert [peer.user for peer in play(SEED, steps=[])[0].all_peers] == [peer.user for peer in whole.all_peers][:2]


def test_a_failing_history_is_shrunk_to_the_steps_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: SimPeer) -> None:
        self.sim.invariants.fail("stopped", self, "stopped")

    monkeypatch.setattr(SimPeer, "stop", stop)  # makes an orderly stop fail
    seed = next(seed for seed in range(SHORT, 100) if any(fault.rule == "stopped" for fault in play(seed)[1]))
    program, steps = RandomHistory(seed).program, shrink(seed)
    assert {program[step] for step in steps} <= {"stop", "leave", "join"} and len(steps) <= 3


def test_the_steps_of_a_replay_are_those_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(7, [2, 5]) == "python -m simulation --seed 7 --steps 2,5 --verbose"
    main(["--seed", "7", "--steps", "2,5"])
    assert capsys.readouterr().out.startswith("1 histories in ")


def test_in_each_history_with_odd_entries_someone_signs_any_text() -> None:
    shown = 0
    for seed in range(3):
        sim, _ = play(seed, wanted=WantedEvents(odd=True))
        assert sim.invariants.odd
        entries = [one for peer in sim.all_peers for one in peer.disk.storage.places(0, 9999)]
        shown += sum(one.raw in sim.invariants.odd for one in entries)
    assert shown > 3


def test_simulated_people_write_each_kind_of_entry() -> None:
    """Kinds whose records differ in nothing but the name are one for the core; an action is a text without choices."""
    written = set()
    lacking = [*KINDS]
    for seed in range(24, 60):  # some six are enough
        if lacking == ["action"]:
            break
        sim, _ = play(seed)
        written |= {decode_entry(shown.raw).k for peer in sim.all_peers for shown in peer.disk.storage.places(0, 9999)}
        played = {replace(KINDS[kind], name="") for kind in written & KINDS.keys()}
        lacking = [kind.name for kind in KINDS.values() if replace(kind, name="") not in played]
    assert lacking == ["action"], "nobody writes these: `_edit` or an action of its own in simulation/faults.py"
