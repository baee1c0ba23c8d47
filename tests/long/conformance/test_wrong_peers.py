"""The conformance kit finds p2pchat with a fault, and refuses none that does otherwise what it may."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from p2pchat_conformance.runner import RuleResult
from tests.conformance.candidates import CandidateProcess, failures, listened
from tests.conformance.faults import VAGUE
from tests.conformance.wrong_peers import RIGHT_PEERS, WRONG_PEERS
from tests.mutants.mutant import Mutant

TIMEOUT = 6.0  # seconds in which a rule expects an answer

pytestmark = [  # weekly: it tries the kit, and p2pchat with faults
    pytest.mark.weekly, pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
]  # fmt: skip


async def tried(peer: Mutant, home: Path) -> RuleResult:
    """Try the rule of a peer."""
    home.mkdir()
    module = [sys.executable, "-m", "tests.conformance.wrong_peers", peer.name, "--data", str(home / "data")]
    candidate = lambda invite: CandidateProcess([*module, "--invite", invite], home)  # noqa: E731
    (result,) = await listened(candidate, home, "full", [str(peer.caught_by)], TIMEOUT)
    return result


async def all_tried(peers: tuple[Mutant, ...], home: Path) -> list[RuleResult]:
    return await asyncio.gather(*(tried(peer, home / peer.name) for peer in peers))


async def test_the_kit_finds_each_wrong_peer(tmp_path: Path) -> None:
    results = await all_tried(WRONG_PEERS, tmp_path)
    free = [f"{peer}: {one.outcome} {one.why}" for peer, one in zip(WRONG_PEERS, results, strict=True)
            if one.outcome != "failed" or one.why.startswith(VAGUE)]  # fmt: skip
    assert free == []


async def test_the_kit_refuses_no_right_peer(tmp_path: Path) -> None:
    results = await all_tried(RIGHT_PEERS, tmp_path)
    assert failures(results) == []
    assert {one.outcome for one in results} == {"passed"}
