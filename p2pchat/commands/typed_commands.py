"""Typed lines, parsed into texts and commands. Nothing is executed here.

A line is a text for the current conversation unless it begins with a slash; `//` begins a text with a slash. COMMANDS
is the complete list: /help, completion and the table in docs/cli.md are generated from it. An unknown command is an
error that names the nearest one: a mistyped command is never sent as a text.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import takewhile

from p2pchat.commands.chat_settings import INHERIT, SETTINGS, Setting
from p2pchat.commands.exit_codes import UsageError


@dataclass(frozen=True, slots=True)
class TypedCommand:
    """One typed command.

    Attributes:
        arguments: As shown in /help; the last takes the rest of the line with its blanks.
        summary: One line that says what it does.
        example: A whole line as typed.
        aliases: Its other names.
        named_kinds: The kinds of the arguments, where their words do not tell.
        details: Further lines of /help COMMAND.
        asks: It may ask before it does something that cannot be undone. YES at the end of its line answers that.
    """

    name: str
    arguments: str
    summary: str
    example: str
    aliases: tuple[str, ...] = ()
    named_kinds: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    asks: bool = False

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()

    @property
    def words(self) -> list[str]:
        """One word for each argument, in brackets if it may be left out. A number before a text is a part of it."""
        return re.sub(r"^\[(N|-a)\] (?=.)", "", self.arguments).split()

    @property
    def least(self) -> int:
        """The number of arguments that are needed."""
        return sum(not word.startswith("[") for word in self.words)

    @property
    def most(self) -> int:
        return len(self.words)

    @property
    def many(self) -> bool:
        """True if the last argument is repeated: each further word is a name."""
        return "..." in self.arguments

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each argument, for completion; "" for a text."""
        return self.named_kinds or tuple(_KINDS.get(word.strip("[.]"), "") for word in self.words)


_KINDS = {
    "NAME": "user", "PEER": "user", "CONVERSATION": "conversation", "COMMAND": "command", "HOST:PORT": "endpoint",
}  # fmt: skip


def _per_conversation_note(setting: Setting) -> str:
    return ", also for one conversation" if setting.by_conversation else ""


YES = "--yes"
_SAYS_YES = f"{YES} at the end of the line answers what it asks"
_NUMBERS = "N is a number of /history or /search, valid until you send a message"
_OR_TEXT = "0 before a text that begins with a number says that it is no N"
COMMANDS = (
    TypedCommand(
        "msg", "NAME [TEXT]", "message one person (delivered later if they're away)", "/msg bob see you at ten",
        aliases=("dm",),
        details=("with no text: switch there, as /go does", 'quote a name with blanks: /msg "Anna Maria" hi'),
    ),
    TypedCommand(
        "go", "[CONVERSATION]", "switch to this conversation; with no name: the room", "/go bob",
        aliases=("join", "query"),
        details=(
            "a conversation is `room`, a name, or a name with its id: bob#K7QF2M3P",
            "@bob is a user, #ops a group; bob is whichever of them exists",
        ),
    ),
    TypedCommand(
        "group", "NAME [MEMBER...]", "create a group with these people, and go there", "/group ops bob carol",
        named_kinds=("", "user"),
        details=("members who are offline get everything later", "name people you never met by their full id"),
    ),
    TypedCommand(
        "add", "NAME...", "add people to the current group", "/add dave",
        details=("they get its whole history",),
    ),
    TypedCommand(
        "kick", "NAME...", "remove people from the current group", "/kick mallory",
        named_kinds=("member",),
        details=("what they write there later is shown to nobody; earlier messages stay",),
    ),
    TypedCommand(
        "leave", "", "leave the current group", "/leave", aliases=("part",),
        details=("its owner hands it over first: /owner NAME", _SAYS_YES), asks=True,
    ),
    TypedCommand("rename", "NAME", "rename the current group", "/rename night-shift", named_kinds=("",)),
    TypedCommand("owner", "NAME", "make another member the owner of the current group", "/owner bob",
        named_kinds=("member",)),
    TypedCommand("members", "", "list the members of the current group", "/members"),
    TypedCommand(
        "list", "[-a]", "your conversations, with unread counts", "/list",
        details=(
            "if there are very many: those with unread messages, and the latest",
            "/list -a shows every one, by name",
        ),
    ),
    TypedCommand(
        "who", "[-a]", "who is here and with whom you talk, and since when", "/who", aliases=("names",),
        details=("/who -a shows everyone known: programs that ran once, closed accounts",),
    ),
    TypedCommand("whois", "NAME", "details about one person, with their id", "/whois bob"),
    TypedCommand("me", "TEXT", "say what you do, as in: * ada waves", "/me waves"),
    TypedCommand("nick", "NAME", "change your name", "/nick Ada", named_kinds=("",)),
    TypedCommand(
        "about", "[TEXT]", "say something about yourself; with no text: show it", "/about on call this week",
        details=("others see it with /whois, also while you are offline; /about - removes it",),
    ),
    TypedCommand(
        "reply", "[N] TEXT", "reply to the message shown last, or to line N", "/reply yes, at ten",
        details=("it goes where that message came, also if it was private", _NUMBERS, _OR_TEXT),
    ),
    TypedCommand(
        "edit", "[N] TEXT", "edit what you wrote last, or line N", "/edit at eleven, not at ten",
        details=("everyone sees the new text as edited; the original stays in everyone's log", _NUMBERS, _OR_TEXT),
    ),
    TypedCommand(
        "delete", "[N]", "delete what you wrote last, or line N", "/delete",
        details=("asks first; the text is no longer shown, but stays in everyone's log", _NUMBERS, _SAYS_YES),
        asks=True,
    ),
    TypedCommand(
        "delete-conversation", "[CONVERSATION]", "delete what is stored here of a conversation",
        "/delete-conversation bob",
        details=(
            "asks first; with no name: the current one. The others keep theirs",
            "your messages that nobody else has yet stay, and new ones come as before",
            "`p2pchat delete` can delete what one person wrote, or what is older",
            _SAYS_YES,
        ),
        asks=True,
    ),
    TypedCommand(
        "react", "[N] [TEXT]", "react to the message shown last, or to line N", "/react +1",
        details=("at most 8 characters; replaces your reaction, and without text removes it", _NUMBERS, _OR_TEXT),
    ),
    TypedCommand(
        "send", "FILE [TEXT]", "send a file to the current conversation", "/send plan.pdf the plan",
        named_kinds=("file", ""),
        details=(
            "Tab completes the path; quote blanks, or drop the file onto the terminal",
            "several files: their full paths, one after the other",
            "a large one is copied first; /send stop ends that, and it is not sent",
        ),
    ),
    TypedCommand(
        "get", "[FILE] [PATH]", "save a file; with nothing behind it: the newest one here", "/get 3",
        named_kinds=("shown file", "file"),
        details=(
            "FILE is the number behind it, as in /files, or its name",
            "PATH is a directory or file; without: Downloads, or where p2pchat started",
            "/get stop ends it; what has come stays, and /get goes on there",
            "asks before it replaces a file",
            _SAYS_YES,
        ),
        asks=True,
    ),
    TypedCommand("files", "[N]", "the last N files here (10), with their numbers", "/files"),
    TypedCommand("history", "[N]", "the last N messages here (20), with numbers", "/history 50"),
    TypedCommand(
        "search", "[-a] WORDS", "the newest messages here that contain all these words", "/search backup failed",
        details=(
            "/search -a finds them in all conversations",
            '"backup failed" finds the exact phrase; fail also finds failed',
            "from:bob finds only messages of bob",
            "case and accents do not matter; at most 50 messages",
        ),
    ),
    TypedCommand(
        "receipts", "[N]", "who has your last N messages here (5), and who lacks them", "/receipts",
        details=("delivered means: on the disk of that user's peer",),
    ),
    TypedCommand(
        "away", "[TEXT]", "tell others that you are away; with no text: that you are back",
        "/away lunch, back at one",
    ),
    TypedCommand("back", "", "tell others that you are back", "/back"),
    TypedCommand(
        "set", "[NAME [VALUE [CONVERSATION]]]", "change a setting; with no name: show all settings", "/set joins off",
        named_kinds=("setting", "value", "conversation"),
        details=(
            *(f"{one.name} {'|'.join(one.values)}{_per_conversation_note(one)}" for one in SETTINGS),
            f"/set typing off bob: only with bob; {INHERIT} ends that",
            "settings are saved with this profile",
        ),
    ),
    TypedCommand("invite", "", "show the invite to this network, and the command to join it", "/invite"),
    TypedCommand(
        "connect", "HOST:PORT", "connect to a peer; one is enough to join its network", "/connect 192.168.1.20:8080",
    ),
    TypedCommand(
        "forget", "PEER", "stop connecting to a peer: a name, an id or HOST:PORT", "/forget 192.168.1.20:8080",
        details=("a link that is up stays until it ends; messages stay too",),
    ),
    TypedCommand(
        "ignore", "[NAME]", "hide this person's messages; with no name: list who is ignored", "/ignore mallory",
        details=("by id, so a new name does not help; --json and --log still have everything",),
    ),
    TypedCommand("unignore", "NAME", "show this person's messages again", "/unignore mallory"),
    TypedCommand(
        "requests", "", "who wrote to you that you do not know, and waits", "/requests",
        details=(
            "of each peer the first 3 such people are shown; others wait here, 30 days",
            "nothing of them is shown or counted until you /accept or write to them",
            "/set requests known: all wait; /set requests all: none",
        ),
    ),
    TypedCommand(
        "accept", "NAME", "show what this person wrote to you, and will write", "/accept carol",
        details=("writing to somebody does the same", "/accept #ops: fetch a group that waits, and know its owner"),
    ),
    TypedCommand(
        "decline", "#GROUP", "take a group that waits off /requests, for good", "/decline #ops",
        details=("its members are not told",),
    ),
    TypedCommand(
        "block", "[NAME]", "take nothing of this person; with no name: list who is blocked", "/block mallory",
        details=(
            "no link, no presence, no message is stored; what is stored is hidden",
            "nobody is told: messages to you stay undelivered",
        ),
    ),
    TypedCommand("unblock", "NAME", "take everything of this person again, and what was missed", "/unblock mallory"),
    TypedCommand(
        "allow", "NAME", "store everything this person writes, without a limit", "/allow bob",
        details=("a warning says who reached the limit; messages that were refused arrive then",),
    ),
    TypedCommand("clear", "", "clear the screen (terminal only)", "/clear"),
    TypedCommand("help", "[COMMAND]", "list the commands, or explain one", "/help msg"),
    TypedCommand(
        "quit", "[TEXT]", "leave the chat", "/quit", aliases=("exit",),
        details=("the text is sent to nobody: others see that you left",),
    ),
)  # fmt: skip
BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}
MOST_USED = ("msg", "go", "list", "who", "reply", "send", "history", "search", "quit")
NAMES = tuple(dict.fromkeys([*MOST_USED, *(command.name for command in COMMANDS), *BY_NAME]))  # as they are offered
HELP_COLUMNS = 78  # width of /help

_SLASHES = "/\uff0f\u2044\u2215\u29f8"  # and characters that look like one
_COMMAND = re.compile(r"/\s*(\S*)\s*(.*)", re.DOTALL)
_NAME = re.compile(r'([@#]?)"((?:[^"]|"")*)"(#\S*)?(?:\s+|$)|(\S+)(?:\s+|$)')


@dataclass(frozen=True, slots=True)
class TextInput:
    """Text for the current conversation."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommandInput:
    """A command by its first name, and its arguments; `yes`: its line answers what it would ask."""

    name: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    yes: bool = False


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
    yes = command.asks and rest.split()[-1:] == [YES]
    if yes:
        rest = rest.removesuffix(YES).rstrip()
    return CommandInput(command.name, _arguments(command, rest), yes)


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


def _arguments(command: TypedCommand, rest: str) -> tuple[str, ...]:
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
        example = f", for example {command.example}" if command.arguments else ""
        raise UsageError(f"usage: {command.usage}{example}")
    return tuple(parts)


def _is_name(command: TypedCommand, position: int) -> bool:
    return any(word.strip("[]") in ("NAME", "CONVERSATION", "PEER") for word in command.words[position : position + 1])


def split_name(text: str) -> tuple[str, str]:
    """Split off the first name: up to a blank, or in double quotes; `"Anna Maria"#K7QF2M3P` is one name.

    The sign of a group may stand before or within the quotes. A double quote within a quoted name is doubled.
    """
    found = _NAME.match(text)
    if found is None:
        return "", ""
    name = found[4] or found[1] + found[2].replace('""', '"') + (found[3] or "")
    return name, text[found.end() :]


def _unquoted(rest: str) -> str:
    """Return the only name of a line: its blanks need no quotes, and may have them."""
    name, more = split_name(rest)
    return rest if more else name


def typed_name(name: str) -> str:
    """Return a name as it is typed before other arguments: in quotes if it has blanks or quotes."""
    return '"' + name.replace('"', '""') + '"' if re.search(r'[\s"]', name) else name


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
    lines = textwrap.wrap(f"and {' '.join(words)}", HELP_COLUMNS, subsequent_indent="    ")
    return [*lines, "/help COMMAND explains one of them; //TEXT sends a text that begins with a slash"]
