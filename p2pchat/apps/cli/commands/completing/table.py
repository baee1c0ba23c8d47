"""What can stand where on a command line, as plain rows: what every shell's script is made of."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from p2pchat.apps.cli.registry import CHAT, COMMANDS, EVERY_COMMAND
from p2pchat.cli.command_table import Command, Option

SHELLS = ("bash", "zsh", "fish")
CHAT_NAME = "PORT"  # stands for the command that is a number
# By what an option takes; other values are free.
_KINDS = {"FILE": "file", "DIR": "directory", "PORT": "port", "TO": "address"}


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of one command.

    Attributes:
        kind: Of its value: file, directory, port, address, choice; "" for any text, "switch" for none.
    """

    names: tuple[str, ...]
    summary: str
    kind: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One command; `name` is CHAT_NAME for the chat. `words` as in registry/command.py."""

    name: str
    summary: str
    words: str
    flags: tuple[Flag, ...]


def table() -> list[Row]:
    """Return all commands, the chat first."""
    return [_row(CHAT, CHAT_NAME), *(_row(command, name) for name, command in COMMANDS.items())]


def _row(command: Command, name: str) -> Row:
    flags = [
        _flag(option) for option in (*command.options, *EVERY_COMMAND) if option.name != "version" or not command.name
    ]
    return Row(name, command.summary, command.words, tuple(flags))


def _flag(option: Option) -> Flag:
    kind = "choice" if option.choices else _KINDS.get(option.takes, "") if option.takes else "switch"
    return Flag(option.flags, option.summary, kind, option.choices)


def values(rows: list[Row]) -> Iterator[tuple[str, str, Flag]]:
    """Yield (command, spelling, option) for every option that takes a value."""
    for row in rows:
        for flag in row.flags:
            if flag.kind != "switch":
                for name in flag.names:
                    yield row.name, name, flag


def valued(rows: list[Row]) -> list[str]:
    """Return the spellings of all options that take a value, in any command."""
    return sorted({name for _, name, _ in values(rows)})


def asking() -> str:
    """Return the command that answers a script: this Python's, whatever `p2pchat` stands for in the shell.

    -P: whoever presses Tab in some directory does not mean to run a Python file that lies there.
    """
    return shlex.join([sys.executable, "-P", "-m", "p2pchat", "completion"])
