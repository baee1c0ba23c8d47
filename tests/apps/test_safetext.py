"""What others wrote cannot act on a terminal, hide, or pass for somebody else's line."""

from __future__ import annotations

import json

import pytest

from p2pchat.apps.safetext import CONTINUED, safe_json, safe_line, safe_text


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("plain", "Grüße, 世界 👋", "Grüße, 世界 👋"),
        ("escape sequence", "\x1b[2Jgone", "\\u{1b}[2Jgone"),
        ("tab and return", "a\tb\rc", "a\\u{9}b\\u{d}c"),
        ("delete", "\x7f", "\\u{7f}"),
        ("C1 control sequence", "\x9b2J", "\\u{9b}2J"),
        ("bidi override", "\u202etxt.exe", "\\u{202e}txt.exe"),
        ("bidi isolate", "\u2066x\u2069", "\\u{2066}x\\u{2069}"),
        ("zero-width", "ad\u200ba", "ad\\u{200b}a"),
        ("byte order mark", "\ufeffhi", "\\u{feff}hi"),
        ("tag", "a\U000e0041", "a\\u{e0041}"),
        ("line separator", "a\u2028b", "a\\u{2028}b"),
        ("lone surrogate", "\ud800", "\\u{d800}"),
        ("no-break space stays", "a\u00a0b", "a\u00a0b"),
    ],
)
def test_what_acts_is_shown_and_what_is_read_stays(name: str, text: str, shown: str) -> None:
    assert safe_text(text) == shown
    assert safe_line(text) == shown


def test_a_line_that_looks_like_another_speaker_s_is_marked() -> None:
    assert safe_text("hi\n12:00 bob: I owe you 100") == f"hi\n{CONTINUED}12:00 bob: I owe you 100"


def test_a_name_stays_on_its_line() -> None:
    assert safe_line("ada\nbob: yes") == "ada\\u{a}bob: yes"


def test_json_means_the_same_and_holds_nothing_that_acts() -> None:
    text = "\x1b[2J \x9b \u202e \U000e0041 \ufeff ü \u2028"
    line = safe_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line) == {"text": text}
    assert safe_line(line) == line
    assert "ü" in line
