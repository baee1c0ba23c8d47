"""What a word is, in whatever writing: the one place that the index and the plain search cut texts by.

A word is a run of letters, digits and the marks on them. Words are compared folded: without difference between ADA
and ada, é and e, ｶﾞ and ガ. Writings that put no blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
are cut into single characters, and so are emoji: what is looked for there is a row of characters, wherever it stands.
What has no letter (punctuation, blanks, underscores) only ends words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

MOST_CHARACTERS = 64  # of a word that count; longer ones are keys and base64, told apart by so many

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_PIECE = re.compile(r"\S+")
# Left out before anything is compared: accents and other general marks, the points of Hebrew and Arabic, the stretch
# of Arabic, selectors of variants and skin colours, and what is never seen (soft hyphens, joiners, directions).
_LEFT_OUT = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef\U0001f3fb-\U0001f3ff"
    "\u00ad\u061c\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_STROKES = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_WITHOUT_BLANKS = (
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0x20000, 0x323AF),),  # Han
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3100, 0x312F)),  # kana, bopomofo
    *((0x0E00, 0x0EFF),),  # Thai, Lao
    *((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # Burmese
    *((0x1780, 0x17FF),),  # Khmer
)
_BETWEEN, _LETTER, _ALONE = 0, 1, 2


class Found(NamedTuple):
    """One word of a text, folded, and where it stands there: text[start:end]."""

    word: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """Return the words of a text in their order, folded."""
    if text.isascii():
        return [word[:MOST_CHARACTERS] for word in _ASCII_WORD.findall(text.lower())]
    return [found.word for found in _cut(folded(text))]


def words_in_place(text: str) -> list[Found]:
    """Return the same words with where each stands. Where marks stand apart from their letters (ｶﾞ) a word is given
    the whole run without blanks that it stands in."""
    found: list[Found] = []
    for piece in _PIECE.finditer(text):
        plain, sources = folded(piece[0]), _sources(piece[0])
        for word, start, end in _cut(plain):
            if len(sources) == len(plain):
                found.append(Found(word, piece.start() + sources[start], piece.start() + sources[end - 1] + 1))
            else:
                found.append(Found(word, *piece.span()))
    return found


def _sources(piece: str) -> list[int]:
    """Return for each character of the folded text which one it came from; fewer or more where they act together."""
    return [at for at, character in enumerate(piece) for _ in folded(character)]


def folded(text: str) -> str:
    """Return a text as it is compared."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFC", _LEFT_OUT.sub("", plain)).translate(_STROKES)


def is_alone(word: str) -> bool:
    """Whether this is a character of a writing without blanks, or an emoji: a word of its own wherever it stands."""
    return len(word) == 1 and _kind(word) == _ALONE


def _cut(plain: str) -> Iterator[Found]:
    at = 0
    for kind, characters in groupby(plain, _kind):
        run = "".join(characters)
        if kind == _LETTER:
            yield Found(run[:MOST_CHARACTERS], at, at + len(run))
        elif kind == _ALONE:
            yield from (Found(character, at + i, at + i + 1) for i, character in enumerate(run))
        at += len(run)


@lru_cache(maxsize=1 << 15)
def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category == "So":
        return _ALONE
    if category[0] not in "LNM":
        return _BETWEEN
    code = ord(character)
    return _ALONE if any(first <= code <= last for first, last in _WITHOUT_BLANKS) else _LETTER
