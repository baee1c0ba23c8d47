"""`p2pchat` without a port, on a terminal: who one is, and on which port, is asked for or picked.

Nothing was ever started here: a name is asked for and a free port taken. One profile: it is started again. Several:
which one. All of them run: one more peer, linked with one that runs, which is what somebody wants who opens a second
terminal to try it. Only what is missing is asked for, and Enter is always an answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import click

from p2pchat import (
    DataLocked,
    InviteError,
    P2PChatError,
    PortInUse,
    inspect_profile,
    known_profiles,
    login_name,
    open_history,
    parse_invite,
    probe,
    profile_directory,
    profile_invite,
    validate_name,
)
from p2pchat.cli.options import check_exclusive
from p2pchat.cli.profiles import PeerOptions, free_port, is_free, next_port
from p2pchat.cli.stdin import InputEnded
from p2pchat.commands.endpoints import LOOPBACK, command, is_loopback, program
from p2pchat.commands.errors import CommandError, UsageError, print_error, print_notice
from p2pchat.commands.invites import JOIN_COMMAND, looks_like_invite
from p2pchat.commands.render import format_time, quote_name
from p2pchat.commands.settings import ChatSettings

EXAMPLES = ("bob", "carol", "dan", "erin", "frank")  # names for whoever joins next
MOST_LISTED = 9  # profiles, the newest first

Ask = Callable[[str], str | None]


def run_setup_wizard(options: ChatOptions, invite: str | None, ask: Ask) -> ChatOptions:
    """Fill in what is missing: the port, the name, and which profile.

    Args:
        invite: Read already; None when none was given.
    Raises:
        NothingSaid: A question was answered with the end of input. Failure: No port is free.
    """
    known = _known_profiles(options)
    if options.name and any(one.name == options.name and one.holder is not None for one in known):
        _hint_running(next(one for one in known if one.name == options.name))
        options.name = ""
    profile = _choose_profile(options, known, invite, ask)
    if profile is not None:
        return _restart_profile(options, profile, ask)
    if options.data:
        return _profile_in_data(options, ask)
    return _new_profile(options, known, ask)


# ---- which profile


def _known_profiles(options: ChatOptions) -> list[ProfileSummary]:
    """Return the profiles it may be, as they are now."""
    return [] if options.data or options.temp or options.key else started_before()


def _choose_profile(
    options: ChatOptions, known: Sequence[ProfileSummary], invite: str | None, ask: Ask
) -> ProfileSummary | None:
    """Return the profile to start again; None for a new one."""
    idle = [one for one in known if one.holder is None]
    if options.name:
        idle = [one for one in idle if one.name == options.name]
    if options.open_network:
        idle = [one for one in idle if one.is_open]
    if invite is not None:
        return _of_this_network(idle, invite)
    if not idle:
        return None
    if options.name or options.open_network or len(known) == 1:
        return max(idle, key=lambda one: one.used_at)
    running = [one for one in known if one.holder is not None]
    return _ask_which([*_newest_first(idle), *_newest_first(running)][:MOST_LISTED], ask)


def _newest_first(some: Sequence[ProfileSummary]) -> list[ProfileSummary]:
    return sorted(some, key=lambda one: -one.used_at)


def _of_this_network(idle: Sequence[ProfileSummary], invite: str) -> ProfileSummary | None:
    """Return a profile that is in the invite's network, else the only one that can still go there."""
    network = parse_invite(invite).network.id
    for one in idle:
        with suppress(P2PChatError):
            if parse_invite(profile_invite(one.directory, [f"{LOOPBACK}:1"])).network.id == network:
                return one
    free = [one for one in idle if not one.is_settled]
    return free[0] if len(free) == 1 else None


def _ask_which(listed: Sequence[ProfileSummary], ask: Ask) -> ProfileSummary | None:
    """Let one be chosen; the first, the newest that does not run, by Enter."""
    now = datetime.now().astimezone()
    print_notice("Which one? Each port has an identity and a history of its own:")
    for number, one in enumerate(listed, 1):
        used = format_time(datetime.fromtimestamp(one.used_at, now.tzinfo).isoformat(), now)
        state = f"used {used}" if one.holder is None else f"runs now, process {one.holder or '?'}"
        print_notice(f"  {number}  {one.port:<5} {one.label}, {state}")
    print_notice("  n  a new one")
    while True:
        answer = _answer(ask, "Number, or n [1]: ").lower() or "1"
        if answer == "n":
            return None
        chosen = next(
            (one for n, one in enumerate(listed, 1) if answer in (str(n), str(one.port), one.name.lower())), None
        )
        if chosen is None:
            print_error(f"{answer!a} is none of them: a number from 1 to {len(listed)}, or n")
        elif chosen.holder is not None:
            _hint_running(chosen)
        else:
            return chosen


def _hint_running(one: ProfileSummary) -> None:
    print_error(f"{one.label} runs already, on port {one.port}: {commands_beside(one.port)}")


def commands_beside(port: int) -> str:
    """Return what one can do beside a running peer."""
    return f"`{program()} send room TEXT --port {port}` and `{program()} tail --port {port}` work beside it"


# ---- what follows


def _restart_profile(options: ChatOptions, profile: ProfileSummary, ask: Ask) -> ChatOptions:
    """A profile there is, where others found it last; on another port while somebody else has its own."""
    last = ChatSettings.load(profile.directory).last_start
    if not options.host_given:
        options.host, options.advertise = last.host, options.advertise or last.advertise
    options.discover = options.discover or last.discover
    options.port = profile.port
    if not is_free(options.host, profile.port):
        options.data, options.port = str(profile.directory), free_port(options.host, {profile.port})
        print_notice(f"-- another program listens on port {profile.port}: on {options.port} this time")
    print_notice(f"-- starting {profile.label} again (port {profile.port})")
    if not options.name and not profile.name:
        options.name = _ask_name(login_name(), ask)
    return options


def _profile_in_data(options: ChatOptions, ask: Ask) -> ChatOptions:
    """The profile of --data, on any port."""
    directory = Path(options.data).expanduser()
    found = summarize_profile(directory, 0) if (directory / "identity.pem").exists() else None
    options.port = free_port(options.host)
    if not options.name and (found is None or not found.name):
        options.name = _ask_name(login_name(), ask)
    return options


def _new_profile(options: ChatOptions, known: Sequence[ProfileSummary], ask: Ask) -> ChatOptions:
    """A new peer; when others of this login run, linked with one of them."""
    _pick_port(options, known)
    if not options.name:
        usual = login_name()
        options.name = _ask_name(login_name(options.port) if usual in {one.name for one in known} else usual, ask)
        _pick_port(options, _known_profiles(options))  # somebody may have started meanwhile in another terminal
    return options


def _pick_port(options: ChatOptions, known: Sequence[ProfileSummary]) -> None:
    """Take a free port, and a running peer of this login to link with."""
    options.port = free_port(options.host, {one.port for one in known})
    running = [one for one in known if one.holder is not None]
    if running and not options.endpoints and not options.invite and not options.open_network:
        first = running[0]
        print_notice(f"-- {first.label} runs on port {first.port} already: this is one more peer, linked with it")
        options.endpoints = (f"{LOOPBACK}:{first.port}",)


def _ask_name(usual: str, ask: Ask) -> str:
    while True:
        try:
            return validate_name(_answer(ask, f"Your name [{usual}]: ") or usual)
        except ValueError as error:
            print_error(str(error))


def _answer(ask: Ask, prompt: str) -> str:
    answer = ask(prompt)
    if answer is None:
        raise InputEnded
    return answer


def next_steps(port: int, host: str, names: Collection[str], *, calls: bool) -> str:
    """Return the lines that say what to do next.

    Args:
        names: Those that are taken.
        calls: Others are being called, so that nobody has to come here.
    """
    typing = "-- Enter sends to everybody here; /help shows more, /quit leaves"
    if calls:
        return typing
    name = next((name for name in EXAMPLES if name not in names), EXAMPLES[0])
    near = f"-- another terminal joins with: {program()} {next_port(port)} {port} --name {name}"
    far = f"-- another machine joins with: {JOIN_COMMAND}, and the invite above"
    if is_loopback(host):
        far = f"-- for other machines: /quit, then {program()} {port} --host 0.0.0.0"
    return "\n".join([near, far, typing])


# ---- starting
#
# What keeps a peer from starting, as one line that says what to do about it: mostly a command to copy.


MAX_PORT_ATTEMPTS = 8  # ports picked and lost to others who start in the same moment
_PROBE_TIMEOUT = 1.0  # seconds, for who it is that listens there
_OTHERS = frozenset(("refused", "no_answer", "unreachable", "no_such_host", "cut", "silent", "other_program"))


class StartupErrors:
    """One start: what was asked for, and whether the profile was there before.

    Args:
        others: The words of the command line without PORT.
    """

    def __init__(self, options: ChatOptions, others: Sequence[str]) -> None:
        self._options = options
        self._others = list(others)
        self._tried: set[int] = set()
        self._was_there = options.port > 0 and profile_directory(options.port) in known_profiles()

    def goes_elsewhere(self, error: P2PChatError) -> bool:
        """Pick the next port, when the one that was picked was taken in the same moment; False: that is not it."""
        is_picked = self._options.bare and not self._was_there and not self._options.data
        if not is_picked or not isinstance(error, (PortInUse, DataLocked)) or len(self._tried) >= MAX_PORT_ATTEMPTS:
            return False
        self._tried.add(self._options.port)
        self._options.port = free_port(self._options.host, self._tried)
        return True

    def mended(self, error: P2PChatError) -> Exception:
        """Return the error to show instead of the library's, which knows no commands."""
        if isinstance(error, PortInUse):
            return self._port_taken(error)
        if isinstance(error, DataLocked):
            return self._in_use(error)
        if isinstance(error, InviteError) and self._options.invite:
            port = next_port(self._options.port, self._options.host)
            return UsageError(f"{error}, as in: {command(port, '--invite', '-')}")
        return error

    def _port_taken(self, error: PortInUse) -> CommandError:
        who = _who_listens(error.port)
        instead = self._with_port(next_port(error.port, self._options.host))
        return CommandError(f"port {error.port} on {error.host} is in use by {who}: try {instead}")

    def _with_port(self, port: int) -> str:
        """Return the command line with another port, and still the same identity."""
        rest = self._others
        if any(looks_like_invite(word) for word in rest):
            rest = ["--invite", "-"]
        if self._was_there and not (self._options.data or self._options.temp):
            rest = [*rest, "--data", str(profile_directory(self._options.port))]
        return command(port, *rest)

    def _in_use(self, error: DataLocked) -> CommandError:
        who = f"process {error.pid}" if error.pid else "another process"
        which = ["--data", error.path] if self._options.data else ["--port", str(self._options.port)]
        send, tail = command("send", "room", "TEXT", *which), command("tail", *which)
        other = "one more peer needs another port and directory"
        if not self._options.data:
            other = f"for one more peer: {command(next_port(self._options.port), self._options.port)}"
        return CommandError(f"{error.path} is in use by {who}; beside it work `{send}` and `{tail}`; {other}")


def _who_listens(port: int) -> str:
    """Ask who has taken a port of this machine."""
    try:
        verdict = asyncio.run(probe(port, timeout=_PROBE_TIMEOUT)).verdict
    except (P2PChatError, ValueError, OSError):
        return "another program"
    return "another program" if verdict in _OTHERS else "another p2pchat peer"


# ---- known
#
# The peers that were started before on this machine, for whoever has to choose one of them.


@dataclass(frozen=True, slots=True)
class ProfileSummary:
    """A profile that was started before.

    Attributes:
        name: "" when none was ever chosen.
        used_at: Seconds since 1970 of the last time something was stored.
        holder: The pid that runs it, 0 when unknown; None: it does not run.
        is_settled: It belongs to its network for good: it has joined it, or messages of it.
        is_open: That network has no key.
    """

    directory: Path
    port: int
    name: str
    used_at: float
    holder: int | None
    is_settled: bool
    is_open: bool

    @property
    def label(self) -> str:
        return quote_name(self.name) if self.name else "(no name yet)"


def started_before() -> list[ProfileSummary]:
    """Return the profiles of this login that are somebody, lowest port first.

    One without a name, a network of its own and a message, as a start that found its port taken leaves behind, is
    nobody yet: whoever starts there next may be.
    """
    found = [summarize_profile(directory, int(directory.name)) for directory in known_profiles()]
    return [one for one in found if one.name or one.is_settled or one.holder is not None]


def summarize_profile(directory: Path, port: int) -> ProfileSummary:
    """Return what can be seen of a profile; nothing but its place where it cannot be read: starting it says why."""
    name, has_messages = "", False
    with suppress(P2PChatError):
        name, has_messages = asyncio.run(_read(directory))
    state = inspect_profile(directory)
    is_settled = has_messages or state.network_path.parent == directory
    return ProfileSummary(directory, port, name, _used_at(directory), state.holder, is_settled, state.network == "open")


async def _read(directory: Path) -> tuple[str, bool]:
    async with open_history(directory) as history:
        return history.me.name, bool(await history.history(limit=1))


def _used_at(directory: Path) -> float:
    times = [0.0]
    for name in ("identity.pem", "history.db", "history.db-wal"):
        with suppress(OSError):
            times.append((directory / name).stat().st_mtime)
    return max(times)


# ---- descriptors
#
# How many files and sockets this process may have open: macOS gives a terminal's programs 256, one mesh may need more.
#
# A peer has up to 256 links and 64 strangers (Settings), its database, and its standard streams.


WANTED = 1024  # also what Linux gives a process unless told otherwise


def allow_descriptors(wanted: int = WANTED) -> None:
    """Raise the own soft limit to `wanted`, as far as the system lets it. Windows has no such limit."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS says so above its own maximum
        pass


# ---- options
#
# `p2pchat PORT [HOST:PORT ...]`: its words and options into one record.


USUAL_DRAIN = 5.0  # seconds: longer than a slow link takes, and nobody minds to wait so long once


@dataclass(slots=True)
class ChatOptions(PeerOptions):
    """`p2pchat PORT [HOST:PORT ...]`; `drain` is seconds."""

    as_json: bool = False
    plain: bool = False
    log: str = ""
    drain: float = USUAL_DRAIN
    stay: bool = False
    verbose: bool = False
    host_given: bool = field(default=False, compare=False)  # by an option or a variable
    bare: bool = False  # no PORT was given: what is missing is asked for, or picked (startup.py)


def chat_options(ctx: click.Context, *, may_ask: bool = False) -> ChatOptions:
    """Return the options of a parsed command line; PORT may be missing where the user can be asked.

    Raises:
        UsageError: PORT is missing, or options exclude each other.
    """
    given = {name: value for name, value in ctx.params.items() if value is not None}
    bare = "port" not in given and may_ask and not given["as_json"]
    if "port" not in given and not bare:
        raise UsageError("missing PORT, for example: p2pchat 8080 --name ada (--help shows more)")
    check_exclusive(given, ("temp", "data"), ("as_json", "plain"), ("open_network", "invite"))
    return ChatOptions(**given, bare=bare, host_given="host" in given)
