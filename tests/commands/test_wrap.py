"""Folding of lines to the width of the terminal."""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from p2pchat.commands.exit_codes import print_error
from p2pchat.commands.wrap import (
    CONTINUED_NARROW,
    NARROW,
    cut_row,
    fold,
    fold_marked,
    fold_row,
    is_wide,
    plain_text,
    terminal_width,
)
from p2pchat.safe_text import CONTINUED


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("one two three four", "one two\nthree four"),
        ("a-very-long-single-word and more", "a-very-long-single-word\nand more"),
        ("  --x   one two", "  --x   one\n        two"),
        ("    p2pchat 8080 --invite -", "    p2pchat 8080 --invite -"),
        ("short\n\none two three\n", "short\n\none two\nthree\n"),
    ],
)
def test_lines_of_the_program_fold_between_words(text: str, folded: str) -> None:
    assert fold(text, 11) == folded
    assert fold(text, 0) == text


def test_wrapped_rows_are_indented() -> None:
    assert fold("p2pchat: one two three", 14, hang=2) == "p2pchat: one\n  two three"


def test_wide_characters_fold_by_columns() -> None:
    assert fold("-- 界界界界 is away", 11, hang=2) == "-- 界界界界\n  is away"
    assert fold("p2pchat: " + "x" * 31 + "\u00a0-- bob left", 40, hang=2).startswith("p2pchat:\n  xxx")


def test_wrapped_rows_of_others_are_marked() -> None:
    assert fold_marked("12:00 ada: " + "x" * 19 + "12:00 bob: hi\n    | more", 30) == (
        "12:00 ada:\n    | " + "x" * 19 + "12:00\n    | bob: hi\n    | more"
    )
    assert fold_marked("    p2pchat 8080 --invite -", 11) == "    p2pchat 8080 --invite -"
    assert fold_marked("12:00 ada: one two three", 0) == "12:00 ada: one two three"


def test_a_file_has_no_width(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w", encoding="utf-8") as file:
        assert terminal_width(file) == 0
    assert terminal_width(file) == 0  # closed
    assert terminal_width(None) == 0


def test_an_error_is_folded_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX")
    import fcntl
    import termios

    main, side = os.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with open(main, "rb", buffering=0) as screen, open(side, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        print_error("what cannot be meant is one sentence that says what to do")
        shown = b""
        while shown.count(b"\n") < 2:  # a terminal passes output on in pieces
            shown += screen.read(1000)
    lines = shown.decode().split("\r\n")
    assert lines == ["p2pchat: what cannot be meant is one", "  sentence that says what to do", ""]
    monkeypatch.undo()
    print_error("what cannot be meant is one sentence " * 9)
    assert capsys.readouterr().err.count("\n") == 1


ADDRESS = "https://example.org/" + "x" * 30
INVITE = "p2pchat:AFOB65VC" + "A" * 60 + "@192.168.1.5:8080,10.0.0.1:8080"


def folded(text: str, width: int, hang: str = "") -> list[str]:
    return [plain_text(row) for row in fold_row([("", text)], width, hang=hang)]


@pytest.mark.parametrize(
    "text, width, rows",
    [
        ("12:00 ada: one two three four", 24, ["12:00 ada: one two three", "    | four"]),
        ("12:00 ada: one two thrice four", 24, ["12:00 ada: one two", "    | thrice four"]),
        ("x" * 30, 24, ["x" * 24, "    | " + "x" * 6]),
        ("a\n    | b", 24, ["a", "    | b"]),
        ("界" * 13, 24, ["界" * 12, "    | 界"]),
        ("❤\ufe0f" * 13, 24, ["❤\ufe0f" * 12, "    | ❤\ufe0f"]),
        ("e\u0301" * 25, 24, ["e\u0301" * 24, "    | e\u0301"]),
        ("0123456789 0123456789", 12, ["0123456789", " | 012345678", " | 9"]),
        ("", 24, [""]),
        ("12:00 ada: " + ADDRESS + " two", 24, ["12:00 ada: " + ADDRESS, "    | two"]),
        ("12:00 ada: join " + INVITE + " now", 24, ["12:00 ada: join " + INVITE, "    | now"]),
        ("12:00 ada: (" + ADDRESS, 24, ["12:00 ada: (" + ADDRESS]),
        ("12:00 ada: one two three four " + ADDRESS, 24, ["12:00 ada: one two three", "    | four " + ADDRESS]),
        ("12:00 ada: xx ftp://here.at/z", 24, ["12:00 ada: xx", "    | ftp://here.at/z"]),
        ("👩\u200d💻" * 8, 24, ["👩\u200d💻" * 6, "    | " + "👩\u200d💻" * 2]),
    ],
)
def test_a_row_folds_between_words(text: str, width: int, rows: list[str]) -> None:
    assert folded(text, width) == rows


def test_a_hang_replaces_the_mark() -> None:
    assert folded("-- one two three four five", 24, hang="  ") == ["-- one two three four", "  five"]


@pytest.mark.parametrize(
    "text, rows",
    [
        ("12:00 ada: hi", ["12:00 ada: hi  ✓ delivered"]),
        ("12:00 ada: hi there, bob", ["12:00 ada: hi there, bob", "    | ✓ delivered"]),
        ("12:00 ada: " + ADDRESS, ["12:00 ada: " + ADDRESS, "    | ✓ delivered"]),
        ("12:00 ada: a\n    | b", ["12:00 ada: a", "    | b  ✓ delivered"]),
    ],
)
def test_a_tail_stays_whole(text: str, rows: list[str]) -> None:
    assert [plain_text(row) for row in fold_row([("", text)], 26, tail="✓ delivered")] == rows


def test_a_wide_row_is_cut_as_the_terminal_wraps_it() -> None:
    assert [plain_text(row) for row in cut_row([("a", "1234"), ("b", "界67")], 5)] == ["1234", "界67"]
    assert not is_wide([("", "x" * 30)], 24) and is_wide([("", ADDRESS)], 24)


def test_styles_stay_with_their_text() -> None:
    rows = fold_row([("dim", "12:00 "), ("bold", "ada"), ("", ": " + "x" * 20)], 24, style="dim")
    assert rows == [
        [("dim", "12:00 "), ("bold", "ada"), ("", ":")],
        [("dim", "    | "), ("", "x" * 18)],
        [("dim", "    | "), ("", "xx")],
    ]


def test_the_longest_texts_take_little_time() -> None:
    """Anybody can send them, and they are folded in the loop of the peer."""
    texts = [
        "hello world " * 2700,
        "x" * 32_000,
        r"\u{1}" * 32_000,  # what is shown of control characters
        "é" + r"\u{1}" * 32_000,
        "http://a " * 3600,
        "http://" + "a" * 32_000,
    ]
    folded("é" * 100, 80)  # imports what knows the width of characters
    begun = time.thread_time()
    for text in texts:
        for row in fold_row([("", "12:00 ada: "), ("", text)], 80):
            cut_row(row, 80)
    assert time.thread_time() - begun < 0.25  # measured: 0.05 s, and 0.9 s when it was done for each character


texts = st.text(st.sampled_from("ab 界é\u0301\ufe0f❤ー-"), max_size=120)


@given(texts, st.integers(6, 60))
def test_no_row_is_wider_and_no_character_is_lost(text: str, width: int) -> None:
    mark = CONTINUED if width >= NARROW else CONTINUED_NARROW
    rows = folded(text, width)
    assert all(get_cwidth(row) <= width for row in rows)
    assert all(row.startswith(mark) for row in rows[1:])
    kept = rows[0] + "".join(row.removeprefix(mark) for row in rows[1:])
    assert kept.replace(" ", "") == text.replace(" ", "")
