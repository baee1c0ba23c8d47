"""Safe display of text and names from others."""

from __future__ import annotations

import json

import pytest

from p2pchat.safe_text import quote_name, quote_speaker, safe_json, safe_line, safe_text


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("plain", "Grüße, 世界 👋", "Grüße, 世界 👋"),
        ("escape sequence", "\x1b[2Jgone", "\\u{1b}[2Jgone"),
        ("tab and return", "a\tb\rc", "a    b\\u{d}c"),
        ("delete", "\x7f", "\\u{7f}"),
        ("C1 control sequence", "\x9b2J", "\\u{9b}2J"),
        ("bidi override", "\u202etxt.exe", "\\u{202e}txt.exe"),
        ("bidi isolate", "\u2066x\u2069", "\\u{2066}x\\u{2069}"),
        ("zero-width", "ad\u200ba", "ad\\u{200b}a"),
        ("byte order mark", "\ufeffhi", "\\u{feff}hi"),
        ("tag", "a\U000e0041", "a\\u{e0041}"),
        ("line separator", "a\u2028b", "a\\u{2028}b"),
        ("lone surrogate", "\ud800", "\\u{d800}"),
        ("joiner that is not drawn", "a\u034fb", "a\\u{34f}b"),
        ("letter that is blank", "a\u3164b", "a\\u{3164}b"),
        ("control of music", "\U0001d173", "\\u{1d173}"),
        ("unassigned and not drawn", "\U000e0fff", "\\u{e0fff}"),
        ("marks of a writing", "שָׁ ậ ❤\ufe0f नि", "שָׁ ậ ❤\ufe0f नि"),
        ("a heap of marks", "e" + "\u0301" * 6 + "x", "e" + "\u0301" * 4 + "\\u{301}" * 2 + "x"),
        ("a syllable of parts", "\u1112\u1161\u11ab", "\u1112\u1161\u11ab"),
        ("a heap of them", "\u1112" + "\u1161" * 5, "\u1112" + "\u1161" * 4 + "\\u{1161}"),
        ("heaps of several marks", "e" + "\u0301\u0489" * 4, "e" + "\u0301\u0489" * 2 + "\\u{301}\\u{489}" * 2),
        ("no-break space stays", "a\u00a0b", "a\u00a0b"),
        (
            "joined emoji",
            "👩🏽\u200d💻 🏳\ufe0f\u200d🌈 🙂\u200d↔\ufe0f",
            "👩🏽\u200d💻 🏳\ufe0f\u200d🌈 🙂\u200d↔\ufe0f",
        ),
        ("Persian", "می\u200cخواهم ه\u200d.", "می\u200cخواهم ه\u200d."),
        ("Hindi, Bengali, Sinhala", "क्\u200dष র\u200d্যাব ශ්\u200dරී", "क्\u200dष র\u200d্যাব ශ්\u200dරී"),
        ("joiners that join nothing", "ad\u200dmin ш\u200cа", "ad\\u{200d}min ш\\u{200c}а"),
        ("joiner with one emoji", "a\u200d👩 👩\u200da 👩\u200c👩", "a\\u{200d}👩 👩\\u{200d}a 👩\\u{200c}👩"),
        ("two joiners", "می\u200c\u200cخ", "می\\u{200c}\\u{200c}خ"),
        ("a heap with joiners", "س" + "\u0651\u200d" * 5, "س" + "\u0651\u200d" * 4 + "\\u{651}\\u{200d}"),
    ],
)
def test_harmful_characters_are_escaped_and_others_kept(name: str, text: str, shown: str) -> None:
    assert safe_text(text) == shown
    assert safe_line(text) == shown


def test_safe_json_keeps_the_meaning_without_harmful_characters() -> None:
    text = "\x1b[2J \x9b \u202e \U000e0041 \ufeff ü \u2028"
    line = safe_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line) == {"text": text}
    assert safe_line(line) == line
    assert "ü" in line


def test_excess_marks_are_escaped_in_json() -> None:
    text = "e" + "\u0301" * 1000
    line = safe_json(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(line) == {"text": text}
    assert line.count("\u0301") == 4


COLONS = ":\uff1a\ua789\u2236\u02d0\u02f8\u0903\ua4fd\u05c3\u1038"


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("ada", "ada"),
        ("|trey|", "|trey|"),
        ("ada#K7QF2M3P", "ada#K7QF2M3P"),
        ('a"b', '"a\'b"'),
        ("12:00 x", '"12:00 x"'),
    ],
)
def test_ambiguous_names_are_quoted(label: str, shown: str) -> None:
    assert quote_name(label) == shown


@pytest.mark.parametrize(
    "name",
    [
        *(f"bob{colon} I agree" for colon in COLONS),
        *(f"bob{colon}yes" for colon in COLONS),
        *("bob \u0307\u0323 I agree", "bob.\u0307 I agree", "အောင်း yes", "\u2500\u2500 now", "\u2013- bob left"),
        *("bob \u2192 ada", "\uff0a bob", "\u201cbob\u201d", "\u2713 delivered", "\u2502 x"),
    ],
)
def test_names_with_lookalike_marks_are_quoted(name: str) -> None:
    assert quote_speaker(name) == f'"{name}"'


@pytest.mark.parametrize(
    "name", ["Zoë", "Anna Maria", "अनन्या शर्मा", "မောင်း", "O’Brien", "ジョン・スミス", "ada 🦊", "Đặng", "bob#K7QF2M3P"]
)
def test_names_of_any_script_are_not_quoted(name: str) -> None:
    assert quote_speaker(name) == name
