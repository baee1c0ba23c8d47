"""Command lines and variables into words and values, with click. What they say is checked here, what they name is not.

Options stand anywhere; each has a variable P2PCHAT_<OPTION>, which the command line overrides. Everything wrong is
one Usage error. What a command makes of its values stands with the command.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from p2pchat import home_directory, inspect_profile, known_profiles, profile_directory
from p2pchat.cli.command_table import Command, Option
from p2pchat.commands.endpoints import LOOPBACK, command, parse_port
from p2pchat.commands.errors import CommandError, UsageError, print_error
from p2pchat.commands.invites import looks_like_invite

if TYPE_CHECKING:
    from p2pchat import Settings, TCPPeer
    from p2pchat.cli.chat.startup import ChatOptions


DATABASES = ("sqlite", "memory", "mysql", "mariadb", "postgresql", "postgres")
PASSWORD_VISIBLE = "others on this machine can see the password on the command line: use P2PCHAT_DB"

_NAMES = {"json": "as_json", "open": "open_network", "import": "import_"}  # names that mean something else in Python


@dataclass(slots=True)
class ProfileChoice:
    """Which profile a command reads: `data` a directory, else `port` (-1: not given), else the only one."""

    data: str = ""
    port: int = -1


def parse_words(command: Command, argv: Sequence[str]) -> tuple[list[str], dict[str, Any], set[str]]:
    """Return the words of a command line, the values of all options by name (None or False: not given), and the names
    of those that stood on the command line and not in a variable.

    Raises:
        Usage: There is no such option, or its value is missing.
    """
    what, options = f"p2pchat {command.name}".rstrip(), command.options
    params: list[click.Parameter] = [click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)]
    for option in options:
        name = _parameter(option)
        is_flag = not option.takes
        params.append(
            click.Option(
                [*option.flags, name], is_flag=is_flag, envvar=option.variable, default=False if is_flag else None
            )
        )
    parser = click.Command(what, params=params, add_help_option=False)
    try:
        context = parser.make_context(what, list(argv))
    except click.UsageError as error:
        raise UsageError(error.format_message().rstrip(".") + " (--help lists the options)") from None
    values = dict(context.params)
    words = list(values.pop("words"))
    typed = {name for name in values if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for option in options:
        if values[_parameter(option)] == "" and _parameter(option) in typed:
            raise UsageError(f"{option.flags[-1]} is empty: give it a value, or leave it out")
    return words, values, typed


def _parameter(option: Option) -> str:
    plain = option.name.replace("-", "_")
    return _NAMES.get(plain, plain)


def which_peer(given: dict[str, Any], typed: Collection[str] = ("data", "port")) -> ProfileChoice:
    """Return which peer `--data` and `--port` of these values mean.

    Args:
        typed: Which of them stood on the command line: a --port there counts more than a P2PCHAT_DATA.
    Raises:
        Usage: That is no port.
    """
    port, data = given["port"], given["data"] or ""
    if port is not None and "port" in typed and "data" not in typed:
        data = ""
    return ProfileChoice(data, -1 if port is None else parse_port(port, "port"))


def database_url(url: str | None) -> str:
    """Return a --db as it is, "" for none. Raises Usage for a kind that no version has; the rest is never shown."""
    scheme, colon, _ = (url or "").partition("://")
    if colon and scheme.partition("+")[0] not in DATABASES:
        known = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://"
        raise UsageError(f"there are no {scheme!a} databases here: write {known}")
    return url or ""


def database_of(given: dict[str, Any], typed: Collection[str]) -> str:
    """Return the --db of a command, "" for none; complains of a password that others can see."""
    url = database_url(given["db"])
    if "db" in typed and has_password(url):
        print_error(PASSWORD_VISIBLE)
    return url


def has_password(url: str) -> bool:
    """Whether a database URL holds a password."""
    authority, _, query = url.partition("://")[2].partition("?")
    return ":" in authority.rpartition("@")[0] or "passw" in query


def parse_seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:  # nan fails too
        raise UsageError(f"{option} {text!a} is no number of seconds")
    return seconds


def parse_time(option: str, text: str | None, now: datetime) -> datetime | None:
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
        raise UsageError(f"{option} {text!a} is no time: write 2026-11-20, 2026-11-20T08:30, or 90m, 12h, 7d") from None


# ---- peeroptions
#
# What a command line says of a peer that is to run, and that peer: the same for `p2pchat PORT` and `p2pchat web`.


@dataclass(slots=True)
class PeerOptions:
    """Empty strings mean not given; `port` 0 is any free one, with a temporary profile where no `data` is named."""

    port: int = 0
    endpoints: tuple[str, ...] = ()
    name: str = ""
    host: str = LOOPBACK
    data: str = ""
    temp: bool = False
    db: str = field(default="", repr=False)
    key: str = ""
    invite: str = field(default="", repr=False)
    open_network: bool = False
    advertise: str = ""
    discover: bool = False

    @property
    def is_temporary(self) -> bool:
        """Whether identity and history go at the end."""
        return self.temp or (self.port == 0 and not self.data)

    def secrets_on_the_command_line(self, typed: Collection[str]) -> Iterator[str]:
        """Warn of what others on this machine can see; `typed` are the options that stood on the command line."""
        if "invite" in typed and looks_like_invite(self.invite):
            yield (
                "others on this machine can see the invite on the command line: "
                "use --invite -, a file or P2PCHAT_INVITE"
            )
        if "db" in typed and has_password(self.db):
            yield PASSWORD_VISIBLE


def make_peer(options: PeerOptions, invite: str | None, settings: Settings) -> TCPPeer:
    """Return the peer, not started.

    Args:
        invite: The text of the invite that the options name, read by now.
    Raises:
        Usage: No peer can be like that.
    """
    from p2pchat import TCPPeer

    try:
        return TCPPeer(
            options.port,
            *options.endpoints,
            name=options.name or None,
            host=options.host,
            data=options.data or None,
            temporary=options.temp,
            key=options.key or None,
            db=options.db or None,
            invite=invite,
            open=options.open_network,
            advertise=options.advertise or None,
            discover=options.discover,
            settings=settings,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


# ---- ports
#
# Ports of this machine: which are free for one more peer.


FIRST_PORT = 8080
MOST_TRIED = 200  # who has that many taken names one


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """Return the first port from 8080 on where this machine lets us listen.

    Raises:
        Failure: None of the first 200 is free.
    """
    for port in range(FIRST_PORT, FIRST_PORT + MOST_TRIED):
        if port not in taken and is_free(host, port):
            return port
    raise CommandError(f"no port from {FIRST_PORT} to {FIRST_PORT + MOST_TRIED - 1} is free: name one, p2pchat PORT")


def next_port(port: int, host: str = LOOPBACK) -> int:
    """Return the next port that a further peer of this machine could have; `port` + 1 when nothing is known of it."""
    taken = {int(directory.name) for directory in known_profiles()} | {port}
    ahead = range(port + 1, min(port + MOST_TRIED, 65536))
    return next((one for one in ahead if one not in taken and is_free(host, one)), port + 1)


def is_free(host: str, port: int) -> bool:
    """Whether a peer could listen there now."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True  # no such address: starting says so, better than we could
    for family, kind, protocol, _, address in places:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # as asyncio does: what is closed but lingers is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError:
                return False
    return True


# ---- profiles
#
# Which peer a command is about: --data, else --port, else the only profile there is.


MOST_LISTED = 12  # profiles; who has more knows which one is meant


def find_profile(which: ProfileChoice) -> Path:
    """Return the data directory that is meant; whether something is in it, its reader will say.

    Raises:
        Usage: Nothing was said, and there is no profile, or more than one.
    """
    if which.data:
        return Path(which.data)
    if which.port >= 0:
        return profile_directory(which.port)
    known = known_profiles()
    if len(known) == 1:
        return known[0]
    if not known:
        text = "start a peer first, for example p2pchat 8080, or name a profile with --data DIR"
        raise UsageError(f"there is no profile in {home_directory()}: {text}")
    ports = ", ".join(f"{path.name}{' runs' if _runs(path) else ''}" for path in known[:MOST_LISTED])
    more = f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else ""
    raise UsageError(f"there are several profiles ({ports}{more}): choose one with --port PORT, or --data DIR")


def _runs(directory: Path) -> bool:
    """Whether a process holds this profile now."""
    return inspect_profile(directory).holder is not None


def history_command(chat: ChatOptions, data: str) -> str:
    """Return the command that shows what a running peer has stored; `data` is its directory, "" in memory."""
    if not data or chat.db.startswith("memory:"):
        return "/history"
    which = ["--data", data] if chat.data or chat.is_temporary else ["--port", str(chat.port)]
    database = ["--db", chat.db] if chat.db and not has_password(chat.db) else []  # then it is in P2PCHAT_DB
    return command("history", *which, *database)
