"""Lines folded to a width: nothing lost, nothing wider, and no further row that begins with the text of the line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from p2pchat.commands.wrap import CONTINUED_NARROW, NARROW, fold_row, plain_text
from p2pchat.safe_text import CONTINUED


def folded(text: str, width: int, hang: str = "") -> list[str]:
    return [plain_text(row) for row in fold_row([("", text)], width, hang=hang)]


@pytest.mark.parametrize(
    "text, width, rows",
    [
        ("12:00 ada: hi", 24, ["12:00 ada: hi"]),
        ("12:00 ada: one two three four", 24, ["12:00 ada: one two three", "    | four"]),
        ("12:00 ada: one two three  four", 24, ["12:00 ada: one two three", "    | four"]),
        ("12:00 ada: one two thrice four", 24, ["12:00 ada: one two", "    | thrice four"]),
        ("x" * 30, 24, ["x" * 24, "    | " + "x" * 6]),
        ("a\n    | b", 24, ["a", "    | b"]),
        ("x" * 24 + " ", 24, ["x" * 24]),
        ("界" * 13, 24, ["界" * 12, "    | 界"]),
        ("❤\ufe0f" * 13, 24, ["❤\ufe0f" * 12, "    | ❤\ufe0f"]),
        ("e\u0301" * 25, 24, ["e\u0301" * 24, "    | e\u0301"]),
        ("0123456789 0123456789", 12, ["0123456789", " | 012345678", " | 9"]),
        ("", 24, [""]),
    ],
)
def test_a_line_is_folded(text: str, width: int, rows: list[str]) -> None:
    assert folded(text, width) == rows


def test_what_is_the_programs_own_hangs_as_it_says() -> None:
    assert folded("-- one two three four five", 24, hang="  ") == ["-- one two three four", "  five"]


def test_styles_stay_with_their_words() -> None:
    rows = fold_row([("dim", "12:00 "), ("bold", "ada"), ("", ": " + "x" * 20)], 24, style="dim")
    assert rows == [
        [("dim", "12:00 "), ("bold", "ada"), ("", ":")],
        [("dim", "    | "), ("", "x" * 18)],
        [("dim", "    | "), ("", "xx")],
    ]


texts = st.text(st.sampled_from("ab 界é\u0301\ufe0f❤ー-"), max_size=120)


@given(texts, st.integers(6, 60))
def test_no_row_is_wider_and_no_character_is_lost(text: str, width: int) -> None:
    mark = CONTINUED if width >= NARROW else CONTINUED_NARROW
    rows = folded(text, width)
    assert all(get_cwidth(row) <= width for row in rows)
    assert all(row.startswith(mark) for row in rows[1:])
    kept = rows[0] + "".join(row.removeprefix(mark) for row in rows[1:])
    assert kept.replace(" ", "") == text.replace(" ", "")
