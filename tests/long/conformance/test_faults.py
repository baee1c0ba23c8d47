"""The conformance kit finds each deliberate fault of the peer in JavaScript, and none in the peer as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.candidates import failures, free_port, listened, names, node_candidate
from tests.conformance.faults import FAULTS, hunt_all
from tests.long.test_examples import node
from tests.revision import part_of

PARTS = 6  # each is one test, and takes some ten seconds; a gate runs the one that its revision chooses
HERE = part_of(PARTS)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.weekly] * (part != HERE)) for part in range(PARTS)]
)
async def test_the_kit_finds_each_fault(part: int) -> None:
    node()  # or skip
    hunts = await hunt_all(FAULTS[part::PARTS])
    free = [f"{one.fault.name}: {one.fault.rule} {one.why}" for one in hunts if not one.found]
    assert free == []


@pytest.mark.weekly  # test_peer_mjs.py has it keep all rules
async def test_the_peer_without_a_fault_keeps_the_same_rules(tmp_path: Path) -> None:
    rules = sorted({fault.rule for fault in FAULTS})
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "full", rules)
    assert failures(results) == []
    assert names(results, "passed") == set(rules)
