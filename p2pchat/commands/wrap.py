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
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from p2pchat.safe_text import CONTINUED

Fragment = tuple[str, str]  # a style, and a text in it
Row = list[Fragment]
FOUND = "bold underline"  # style of search hits. Without colour: readable on every terminal, and NO_COLOR keeps it

USUAL_WIDTH = 80  # columns, when the terminal does not say
NARROW = 24  # columns; below, CONTINUED would take too much of a row
CONTINUED_NARROW = " | "
_EMOJI = "\ufe0f"  # makes the character before it as wide as an emoji, in some terminals
_UNIT = re.compile(  # what is not broken: an address, a character with those joined to it
    r"\b(?P<address>(?:[a-zA-Z][a-zA-Z0-9+.-]{1,20}://|p2pchat:)[!-;=?-~]+)"
    r"|.(?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d.){1,8}",
    re.DOTALL,
)
_BLANKS = re.compile(r" +(?![\ufe0f\U0001f3fb-\U0001f3ff]|\u200d.)", re.DOTALL)  # with nothing joined to the last
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
            rows += _fold_long_line(line, max(width, len(mark) + 2), (style, mark))
    if tail and _columns(rows[-1]) + 2 + len(tail) <= width:
        rows[-1].append((style, f"  {tail}"))
    elif tail:
        rows += fold_row([(style, mark + tail)], width, hang=hang, style=style)
    return rows


def cut_row(row: Row, width: int) -> list[Row]:
    """Return a row as the terminal wraps it, `width` columns each."""
    widths, offsets = _widths(plain_text(row)), list(accumulate((len(text) for _, text in row), initial=0))
    rows: list[Row] = []
    start = 0
    while not rows or start < offsets[-1]:
        end = max(start + 1, bisect_right(widths, widths[start] + width, start) - 1)
        rows.append(_part(row, offsets, start, min(end, offsets[-1]), []))
        start = end
    return rows


def is_wide(row: Row, width: int) -> bool:
    """Return whether a row of fold_row() ends with an address that the terminal has to wrap."""
    return any("://" in text or "p2pchat:" in text for _, text in row) and _columns(row) > width


def plain_text(row: Row) -> str:
    return "".join(text for _, text in row)


def _columns(row: Row) -> int:
    return _widths(plain_text(row))[-1]


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


def _widths(text: str) -> Sequence[int]:
    """Return the columns of each beginning of a text, each character with the most that any terminal takes for it."""
    if text.isascii() and text.isprintable():
        return range(len(text) + 1)
    from prompt_toolkit.utils import get_cwidth  # imported late: commands for programs need no prompt_toolkit

    columns = list(map(get_cwidth, text))
    at = text.find(_EMOJI, 1)
    while at > 0:
        columns[at - 1] = 2 if columns[at - 1] == 1 else columns[at - 1]
        at = text.find(_EMOJI, at + 1)
    return list(accumulate(columns, initial=0))


def _units(text: str, widths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Return what is not broken, beside single characters; of what is wider than `room` only addresses."""
    if text.isascii() and "://" not in text and "p2pchat:" not in text:
        return []
    return [
        found.span()
        for found in _UNIT.finditer(text)
        if found["address"] or widths[found.end()] - widths[found.start()] <= room
    ]


def _fold_long_line(line: Row, width: int, mark: Fragment) -> list[Row]:
    """Break one line, before the word that does not fit; a word that fills a row is broken where the row ends.

    The work is done for each row, not for each character: anybody can send a text of thousands of rows.
    """
    text = plain_text(line)
    widths, indent = _widths(text), len(mark[1])
    room = width - indent
    units = _units(text, widths, room)
    unit_starts = [first for first, _ in units]
    offsets = list(accumulate((len(part) for _, part in line), initial=0))
    rows: list[Row] = []
    start = 0
    while True:
        before = [mark] if rows else []
        end = bisect_right(widths, widths[start] + (room if rows else width), start) - 1
        next_columns = 2  # of what does not fit
        unit = bisect_right(unit_starts, end) - 1
        if unit >= 0 and end < units[unit][1]:
            first, last = units[unit]
            next_columns = widths[last] - widths[first]
            end = first if next_columns <= room else last  # a wider one is an address: it ends its row
        elif end < len(text):
            next_columns = widths[end + 1] - widths[end]
        blanks = _BLANKS.match(text, end)
        if end == len(text) or (blanks is not None and blanks.end() == len(text)):
            return [*rows, _part(line, offsets, start, end, before)]
        cut, next_start = end, end if blanks is None else blanks.end()
        if blanks is None and text[end - 1] != " ":
            blank = text.rfind(" ", start, end)
            carried = indent + widths[end] - widths[blank + 1] + next_columns
            if blank > start and carried <= width and text[start:blank].strip(" "):  # else it fits behind no mark
                cut, next_start = blank, blank + 1
        rows.append(_part(line, offsets, start, cut - 1 if text[cut - 1] == " " else cut, before))
        start = next_start


def _part(line: Row, offsets: Sequence[int], start: int, end: int, before: Row) -> Row:
    """Return a part of a line behind other fragments; `offsets` says where its fragments begin."""
    row = list(before)
    at = bisect_right(offsets, start) - 1
    while start < end:
        style, text = line[at]
        part = text[start - offsets[at] : end - offsets[at]]
        if part and row and row[-1][0] == style:
            row[-1] = style, row[-1][1] + part
        elif part:
            row.append((style, part))
        start, at = offsets[at + 1], at + 1
    return row


def as_escapes(row: Sequence[Fragment]) -> str:
    """Return fragments with terminal escapes; FOUND is the only style there is."""
    return "".join(f"\x1b[1;4m{text}\x1b[22;24m" if style == FOUND else text for style, text in row)
