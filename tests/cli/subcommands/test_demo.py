"""demo and check: the tour and its needs, and the judgement of event logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Here
from tests.processes.commands import p2pchat


def test_check_judges_logs(here: Here, tmp_path: Path) -> None:
    line = {"event": "message", "at": "2026-11-20T12:00:00.000000Z", "id": "A.1", "conversation_id": "C"}
    line |= {"sender_id": "U", "text": "hi", "sent_at": line["at"]}
    good, bad, other = tmp_path / "good", tmp_path / "bad", tmp_path / "other"
    good.write_text(json.dumps(line) + "\n", "utf-8")
    bad.write_text(2 * (json.dumps(line) + "\n"), "utf-8")
    other.write_text("hello\n", "utf-8")
    assert here("check", good).said == (0, "1 log, 0 sent, 1 received: no faults\n", "")
    ran = here("check", good, bad)
    assert (ran.code, "twice" in ran.out) == (1, True)
    assert here("check", other).code == 2
    assert here("check", tmp_path / "none").code == 1


@pytest.mark.story
def test_the_demo_checks_its_claims(tmp_path: Path) -> None:
    ran = p2pchat(tmp_path, "demo")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.count("  ok   ") >= 15
    assert not list(tmp_path.iterdir())
