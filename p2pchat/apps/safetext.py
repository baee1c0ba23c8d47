"""Text of others, made safe to show: nothing anyone writes can move a cursor, hide, or pass for another speaker.

Shown as `\\u{..}` instead of acted upon: controls (C0 but newline, DEL, C1), bidi controls, zero-width characters,
tags, and what else breaks a line or a display. The store keeps what was sent; only showing changes it. A text of
several lines gets a mark before each further line, so that no line of it looks like a line of the program.
Source: Unicode Technical Report 36, and the "Trojan Source" attack (CVE-2021-42574).
"""

from __future__ import annotations

import re

CONTINUED = "    | "  # before each further line of one text; no line of the program begins so

_HARMFUL = (
    r"\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 but newline, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f"  # bidi controls, and the deprecated ones beside them
    r"\u00ad\u180e\u200b-\u200d\u2060-\u2064\ufeff"  # zero-width; the soft hyphen
    r"\u2028\u2029\ufff9-\ufffb"  # line and paragraph separators, interlinear annotation
    r"\ud800-\udfff"  # lone surrogates: no terminal takes them
    r"\U000e0000-\U000e007f"  # tags
)
_UNSAFE = re.compile(f"[{_HARMFUL}]")
_UNSAFE_IN_A_LINE = re.compile(f"[\n{_HARMFUL}]")


def _shown(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):x}}}"


def safe_text(text: str) -> str:
    """Return `text` fit to be shown, each line after the first marked with CONTINUED."""
    return _UNSAFE.sub(_shown, text).replace("\n", "\n" + CONTINUED)


def safe_line(text: str) -> str:
    """Return `text` as one line: names, reasons, whatever belongs into a sentence of the program."""
    return _UNSAFE_IN_A_LINE.sub(_shown, text)


def safe_json(line: str) -> str:
    """Return a JSON document on one line with the same characters as \\uXXXX inside its strings; it means the same."""
    return _UNSAFE.sub(_json_escape, line)


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
