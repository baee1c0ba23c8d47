"""What somebody looks for, and whether a text has it. The index only narrows down; here is the last word.

backup failed      both words, anywhere; a word of two characters or more also finds what begins with it
"backup failed"    exactly these words, one behind the other
"backup fail"*     the same, and the last one may go on
from:bob           only what bob wrote; who that is, others know
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2pchat.storage.search.words import Found, folded, is_alone, words, words_in_place

MOST_WORDS = 64  # of one search; nobody types more, and an expression of the index has an end
_PART = re.compile(
    r'from:(?P<from>@?"[^"]*"(?:#\w+)?|[^\s"]+)'
    r'|"(?P<phrase>[^"]*)(?:"(?P<open>\*)?|$)'
    r'|(?P<word>[^\s"]+)'
)


@dataclass(frozen=True, slots=True)
class Term:
    """Words that stand one behind the other; `goes_on`: the last one may be the beginning of a longer word."""

    words: tuple[str, ...]
    goes_on: bool

    def at(self, text: list[str], begin: int) -> bool:
        """Whether it stands in these words at `begin`."""
        last = begin + len(self.words) - 1
        if last >= len(text) or tuple(text[begin:last]) != self.words[:-1]:
            return False
        return text[last].startswith(self.words[-1]) if self.goes_on else text[last] == self.words[-1]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: all of the terms. `sender` is a name as typed, "" for anybody."""

    terms: tuple[Term, ...]
    sender: str = ""

    def fits(self, text: str) -> bool:
        """Whether a text has all of it."""
        if text.isascii() and not self._may_fit(text.lower()):
            return False
        said = words(text)
        return all(any(term.at(said, begin) for begin in range(len(said))) for term in self.terms)

    def _may_fit(self, lower: str) -> bool:
        """Whether an ASCII text has the letters at all: ten times as quick as cutting it."""
        return all(word in lower for term in self.terms for word in term.words)

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Return where in a text it stands, as (start, end), in order and apart from each other."""
        found = words_in_place(text)
        said = [one.word for one in found]
        hits = [
            found[begin : begin + len(term.words)]
            for term in self.terms
            for begin in range(len(said))
            if term.at(said, begin)
        ]
        return _joined(sorted((hit[0].start, hit[-1].end) for hit in hits))


def parse_query(text: str) -> Query:
    """Return what is meant by words as typed.

    Raises:
        ValueError: There is no word, or there are more than MOST_WORDS.
    """
    terms: dict[Term, None] = {}
    sender = ""
    for part in _PART.finditer(text):
        if part["from"]:
            sender = part["from"].replace('"', "")
            continue
        phrase = part["phrase"]
        said = tuple(words(part["word"] if phrase is None else phrase))
        if said:
            may_go_on = phrase is None or part["open"] is not None
            terms[Term(said, may_go_on and (len(said[-1]) > 1 or phrase is not None) and not is_alone(said[-1]))] = None
    if not terms and not sender:
        raise ValueError("a search needs a word")
    if sum(len(term.words) for term in terms) > MOST_WORDS:
        raise ValueError(f"a search has at most {MOST_WORDS} words")
    return Query(tuple(terms), sender)


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


__all__ = ["Found", "Query", "Term", "folded", "parse_query"]


def where_found(words: str, text: str) -> list[tuple[int, int]]:
    """Return where in a text the words of a search stand, as (start, end): in order and apart from each other.

    Raises:
        ValueError: There is no word, or there are more than MOST_WORDS.
    """
    return parse_query(words).marks(text)
