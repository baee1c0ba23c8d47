"""What is remembered of the last start of a profile."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from p2pchat.commands.last_start import LastStart


def test_a_start_is_remembered(tmp_path: Path) -> None:
    last = LastStart("0.0.0.0", "chat.example:80", discover=True, port=8080, terminal=True)
    last.save(tmp_path)
    assert LastStart.load(tmp_path) == last
    replace(last, gateway=True).save(tmp_path)
    assert LastStart.load(tmp_path).gateway
    assert [path.name for path in tmp_path.iterdir()] == ["start.json"]
    if sys.platform != "win32":
        assert (tmp_path / "start.json").stat().st_mode & 0o777 == 0o600


def test_without_a_directory_nothing_is_remembered() -> None:
    LastStart(terminal=True).save(None)
    assert LastStart.load(None) == LastStart()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"host": 7}', '{"listen": "no"}', "[" * 100_000], ids=["json", "list", "host", "type", "deep"]
)
def test_an_unreadable_file_is_kept_aside_with_a_word(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "start.json"
    path.write_text(text, "utf-8")
    assert LastStart.load(tmp_path) == LastStart(terminal=True)
    LastStart(port=8080).save(tmp_path)
    assert LastStart.load(tmp_path).port == 8080
    assert (tmp_path / "start.json.unreadable").read_text("utf-8") == text
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("cannot be read, and is kept as start.json.unreadable") == said.count("--host 0.0.0.0") == 1
    LastStart(port=8081).save(tmp_path)
    assert not capsys.readouterr().err


def test_what_a_later_version_remembers_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "start.json").write_text('{"port": 8080, "theme": "dark"}', "utf-8")
    assert LastStart.load(tmp_path).port == 8080


def test_a_failure_to_write_is_ignored(tmp_path: Path) -> None:
    LastStart(port=8080).save(tmp_path / "gone")
    assert LastStart.load(tmp_path / "gone") == LastStart()
