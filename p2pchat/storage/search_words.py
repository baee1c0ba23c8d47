"""Words of texts and of searches: what case and accents count for, and the language of a search as typed.

    backup failed      both words, anywhere; a word of two characters or more also finds longer words that begin with it
    "backup failed"    exactly these words, in this order
    "backup fail"*     the same, and the last word may be longer
    from:bob           only what bob wrote; the caller resolves the name

A plain search and the index (search_index.py) both split texts and queries by the functions here, so they find the same
messages.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from p2pchat.core.durable_changes import Record
from p2pchat.core.log import Entry, choices_of
from p2pchat.storage.contract import ReleasedEntry, current_body

MOST_WORDS = 64  # of one search; more are not typed, and expressions of FTS5 are limited
MOST_TYPED = 4096  # characters of one search, many times what is typed: splitting 250,000 takes half a second
_PART = re.compile(
    r'(?i:from):\s*(?P<from>@?"[^"]*"(?:#\w+)?|[^\s"]+)'
    r'|"(?P<phrase>[^"]*)(?:"(?P<open>\*)?|$)'
    r'|(?P<word>[^\s"]+)'
)


class SearchTerm(Record):
    """Consecutive words; `is_prefix` says the last one may be the beginning of a longer word."""

    words: tuple[str, ...]
    is_prefix: bool

    def is_at(self, text: list[str], begin: int) -> bool:
        """Return whether the term is in these words at `begin`."""
        last = begin + len(self.words) - 1
        if last >= len(text) or tuple(text[begin:last]) != self.words[:-1]:
            return False
        return text[last].startswith(self.words[-1]) if self.is_prefix else text[last] == self.words[-1]


class Query(Record):
    """A search for all of these terms; `sender` is a name as typed, "" for anyone."""

    terms: tuple[SearchTerm, ...]
    sender: str = ""

    def matches(self, text: str) -> bool:
        """Return whether a text has all terms."""
        plain = fold(text)  # ten times as quick as splitting it
        if not all(word in plain for term in self.terms for word in term.words):
            return False
        text_words = words_of(plain)
        return all(any(term.is_at(text_words, begin) for begin in range(len(text_words))) for term in self.terms)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the terms are in a text, as (start, end), in order and without overlaps."""
        found = words_in_place(text)
        text_words = [one.word for one in found]
        hits = [
            found[begin : begin + len(term.words)]
            for term in self.terms
            for begin in range(len(text_words))
            if term.is_at(text_words, begin)
        ]
        return _merged(sorted((hit[0].start, hit[-1].end) for hit in hits))


def parse_query(text: str) -> Query:
    """Return the query for a search as typed.

    Raises:
        ValueError: There is no word, or there are more than MOST_WORDS or MOST_TYPED characters.
    """
    if len(text) > MOST_TYPED:
        raise ValueError(f"a search has at most {MOST_TYPED} characters")
    terms: dict[SearchTerm, None] = {}
    sender = ""
    for part in _PART.finditer(text):
        if part["from"]:
            sender = part["from"].replace('"', "")
            continue
        phrase = part["phrase"]
        term_words = tuple(words(part["word"] if phrase is None else phrase))
        if term_words:
            may_be_prefix = len(term_words[-1]) > 1 if phrase is None else part["open"] is not None
            terms[SearchTerm(term_words, may_be_prefix and not is_alone(term_words[-1]))] = None
    if not terms and not sender:
        raise ValueError("a search needs a word")
    if sum(len(term.words) for term in terms) > MOST_WORDS:
        raise ValueError(f"a search has at most {MOST_WORDS} words")
    return Query(tuple(terms), sender)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def where_found(words: str, text: str) -> list[tuple[int, int]]:
    """Return where the words of a search are in a text, as (start, end), in order and without overlaps.

    Raises:
        ValueError: There is no word, or there are more than MOST_WORDS or MOST_TYPED characters.
    """
    return parse_query(words).spans(text)


# ---- texts


def searchable_text(shown: ReleasedEntry, entry: Entry) -> str:
    """Return the current text of a message; "" if the entry is no message, has no text, or was deleted."""
    text = text_of(current_body(shown, entry)) if entry.is_message else ""
    return "\n".join((text, *choices_of(entry))) if text else ""


def text_of(body: Any) -> str:
    """Return the body of an entry if it is a text; "" for any other."""
    return body if isinstance(body, str) else ""


# ---- words
#
# A word is a run of letters, digits and the marks on them. Words are compared folded: ADA equals ada, é equals e, ｶﾞ
# equals ガ. Scripts without blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are split into single
# characters, and so are emoji; a search finds any row of characters there. Punctuation, blanks and underscores end
# words. The index and the plain search both split texts by these functions.

MOST_MARKS = 64  # on one letter, that count twice at most; no script has ten
MOST_CHARACTERS = 64  # of a word that count; longer words are keys and base64, which differ earlier

_ASCII_WORD = re.compile(r"[a-z0-9]+")
_PIECE = re.compile(r"\S+")
# Removed before a comparison: accents and other general marks, the points of Hebrew and Arabic, the stretch of Arabic,
# selectors of variants and skin colours, and invisible characters (soft hyphens, joiners, directions).
_REMOVED = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\ufe00-\ufe0f\U000e0100-\U000e01ef\U0001f3fb-\U0001f3ff"
    "\u00ad\u061c\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_STROKES = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_SCRIPTS_WITHOUT_BLANKS = (
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF)),
    *((0x20000, 0x323AF),),  # Han
    *((0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3100, 0x312F)),  # kana, bopomofo
    *((0x0E00, 0x0EFF),),  # Thai, Lao
    *((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # Burmese
    *((0x1780, 0x17FF),),  # Khmer
)
_BETWEEN, _LETTER, _ALONE = 0, 1, 2


class TextWord(NamedTuple):
    """One word of a text, folded, and its place: text[start:end]."""

    word: str
    start: int
    end: int


def words(text: str) -> list[str]:
    """Return the words of a text in order, folded."""
    return words_of(fold(text))


def words_of(plain: str) -> list[str]:
    """Return the words of a folded text in order."""
    if plain.isascii():
        return [word[:MOST_CHARACTERS] for word in _ASCII_WORD.findall(plain)]
    return [found.word for found in _cut(plain)]


def words_in_place(text: str) -> list[TextWord]:
    """Return the same words with their places.

    If marks are apart from their letters (ｶﾞ), the place of a word is the whole run without blanks around it.
    """
    found: list[TextWord] = []
    for piece in _PIECE.finditer(text):
        plain = fold(piece[0])
        # Of each folded character the index of its source. The length differs where characters combine.
        sources = [at for at, character in enumerate(piece[0]) for _ in fold(character)]
        for word, start, end in _cut(plain):
            if len(sources) == len(plain):
                found.append(TextWord(word, piece.start() + sources[start], piece.start() + sources[end - 1] + 1))
            else:
                found.append(TextWord(word, *piece.span()))
    return found


def fold(text: str) -> str:
    """Return a text in the form in which texts are compared."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", _with_few_marks(text)).casefold())
    return unicodedata.normalize("NFC", _REMOVED.sub("", plain)).translate(_STROKES)


def _with_few_marks(text: str) -> str:
    """Return a text without most of the marks that follow each other for long: Python sorts them by pairs, so that
    32 KiB of them took 0.2 s.
    """
    parts = [text[at : at + MOST_MARKS] for at in range(0, len(text), MOST_MARKS)]
    return "".join(part for part in parts if len(part) < MOST_MARKS or not all(map(_is_mark, part)))


@lru_cache(maxsize=1 << 12)
def _is_mark(character: str) -> bool:
    """Return whether a character begins with a mark that may change its place."""
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0


def is_alone(word: str) -> bool:
    """Return whether this is a character of a script without blanks, or an emoji: always a word of its own."""
    return len(word) == 1 and _kind(word) == _ALONE


def _cut(plain: str) -> Iterator[TextWord]:
    at = 0
    for kind, characters in groupby(plain, _kind):
        run = "".join(characters)
        if kind == _LETTER:
            yield TextWord(run[:MOST_CHARACTERS], at, at + len(run))
        elif kind == _ALONE:
            yield from (TextWord(character, at + i, at + i + 1) for i, character in enumerate(run))
        at += len(run)


@lru_cache(maxsize=1 << 15)
def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category == "So":
        return _ALONE
    if category[0] not in "LNM":
        return _BETWEEN
    code = ord(character)
    return _ALONE if any(first <= code <= last for first, last in _SCRIPTS_WITHOUT_BLANKS) else _LETTER
