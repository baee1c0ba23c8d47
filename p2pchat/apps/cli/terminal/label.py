"""What stands before the input: where one is, and what is unread elsewhere: `[bob 2 · room 5 @1] room> `."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from prompt_toolkit.utils import get_cwidth

from p2pchat.apps.cli.terminal.colours import UNREAD
from p2pchat.commands.columns import Row
from p2pchat.commands.format import shown_name
from p2pchat.safe_text import safe_line

_PLAIN = re.compile(r"[\w#.'-]+\Z")  # anything else could be taken for more than a name here
ROOM_TO_TYPE = 16  # columns left for the input, at least, where the terminal has them


class Waiting(NamedTuple):
    """What is unread in one conversation."""

    name: str
    lines: int
    mentions: int


def label(where: str, waiting: Sequence[Waiting], columns: int) -> Row:
    """Return what stands before the input, shorter where there is little room."""
    end = [("bold", _name(where)), ("", "> ")]
    longest = " · ".join(_words(each) for each in waiting)
    total = Waiting("", sum(each.lines for each in waiting), sum(each.mentions for each in waiting))
    for words in (longest, _words(total)) if waiting else ("",):
        row = [("", "["), (UNREAD, words), ("", "] "), *end] if words else end
        if sum(get_cwidth(text) for _, text in row) <= columns - ROOM_TO_TYPE:
            return row
    return [("", "> ")] if not waiting or columns < ROOM_TO_TYPE else [(UNREAD, _words(total)), ("", "> ")]


def _words(waiting: Waiting) -> str:
    name = f"{_name(waiting.name)} " if waiting.name else ""
    return f"{name}{waiting.lines}" + (f" @{waiting.mentions}" if waiting.mentions else "")


def _name(name: str) -> str:
    shown = shown_name(name)
    return shown if shown.startswith('"') or _PLAIN.match(shown) else f'"{safe_line(name)}"'
