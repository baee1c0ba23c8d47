"""Command lines to paste."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pchat.commands.endpoints import command, program


def test_a_program_on_the_path_is_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / ("p2pchat.exe" if sys.platform == "win32" else "p2pchat")
    script.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program([".venv/bin/python", "-m", "p2pchat", "demo"]) == "p2pchat"


def test_other_programs_repeat_how_they_were_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert program([".venv/bin/python", "-m", "p2pchat", "demo"]) == ".venv/bin/python -m p2pchat"
    quote = '"' if sys.platform == "win32" else "'"
    assert program(["/a b/python", "-m", "p2pchat"]) == f"{quote}/a b/python{quote} -m p2pchat"
    assert program(["/opt/venv/bin/python3", "/opt/venv/bin/p2pchat", "8080"]) == "/opt/venv/bin/p2pchat"
    assert program(["python", "-c", "a program of its own"]) == "p2pchat"
    assert os.listdir(tmp_path) == []


def test_a_command_is_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/a b/python", "-m", "p2pchat"])
    monkeypatch.setenv("PATH", "")
    quote = '"' if sys.platform == "win32" else "'"
    assert command(8080, "--data", "my peer") == (
        f"{quote}/a b/python{quote} -m p2pchat 8080 --data {quote}my peer{quote}"
    )
