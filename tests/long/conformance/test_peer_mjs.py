"""The peer in JavaScript keeps the rules of level bot, and those about statements.

It joins the network of the kit, which then dials it too."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from p2pchat_conformance.runner import all_rules
from tests.conformance.candidates import EXAMPLES, failures, free_port, listened, names, node_candidate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")


async def test_the_peer_in_javascript_keeps_the_rules_about_statements(tmp_path: Path) -> None:
    rules = [rule.name for rule in all_rules() if rule.level == "peer" and "member" in rule.section]
    rules += ["who-is-removed-is-sent-away", "who-named-a-removed-member-is-refused"]
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "peer", rules)
    assert names(results, "passed") == set(rules)


async def test_a_peer_without_attachments_is_told_so_and_does_not_fail(tmp_path: Path) -> None:
    of_content = {rule.name for rule in all_rules() if rule.section.startswith("protocol-attachments") and rule.script}
    of_content.discard("attachments-leave-an-entry-valid")
    only = sorted(of_content)
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "full", only)
    assert {result.rule.name for result in results} == of_content
    assert [(result.outcome, result.why) for result in results] == [
        ("skipped", "the candidate leaves attachments out: `can` in its `peers` has no `files`")
    ] * len(of_content)


async def test_the_peer_in_javascript_keeps_the_rules_of_a_bot(tmp_path: Path) -> None:
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port()), tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()


@pytest.mark.weekly  # all rules of a bot once more
async def test_a_peer_whose_own_key_is_the_member_is_admitted_too(tmp_path: Path) -> None:
    """It shows no certificate, and its logs name no member."""
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy)
    text = (copy / "peer.mjs").read_text("utf-8")
    assert "guest: guestOf(network, this.member, id)," in text
    (copy / "peer.mjs").write_text(text.replace("guest: guestOf(network, this.member, id),", ""), "utf-8")
    (tmp_path / "echo.jsonl").write_text(json.dumps({"seed": "5e" * 32, "member": "5e" * 32}) + "\n")
    results = await listened(lambda invite: node_candidate(tmp_path, invite, free_port(), copy), tmp_path, "bot")
    assert failures(results) == []
    assert names(results, "skipped") == set()


async def test_a_bot_that_only_dials_and_forgets_addresses_keeps_the_rules_of_a_new_process(tmp_path: Path) -> None:
    copy = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copy)
    text = (copy / "peer.mjs").read_text("utf-8")
    own = ", records: [recordOf(network, seed, member, now(), endpoints)]"
    assert own in text
    (copy / "peer.mjs").write_text(text.replace(own, ""), "utf-8")
    rules = ["what-was-acknowledged-survives-a-kill", "a-new-process-begins-new-logs"]
    results = await listened(lambda invite: node_candidate(tmp_path, invite, 0, copy), tmp_path, "bot", rules, 5.0)
    assert failures(results) == []
    assert names(results, "passed") == set(rules)
