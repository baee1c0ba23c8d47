"""Command-line options, arguments and groups, built on click.

Options may stand anywhere on the line, also before the name of the command. Each has a variable P2PCHAT_<OPTION>,
which the command line overrides. This file checks how a value is written; the command checks what it names. It is
imported for `--help`, so it imports nothing heavy.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from inspect import cleandoc
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from p2pchat.addresses import parse_endpoint
from p2pchat.commands.endpoints import parse_port
from p2pchat.commands.exit_codes import UsageError, print_error
from p2pchat.commands.wrap import USUAL_WIDTH, fold

DATABASES = ("sqlite", "memory", "mysql", "mariadb", "postgresql", "postgres")
MAX_HELP_WIDTH = 100  # columns; longer lines are hard to read
MAX_SECONDS = 1e9  # more than any wait
COMPLETE = "_P2PCHAT_COMPLETE"  # variable of the completion scripts: bash_complete, zsh_complete or fish_complete
CONTEXT = {"help_option_names": ["--help", "-h"]}
DEFAULT = ""  # the name of a group's default command
_UNLIMITED = 10_000  # columns
PORT_VARIABLE = "P2PCHAT_PORT"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  # seconds
_SWITCHES = ("--help", "-h", "--version")  # options of every command

Function = Callable[..., Any]


# ---- commands and groups


class _Help(click.Command):
    """Help that fits the terminal. click writes each paragraph as one line; fold() breaks it, and never at a hyphen."""

    def get_help(self, ctx: click.Context) -> str:
        formatter = click.HelpFormatter(width=_UNLIMITED)
        self.format_help(ctx, formatter)
        columns = shutil.get_terminal_size((USUAL_WIDTH, 24)).columns
        return fold(formatter.getvalue().rstrip("\n"), min(columns, MAX_HELP_WIDTH))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(cleandoc(self.help or ""))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            formatter.write_text(cleandoc(self.epilog))


class Command(_Help):
    """A command that refuses empty values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            takes_text = any(isinstance(param, click.Argument) and param.type is click.STRING for param in self.params)
            if takes_text and not error.option_name.startswith("--"):
                said = f"{error.message.rstrip('.')}: put -- before a name or text that begins with a dash"
                raise click.NoSuchOption(error.option_name, said, ctx=error.ctx) from None
            raise
        for param in self.params:
            if ctx.params.get(param.name or "") == "" and typed(ctx, param) and not ctx.resilient_parsing:
                if isinstance(param, click.Option):
                    raise UsageError(f"{param.opts[-1]} is empty: give it a value, or leave it out")
                if param.required:
                    raise UsageError(f"{param.human_readable_name} is empty (--help shows examples)")
        return rest

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usage line, for a default command also that of its group."""
        formatter.write_usage(ctx.command_path.rstrip(), " ".join(self.collect_usage_pieces(ctx)))
        if (group := self._group(ctx)) is not None:
            formatter.write_usage(group.command_path, "COMMAND [ARGS]...", prefix=" " * len("Usage: "))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, for a default command also the commands beside it."""
        super().format_options(ctx, formatter)
        if (group := self._group(ctx)) is not None:
            assert isinstance(group.command, CommandGroup)
            group.command.format_commands(group, formatter)

    def _group(self, ctx: click.Context) -> click.Context | None:
        """Return the context of the group whose default this command is, or None."""
        return ctx.parent if ctx.info_name == DEFAULT and ctx.parent is not None else None


class CommandGroup(_Help, click.Group):
    """A group of commands, one of which runs when the first word names none of them.

    Attributes:
        default: That command; None where a name is required.
    """

    command_class: type[click.Command] | None = Command
    default: click.Command | None = None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the name of the command first: options may stand before it."""
        name, rest = self.split(args)
        if name in self.list_commands(ctx):
            args = [name, *rest]
        elif self.default is not None and (args or not ctx.resilient_parsing):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.default if cmd_name == DEFAULT else super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of --help, which is not that of the alphabet

    def split(self, args: Sequence[str]) -> tuple[str, list[str]]:
        """Return the first word that is neither an option nor the value of one ("" for none), and the other words."""
        is_value = False
        for index, word in enumerate(args):
            if is_value:
                is_value = False
            elif word == "--":
                break
            elif word.startswith("-") and word != "-":
                is_value = self._takes_value(word)
            else:
                return word, [*args[:index], *args[index + 1 :]]
        return "", list(args)

    def _takes_value(self, word: str) -> bool:
        if word in _SWITCHES:
            return False
        return next((not option.is_flag for option in self.all_options() if word in option.opts), False)

    def all_options(self) -> Iterator[click.Option]:
        """Yield the options of all commands, those of the default first: the others may have to be imported."""
        context = click.Context(self)
        for name in (DEFAULT, *self.list_commands(context)):
            command = self.get_command(context, name)
            if isinstance(command, CommandGroup):
                yield from command.all_options()
            elif command is not None:
                yield from (param for param in command.params if isinstance(param, click.Option))

    def summaries(self, ctx: click.Context) -> dict[str, str]:
        """Return the name and the summary of each command."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return {name: command.get_short_help_str(1000) for name, command in commands.items() if command is not None}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(f"Commands ({ctx.command_path} COMMAND --help)"):
            formatter.write_dl(list(self.summaries(ctx).items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Return the names of commands, and what may stand first on the line of the default command."""
        summaries = self.summaries(ctx).items()
        found = [CompletionItem(name, help=text) for name, text in summaries if name.startswith(incomplete)]
        found += click.Command.shell_complete(self, ctx, incomplete)
        if self.default is not None:
            own = self.default.make_context(DEFAULT, [], parent=ctx, resilient_parsing=True)
            found += self.default.shell_complete(own, incomplete)
            arguments = (param for param in self.default.params if isinstance(param, click.Argument))
            if not incomplete.startswith("-") and (first := next(arguments, None)) is not None:
                found += first.shell_complete(own, incomplete)
        return found


def typed(ctx: click.Context, option: click.Parameter) -> bool:
    """Return whether the value of an option stood on the command line, where others on this machine can see it."""
    return ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE


# ---- types of values


class ParsedType(click.ParamType[Any]):
    """A type made of a function from a word to a value, which raises UsageError or ValueError."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # A cluster sets P2PCHAT_PORT=tcp://10.0.0.1:80 for a service that is called p2pchat.
        if ctx and param and param.envvar == PORT_VARIABLE and "://" in str(value) and not typed(ctx, param):
            return None
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def number(lowest: int, highest: int | None = None) -> ParsedType:
    """Return the type of whole numbers from `lowest` to `highest` (None: no limit)."""
    limits = f"from {lowest} to {highest:,}" if highest is not None else f"of at least {lowest}"

    def parse(text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) < 20:
            found = int(text)
            if lowest <= found and (highest is None or found <= highest):
                return found
        raise ValueError(f"{text!r} is not a whole number {limits}")

    return ParsedType("number", parse)


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_SECONDS:  # nan fails too
        raise ValueError(f"{text!r} is not a number of seconds")
    return seconds


def _span(text: str, units: str) -> timedelta | None:
    """Return how long "90m" is, if its unit is one of these letters.

    Raises:
        OverflowError: It is longer than any span.
    """
    if text[:-1].isascii() and text[:-1].isdecimal() and text[-1] in units:
        return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    return None


def parse_time(text: str, now: datetime) -> datetime:
    """Return a point in time; one without a zone is local. `now` (aware) is what "90m" counts back from.

    Raises:
        ValueError: The text is not a time.
    """
    try:
        if (span := _span(text, "smhdw")) is not None:
            return now - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a time: write 2026-11-20, 2026-11-20T08:30, or 90m, 12h, 7d") from None


def parse_end(text: str, now: datetime) -> datetime:
    """Return a point in time to come; a date without a time is its last second, here. `now` (aware) is what "3d" adds
    to.

    Raises:
        ValueError: The text is not a time to come.
    """
    try:
        if (span := _span(text, "hdw")) is not None:
            end = now + span
        else:
            end = datetime.fromisoformat(text)
            if len(text) <= len("2026-11-20"):
                end += timedelta(days=1, seconds=-1)
            end = end if end.tzinfo else end.astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text!r} is not a time: write 12h, 3d, 2w, 2026-11-20 or 2026-11-20T08:30") from None
    if end <= now:
        raise ValueError(f"{text!r} is over: write a time to come, such as 12h, 3d or 2w")
    return end


PORT = ParsedType("port", lambda text: parse_port(text, "port"))
PORT_OR_ANY = ParsedType("port", lambda text: parse_port(text, "port", lowest=0))
ENDPOINT = ParsedType("endpoint", parse_endpoint)
endpoints_argument: Callable[[Function], Function] = click.argument(
    "endpoints", nargs=-1, type=ENDPOINT, metavar="[HOST:PORT]...", envvar="P2PCHAT_ENDPOINTS"
)
SECONDS = ParsedType("seconds", _parse_seconds)
TIME = ParsedType("time", lambda text: parse_time(text, datetime.now(UTC)))
END = ParsedType("time", lambda text: parse_end(text, datetime.now(UTC)))


# ---- completion


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Have the shell complete a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_directory(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Have the shell complete a directory."""
    return [CompletionItem(incomplete, type="dir")]


def complete_port(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ports that have a profile here."""
    from p2pchat import known_profiles

    return [path.name for path in known_profiles(ctx.params.get("network")) if path.name.startswith(incomplete)]


# ---- options that several commands have


@dataclass
class ProfileChoice:
    """The profile a command line means: `data` a directory, else `port`; -1: neither, see find_profile.

    `network` is the name of the network whose profiles are meant; None: those of all others.
    """

    data: str = ""
    port: int = -1
    network: str | None = None


def profile_choice(ctx: click.Context) -> ProfileChoice:
    """Return what --data, --port and --network say; a --port on the command line counts more than a P2PCHAT_DATA."""
    data, port = ctx.params.get("data"), ctx.params.get("port")
    on_line = {name for name in ("data", "port") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if on_line == {"port"}:
        data = None
    return ProfileChoice(data or "", -1 if port is None else port, ctx.params.get("network"))


def option(names: str, metavar: str, help: str, **attributes: Any) -> Callable[[Function], Function]:
    """Return the decorator of an option, whose variable is P2PCHAT_ and its longest spelling.

    Args:
        names: Its spellings, and the name of the parameter where that is another: "--json as_json".
        metavar: What it takes; "" for a switch.
    """
    declarations = names.split()
    spelling = [name for name in declarations if name.startswith("-")][-1]
    variable = f"P2PCHAT_{spelling.lstrip('-').upper().replace('-', '_')}"
    kind: dict[str, Any] = {"metavar": metavar} if metavar else {"is_flag": True}
    return click.option(*declarations, envvar=variable, help=help, **kind, **attributes)


def subcommand(name: str, epilog: str) -> Callable[[Function], click.Command]:
    """Return the decorator of a command with this name, whose help ends with `epilog`."""
    return click.command(name, cls=Command, epilog=epilog)


def without_brackets(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return an address to listen on; one of IPv6 may be written as in an endpoint, [::1]."""
    return value and re.sub(r"^\[(.*)\]$", r"\1", value)


data_option: Callable[[Function], Function] = option(
    "--data", "DIR", "identity and history (default: a folder for each port)", shell_complete=complete_directory
)


def network_option(help: str) -> Callable[[Function], Function]:
    """Return the decorator of --network."""
    return option("--network", "NAME", help, callback=_check_network)


def _check_network(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the name of a network in normal form."""
    from p2pchat import validate_network_name

    try:
        return value if value is None else validate_network_name(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def profile_options(function: Function) -> Function:
    """Add --data, --port and --network, which the function gets as one `profile`."""

    @data_option
    @option(
        "--port",
        "PORT",
        "the peer of this port (default: yours, or of several the only one that runs)",
        type=PORT,
        shell_complete=complete_port,
    )
    @network_option("a peer in the network of this name")
    @click.pass_context
    @wraps(function)
    def with_profile(
        ctx: click.Context, /, data: str | None, port: int | None, network: str | None, **values: Any
    ) -> Any:
        return function(profile=profile_choice(ctx), **values)

    return with_profile


def stored_options(function: Function) -> Function:
    """Add the options of a command on what a profile has stored: those of the profile, and --db."""
    return profile_options(db_option(function))


def check_database_url(url: str) -> str:
    """Return a database URL, or "" for none. Nothing of it but the kind is ever shown.

    Raises:
        UsageError: No version knows this kind of database.
    """
    scheme, colon, _ = url.partition("://")
    if colon and scheme.partition("+")[0] not in DATABASES:
        known = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://"
        raise UsageError(f"there are no {scheme!r} databases here: write {known}")
    return url


def has_password(url: str) -> bool:
    """Return whether a database URL holds a password."""
    authority, _, query = url.partition("://")[2].partition("?")
    return ":" in authority.rpartition("@")[0] or "passw" in query


def warn_visible(secret: str, better: str) -> None:
    """Warn of a secret that stands on the command line."""
    print_error(f"warning: others on this machine can see the {secret} on the command line: use {better}")


def warn_if_typed(ctx: click.Context, option: click.Parameter, secret: str, better: str) -> None:
    """Warn of a secret that was typed as an option; one of a variable is not seen."""
    if typed(ctx, option) and not ctx.resilient_parsing:
        warn_visible(secret, better)


def _check_db(ctx: click.Context, option: click.Parameter, value: str | None) -> str:
    url = check_database_url(value or "")
    if has_password(url):
        warn_if_typed(ctx, option, "password", "P2PCHAT_DB")
    return url


db_option: Callable[[Function], Function] = option(
    "--db",
    "URL",
    "another database: sqlite:///FILE, mysql:// or postgresql://USER@HOST/NAME, memory://",
    callback=_check_db,
)
json_option: Callable[[Function], Function] = option("--json as_json", "", "one JSON object a line on stdout")
yes_option: Callable[[Function], Function] = option("--yes", "", "do not ask; needed where nobody can be asked")
stay_option: Callable[[Function], Function] = option("--stay", "", "do not leave at the end of input")
plain_option: Callable[[Function], Function] = option(
    "--plain", "", "plain lines for people (default outside a terminal)"
)
verbose_option: Callable[[Function], Function] = option("-v --verbose", "", "diagnostics on stderr")
advertise_option: Callable[[Function], Function] = option(
    "--advertise", "HOST:PORT", "the address others reach this peer at, behind NAT or in a container", type=ENDPOINT
)


def _check_invite(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    from p2pchat.commands.invite_screen import looks_like_invite

    if value and looks_like_invite(value):
        warn_if_typed(ctx, option, "invite", "--invite -, a file or P2PCHAT_INVITE")
    return value


def peer_options(function: Function) -> Function:
    """Add the options of a peer that is to run: the fields of PeerOptions but its port and endpoints."""
    options = (
        option("--name", "NAME", "my name (default: login name and port)"),
        option(
            "--host",
            "ADDR",
            "listen address (0.0.0.0 for other machines, :: for IPv6 too; default: the last one; at first 127.0.0.1, "
            "or 0.0.0.0 at a terminal that joined with an invite of another machine)",
            callback=without_brackets,
        ),
        data_option,
        option("--temp", "", "a temporary profile, deleted at the end"),
        db_option,
        option("--key", "FILE", "an identity kept elsewhere", shell_complete=complete_file),
        option(
            "--invite",
            "FILE",
            "join its network; - asks for the invite without echo",
            callback=_check_invite,
            shell_complete=complete_file,
        ),
        network_option("join the network of this name: whoever knows it is a member, and nobody can be kept out"),
        advertise_option,
        option("--discover", "", "find this network's members on the local network, and be found (extra: discovery)"),
        option("--no-listen", "", "only dial: open no port for other peers"),
        option("--no-carry", "", "carry no links between members who cannot dial each other"),
        json_option,
        plain_option,
        option("--log", "FILE", "append every event to FILE as JSON lines", shell_complete=complete_file),
        option(
            "--trace", "FILE", "append every frame of the links to FILE as JSON lines", shell_complete=complete_file
        ),
        option("--trace-texts", "", "trace what people wrote too, not only its size"),
    )
    for decorator in reversed(options):
        function = decorator(function)
    return function


def check_exclusive(values: dict[str, Any], *pairs: tuple[str, str]) -> None:
    """Raise UsageError when two options that exclude each other are both given."""
    names = {"as_json": "json"}
    for pair in pairs:
        if all(values.get(one) for one in pair):
            one, other = (f"--{names.get(one, one)}".replace("_", "-") for one in pair)
            raise UsageError(f"{one} and {other} exclude each other")
