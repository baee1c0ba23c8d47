"""The peer in JavaScript keeps the rules of level bot, dialled by the conformance kit and dialling it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pchat_conformance.runner import all_rules
from tests.conformance.candidates import dialled, ended, failures, free_port, listened, names, node_candidate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")


async def test_the_peer_in_javascript_keeps_the_rules_of_a_bot_when_it_is_dialled(tmp_path: Path) -> None:
    async with ended(node_candidate(tmp_path, port=free_port())) as process:
        results = await dialled(process, tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()


async def test_a_peer_without_attachments_is_told_so_and_does_not_fail(tmp_path: Path) -> None:
    of_content = {rule.name for rule in all_rules() if rule.section.startswith("protocol-attachments") and rule.script}
    of_content.discard("attachments-leave-an-entry-valid")
    async with ended(node_candidate(tmp_path, port=free_port())) as process:
        results = await dialled(process, tmp_path, "full", sorted(of_content))
    assert {result.rule.name for result in results} == of_content
    assert [(result.outcome, result.why) for result in results] == [
        ("skipped", "the candidate leaves attachments out: `can` in its `peers` has no `files`")
    ] * len(of_content)


async def test_the_peer_in_javascript_keeps_the_rules_of_a_bot_when_it_dials(tmp_path: Path) -> None:
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()
