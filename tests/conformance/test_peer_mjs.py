"""The peer in JavaScript keeps the rules of level bot, dialled by the conformance kit and dialling it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance.candidates import dialled, ended, failures, free_port, listened, names, node_candidate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")


async def test_the_peer_in_javascript_keeps_the_rules_of_a_bot_when_it_is_dialled(tmp_path: Path) -> None:
    async with ended(node_candidate(tmp_path, port=free_port())) as process:
        results = await dialled(process, tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()


async def test_the_peer_in_javascript_keeps_the_rules_of_a_bot_when_it_dials(tmp_path: Path) -> None:
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()
