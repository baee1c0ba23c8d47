"""The conformance kit finds each deliberate fault of the peer in JavaScript."""

from __future__ import annotations

import sys

import pytest

from tests.conformance.faults import FAULTS, hunt_all
from tests.long.test_examples import node

PARTS = 4  # each is one test, and takes some eight seconds


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
async def test_the_kit_finds_each_fault(part: int) -> None:
    node()  # or skip
    hunts = await hunt_all(FAULTS[part::PARTS])
    free = [f"{one.fault.name}: {one.fault.rule} {one.why}" for one in hunts if not one.found]
    assert free == []
