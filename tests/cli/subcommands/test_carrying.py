"""export, import and backup: what a command line means, and one sentence for what it cannot mean."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from p2pchat.cli import progress
from p2pchat.cli.main import main
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.program import run
from p2pchat.cli.progress import size
from p2pchat.commands.errors import UsageError
from tests.cli.parsing import parse

ANY = ProfileChoice()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_what_is_written_means() -> None:
    assert parse("export", "f").items() >= {"profile": ANY, "file": "f", "to": None, "db": ""}.items()
    values = parse("export", "-", "--conversation", "bob", "--port", "8080")
    assert values.items() >= {"profile": ProfileChoice(port=8080), "file": "-", "to": "bob"}.items()
    values = parse("import", "f", "--json", "--data", "d")
    assert values.items() >= {"profile": ProfileChoice("d"), "file": "f", "as_json": True}.items()
    assert parse("backup", "d", "--db", "mysql://db/chat").items() >= {"target": "d", "db": "mysql://db/chat"}.items()


@pytest.mark.parametrize("command", ["export", "import", "backup"])
@pytest.mark.parametrize("words", [[], [""], ["one", "two"]])
def test_one_word_is_needed(command: str, words: list[str], home: Path) -> None:
    with pytest.raises(UsageError, match=r"Missing argument|is empty|Got unexpected extra argument"):
        run([command, *words])


def test_what_would_be_gone_at_once_is_not_imported() -> None:
    with pytest.raises(UsageError, match="would be gone"):
        run(["import", "f", "--db", "memory://"])


@pytest.mark.parametrize("words", [["export", "f"], ["import", "f"], ["backup", "d"]])
def test_without_a_profile_nothing_is_made(
    words: list[str], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words[1] = str(tmp_path / words[1])
    assert main(words) == 2
    assert "there is no profile" in capsys.readouterr().err
    for data in (home / "8080", tmp_path / "nothing"):
        assert main([*words, "--data", str(data)]) == 1
        assert "there is no" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2_000_000_000, "2.0 GB")],
)
def test_sizes_are_read_by_people(count: int, text: str) -> None:
    assert size(count) == text


class Screen(io.StringIO):
    """What stands on a terminal's line: a carriage return goes back to its beginning."""

    def isatty(self) -> bool:
        return True

    @property
    def line(self) -> str:
        shown = ""
        for part in self.getvalue().split("\r"):
            shown = part + shown[len(part) :]
        return shown.rstrip()


def test_how_far_it_is_stands_on_one_line_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "FIRST_AFTER", 0.0)
    monkeypatch.setattr(progress, "AGAIN_AFTER", 0.0)
    with progress.Progress() as shown:
        shown.entries(1234567)
        assert screen.line == "-- 1,234,567 entries"
        shown.bytes(1_000_000, 2_500_000)
        assert screen.line == "-- 1.0 MB of 2.5 MB"
    assert screen.line == "" and "\n" not in screen.getvalue()


def test_nobody_is_told_how_far_quick_work_is_nor_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for seen, first_after in ((True, 60.0), (False, 0.0)):
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(screen, "isatty", lambda seen=seen: seen)
        monkeypatch.setattr(progress, "FIRST_AFTER", first_after)
        with progress.Progress() as shown:
            shown.entries(5)
        assert screen.getvalue() == ""
