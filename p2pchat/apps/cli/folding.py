"""Lines no wider than the terminal, broken between words and never inside one.

What is no terminal gets its lines whole: a program, a log or a pager breaks them better than we.
"""

from __future__ import annotations

import os
import re
import textwrap
from typing import TextIO

USUAL_WIDTH = 80  # columns, where nobody tells
_TWO_COLUMNS = re.compile(r" {2}\S+(?: \S+)* {2,}(?=\S)")  # "  --name NAME    my name": goes on below "my name"
_TO_BE_COPIED = "    "  # such a line is a command or an invite, and stays whole


def terminal_width(stream: TextIO | None) -> int:
    """Return the columns of a terminal; 0 for what is none."""
    try:
        if stream is None or not stream.isatty():
            return 0
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return 0


def fold(text: str, width: int, hang: int = 0) -> str:
    """Return `text` with lines of at most `width` columns (0: as they are), unless one word is wider.

    Args:
        hang: How far the further lines of one line are indented; those of a line of two columns go on in the second.
    """
    return "\n".join(_folded(line, width, hang) for line in text.split("\n")) if width else text


def _folded(line: str, width: int, hang: int) -> str:
    if len(line) <= width or line.startswith(_TO_BE_COPIED):
        return line
    columns = _TWO_COLUMNS.match(line)
    indent = " " * (columns.end() if columns else hang)
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
