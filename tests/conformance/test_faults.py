"""The conformance kit finds each deliberate fault of the peer in JavaScript."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from p2pchat.testing.conformance.runner import all_rules
from tests.amounts import PEER_FAULT_PARTS
from tests.conformance.candidates import EXAMPLES
from tests.conformance.faults import FAULTS, FILES, FaultError, PeerFault, hunt_all
from tests.long.test_examples import node

PARTS = 4  # each is one test, and takes some eight seconds


def test_there_are_more_than_thirty_faults_each_with_a_rule() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 30
    assert {fault.rule for fault in FAULTS} <= {rule.name for rule in all_rules()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_the_peer(fault: PeerFault, tmp_path: Path) -> None:
    for file in FILES:
        shutil.copy(EXAMPLES / file, tmp_path / file)
    fault.infect(tmp_path)
    assert any((tmp_path / file).read_bytes() != (EXAMPLES / file).read_bytes() for file in FILES)
    with pytest.raises(FaultError, match=f"{fault.name}: its text is there"):
        PeerFault(fault.name, fault.why, fault.rule, "no such line of code").infect(tmp_path)


@pytest.mark.sampled
@pytest.mark.parametrize("part", range(PEER_FAULT_PARTS))
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
async def test_the_kit_finds_each_fault(part: int) -> None:
    node()  # or skip
    hunts = await hunt_all(FAULTS[part::PARTS])
    free = [f"{one.fault.name}: {one.fault.rule} {one.why}" for one in hunts if not one.found]
    assert free == []
