"""`p2pchat agent setup`: hooks in the file of an agent's client, among what stands there."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Here

OTHERS = {"model": "x", "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}], "Other": []}}


def commands(path: Path) -> dict[str, list[str]]:
    hooks: dict[str, Any] = json.loads(path.read_text("utf-8"))["hooks"]
    return {event: [one["command"] for group in groups for one in group["hooks"]] for event, groups in hooks.items()}


@pytest.mark.parametrize(("client", "file"), [("claude", ".claude/settings.json"), ("codex", ".codex/hooks.json")])
def test_hooks_are_printed_written_once_and_taken_out(
    client: str, file: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / file
    ran = here("agent", "setup", client, "my reviewer")
    assert ran.code == 0 and not path.exists()
    printed = json.loads(ran.out)["hooks"]
    assert f"{client} mcp add p2pchat -- " in ran.err and str(path) in ran.err
    path.parent.mkdir()
    path.write_text(json.dumps(OTHERS), "utf-8")
    for _ in range(2):
        assert here("agent", "setup", client, "my reviewer", "--write").code == 0
    found = commands(path)
    assert found.pop("Other") == [] and found["Stop"].pop(0) == "say done"
    shown = {event: [one["command"] for group in groups for one in group["hooks"]] for event, groups in printed.items()}
    assert shown == found
    if sys.platform != "win32":
        words = {event: shlex.split(command)[-4:] for event, [command] in found.items()}
        assert words == {
            event: ["agent", "hook", word, "my reviewer"]
            for event, word in (("Stop", "stop"), ("UserPromptSubmit", "prompt"), ("PostToolUse", "tool"))
        }
    assert here("agent", "setup", client, "my reviewer", "--remove").code == 0
    assert json.loads(path.read_text("utf-8")) == OTHERS


@pytest.mark.parametrize("text", ["", "// settings\n{}", "[]", '{"hooks": []}', '{"hooks": {"Stop": 7}}', "\xff"])
def test_a_file_that_cannot_be_read_stays_as_it_is(
    text: str, here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    ran = here("agent", "setup", "claude", "reviewer", "--write")
    assert ran.code == 1 and f"{path} stays as it is" in ran.complains()
    assert path.read_bytes() == text.encode("latin-1")


@pytest.mark.skipif(sys.platform == "win32", reason="links there need a right")
def test_a_link_to_settings_elsewhere_stays_one(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "kept.json"
    kept.write_text("{}", "utf-8")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "hooks.json").symlink_to(kept)
    assert here("agent", "setup", "codex", "reviewer", "--write").code == 0
    assert (tmp_path / ".codex" / "hooks.json").is_symlink() and "Stop" in commands(kept)
