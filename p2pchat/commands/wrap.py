"""Lines folded to the width of the terminal.

A terminal that wraps a long line begins the next row with arbitrary text: with text of others that could pass
for a line of the program. So the program folds lines itself, and every further row begins with CONTINUED, as every
further line of a message does. Lines of the program are indented instead; commands and invites stay whole, to be
copied. The caller that draws the rows turns off the terminal's own wrapping, unless a row is short and ASCII: then a
character that is wider there than here is cut at the edge, and cannot push text into the next row.

The address of a page, or an invite, that is longer than a row is left to the terminal's wrapping, so that it can be
clicked and copied. It is ASCII without blanks, and every line of the program has a blank behind its first word or sign,
so that no part of an address passes for one. The text behind it begins a row of its own.

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
_UNIT = re.compile(  # what is not broken: an address, a character with those joined to it, a character
    r"\b(?P<address>(?:[a-zA-Z][a-zA-Z0-9+.-]{1,20}://|p2pchat:)[!-;=?-~]+)"
    r"|.(?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d.){1,8}|.",
    re.DOTALL,
)
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


def fold_row(
    fragments: Sequence[Fragment], width: int, *, hang: str = "", style: str = "", tail: str = ""
) -> list[Row]:
    """Return the rows of one line, broken at its newlines, and between words where it is wider than `width`.

    Only a row that ends with a long address is wider itself.

    Args:
        hang: Prefix of wrapped rows, for lines of the program; "": CONTINUED.
        style: Style of that prefix, and of `tail`.
        tail: What follows the line after two blanks, or in a row of its own: it is not broken where a row has room.
    """
    mark = hang or (CONTINUED if width >= NARROW else CONTINUED_NARROW)
    rows: list[Row] = []
    for line in split_rows(fragments):
        if _surely_fits(line, width):
            rows.append(list(line))
        else:
            rows += _fold_long_line(line, max(width, len(mark) + 2), [(style, character, 1) for character in mark])
    if tail and _columns(_cells(rows[-1])) + 2 + len(tail) <= width:
        rows[-1].append((style, f"  {tail}"))
    elif tail:
        rows += fold_row([(style, mark + tail)], width, hang=hang, style=style)
    return rows


def cut_row(row: Row, width: int) -> list[Row]:
    """Return a row as the terminal wraps it, `width` columns each."""
    rows: list[list[_Cell]] = [[]]
    for cell in _cells(row):
        if _columns(rows[-1]) + cell[2] > width:
            rows.append([])
        rows[-1].append(cell)
    return list(map(_joined, rows))


def is_wide(row: Row, width: int) -> bool:
    """Return whether a row of fold_row() ends with an address that the terminal has to wrap."""
    return any("://" in text or "p2pchat:" in text for _, text in row) and _columns(_cells(row)) > width


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


def _cells(row: Row) -> list[_Cell]:
    """Return the characters of a row, each with the most columns that any terminal takes for it."""
    from prompt_toolkit.utils import get_cwidth  # imported late: commands for programs need no prompt_toolkit

    cells = [(style, character, get_cwidth(character)) for style, text in row for character in text]
    return [
        (style, character, 2 if columns == 1 and after[1] == _EMOJI else columns)
        for (style, character, columns), after in pairwise([*cells, ("", "", 0)])
    ]


def _units(cells: Sequence[_Cell], room: int) -> Iterator[Sequence[_Cell]]:
    """Yield what is not broken; of the parts wider than `room` only addresses."""
    for found in _UNIT.finditer("".join(character for _, character, _ in cells)):
        unit = cells[found.start() : found.end()]
        if found["address"] or _columns(unit) <= room:
            yield unit
        else:
            yield from ([cell] for cell in unit)


def _fold_long_line(line: Row, width: int, mark: list[_Cell]) -> list[Row]:
    """Break one line, before the word that does not fit; a word that fills a row is broken where the row ends."""
    rows: list[list[_Cell]] = []
    row: list[_Cell] = []
    used, full, before = 0, False, ""
    room = width - len(mark)
    for unit in _units(_cells(line), room):
        columns = _columns(unit)
        full = full or (used + columns > width and (columns <= room or used > width))
        if full and len(unit) == 1 and unit[0][1] == " ":
            before = " "
            continue  # the row ends here anyway
        if full:
            at = len(row) if before == " " else _last_blank(row, len(mark) if rows else 0)
            if at is None or len(mark) + _columns(row[at + 1 :]) + columns > width:
                at = len(row)  # the word does not fit behind the mark either
            rows.append(row[:at] if row[at - 1][1] != " " else row[: at - 1])
            row = [*mark, *row[at + 1 :]]
            used, full = _columns(row), False
        row += unit
        used += columns
        before = unit[-1][1]
    return list(map(_joined, [*rows, row]))


def _joined(cells: Sequence[_Cell]) -> Row:
    return [(style, "".join(cell[1] for cell in group)) for style, group in groupby(cells, itemgetter(0))]


def _last_blank(row: Sequence[_Cell], start: int) -> int | None:
    """Return the index of the last blank behind the first word, which begins at `start` or later."""
    first = next((i for i in range(start, len(row)) if row[i][1] != " "), len(row))
    return next((i for i in range(len(row) - 1, first, -1) if row[i][1] == " "), None)


def _columns(cells: Sequence[_Cell]) -> int:
    return sum(columns for _, _, columns in cells)


def as_escapes(row: Sequence[Fragment]) -> str:
    """Return fragments with terminal escapes; FOUND is the only style there is."""
    return "".join(f"\x1b[1;4m{text}\x1b[22;24m" if style == FOUND else text for style, text in row)
