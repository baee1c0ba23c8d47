"""Profiles and ports of this machine: the profile of a command, those started before, the peer to run, free ports."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from p2pchat import (
    InviteError,
    P2PChatError,
    home_directory,
    inspect_profile,
    known_profiles,
    open_history,
    profile_directory,
    read_login_network,
)
from p2pchat.addresses import LOOPBACK
from p2pchat.cli.options import ProfileChoice, check_exclusive, has_password, profile_choice
from p2pchat.cli.standard_input import InputKind, read_invite
from p2pchat.commands.endpoints import EVERYWHERE
from p2pchat.commands.exit_codes import CommandError, UsageError, print_error, print_notice
from p2pchat.commands.last_start import LastStart
from p2pchat.commands.shell_command import command
from p2pchat.safe_text import quote_name, safe_line

if TYPE_CHECKING:
    from p2pchat import ProfileState, TCPPeer

FIRST_PORT = 8080
MAX_TRIED_PORTS = 200  # more taken ports than any login has by chance
MAX_LISTED = 12  # profiles in an error; with more of them people know the port


def beside_profile(directory: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a private directory in that of a profile, for files on their way, until the end of its `with`."""
    return tempfile.TemporaryDirectory(prefix=".input-", dir=directory, ignore_cleanup_errors=True)  # 0700


def port_of(directory: Path) -> int:
    """Return the port of a profile: by its name among those of the login, else where its peer listened last; else 0."""
    name = directory.name
    port = int(name) if name.isascii() and name.isdecimal() else 0
    if port > 65535:
        port = 0
    if directory == profile_directory(port):
        return port
    return LastStart.load(directory).port or port


def start_command(directory: Path) -> str:
    """Return the command that starts the peer of a profile."""
    port = port_of(directory)
    if directory == profile_directory(port):
        return command(port)
    where = "--data", str(directory)
    return command(port, *where) if port else command(*where)


def profile_words(directory: Path) -> Sequence[str]:
    """Return the option by which other commands choose a profile."""
    port = port_of(directory)
    return ("--port", str(port)) if directory == profile_directory(port) else ("--data", str(directory))


def find_profile(
    choice: ProfileChoice,
    *,
    acts: bool = False,
    of_gateways: bool = False,
    notify: Callable[[str], None] = print_notice,
) -> Path:
    """Return the absolute data directory of the profile that is meant. There may be nothing in it.

    Without a directory and a port it is the only profile of a person, or of several the only one that runs. That one
    becomes the choice, and a notice says once whose it is.

    Args:
        acts: Something is done in the person's name, so the notice is given also if there is no other profile.
        of_gateways: The profiles of gateways are meant instead.
    Raises:
        UsageError: Neither a directory nor a port was given, and there is no such profile, or several of them run, or
            there are several and none runs.
    """
    if choice.data:
        return Path(os.path.expanduser(choice.data)).absolute()
    if choice.port >= 0:
        return profile_directory(choice.port, choice.network)
    every = known_profiles(choice.network)
    if not every:
        text = (
            "start a peer first, for example p2pchat 8080, or name a profile with --data DIR or --network NAME "
            "(a temporary one is never chosen by itself)"
        )
        of = "" if choice.network is None else f" of the network {choice.network}"
        raise UsageError(f"there is no profile{of} in {home_directory()}: {text}")
    known = list(filter(is_gateways if of_gateways else is_persons, every))
    if not known and of_gateways:
        raise UsageError("no gateway has run here: start one, for example p2pchat web 8000, or name it with --data DIR")
    if not known:
        named = _listed(every)
        raise UsageError(f"all profiles here are of programs ({named}): choose one with --port PORT, or --data DIR")
    running = [path for path in known if inspect_profile(path).holder is not None]
    [found, *others] = running or known
    if others:
        several = "several peers run here" if running else "there are several profiles and none runs"
        raise UsageError(f"{several} ({_listed([found, *others])}): choose one with --port PORT, or --data DIR")
    choice.data = str(found)
    if acts or len(every) > 1:
        notify(f"-- as {summarize_profile(found, 0).label}, port {found.name} (--port PORT: another)")
    return found


def is_persons(directory: Path) -> bool:
    """Return whether a profile is a person's: a terminal was opened on it."""
    return LastStart.load(directory).terminal


def is_gateways(directory: Path) -> bool:
    """Return whether a gateway ran on a profile."""
    return LastStart.load(directory).gateway


def _listed(directories: Sequence[Path]) -> str:
    """Return profiles for an error, with the names of their users."""
    shown = [f"{summarize_profile(path, 0).label}: {path.name}" for path in directories[:MAX_LISTED]]
    more = f" and {len(directories) - MAX_LISTED} more" if len(directories) > MAX_LISTED else ""
    return ", ".join(shown) + more


def complete_conversation(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return what a user can write to: the room, all other users, and the groups the user is in.

    Names that would be changed to be shown safely are left out: others choose them.
    """
    directory = find_profile(profile_choice(ctx), notify=lambda text: None)
    addresses = asyncio.run(_addresses(directory, ctx.params.get("db")))
    return [address for address in addresses if address.startswith(incomplete)]


async def _addresses(directory: Path, db: str | None) -> list[str]:
    async with open_history(directory, db=db or None) as history:
        labels = [user.label for user in history.users() if not user.is_me]
        labels += [group.address for group in history.groups() if group.is_member]
    return ["room", *(label for label in labels if label == safe_line(label))]


# ---- profiles that were started before


@dataclass(frozen=True)
class ProfileSummary:
    """A profile that was started before.

    Attributes:
        name: "" if none was ever chosen.
        used_at: When something was stored last, in seconds since 1970.
        holder: The pid that runs it, 0 if unknown; None: it does not run.
        held_at: Since when it runs, in seconds since 1970; 0.0: it does not.
        is_settled: It belongs to its network for good: it joined it, or holds messages of it.
        is_persons: It is a person's, and not a program's.
        is_out: Its person shut this machine out, or it was expelled.
    """

    directory: Path
    port: int
    name: str
    used_at: float
    holder: int | None
    held_at: float
    is_settled: bool
    is_persons: bool
    is_out: bool

    @property
    def label(self) -> str:
        return quote_name(self.name) if self.name else "(no name yet)"


def started_before(network: str | None) -> list[ProfileSummary]:
    """Return the profiles of this login that are in use, of a named network or of all others, lowest port first.

    A profile without a name, a network and messages is left out: a start that found its port taken leaves one behind.
    """
    found = [summarize_profile(directory, int(directory.name)) for directory in known_profiles(network)]
    return [one for one in found if one.name or one.is_settled or one.holder is not None]


def summarize_profile(directory: Path, port: int) -> ProfileSummary:
    """Return the summary of a profile; of an unreadable one only its place: starting it reports the error."""
    name, has_messages, is_out = "", False, False
    with suppress(P2PChatError):
        name, has_messages, is_out = asyncio.run(_read(directory))
    state = inspect_profile(directory)
    has_joined = state.network_path.parent == directory or (is_persons(directory) and _login_has_joined())
    is_settled = has_messages or has_joined
    return ProfileSummary(
        directory,
        port,
        name,
        _used_at(state),
        state.holder,
        state.held_at,
        is_settled,
        is_persons(directory),
        is_out,
    )


def _login_has_joined() -> bool:
    try:
        return read_login_network().role == "member"
    except P2PChatError:
        return False


async def _read(directory: Path) -> tuple[str, bool, bool]:
    async with open_history(directory) as history:
        return history.me.name, bool(await history.history(limit=1)), history.expelled_by is not None


def _used_at(state: ProfileState) -> float:
    times = [0.0]
    for path in (state.key_path, state.database_path, Path(f"{state.database_path}-wal")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


# ---- the peer to run


@dataclass
class PeerOptions:
    """The peer to run. Empty strings mean not given; `port` 0 is any free one, temporary unless `data` is given."""

    port: int = 0
    endpoints: tuple[str, ...] = ()
    name: str = ""
    host: str = LOOPBACK
    host_chosen: bool = field(default=False, compare=False)  # by an option or a variable, now or earlier
    joined: bool = field(default=False, compare=False)  # with an invite of another machine
    data: str = ""
    temp: bool = False
    db: str = field(default="", repr=False)
    key: str = ""
    invite: str = field(default="", repr=False)
    network: str | None = None
    advertise: str = ""
    discover: bool = False
    no_listen: bool = False
    no_carry: bool = False
    trace: str = ""
    trace_texts: bool = False
    as_json: bool = False
    plain: bool = False
    log: str = ""
    verbose: bool = False

    @property
    def is_temporary(self) -> bool:
        """Return whether identity and history are deleted at the end."""
        return self.temp or (self.port == 0 and not self.data)

    @property
    def keeps_history(self) -> bool:
        """Return whether the next start finds what this one stores."""
        return not (self.is_temporary or self.db.startswith("memory:"))


Options = TypeVar("Options", bound=PeerOptions)


def history_command(options: PeerOptions, data: str) -> str:
    """Return the command that shows the history of a running peer. `data` is its directory, "" in memory."""
    if not data or options.db.startswith("memory:"):
        return "/history"
    database = ["--db", options.db] if options.db and not has_password(options.db) else []  # then it is in P2PCHAT_DB
    return command("history", *profile_words(Path(data)), *database)


def key_commands(directory: Path) -> list[str]:
    """Return the commands that copy the key of a profile's network, and put it back."""
    where: list[str] = []
    if directory.parent != home_directory():
        where = ["--data", str(directory)]
    return [command("network", do, "FILE", *where) for do in ("backup", "restore")]


@dataclass
class WebOptions(PeerOptions):
    """A gateway and its peer. `http_port` 0 is any free one; `port` is the peer's own."""

    http_port: int = 0
    http_host: str = LOOPBACK
    sign_up: Literal["auto", "open", "token"] = "auto"
    invites: Literal["auto", "off", "operator", "all"] = "auto"
    trust_loopback: bool = False
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    auth_header: str = ""
    root_path: str = ""
    cluster: str = ""
    cluster_key: str = ""
    engine: str = field(default="", repr=False)  # it may contain a password
    engine_credentials: str = ""
    safe: bool = False


def parsed_options(kind: type[Options], values: Mapping[str, Any], **others: Any) -> Options:
    """Return the options of a parsed command line, whose `values` are None where nothing was given, and `others`.

    Raises:
        UsageError: Some of them exclude each other.
    """
    given = {name: value for name, value in values.items() if value is not None}
    check_exclusive(given, ("temp", "data"), ("as_json", "plain"), ("network", "invite"))
    options = kind(**{**others, **given}, host_chosen="host" in given)
    if options.network is not None and options.discover and "host" not in given:
        options.host = EVERYWHERE  # else the others on the local network would find it, and could not reach it
    if not options.is_temporary:
        data = Path(os.path.expanduser(options.data)) if options.data else None
        recall_start(options, data or profile_directory(options.port, options.network))
    return options


def recall_start(options: PeerOptions, directory: Path) -> None:
    """Let others reach a peer as at the last start of its profile, except as the command line says; --host ends it."""
    last = LastStart.load(directory)
    options.joined = last.joined
    if options.host_chosen:
        return
    if options.host == LOOPBACK:
        options.host, options.advertise = last.host or LOOPBACK, options.advertise or last.advertise
    options.host_chosen = bool(last.host) or options.host != LOOPBACK
    options.discover = options.discover or last.discover
    options.no_listen = options.no_listen or not last.listen


def read_peer_invite(options: PeerOptions, kind: InputKind) -> str | None:
    """Return the text of the invite that a start names; None without one.

    A service keeps the command line that it joined with. So a member, which needs its invite no more, starts without
    one that is gone or damaged.
    Raises: as read_invite
    """
    try:
        return read_invite(options.invite, kind)
    except (UsageError, InviteError) as error:
        data = None if options.is_temporary else options.data or profile_directory(options.port, options.network)
        if read_login_network(data).role != "member":
            raise
        print_error(f"warning: {error}; this login is a member already, and starts without it")
        return None


def make_peer(options: PeerOptions, invite: str | None) -> TCPPeer:
    """Return the peer, not started.

    Args:
        invite: The text of the invite that the options name.
    Raises:
        UsageError: The options contradict each other.
    """
    from p2pchat import Settings, TCPPeer

    _warn_of_missing_key(options)
    settings = Settings(max_circuits=0) if options.no_carry else Settings()
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
            network=options.network,
            advertise=options.advertise or None,
            discover=options.discover,
            listen=not options.no_listen,
            trace=options.trace or None,
            trace_texts=options.trace_texts,
            settings=settings,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def _warn_of_missing_key(options: PeerOptions) -> None:
    """Warn if a history was copied without the key of its user."""
    if options.is_temporary or options.key:
        return
    state = inspect_profile(options.data or profile_directory(options.port, options.network))
    if state.database_path.exists() and not (state.peer_id or state.key_trouble):
        print_error(
            f"warning: there is a history in {state.directory}, but not the key of its user: this start makes a new "
            f"user. To go on as the former one, stop, and put {state.key_path.name} there, from a backup or from where "
            f"the history came from; `p2pchat backup` copies both"
        )


# ---- ports


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """Return the first free port from 8080 on.

    Raises:
        CommandError: None of the first 200 is free.
    """
    for port in range(FIRST_PORT, FIRST_PORT + MAX_TRIED_PORTS):
        if port not in taken and is_free(host, port):
            return port
    last = FIRST_PORT + MAX_TRIED_PORTS - 1
    raise CommandError(f"no port from {FIRST_PORT} to {last} is free: name one, p2pchat PORT")


def next_port(port: int, host: str = LOOPBACK, network: str | None = None) -> int:
    """Return the next port after `port` for another peer of this machine: free, and without a profile there."""
    taken = {int(directory.name) for directory in known_profiles(network)} | {port}
    ahead = range(port + 1, min(port + MAX_TRIED_PORTS, 65536))
    return next((one for one in ahead if one not in taken and is_free(host, one)), port + 1)


def is_free(host: str, port: int) -> bool:
    return not listen_error(host, port)


def listen_error(host: str, port: int) -> int:
    """Return the errno for which a peer could not listen there now, 0 when it could."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return 0  # no such address: the start reports it better
    for family, kind, protocol, _, address in places:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # as asyncio does: a port in TIME_WAIT is free; on Windows it would take another's
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError as error:
                return error.errno or errno.EIO
    return 0
