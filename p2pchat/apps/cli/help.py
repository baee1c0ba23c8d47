"""The help screens, made of the pages in registry/: written out there, so that --help reads like a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from p2pchat.apps.cli.registry import CHAT, COMMANDS, EVERY_COMMAND
from p2pchat.commands.wrap import USUAL_WIDTH, fold

WIDEST = 100  # columns; longer lines are hard to read
_LEFT = 24  # columns of what stands left of its explanation


def help_screen(name: str = "", width: int = USUAL_WIDTH) -> str:
    """Return the help of a command, or of p2pchat itself, for so many columns."""
    command = COMMANDS.get(name, CHAT)
    options = (*command.options, *(EVERY_COMMAND if command is CHAT else ()))
    left = [(f"{', '.join(option.flags)} {option.takes}".rstrip(), option.summary) for option in options]
    commands = [(one.name, one.summary) for one in COMMANDS.values()]
    return fold(command.page.format(options=_rows(left), commands=_rows(commands)), min(width, WIDEST))


def help_width() -> int:
    """Return the columns of standard output, or what COLUMNS says; 80 where nobody tells."""
    return shutil.get_terminal_size((USUAL_WIDTH, 24)).columns


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {left:<{_LEFT}}{right}" for left, right in rows)
