"""Typed lines: what a person or a pipe writes, parsed into what is meant. Nothing is done here.

A line is text for the current conversation unless it begins with a slash; `//` begins a text that starts with one.
COMMANDS is the whole list: /help, completion and the table in docs/cli.md are made of it. A command that there is not
is an error that names the nearest: what somebody mistyped is never sent.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from difflib import get_close_matches

from p2pchat.commands.errors import UsageError
from p2pchat.commands.settings import INHERIT, SETTINGS, Setting


@dataclass(frozen=True, slots=True)
class TypedCommand:
    """One typed command.

    Attributes:
        arguments: As shown; the last takes the rest of the line, blanks too.
        summary: One line that says what it does.
        example: One whole line as somebody types it.
        others: Its other names.
        least, most: How many arguments it takes.
        many: The last may stand several times: every further word is a name.
        kinds: What each argument is, for completion: user, conversation, command, setting, endpoint, or "".
        details: Further lines of /help COMMAND.
    """

    name: str
    arguments: str
    summary: str
    example: str
    others: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    many: bool = False
    kinds: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()


def _per_conversation_note(setting: Setting) -> str:
    return ", also for one conversation" if setting.by_conversation else ""


_NUMBERS = "N is a number that /history or /search showed, until you say something"
COMMANDS = (
    TypedCommand(
        "msg", "NAME TEXT", "write to one user, who gets it also when away now", "/msg bob see you at ten",
        others=("dm",), least=2, most=2, kinds=("user", ""),
        details=('a name with blanks stands in "": /msg "Anna Maria" hi',),
    ),
    TypedCommand(
        "go", "[CONVERSATION]", "send what follows there; alone: the room", "/go bob",
        others=("join", "query"), most=1, kinds=("conversation",),
        details=(
            "a conversation is `room`, a name, or a name with its id: bob#K7QF2M3P",
            "@bob is a user, #ops a group; bob is whichever of them there is",
        ),
    ),
    TypedCommand(
        "group", "NAME [MEMBER...]", "make a group of these people and you, and go there", "/group ops bob carol",
        least=1, most=2, many=True, kinds=("", "user"),
        details=("members who are away get everything later", "one never met is named by the full id"),
    ),
    TypedCommand(
        "add", "NAME...", "take people into the group you are in", "/add dave",
        least=1, most=1, many=True, kinds=("user",), details=("they get all that was said in it before",),
    ),
    TypedCommand(
        "kick", "NAME...", "remove people from the group you are in", "/kick mallory",
        least=1, most=1, many=True, kinds=("member",),
        details=("what they write there from then on nobody is shown; what they wrote stays",),
    ),
    TypedCommand(
        "leave", "", "leave the group you are in", "/leave", others=("part",),
        details=("whose it is hands it over first: /owner NAME",),
    ),
    TypedCommand("rename", "NAME", "give the group you are in another name", "/rename night-shift",
        least=1, most=1, kinds=("",)),
    TypedCommand("owner", "NAME", "hand the group you are in over to another member", "/owner bob",
        least=1, most=1, kinds=("member",)),
    TypedCommand("members", "", "who belongs to the group you are in", "/members"),
    TypedCommand(
        "list", "[all]", "your conversations, with what is unread", "/list", most=1, kinds=("",),
        details=(
            "of very many those with something unread, and those written to last",
            "/list all shows every one, by name",
        ),
    ),
    TypedCommand(
        "who", "[all]", "who is known, who is here, and since when", "/who", others=("names",), most=1, kinds=("",),
        details=("all who are here, and of very many others some; /who all shows every one",),
    ),
    TypedCommand("whois", "NAME", "what is known of one user, with the id", "/whois bob",
        least=1, most=1, kinds=("user",)),
    TypedCommand("me", "TEXT", "say what you do, as in: * ada waves", "/me waves", least=1, most=1, kinds=("",)),
    TypedCommand("nick", "NAME", "take another name", "/nick Ada", least=1, most=1, kinds=("",)),
    TypedCommand(
        "about", "[TEXT]", "tell others something about yourself; alone: what you tell", "/about on call this week",
        most=1, kinds=("",),
        details=("/whois shows it, also when you are away; /about - tells nothing any more",),
    ),
    TypedCommand(
        "reply", "[N] TEXT", "answer the newest message of another here, or line N", "/reply yes, at ten",
        least=1, most=1, kinds=("",),
        details=("others see which message you answer", _NUMBERS),
    ),
    TypedCommand(
        "edit", "[N] TEXT", "have your last message here, or line N, say something else", "/edit at eleven, not at ten",
        least=1, most=1, kinds=("",),
        details=("everybody sees the new text, and that it was edited; logs keep the former", _NUMBERS),
    ),
    TypedCommand(
        "delete", "[N]", "take back your last message here, or line N", "/delete", most=1, kinds=("",),
        details=("nobody is shown its text any more; the logs of all who have it keep it", _NUMBERS),
    ),
    TypedCommand(
        "react", "[N] [TEXT]", "react to the newest message of another here, or to line N", "/react +1",
        most=1, kinds=("",),
        details=("at most 8 characters, instead of your former ones; without any: taken back", _NUMBERS),
    ),
    TypedCommand(
        "history", "[N]", "the last N messages here (20), with numbers", "/history 50", most=1, kinds=("",),
    ),
    TypedCommand(
        "search", "WORDS", "the newest messages here with all these words in them", "/search backup failed",
        least=1, most=1, kinds=("",),
        details=(
            '"backup failed" finds these words in a row, fail finds failed too',
            "from:bob narrows it to what bob wrote",
            "capitals and accents make no difference; at most 50 messages",
        ),
    ),
    TypedCommand(
        "receipts", "[N]", "who has your last N messages here (5), who lacks them", "/receipts",
        most=1, kinds=("",),
        details=("delivered means: on the disk of that user's peer",),
    ),
    TypedCommand(
        "away", "[TEXT]", "tell others that you are away; alone: that you are back", "/away lunch, back at one",
        most=1, kinds=("",),
    ),
    TypedCommand("back", "", "tell others that you are back", "/back"),
    TypedCommand(
        "set", "[NAME [VALUE [CONVERSATION]]]", "how things are shown and told; alone: all settings", "/set joins off",
        most=3, kinds=("setting", "", "conversation"),
        details=(
            *(f"{one.name} {'|'.join(one.values)}{_per_conversation_note(one)}" for one in SETTINGS),
            f"/set typing off bob: for bob alone; {INHERIT} ends that",
            "kept for this profile",
        ),
    ),
    TypedCommand("invite", "", "the invite to this network, and the command for the other machine", "/invite"),
    TypedCommand(
        "connect", "HOST:PORT", "link with a peer; knowing one is enough", "/connect 192.168.1.20:8080",
        least=1, most=1, kinds=("endpoint",),
    ),
    TypedCommand(
        "forget", "PEER", "dial a peer no more: a name, an id or HOST:PORT", "/forget 192.168.1.20:8080",
        least=1, most=1, kinds=("user",),
        details=("a link that is up stays until it ends; what was written stays too",),
    ),
    TypedCommand(
        "ignore", "[NAME]", "show nothing more of this user; alone: who is ignored", "/ignore mallory",
        most=1, kinds=("user",),
        details=("by id, so another name does not help; --json and --log have everything still",),
    ),
    TypedCommand("unignore", "NAME", "show this user again", "/unignore mallory", least=1, most=1, kinds=("user",)),
    TypedCommand(
        "allow", "NAME", "store all this user writes, also above the limit", "/allow bob",
        least=1, most=1, kinds=("user",),
        details=("a warning says who has reached the limit; what was refused comes then",),
    ),
    TypedCommand("clear", "", "empty the screen; in a terminal", "/clear"),
    TypedCommand("help", "[COMMAND]", "the commands, or one of them", "/help msg", most=1, kinds=("command",)),
    TypedCommand("quit", "", "say goodbye and leave", "/quit", others=("exit",)),
)  # fmt: skip
BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.others)}
MOST_USED = ("msg", "go", "list", "who", "reply", "history", "search", "quit")
HELP_COLUMNS = 78  # so wide are the lines of /help

_UNSEEN = re.compile(r"\A[\s\u200b-\u200f\u2060\ufeff]+")  # blanks, and what some programs put before the first line
_SLASHES = "/\uff0f\u2044\u2215\u29f8"  # and what is drawn like one
_COMMAND = re.compile(r"/\s*(\S*)\s*(.*)", re.DOTALL)
_NAME = re.compile(r'(@?)"((?:[^"]|"")*)"(#\S*)?(?:\s+|$)|(\S+)(?:\s+|$)')


@dataclass(frozen=True, slots=True)
class TextInput:
    """Text for the current conversation."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommandInput:
    """A command by its first name, and its arguments."""

    name: str
    arguments: tuple[str, ...] = field(default=(), repr=False)


def parse_line(line: str) -> TextInput | CommandInput | None:
    """Return what one typed line means; None for a blank one.

    Raises:
        Usage: It begins with a slash and is no command of this version, or lacks an argument; or it would be a
            command if it began with its slash.
    """
    if not line.strip():
        return None
    if line.startswith("//"):
        return TextInput(line[1:])
    if not line.startswith("/"):
        _refuse_almost_a_command(line)
        return TextInput(line)
    word, rest = _split(line)
    if line[1:2].isspace():
        _refuse_almost_a_command(line)
        word = ""
    command = BY_NAME.get(word.lower())
    if command is None:
        raise UsageError(_not_a_command(word))
    return CommandInput(command.name, _arguments(command, rest))


def _split(line: str) -> tuple[str, str]:
    found = _COMMAND.fullmatch(line)
    return (found[1], found[2].rstrip()) if found else ("", "")


def _refuse_almost_a_command(line: str) -> None:
    """Raise Usage where what cannot be seen, or another kind of slash, is all that keeps this from being a command."""
    start = _UNSEEN.sub("", line)
    if start[:1] and start[0] in _SLASHES and (word := _split("/" + start[1:])[0].lower()):
        plain = unicodedata.normalize("NFKC", word)
        if plain in BY_NAME:
            raise UsageError(
                f"did you mean /{plain}? A command is a plain slash and a word, where the line begins. Nothing was "
                "sent; // begins a text with a slash"
            )


def _arguments(command: TypedCommand, rest: str) -> tuple[str, ...]:
    parts: list[str] = []
    while rest and (command.many or len(parts) < command.most - 1):
        name, rest = split_name(rest)
        parts.append(name)
    if rest:
        parts.append(_unquoted(rest) if _is_name(command, len(parts)) else rest)
    is_enough = command.least <= len(parts) and (command.many or len(parts) <= command.most)
    if not (is_enough and all(parts)):  # "" is nobody's name
        example = f", for example {command.example}" if command.arguments else ""
        raise UsageError(f"usage: {command.usage}{example}")
    return tuple(parts)


def _is_name(command: TypedCommand, position: int) -> bool:
    words = command.arguments.split()[position : position + 1]
    return any(word.strip("[]") in ("NAME", "CONVERSATION", "PEER") for word in words)


def split_name(text: str) -> tuple[str, str]:
    """Split off the first name: up to a blank, or what stands in double quotes; `"Anna Maria"#K7QF2M3P` is one.

    A double quote in a name in quotes is doubled.
    """
    found = _NAME.match(text)
    if found is None:
        return "", ""
    name = found[4] or found[1] + found[2].replace('""', '"') + (found[3] or "")
    return name, text[found.end() :]


def _unquoted(rest: str) -> str:
    """Return a name that stands alone: its blanks need no quotes, and may have them."""
    name, more = split_name(rest)
    return rest if more else name


def typed_name(name: str) -> str:
    """Return a name as it is typed where others follow it: in quotes when it has blanks, or quotes of its own."""
    return '"' + name.replace('"', '""') + '"' if re.search(r'[\s"]', name) else name


def _not_a_command(word: str) -> str:
    near = _nearest(unicodedata.normalize("NFKC", word[:40]).lower())
    hint = "/help lists them." if not near else f"did you mean /{near}?"
    return f"there is no command {'/' + word[:40]!a}: {hint} Nothing was sent; // begins a text with a slash"


def _nearest(word: str) -> str:
    """Return the command that begins so, or else the one that is spelled most like it; "" for none."""
    known = [*(command.name for command in COMMANDS), *BY_NAME]
    begins = [name for name in known if word and name.startswith(word)]
    return next(iter(begins or get_close_matches(word, known, n=1, cutoff=0.5)), "")


# /help


def help_lines(word: str = "") -> list[str]:
    """Return the lines of /help, or of /help COMMAND.

    Raises:
        Usage: There is no such command.
    """
    name = word.strip().lstrip("/").lower()
    if not name:
        return _most_used() + _other_commands()
    command = BY_NAME.get(name)
    if command is None:
        raise UsageError(_not_a_command(name))
    also = f" (also {', '.join('/' + other for other in command.others)})" if command.others else ""
    return [
        f"{command.usage}{also}",
        f"    {command.summary}",
        *(f"    {detail}" for detail in command.details),
        f"    for example: {command.example}",
    ]


def _most_used() -> list[str]:
    shown = [BY_NAME[name] for name in MOST_USED]
    width = max(len(command.example) for command in shown)
    return [
        "What you type goes to the current conversation, at first the room. For example:",
        *(f"  {command.example:<{width}}  {command.summary}" for command in shown),
    ]


def _other_commands() -> list[str]:
    words = [f"/{command.name}" for command in COMMANDS if command.name not in MOST_USED]
    lines = ["and"]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > HELP_COLUMNS:
            lines.append("   ")
        lines[-1] += f" {word}"
    return [*lines, "/help COMMAND says more of one; //TEXT sends a text that begins with a slash"]
