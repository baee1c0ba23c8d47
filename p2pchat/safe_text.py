"""Safe display of text and names from others: they cannot move the cursor, hide, or pass for another speaker.

Harmful characters are shown as `\\u{..}`: controls (C0 except newline, DEL, C1), bidi controls, zero-width characters,
tags, and others that break lines or displays; also all but the first few marks on one letter, which would be drawn over
neighbouring lines. A tab is shown as spaces. Storage keeps the original. Each further line of a text begins with
CONTINUED, so that no line looks like one of the program.

The joiners ZWJ and ZWNJ stay where they change what is drawn: one of them between letters of a script whose letters
join or form clusters (Persian, Hindi), ZWJ also behind such a letter, and between two emoji. In any other place they
draw nothing, and could make two different words look equal.
Source: Unicode Technical Report 36, Unicode Technical Standard 39, and the "Trojan Source" attack (CVE-2021-42574); of
joiners: The Unicode Standard, section 23.2, and Unicode Technical Standard 51, section 2.3.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from p2pchat import Conversation

CONTINUED = "    | "  # before each further line of a text; no line of the program begins so
TAB = "    "  # for a tab, whose width would depend on where it stands
MAX_MARKS = 4  # on one letter: no script has more (UTS 39, section 5.4)

JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ
_HARMFUL = (
    r"\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 except newline, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f"  # bidi controls, also deprecated ones
    r"\u00ad\u034f\u180b-\u180f\u200b-\u200d\u2060-\u2065\ufeff"  # zero-width characters, soft hyphen
    r"\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters without a glyph
    r"\u2028\u2029\ufff0-\ufffb"  # line and paragraph separators, interlinear annotation
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # shorthand and music controls
    r"\ud800-\udfff"  # lone surrogates have no UTF-8
    r"\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags and other invisible characters
)
_SHAPED = (  # letters and marks of the scripts in which joiners have an effect; without digits and punctuation
    r"\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0710-\u077f\u07ca-\u07f5\u0840-\u085b\u0860-\u08ff"
    r"\u0900-\u0963\u0970-\u09e5\u09f0-\u0a65\u0a70-\u0ae5\u0af0-\u0b65\u0b70-\u0be5\u0bf0-\u0c65\u0c70-\u0ce5"
    r"\u0cf0-\u0d65\u0d70-\u0de5\u0df0-\u0df3\u1000-\u103f\u1050-\u108f\u1780-\u17b3\u17b6-\u17d3\u1820-\u18aa"
    r"\u1a20-\u1a7c\u1b00-\u1b4c\u1b80-\u1baf\ua840-\ua873\ua8e0-\ua8ff\ua980-\ua9c0\ufb50-\ufdcf\ufe70-\ufefc"
    r"\U00010d00-\U00010d27\U00011000-\U00011fff\U0001e900-\U0001e94b"
)
_PICTURES = r"\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"  # emoji, and the like
_JOINS = (  # a joiner that the character before it was; nothing, too, may follow: of a text cut there
    rf"(?<![{_PICTURES}]\u200d(?![^{_PICTURES}]))(?<![{_PICTURES}]\ufe0f\u200d(?![^{_PICTURES}]))"
    rf"(?<![{_SHAPED}]\u200c(?![^{_SHAPED}]))(?<![{_SHAPED}]\u200d(?![\u200c\u200d]))"
)
_UNSAFE = re.compile(f"[{_HARMFUL}]{_JOINS}")
_UNSAFE_IN_A_LINE = re.compile(f"[\n{_HARMFUL}]{_JOINS}")
_JAMO = r"\u1160-\u11ff\ud7b0-\ud7ff"  # Korean letters that join the column of the first, as marks do
_IS_JAMO = re.compile(f"[{_JAMO}]")
_MAYBE_MARKS = re.compile(rf"(?:[^\w\x00-\x7f]|[{_JAMO}]){{{MAX_MARKS + 1},}}")  # contains every excess of marks


def _safe(text: str, unsafe: re.Pattern[str], shown: Callable[[str], str]) -> str:
    safe = unsafe.sub(lambda match: shown(match[0]), text)
    return safe if safe.isascii() else _MAYBE_MARKS.sub(lambda match: _few_marks(match[0], shown), safe)


def _few_marks(run: str, shown: Callable[[str], str]) -> str:
    count, parts = 0, []
    for character in run:
        is_mark = unicodedata.category(character) in ("Mn", "Me") or _IS_JAMO.match(character)
        count = count + 1 if is_mark else count if character in JOINERS else 0
        parts.append(character if count <= MAX_MARKS else shown(character))
    return "".join(parts)


def _shown(character: str) -> str:
    return TAB if character == "\t" else f"\\u{{{ord(character):x}}}"


def safe_text(text: str) -> str:
    """Return a text safe to show, with CONTINUED before each line after the first."""
    return _safe(text, _UNSAFE, _shown).replace("\n", "\n" + CONTINUED)


def safe_line(text: str) -> str:
    """Return a text as one safe line: a name, a reason, or other parts of a sentence."""
    return _safe(text, _UNSAFE_IN_A_LINE, _shown)


def safe_json(line: str) -> str:
    """Return a line of JSON with harmful characters escaped as \\uXXXX, which does not change its meaning."""
    return _safe(line, _UNSAFE, _json_escape)


def _json_escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


# ---- names
#
# A name that could be taken for more than a name, by its characters or by what they look like, is quoted. So no line
# can pass for one of another speaker, or of the program.

_NOT_A_SPEAKER = re.compile(r'[:<>*"()]|^-|^\d|^\[')  # marks of the program's lines, and their beginnings
_NOT_A_NAME = re.compile(rf"{_NOT_A_SPEAKER.pattern}|\s")  # with blanks it could be half a sentence
_NOT_A_PLACE = re.compile(rf"{_NOT_A_NAME.pattern}|[\[\]]")  # brackets enclose it before a line
# Letters and marks that look like a colon (Unicode's confusables.txt): modifiers, Lisu, visargas of India and Burma.
_LIKE_A_COLON = frozenset("\u02d0\u02d1\ua4fc\ua4fd\u0903\u0983\u0a03\u0a83\u0b03\u0c03\u0c83\u0d03\u1038")
_END_OF_GREEK_AND_CYRILLIC = "\u0530"
_EMOJI = ("\U0001f000", "\U0001faff")
_IN_NAMES = "\u2019\u30fb"  # O’Brien, and the dot between the words of a foreign name in Japanese
MAX_NAMES = 8  # in one line; programs get all


def quote_name(label: str) -> str:
    """Return a name for use within a sentence of the program."""
    return _quote_if_ambiguous(label, _NOT_A_NAME)


def quote_speaker(label: str) -> str:
    """Return a name for use before a colon at the beginning of a line, where blanks are harmless."""
    return _quote_if_ambiguous(label, _NOT_A_SPEAKER)


def quote_conversation(name: str, kind: str) -> str:
    """Return the name of a conversation for use within a sentence: `room`, `bob`, `#ops`."""
    return f"#{_quote_if_ambiguous(name, _NOT_A_PLACE)}" if kind == "group" else quote_name(name)


def quote_place(where: Conversation) -> str:
    """Return a conversation for use within a sentence: `the room`, else as quote_conversation."""
    return "the room" if where.kind == "room" else quote_conversation(where.name, where.kind)


def quote_names(names: Sequence[str], count: int = 0) -> str:
    """Return names for use within a sentence: the first MAX_NAMES, and how many more; `count` if it is above them."""
    shown = names[:MAX_NAMES]
    more = max(count, len(names)) - len(shown)
    return ", ".join(map(quote_name, shown)) + (f" and {more} more" if more else "")


def _quote_if_ambiguous(label: str, more: re.Pattern[str]) -> str:
    safe = safe_line(label)
    in_quotes = not safe or more.search(safe) or _resembles_markup(safe)
    return '"' + safe.replace('"', "'") + '"' if in_quotes else safe


def _resembles_markup(name: str) -> bool:
    """Return whether a name contains something like a colon, dash or arrow of another script.

    Other than ASCII, a name should have only letters, digits, emoji, and marks on letters.
    """
    return not name.isascii() and any(map(_resembles_mark, " " + name, name, name[1:] + "x"))


def _resembles_mark(before: str, character: str, after: str) -> bool:
    if character in _LIKE_A_COLON:
        return before < _END_OF_GREEK_AND_CYRILLIC or after.isspace()
    if character.isascii() or character.isalnum() or character in _IN_NAMES or _EMOJI[0] <= character <= _EMOJI[1]:
        return False
    is_mark = unicodedata.category(character).startswith("M")
    return not is_mark or (before.isascii() and not before.isalnum())  # dots above a blank look like a colon
