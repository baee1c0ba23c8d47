"""Lines folded to the width of the terminal.

A terminal that wraps a long line begins the next row with whatever comes there: with text of others that could pass
for a line of the program. So the program folds lines itself, and every further row begins with CONTINUED, as every
further line of a message does. Lines of the program are indented instead; commands and invites stay whole, to be
copied. Whoever draws the rows turns off the terminal's own wrapping: a character that is wider there than here is cut
at the edge then, and cannot push text into the next row.

Output that is no terminal is not folded: programs, logs and pagers fold better.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from p2pchat.safe_text import CONTINUED

Fragment = tuple[str, str]  # a style, and a text in it
Row = list[Fragment]
FOUND = "bold underline"  # style of search hits. Without colour: readable on every terminal, and NO_COLOR keeps it

USUAL_WIDTH = 80  # columns, when the terminal does not say
NARROW = 24  # columns; below, CONTINUED would take too much of a row
CONTINUED_NARROW = " | "
_EMOJI = "\ufe0f"  # makes the character before it as wide as an emoji, in some terminals
_TWO_COLUMNS = re.compile(r" {2}\S+(?: \S+)* {2,}(?=\S)")  # "  --name NAME    my name": wraps below "my name"
_TO_BE_COPIED = re.compile(r" {4}(?!\| )")  # a command or an invite


class MaybeTerminal(Protocol):
    """A file that may be a terminal."""

    def isatty(self) -> bool: ...
    def fileno(self) -> int: ...


def terminal_width(stream: MaybeTerminal | None) -> int:
    """Return the columns of a terminal; 0 if the stream is none."""
    try:
        if stream is None or not stream.isatty():
            return 0
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return 0


def fold(text: str, width: int, hang: int = 0) -> str:
    """Fold lines of the program to `width` columns (0: not at all); a longer ASCII word stays whole.

    Args:
        hang: Indent of wrapped rows; rows of a two-column line wrap within the second column.
    """
    return "\n".join(_fold_line(line, width, hang) for line in text.split("\n")) if width else text


def fold_marked(text: str, width: int) -> str:
    """Fold lines that contain text of others: each wrapped row begins with CONTINUED."""
    return "\n".join(_fold_by_columns(line, width, "") for line in text.split("\n")) if width else text


def _fold_line(line: str, width: int, hang: int) -> str:
    if line.isascii() and len(line) <= width:
        return line
    columns = _TWO_COLUMNS.match(line)
    indent = " " * (columns.end() if columns else hang)
    if not line.isascii():  # its characters may be wider or narrower than one column
        return _fold_by_columns(line, width, indent or " ")
    if _TO_BE_COPIED.match(line):
        return line
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _fold_by_columns(line: str, width: int, hang: str) -> str:
    if _TO_BE_COPIED.match(line):
        return line
    return "\n".join(map(plain_text, fold_row([("", line)], width, hang=hang)))


def fold_row(fragments: Sequence[Fragment], width: int, *, hang: str = "", style: str = "") -> list[Row]:
    """Return the rows of one line, broken at its newlines, and between words where it is wider than `width`.

    Args:
        hang: Prefix of wrapped rows, for lines of the program; "": CONTINUED.
        style: Style of that prefix.
    """
    if _surely_fits(fragments, width):
        return [list(fragments)]
    mark = hang or (CONTINUED if width >= NARROW else CONTINUED_NARROW)
    rows: list[Row] = []
    for line in split_rows(fragments):
        if _surely_fits(line, width):
            rows.append(list(line))
        else:
            rows += _RowFolder(max(width, len(mark) + 2), [(style, character) for character in mark]).fold(line)
    return rows


def plain_text(row: Row) -> str:
    return "".join(text for _, text in row)


def _surely_fits(fragments: Sequence[Fragment], width: int) -> bool:
    """Return whether a line is one row, decided quickly for the usual case: ASCII on one line."""
    total = 0
    for _, text in fragments:
        total += len(text)
        if total > width or not text.isascii() or "\n" in text:
            return False
    return True


def split_rows(fragments: Sequence[Fragment]) -> Iterator[Row]:
    """Yield the parts between newlines."""
    line: Row = []
    for style, text in fragments:
        first, *more = text.split("\n")
        line.append((style, first))
        for next_text in more:
            yield line
            line = [(style, next_text)]
    yield line


class _RowFolder:
    """Folds one line."""

    def __init__(self, width: int, mark: list[tuple[str, str]]) -> None:
        from prompt_toolkit.utils import get_cwidth  # imported late: commands for programs need no prompt_toolkit

        self._columns_of = get_cwidth
        self._width = width
        self._mark = mark
        self._rows: list[list[tuple[str, str]]] = []
        self._row: list[tuple[str, str]] = []
        self._sizes: list[int] = []  # columns of each character in the row
        self._used = 0  # columns
        self._text_start = 0  # index in the row behind the mark
        self._full = False

    def fold(self, line: Row) -> list[Row]:
        before = ""
        characters = [(style, character) for style, text in line for character in text]
        for (style, character), (_, after) in pairwise([*characters, ("", "")]):
            size = self._width_of(character, after)
            if self._full or self._used + size > self._width:
                self._full = True
                if character == " ":
                    before = character
                    continue  # the row ends here anyway
                self._break(between_words=before == " ", size=size)
            self._row.append((style, character))
            self._sizes.append(size)
            self._used += size
            before = character
        return [_join_characters(row) for row in [*self._rows, self._row]]

    def _width_of(self, character: str, after: str) -> int:
        """Return the columns of a character: the most that any terminal takes for it."""
        width: int = self._columns_of(character)
        return 2 if after == _EMOJI and width == 1 else width

    def _break(self, *, between_words: bool, size: int) -> None:
        """Begin a new row with the word that did not fit; a word that fills the row is broken where it is."""
        self._full = False
        first = next((i for i in range(self._text_start, len(self._row)) if self._row[i][1] != " "), len(self._row))
        blanks = (i for i in range(len(self._row) - 1, first, -1) if self._row[i][1] == " ")
        at = None if between_words else next(blanks, None)
        if at is not None and len(self._mark) + sum(self._sizes[at + 1 :]) + size > self._width:
            at = None  # the word does not fit behind the mark either
        word = len(self._row) if at is None else at + 1
        self._rows.append(self._row[:at])
        self._row = [*self._mark, *self._row[word:]]
        self._sizes = [*[1] * len(self._mark), *self._sizes[word:]]
        self._used = sum(self._sizes)
        self._text_start = len(self._mark)


def _join_characters(row: list[tuple[str, str]]) -> Row:
    found: Row = []
    for style, character in row:
        if found and found[-1][0] == style:
            found[-1] = (style, found[-1][1] + character)
        else:
            found.append((style, character))
    return found


def as_escapes(row: Sequence[Fragment]) -> str:
    """Return fragments with terminal escapes; FOUND is the only style there is."""
    return "".join(f"\x1b[1;4m{text}\x1b[22;24m" if style == FOUND else text for style, text in row)
