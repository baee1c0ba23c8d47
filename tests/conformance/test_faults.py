"""Deliberate faults of the peer in JavaScript: each fits its code and names a rule of the conformance kit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pchat_conformance.runner import all_rules
from tests.conformance.candidates import EXAMPLES
from tests.conformance.faults import FAULTS, FILES, FaultError, PeerFault
from tests.conformance.wrong_peers import RIGHT_PEERS, WRONG_PEERS


def test_there_are_many_faults_each_with_a_rule() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 150
    assert {fault.rule for fault in FAULTS} <= {rule.name for rule in all_rules()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_the_peer(fault: PeerFault, tmp_path: Path) -> None:
    for file in FILES:
        shutil.copy(EXAMPLES / file, tmp_path / file)
    fault.infect(tmp_path)
    assert any((tmp_path / file).read_bytes() != (EXAMPLES / file).read_bytes() for file in FILES)
    with pytest.raises(FaultError, match=f"{fault.name}: its text is there"):
        PeerFault(fault.name, fault.why, fault.rule, "no such line of code").infect(tmp_path)


def test_each_wrong_peer_and_right_peer_fits_the_package_and_names_a_rule() -> None:
    peers = (*WRONG_PEERS, *RIGHT_PEERS)
    assert len({peer.name for peer in peers}) == len(peers)
    assert {peer.caught_by for peer in peers} <= {rule.name for rule in all_rules()}
    for peer in peers:
        for path, text in peer.sources().items():
            compile(text, path, "exec")
