"""Command lines and variables into plain records, with click. What they say is checked here, what they name is not.

Options stand anywhere; each has a variable P2PCHAT_<OPTION>, which the command line overrides. Everything wrong is
one Usage error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.core import ParameterSource

from p2pchat.apps.cli.endpoints import parse_endpoint, parse_port
from p2pchat.apps.cli.exits import Usage
from p2pchat.apps.cli.words import (
    CHAT_OPTIONS,
    CHECK_OPTIONS,
    HISTORY_OPTIONS,
    INVITE_OPTIONS,
    Option,
    refuse_first_word,
)

_NAMES = {"json": "as_json", "open": "open_network"}  # options whose plain names mean something else in Python


@dataclass(slots=True)
class ChatOptions:
    """`p2pchat PORT [HOST:PORT ...]`. Empty strings mean not given; `drain` is seconds."""

    port: int = 0
    endpoints: tuple[str, ...] = ()
    name: str = ""
    host: str = "127.0.0.1"
    data: str = ""
    temp: bool = False
    db: str = ""
    key: str = ""
    invite: str = field(default="", repr=False)
    open_network: bool = False
    advertise: str = ""
    as_json: bool = False
    log: str = ""
    drain: float = 5.0
    stay: bool = False
    verbose: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def is_temporary(self) -> bool:
        """Whether identity and history go at the end."""
        return self.temp or (self.port == 0 and not self.data)


@dataclass(slots=True)
class WhichPeer:
    """Which profile a command reads: `data` a directory, else `port` (-1: not given), else the only one."""

    data: str = ""
    port: int = -1


@dataclass(slots=True)
class HistoryOptions:
    """`p2pchat history [TO]`.

    `db` "" is the profile's own, `to` "" everything; `limit` 0 no limit, `search` empty no search.
    """

    which: WhichPeer
    db: str = ""
    to: str = ""
    limit: int = 0
    since: datetime | None = None
    before: datetime | None = None
    search: tuple[str, ...] = ()
    as_json: bool = False


@dataclass(slots=True)
class InviteOptions:
    """`p2pchat invite`."""

    which: WhichPeer
    advertise: str = ""


@dataclass(slots=True)
class CheckOptions:
    """`p2pchat check`."""

    logs: tuple[str, ...]
    complete: bool = False


def parse_chat(argv: Sequence[str]) -> ChatOptions:
    """Read `[options] PORT [HOST:PORT ...]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = _parse("p2pchat", CHAT_OPTIONS, argv)
    if not words:
        raise Usage("which port? For example: p2pchat 8080 --name ada (--help shows more)")
    try:
        port = parse_port(words[0], "port", lowest=0)
    except Usage:
        raise refuse_first_word(words[0]) from None
    if given["temp"] and given["data"]:
        raise Usage("--temp and --data exclude each other: a profile is temporary or has a place")
    if given["as_json"] and given["plain"]:
        raise Usage("--json and --plain exclude each other")
    if given["open_network"] and given["invite"]:
        raise Usage("--open and --invite exclude each other: an invite says which network, and whether it is open")
    given.pop("plain")
    options = ChatOptions(**{name: value for name, value in given.items() if value is not None}, port=port)
    options.db = _database(options.db)
    options.drain = _seconds(given["drain"]) if given["drain"] is not None else 5.0
    options.endpoints = tuple(parse_endpoint(word) for word in words[1:])
    if options.advertise:
        options.advertise = parse_endpoint(options.advertise)
    options.warnings = tuple(_secrets_on_the_command_line(options, typed))
    return options


def _secrets_on_the_command_line(options: ChatOptions, typed: set[str]) -> Iterable[str]:
    if "invite" in typed and looks_like_invite(options.invite):
        yield "others on this machine can see the invite on the command line: use --invite -, a file or P2PCHAT_INVITE"
    if "db" in typed and "@" in options.db and ":" in options.db.partition("://")[2].rpartition("@")[0]:
        yield "others on this machine can see the password on the command line: use P2PCHAT_DB"


def looks_like_invite(text: str) -> bool:
    """Whether this is an invite itself, not the name of a file with one."""
    return "".join(text.split()).lower().startswith("p2pchat:")


def parse_history(argv: Sequence[str], now: datetime) -> HistoryOptions:
    """Read `history [TO] [options]`; `now` (aware) is what "90m ago" counts from.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, _ = _parse("p2pchat history", HISTORY_OPTIONS, argv)
    if len(words) > 1:
        raise Usage(f"history takes one conversation, these are {len(words)}; a name with blanks stands in quotes")
    limit = given["limit"]
    if limit is not None and not (limit.isascii() and limit.isdecimal() and int(limit) > 0):
        raise Usage(f"--limit {limit!a} is no number above 0")
    return HistoryOptions(
        which=_which(given),
        db=_database(given["db"]),
        to=words[0] if words else "",
        limit=int(limit or 0),
        since=_time("--since", given["since"], now),
        before=_time("--before", given["before"], now),
        search=tuple((given["search"] or "").split()),
        as_json=given["as_json"],
    )


def parse_invite_command(argv: Sequence[str]) -> InviteOptions:
    """Read `invite [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, _ = _parse("p2pchat invite", INVITE_OPTIONS, argv)
    if words:
        raise Usage(f"invite takes no words, only options; {words[0]!a} is one too many")
    return InviteOptions(_which(given), parse_endpoint(given["advertise"]) if given["advertise"] else "")


def parse_check(argv: Sequence[str]) -> CheckOptions:
    """Read `check LOG...`.

    Raises:
        Usage: There is no log.
    """
    words, given, _ = _parse("p2pchat check", CHECK_OPTIONS, argv)
    if not words:
        raise Usage("which logs? For example: p2pchat check ada.jsonl bob.jsonl")
    return CheckOptions(tuple(words), given["complete"])


def parse_plain_words(command: str, argv: Sequence[str]) -> list[str]:
    """Read the words of a command without options.

    Raises:
        Usage: An option was given.
    """
    return _parse(f"p2pchat {command}", (), argv)[0]


def _which(given: dict[str, Any]) -> WhichPeer:
    port = given["port"]
    return WhichPeer(given["data"] or "", -1 if port is None else parse_port(port, "port"))


def _database(url: str | None) -> str:
    scheme, colon, _ = (url or "").partition("://")
    if colon and scheme.partition("+")[0] not in ("sqlite", "memory"):
        raise Usage(f"this version does not have {scheme} databases yet: use sqlite:////absolute/path")
    return url or ""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:  # nan fails too
        raise Usage(f"--drain {text!a} is no number of seconds")
    return seconds


def _time(option: str, text: str | None, now: datetime) -> datetime | None:
    """Return an aware time; one without a zone is local."""
    if not text:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
    if text[:-1].isascii() and text[:-1].isdecimal() and text[-1] in units:
        try:
            return now - timedelta(seconds=int(text[:-1]) * units[text[-1]])
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError, OSError):
        raise Usage(f"{option} {text!a} is no time: write 2026-11-20, 2026-11-20T08:30, or 90m, 12h, 7d") from None


def _parse(what: str, options: Iterable[Option], argv: Sequence[str]) -> tuple[list[str], dict[str, Any], set[str]]:
    """Return words, values by name, and the names of options that stood on the command line."""
    params: list[click.Parameter] = [click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)]
    for option in options:
        name = _parameter(option)
        is_flag = not option.takes
        params.append(
            click.Option(
                [*option.flags, name], is_flag=is_flag, envvar=option.variable, default=False if is_flag else None
            )
        )
    command = click.Command(what, params=params, add_help_option=False)
    try:
        context = command.make_context(what, list(argv))
    except click.UsageError as error:
        raise Usage(error.format_message().rstrip(".") + " (--help lists the options)") from None
    values = dict(context.params)
    words = list(values.pop("words"))
    typed = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for option in options:
        if values[_parameter(option)] == "" and _parameter(option) in typed:
            raise Usage(f"{option.flags[-1]} is empty: give it a value, or leave it out")
    return words, values, typed


def _parameter(option: Option) -> str:
    plain = option.name.replace("-", "_")
    return _NAMES.get(plain, plain)
