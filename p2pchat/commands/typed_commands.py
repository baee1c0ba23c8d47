"""Typed lines, parsed into texts and commands. Nothing is executed here.

A line is a text for the current conversation unless it begins with a slash; `//` begins a text with a slash. The
commands are those of command_table.py. An unknown command is an error that names the nearest one: a mistyped command is
never sent as a text.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import takewhile

from p2pchat.commands.command_table import ALL, TYPED, CommandRow, switch_of
from p2pchat.commands.exit_codes import UsageError
from p2pchat.kinds.call import YES
from p2pchat.safe_text import quote_name, safe_line

BY_NAME = {name: command for command in TYPED for name in (command.word, *command.aliases)}
MOST_USED = ("msg", "go", "list", "who", "reply", "send", "history", "search", "quit")
NAMES = tuple(dict.fromkeys([*MOST_USED, *(command.word for command in TYPED), *BY_NAME]))  # as they are offered
HELP_COLUMNS = 78  # width of /help

_SLASHES = "/\uff0f\u2044\u2215\u29f8"  # and characters that look like one
_COMMAND = re.compile(r"/\s*(\S*)\s*(.*)", re.DOTALL)
CLOSING_QUOTES = {
    '"': '"', "'": "'’", "“": '”“"', "”": '”"', "„": '“”"', "«": "»", "»": "«", "‘": "’'", "’": "’'", "‚": "‘’'",
    "‹": "›", "›": "‹", "「": "」", "『": "』",
}  # fmt: skip
"""Closing quotes, by the opening one: of each language, and as keyboards write them. The page has the same table."""
_PLAIN = re.compile(r"(\S*)\s*")
_DOUBLED = re.compile(r'"((?:[^"]|"")*)"(#\S*)?(?:\s+|$)')


def _quoted(opening: str, closing: str) -> re.Pattern[str]:
    """Return the pattern of a quoted word. What would close it does not within a word, as in 'don't'."""
    return re.compile(rf"{opening}((?:[^{closing}]|[{closing}](?![\s#]|$))*)[{closing}](#\S*)?(?:\s+|$)")


_QUOTED = {opening: _quoted(opening, closing) for opening, closing in CLOSING_QUOTES.items()} | {'"': _DOUBLED}


@dataclass(frozen=True)
class TextInput:
    """Text for the current conversation."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class CommandInput:
    """A command by its first name, and its arguments.

    Attributes:
        yes: The line answers what the command would ask.
        all: It is not only about what is most likely meant.
        switches: The fields that words at its end set.
    """

    name: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    yes: bool = False
    all: bool = False
    switches: tuple[str, ...] = ()


class UnknownCommand(UsageError):
    """A line that begins with a slash and names no command here. `word` is what follows the slash, without blanks."""

    def __init__(self, word: str) -> None:
        super().__init__(_not_a_command(word))
        self.word = word


def parse_line(line: str) -> TextInput | CommandInput | None:
    """Parse one typed line; None for a blank one. A UsageError says why it is neither a text nor a command."""
    if not line.strip():
        return None
    if line.startswith("//"):
        return TextInput(line[1:])
    if not line.startswith("/"):
        refuse_almost_a_command(line, BY_NAME)
        return TextInput(line)
    word, rest = _split(line)
    if line[1:2].isspace():
        refuse_almost_a_command(line, BY_NAME)
        word = ""
    command = BY_NAME.get(word.lower())
    if command is None:
        raise UnknownCommand(word)
    rest, ending = _split_ending(command, rest)
    all = command.usage.partition(" ")[2].startswith(f"[{ALL}]") and rest.split()[:1] == [ALL]
    if all:
        rest = rest.removeprefix(ALL).lstrip()
    switches = tuple(name for name in command.switches if switch_of(name) in ending)
    return CommandInput(command.word, _arguments(command, rest), YES in ending, all, switches)


def _split_ending(command: CommandRow, rest: str) -> tuple[str, set[str]]:
    """Return the arguments of a line without the words at its end that answer or set something, and these words."""
    known = {*([YES] if command.asks else []), *map(switch_of, command.switches)}
    ending: set[str] = set()
    while (last := "".join(rest.split()[-1:])) in known:
        rest = rest.removesuffix(last).rstrip()
        ending.add(last)
    return rest, ending


def _split(line: str) -> tuple[str, str]:
    found = _COMMAND.fullmatch(line)
    return (found[1], found[2].rstrip()) if found else ("", "")


def without_invisible(line: str) -> str:
    """Return a line from its first visible character on: without blanks, controls, a byte order mark and the like."""
    hidden = takewhile(lambda character: unicodedata.category(character)[0] in "CZ", line)
    return line[sum(1 for _ in hidden) :]


def refuse_almost_a_command(line: str, names: Container[str]) -> None:
    """Raise UsageError if only invisible characters or another kind of slash keep a line from being a command.

    Args:
        names: The names of the commands, in lower case.
    """
    start = without_invisible(line)
    if start[:1] and start[0] in _SLASHES and (word := _split("/" + start[1:])[0].lower()):
        plain = unicodedata.normalize("NFKC", word)
        if plain in names:
            raise UsageError(
                f"Did you mean /{plain}? Commands must start at the beginning of the line. Nothing was sent; "
                "// begins a text with a slash"
            )


def meant_command(text: str, knows: Callable[[str], bool]) -> str:
    """Return how to do what a text perhaps was meant to do, which is no command and was sent; "" if it is only a text.

    Args:
        knows: Returns whether a name is somebody's.
    """
    try:
        word, rest = split_name(text)
        first = split_name(rest)[0]
    except UsageError:
        return ""
    name = word.removesuffix(":")
    if rest and name != word and knows(name):
        return f"to write to {quote_name(name)} alone: /msg {safe_line(typed_name(name))} TEXT"
    if word.lower() in BY_NAME and (not rest or knows(first)):
        return f"the command is /{word.lower()}"
    return ""


def _arguments(command: CommandRow, rest: str) -> tuple[str, ...]:
    if "file" in command.kinds and (rest or not command.least):  # a path has quotes of its own
        return (rest,) if rest else ()
    parts: list[str] = []
    while rest and (command.many or len(parts) < command.most - 1):
        name, rest = split_name(rest)
        parts.append(name)
    if rest:
        parts.append(_unquoted(rest) if _is_name(command, len(parts)) else rest)
    is_enough = command.least <= len(parts) and (command.many or len(parts) <= command.most)
    if not (is_enough and all(parts)):  # "" is not a name
        example = f", for example {command.example}" if command.typed else ""
        raise UsageError(f"usage: {command.usage}{example}")
    return tuple(parts)


def _is_name(command: CommandRow, position: int) -> bool:
    return any(word.strip("[]") in ("NAME", "CONVERSATION", "PEER") for word in command.words[position : position + 1])


def split_name(text: str) -> tuple[str, str]:
    """Split off the first name: up to a blank, or in quotes; `"Anna Maria"#K7QF2M3P` is one name.

    The sign of a group may stand before or within the quotes. A double quote within a name in double quotes is doubled.
    Raises UsageError for a quote that does not end.
    """
    sign = text[:1] if text[:1] in ("@", "#") and text[1:2] in CLOSING_QUOTES else ""
    opening = text[len(sign) : len(sign) + 1]
    if opening not in _QUOTED:
        found = _PLAIN.match(text)
        assert found is not None
        return found[1], text[found.end() :]
    found = _QUOTED[opening].match(text, len(sign))
    if found is None:
        end = CLOSING_QUOTES[opening][0]
        raise UsageError(f"the quote at {safe_line(text.split()[0][:20])} does not end: put a {end} behind it")
    name = found[1].replace('""', '"') if opening == '"' else found[1].strip()
    return sign + name + (found[2] or ""), text[found.end() :]


def split_words(text: str) -> list[str]:
    """Return the words of a text, those in quotes without them. Raises UsageError for a quote that does not end."""
    words, rest = [], text.lstrip()
    while rest:
        word, rest = split_name(rest)
        words.append(word)
    return words


def _unquoted(rest: str) -> str:
    """Return the only name of a line: its blanks need no quotes, and may have them."""
    name, more = split_name(rest)
    return rest if more else name


def typed_name(name: str) -> str:
    """Return a name as it is typed before other arguments: in quotes if it has blanks or quotes."""
    is_odd = re.search(r'[\s"]', name) or not {name[:1], name[1:2]}.isdisjoint(CLOSING_QUOTES)
    return '"' + name.replace('"', '""') + '"' if is_odd else name


def _not_a_command(word: str) -> str:
    plain = unicodedata.normalize("NFKC", word[:40]).lower()
    begins = [name for name in NAMES if plain and name.startswith(plain)]
    near = next(iter(begins or get_close_matches(plain, NAMES, n=1, cutoff=0.5)), "")
    hint = f"did you mean /{near}?" if near else "/help lists them."
    return f"there is no command {'/' + word[:40]!r}: {hint} Nothing was sent; // begins a text with a slash"


def help_lines(word: str = "") -> list[str]:
    """Return the lines of /help, or of /help COMMAND."""
    name = word.strip().lstrip("/").lower()
    if not name:
        return _most_used() + _other_commands()
    command = BY_NAME.get(name)
    if command is None:
        raise UsageError(_not_a_command(name))
    also = f" (also {', '.join('/' + alias for alias in command.aliases)})" if command.aliases else ""
    return [
        f"{command.usage}{also}",
        f"    {command.help}",
        *(f"    {detail}" for detail in command.details),
        f"    for example: {command.example}",
    ]


def _most_used() -> list[str]:
    shown = [BY_NAME[name] for name in MOST_USED]
    width = max(len(command.example) for command in shown)
    return [
        "What you type goes to the current conversation, at first the room. For example:",
        *(f"  {command.example:<{width}}  {command.help}" for command in shown),
    ]


def _other_commands() -> list[str]:
    words = [f"/{command.word}" for command in TYPED if command.word not in MOST_USED]
    lines = textwrap.wrap(f"and {' '.join(words)}", HELP_COLUMNS, subsequent_indent="    ", break_on_hyphens=False)
    return [*lines, "/help COMMAND explains one of them; //TEXT sends a text that begins with a slash"]
