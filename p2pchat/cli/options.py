"""Command lines and variables into words and values, with click. What they say is checked here, what they name is not.

Options stand anywhere; each has a variable P2PCHAT_<OPTION>, which the command line overrides. Everything wrong is
one Usage error. What a command makes of its values stands with the command.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from click.core import ParameterSource

from p2pchat.cli.command_table import Command, Option
from p2pchat.commands.endpoints import parse_port
from p2pchat.commands.errors import Usage, complain

DATABASES = ("sqlite", "memory", "mysql", "mariadb", "postgresql", "postgres")
SEEN = "others on this machine can see the password on the command line: use P2PCHAT_DB"

_NAMES = {"json": "as_json", "open": "open_network", "import": "import_"}  # names that mean something else in Python


@dataclass(slots=True)
class WhichPeer:
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


def which_peer(given: dict[str, Any], typed: Collection[str] = ("data", "port")) -> WhichPeer:
    """Return which peer `--data` and `--port` of these values mean.

    Args:
        typed: Which of them stood on the command line: a --port there counts more than a P2PCHAT_DATA.
    Raises:
        Usage: That is no port.
    """
    port, data = given["port"], given["data"] or ""
    if port is not None and "port" in typed and "data" not in typed:
        data = ""
    return WhichPeer(data, -1 if port is None else parse_port(port, "port"))


def database_url(url: str | None) -> str:
    """Return a --db as it is, "" for none. Raises Usage for a kind that no version has; the rest is never shown."""
    scheme, colon, _ = (url or "").partition("://")
    if colon and scheme.partition("+")[0] not in DATABASES:
        known = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://"
        raise Usage(f"there are no {scheme!a} databases here: write {known}")
    return url or ""


def database_of(given: dict[str, Any], typed: Collection[str]) -> str:
    """Return the --db of a command, "" for none; complains of a password that others can see."""
    url = database_url(given["db"])
    if "db" in typed and has_password(url):
        complain(SEEN)
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
        raise Usage(f"{option} {text!a} is no number of seconds")
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
        raise Usage(f"{option} {text!a} is no time: write 2026-11-20, 2026-11-20T08:30, or 90m, 12h, 7d") from None
