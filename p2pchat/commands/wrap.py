"""Lines no wider than the terminal, so that it never breaks one itself: which are folded, which stay whole to be
copied, and what the further rows of each begin with. How a row is filled, by the columns of each character, is
columns.py.

What is no terminal gets its lines whole: a program, a log or a pager breaks them better than we.
"""

from __future__ import annotations

import os
import re
import textwrap
from typing import Protocol

USUAL_WIDTH = 80  # columns, where nobody tells
_TWO_COLUMNS = re.compile(r" {2}\S+(?: \S+)* {2,}(?=\S)")  # "  --name NAME    my name": goes on below "my name"
_TO_BE_COPIED = re.compile(r" {4}(?!\| )")  # such a line is a command or an invite, and stays whole


class MaybeTerminal(Protocol):
    """A file that may be a terminal."""

    def isatty(self) -> bool: ...
    def fileno(self) -> int: ...


def terminal_width(stream: MaybeTerminal | None) -> int:
    """Return the columns of a terminal; 0 for what is none."""
    try:
        if stream is None or not stream.isatty():
            return 0
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return 0


def fold(text: str, width: int, hang: int = 0) -> str:
    """Return lines of our own with at most `width` columns (0: as they are), unless one word of ASCII is wider.

    Args:
        hang: How far the further lines of one line are indented; those of a line of two columns go on in the second.
    """
    return "\n".join(_folded(line, width, hang) for line in text.split("\n")) if width else text


def fold_marked(text: str, width: int) -> str:
    """Return lines with text of others in them: each further row of one begins with the mark of a continued text."""
    return "\n".join(_by_columns(line, width, "") for line in text.split("\n")) if width else text


def _folded(line: str, width: int, hang: int) -> str:
    if line.isascii() and len(line) <= width:
        return line
    columns = _TWO_COLUMNS.match(line)
    indent = " " * (columns.end() if columns else hang)
    if not line.isascii():  # whose characters may be wider or narrower, and blanks in what looks like one word
        return _by_columns(line, width, indent or " ")
    if _TO_BE_COPIED.match(line):
        return line
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _by_columns(line: str, width: int, hang: str) -> str:
    from p2pchat.commands.columns import fold_row, plain_text

    if _TO_BE_COPIED.match(line):
        return line
    return "\n".join(map(plain_text, fold_row([("", line)], width, hang=hang)))
