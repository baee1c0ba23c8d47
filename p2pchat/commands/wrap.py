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
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Protocol

from p2pchat.safe_text import CONTINUED

Fragment = tuple[str, str]  # a style, and a text in it
Row = list[Fragment]
_Cell = tuple[str, str, int]  # a style, a character, and its columns
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
            rows += _fold_long_line(line, max(width, len(mark) + 2), [(style, character, 1) for character in mark])
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


def _fold_long_line(line: Row, width: int, mark: list[_Cell]) -> list[Row]:
    """Break one line, before the word that does not fit; a word that fills a row is broken where the row ends."""
    from prompt_toolkit.utils import get_cwidth  # imported late: commands for programs need no prompt_toolkit

    rows: list[list[_Cell]] = []
    row: list[_Cell] = []
    used, full, before = 0, False, ""
    characters = [(style, character) for style, text in line for character in text]
    for (style, character), (_, after) in pairwise([*characters, ("", "")]):
        columns = get_cwidth(character)
        columns = 2 if after == _EMOJI and columns == 1 else columns  # the most that any terminal takes for it
        full = full or used + columns > width
        if full and character == " ":
            before = character
            continue  # the row ends here anyway
        if full:
            at = None if before == " " else _last_blank(row, len(mark) if rows else 0)
            if at is not None and len(mark) + _columns(row[at + 1 :]) + columns > width:
                at = None  # the word does not fit behind the mark either
            rows.append(row[:at])
            row = [*mark, *(row[at + 1 :] if at is not None else [])]
            used, full = _columns(row), False
        row.append((style, character, columns))
        used += columns
        before = character
    return [
        [(style, "".join(cell[1] for cell in cells)) for style, cells in groupby(row, itemgetter(0))]
        for row in [*rows, row]
    ]


def _last_blank(row: Sequence[_Cell], start: int) -> int | None:
    """Return the index of the last blank behind the first word, which begins at `start` or later."""
    first = next((i for i in range(start, len(row)) if row[i][1] != " "), len(row))
    return next((i for i in range(len(row) - 1, first, -1) if row[i][1] == " "), None)


def _columns(cells: Sequence[_Cell]) -> int:
    return sum(columns for _, _, columns in cells)


def as_escapes(row: Sequence[Fragment]) -> str:
    """Return fragments with terminal escapes; FOUND is the only style there is."""
    return "".join(f"\x1b[1;4m{text}\x1b[22;24m" if style == FOUND else text for style, text in row)
