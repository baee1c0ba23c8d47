"""Lines folded to the terminal's width by us, so that the terminal never does.

A terminal that wraps a long line begins the next row with whatever comes: with text of others that could pass for a
line of the program. So every further row of a line gets CONTINUED in front, as every further line of a text does.
Whoever draws these rows turns the terminal's own wrapping off: a character that is wider there than here is then
cut at the edge, and cannot push text into the next row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from prompt_toolkit.utils import get_cwidth

from p2pchat.safe_text import CONTINUED

Fragment = tuple[str, str]  # a style, and a text in it
Row = list[Fragment]
FOUND = "bold underline"  # style of what was searched for. No colour: it can be read everywhere, NO_COLOR leaves it

NARROW = 24  # columns; below, the mark would take too much of a row
CONTINUED_NARROW = " | "
_EMOJI = "\ufe0f"  # makes the character before it as wide as an emoji, in some terminals


def fold_row(fragments: Sequence[Fragment], width: int, *, hang: str = "", style: str = "") -> list[Row]:
    """Return the rows of one line: broken at its newlines, and between words where it is wider than `width`.

    Args:
        hang: What further rows begin with, where all of the line is the program's own; "": CONTINUED.
        style: Of what further rows begin with.
    """
    if _fits(fragments, width):
        return [list(fragments)]
    mark = hang or (CONTINUED if width >= NARROW else CONTINUED_NARROW)
    rows: list[Row] = []
    for line in lines_of(fragments):
        if _fits(line, width):
            rows.append(list(line))
        else:
            rows += _Folder(max(width, len(mark) + 2), [(style, character) for character in mark]).fold(line)
    return rows


def plain_text(row: Row) -> str:
    """Return what stands in a row."""
    return "".join(text for _, text in row)


def _fits(fragments: Sequence[Fragment], width: int) -> bool:
    """Whether it is surely one row: the usual case, worked out quickly."""
    total = 0
    for _, text in fragments:
        total += len(text)
        if total > width or not text.isascii() or "\n" in text:
            return False
    return True


def lines_of(fragments: Sequence[Fragment]) -> Iterator[Row]:
    """Yield what stands between newlines."""
    line: Row = []
    for style, text in fragments:
        first, *more = text.split("\n")
        line.append((style, first))
        for next_text in more:
            yield line
            line = [(style, next_text)]
    yield line


class _Folder:
    """Folds one line."""

    def __init__(self, width: int, mark: list[tuple[str, str]]) -> None:
        self._width = width
        self._mark = mark
        self._rows: list[list[tuple[str, str]]] = []
        self._row: list[tuple[str, str]] = []
        self._sizes: list[int] = []  # of the characters in the row
        self._used = 0  # columns of them
        self._begins = 0  # where the text of this row begins
        self._full = False

    def fold(self, line: Row) -> list[Row]:
        before = ""
        characters = [(style, character) for style, text in line for character in text]
        for (style, character), (_, after) in pairwise([*characters, ("", "")]):
            size = _width_of(character, after)
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
        return [_joined(row) for row in [*self._rows, self._row]]

    def _break(self, *, between_words: bool, size: int) -> None:
        """Begin a new row, with the word that does not fit any more, unless that is all there is."""
        self._full = False
        first = next((i for i in range(self._begins, len(self._row)) if self._row[i][1] != " "), len(self._row))
        blanks = (i for i in range(len(self._row) - 1, first, -1) if self._row[i][1] == " ")
        at = None if between_words else next(blanks, None)
        if at is not None and len(self._mark) + sum(self._sizes[at + 1 :]) + size > self._width:
            at = None  # the word has no room behind the mark: it is broken where it stands
        word = len(self._row) if at is None else at + 1
        self._rows.append(self._row[:at])
        self._row = [*self._mark, *self._row[word:]]
        self._sizes = [*[1] * len(self._mark), *self._sizes[word:]]
        self._used = sum(self._sizes)
        self._begins = len(self._mark)


def _width_of(character: str, after: str) -> int:
    """Return the columns of a character, before another one: the most that a terminal may take for it."""
    return 2 if after == _EMOJI and get_cwidth(character) == 1 else get_cwidth(character)


def _joined(row: list[tuple[str, str]]) -> Row:
    """Return characters as fragments."""
    found: Row = []
    for style, character in row:
        if found and found[-1][0] == style:
            found[-1] = (style, found[-1][1] + character)
        else:
            found.append((style, character))
    return found


def as_escapes(row: Sequence[Fragment]) -> str:
    """Return fragments as a terminal takes them; of styles there is only FOUND."""
    return "".join(f"\x1b[1;4m{text}\x1b[22;24m" if style == FOUND else text for style, text in row)
