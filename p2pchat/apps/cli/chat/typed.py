"""Typed lines: what a person or a pipe writes, parsed into what is meant. Nothing is done here.

A line is text for the current conversation unless it begins with a slash; `//` begins a text that starts with one.
COMMANDS is the whole list, with the words of /help. An unknown command is an error that names the nearest: what
somebody mistyped is never sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from p2pchat.apps.cli.exits import Usage


@dataclass(frozen=True, slots=True)
class Command:
    """One typed command. `least` and `most` count its arguments; the last takes the rest of the line, blanks too."""

    name: str
    arguments: str
    summary: str
    others: tuple[str, ...] = ()
    least: int = 0
    most: int = 0

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()


COMMANDS = (
    Command("msg", "NAME TEXT", "write to one user, who gets it also when away now", ("dm",), 2, 2),
    Command(
        "go", "[CONVERSATION]", "send what follows there: a name, @name, or alone the room", ("join", "query"), 0, 1
    ),
    Command("list", "", "your conversations, with what is unread"),
    Command("who", "", "who is known, and who is here", ("names",)),
    Command("me", "TEXT", "say what you do, as in: * ada waves", (), 1, 1),
    Command("nick", "NAME", "take another name", (), 1, 1),
    Command("history", "[N]", "the last N messages here (20)", (), 0, 1),
    Command("connect", "HOST:PORT", "link with a peer; knowing one is enough", (), 1, 1),
    Command("help", "[COMMAND]", "these lines, or one of them", (), 0, 1),
    Command("quit", "", "say goodbye and leave", ("exit",)),
)
BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.others)}

# Commands of later versions: named, so that nobody takes them for a typing error.
LATER = frozenset(
    (
        *("group", "add", "kick", "leave", "part", "whois", "reply", "edit", "delete", "react", "search", "receipts"),
        *("away", "back", "set", "invite", "forget", "ignore", "unignore", "allow", "clear"),
    )
)


@dataclass(frozen=True, slots=True)
class Say:
    """Text for the current conversation."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """A command by its first name, and its arguments."""

    name: str
    arguments: tuple[str, ...] = ()


def parse_line(line: str) -> Say | Do | None:
    """Return what one typed line means; None for a blank one.

    Raises:
        Usage: It begins with a slash and is no command of this version, or lacks an argument.
    """
    if not line.strip():
        return None
    if line.startswith("//"):
        return Say(line[1:])
    if not line.startswith("/"):
        return Say(line)
    word, _, rest = line[1:].partition(" ")
    command = BY_NAME.get(word.lower())
    if command is None:
        raise Usage(_not_a_command(word.lower()))
    return Do(command.name, _arguments(command, rest.strip(" ")))


def _arguments(command: Command, rest: str) -> tuple[str, ...]:
    if not rest:
        parts: tuple[str, ...] = ()
    elif command.most < 2:
        parts = (rest,)
    else:
        parts = tuple(part for part in _name_and_rest(rest) if part)
    if not command.least <= len(parts) <= command.most:
        raise Usage(f"usage: {command.usage}" + (' (a NAME with blanks stands in "")' if command.least == 2 else ""))
    return parts


def _name_and_rest(text: str) -> tuple[str, str]:
    """Split off the name: up to the first blank, or what stands in double quotes, for names with blanks."""
    if text.startswith('"') and '"' in text[1:]:
        name, _, rest = text[1:].partition('"')
    else:
        name, _, rest = text.partition(" ")
    return name, rest.lstrip(" ")


def _not_a_command(word: str) -> str:
    if word in LATER:
        return f"this version does not have /{word} yet; nothing was sent"
    near = get_close_matches(word, BY_NAME, n=1, cutoff=0.5)
    hint = f"did you mean /{near[0]}?" if near else "/help lists them."
    return f"there is no command {'/' + word!a}: {hint} Nothing was sent; // begins a text with a slash"


def help_lines(word: str = "") -> list[str]:
    """Return the lines of /help, or of /help COMMAND.

    Raises:
        Usage: There is no such command.
    """
    if not word:
        width = max(len(command.usage) for command in COMMANDS)
        return [f"{command.usage:<{width}}  {command.summary}" for command in COMMANDS] + [
            f"{'//TEXT':<{width}}  a text that begins with a slash"
        ]
    command = BY_NAME.get(word.lstrip("/").lower())
    if command is None:
        raise Usage(_not_a_command(word.lstrip("/").lower()))
    also = f" (also {', '.join('/' + other for other in command.others)})" if command.others else ""
    return [f"{command.usage}  {command.summary}{also}"]
