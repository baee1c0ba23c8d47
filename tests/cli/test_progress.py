"""Progress on one line of a terminal, and sizes for people."""

from __future__ import annotations

import io
import sys

import pytest

from p2pchat.cli import progress
from p2pchat.cli.progress import size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2_000_000_000, "2.0 GB")],
)
def test_sizes_have_units(count: int, text: str) -> None:
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


def test_progress_is_one_line_that_is_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_progress_is_shown_for_short_work_or_to_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for seen, first_after in ((True, 60.0), (False, 0.0)):
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(screen, "isatty", lambda seen=seen: seen)
        monkeypatch.setattr(progress, "FIRST_AFTER", first_after)
        with progress.Progress() as shown:
            shown.entries(5)
        assert screen.getvalue() == ""
