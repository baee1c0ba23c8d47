"""The start of a chat: the options of `p2pchat PORT [HOST:PORT ...]`, the setup wizard, the network joined, errors.

`p2pchat` without a port, on a terminal, asks for what is missing. Without any profile it asks for a name and takes a
free port. Of the profiles on which a terminal was opened, and which do not run, it starts the only one, or asks which.
If all run, most likely the user opened another terminal to try p2pchat: it starts one more peer, linked with the newest
that runs. The profile of a program is started by its name only. Enter accepts the default of every question.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from p2pchat import (
    DataLocked,
    InviteError,
    Link,
    P2PChatError,
    PortInUse,
    TCPPeer,
    User,
    inspect_profile,
    known_profiles,
    login_name,
    own_addresses,
    parse_invite,
    probe,
    profile_directory,
    validate_name,
)
from p2pchat.addresses import LOOPBACK, is_loopback
from p2pchat.cli.profiles import (
    PeerOptions,
    ProfileSummary,
    free_port,
    is_free,
    next_port,
    parsed_options,
    port_of,
    profile_words,
    recall_start,
    started_before,
    summarize_profile,
)
from p2pchat.cli.standard_input import InputEnded
from p2pchat.commands.endpoints import EVERYWHERE
from p2pchat.commands.event_text import format_time, local_now
from p2pchat.commands.exit_codes import CommandError, UsageError, print_error, print_notice
from p2pchat.commands.invite_screen import JOIN_COMMAND, endpoints_of, looks_like_invite
from p2pchat.commands.shell_command import command, program
from p2pchat.safe_text import quote_name, safe_line

# ---- options

USUAL_DRAIN = 5.0  # seconds: longer than a slow link takes, and short enough to wait for once
TERMINAL_DRAIN = 1.0  # seconds /quit waits for those who are online


@dataclass
class ChatOptions(PeerOptions):
    """`p2pchat PORT [HOST:PORT ...]`; `drain` is seconds."""

    drain: float = USUAL_DRAIN
    stay: bool = False
    bare: bool = False  # no PORT was given: the wizard asks for what is missing


def chat_options(ctx: click.Context, *, may_ask: bool = False) -> ChatOptions:
    """Return the options of a parsed command line; PORT may be missing where the user can be asked.

    Raises:
        UsageError: PORT is missing, or options exclude each other.
    """
    values = ctx.params
    has_port = values["port"] is not None
    bare = not has_port and may_ask and not values["as_json"]
    if not has_port and not bare:
        raise UsageError("missing PORT, for example: p2pchat 8080 --name ada (--help shows more)")
    return parsed_options(ChatOptions, values, bare=bare)


# ---- the setup wizard

EXAMPLES = ("bob", "carol", "dan", "erin", "frank")  # names to suggest for the next peer
MAX_CHOICES = 9  # profiles, the newest first

Ask = Callable[[str], str | None]


def run_setup_wizard(options: ChatOptions, invite: str | None, ask: Ask) -> ChatOptions:
    """Fill in what is missing: the port, the name, and which profile.

    Args:
        invite: The text of the invite; None: none was given.
    Raises:
        InputEnded: A question was answered with the end of input. CommandError: No port is free.
    """
    known = _known_profiles(options)
    if options.name and any(one.name == options.name and one.holder is not None for one in known):
        running = next(one for one in known if one.name == options.name)
        beside = " and ".join(f"`{program()} {work} --port {running.port}`" for work in ("send room TEXT", "tail"))
        print_error(f"{running.label} is already running on port {running.port}: {beside} work beside it")
        options.name = ""
    profile = _choose_profile(options, known, invite, ask)
    if profile is not None:
        _restart_profile(options, profile, ask)
    elif options.data:
        _profile_in_data(options, ask)
    else:
        _new_profile(options, known, ask)
    return options


def _known_profiles(options: ChatOptions) -> list[ProfileSummary]:
    """Return the profiles to choose from."""
    return [] if options.data or options.temp or options.key else started_before(options.network)


def _choose_profile(
    options: ChatOptions, known: Sequence[ProfileSummary], invite: str | None, ask: Ask
) -> ProfileSummary | None:
    """Return the profile to start again; None: a new one."""
    idle = [one for one in known if one.holder is None]
    idle = [one for one in idle if (one.name == options.name if options.name else one.is_persons)]
    if invite is not None:
        return _of_this_network(idle, invite)
    if not idle:
        return None
    newest_first = sorted(idle, key=lambda one: (one.is_out, -one.used_at))
    return idle[0] if len(idle) == 1 else _ask_which(newest_first[:MAX_CHOICES], ask)


def _of_this_network(idle: Sequence[ProfileSummary], invite: str) -> ProfileSummary | None:
    """Return a profile of the invite's network, else the only one that belongs to no network yet."""
    network = parse_invite(invite).network.id
    for one in idle:
        if inspect_profile(one.directory).network_id == network:
            return one
    free = [one for one in idle if not one.is_settled]
    return free[0] if len(free) == 1 else None


def _ask_which(listed: Sequence[ProfileSummary], ask: Ask) -> ProfileSummary | None:
    """Let the user choose; Enter takes the first, the newest."""
    now = local_now()
    print_notice("Which profile? Each port has its own identity and history:")
    for number, one in enumerate(listed, 1):
        used = format_time(datetime.fromtimestamp(one.used_at, now.tzinfo).isoformat(), now)
        if one.is_out:
            used += ", shut out: it sends and gets nothing"
        print_notice(f"  {number}  {one.port:<5} {one.label}, used {used}")
    print_notice("  n  a new profile")
    while True:
        answer = _answer(ask, "Number, or n [1]: ").lower() or "1"
        if answer == "n":
            return None
        chosen = next(
            (one for n, one in enumerate(listed, 1) if answer in (str(n), str(one.port), one.name.lower())), None
        )
        if chosen is None:
            print_error(f"{answer!r} is not in the list: enter a number from 1 to {len(listed)}, or n")
        else:
            return chosen


def _restart_profile(options: ChatOptions, profile: ProfileSummary, ask: Ask) -> None:
    """Start a profile where others found it last; on another port if its own is taken."""
    recall_start(options, profile.directory)
    options.port = profile.port
    if not is_free(options.host, profile.port):
        options.data, options.port = str(profile.directory), free_port(options.host, {profile.port})
        print_notice(f"-- port {profile.port} is taken by another program: using {options.port} this time")
    print_notice(f"-- starting {profile.label} again (port {profile.port})")
    if not options.name and not profile.name:
        options.name = _ask_name(login_name(), ask)


def _profile_in_data(options: ChatOptions, ask: Ask) -> None:
    """Start the profile of --data where it listened last, or on any port."""
    directory = Path(os.path.expanduser(options.data))
    options.port = port_of(directory)
    if not options.port or not is_free(options.host, options.port):
        options.port = free_port(options.host)
    if not options.name and not summarize_profile(directory, 0).name:
        options.name = _ask_name(login_name(), ask)


def _new_profile(options: ChatOptions, known: Sequence[ProfileSummary], ask: Ask) -> None:
    """Start a new peer, linked with a running one of this login if there is any."""
    _pick_port(options, known)
    if not options.name:
        usual = login_name()
        options.name = _ask_name(login_name(options.port) if usual in {one.name for one in known} else usual, ask)
        _pick_port(options, _known_profiles(options))  # another one may have started meanwhile


def _pick_port(options: ChatOptions, known: Sequence[ProfileSummary]) -> None:
    """Choose a free port, and the newest running peer of this login to link with."""
    options.port = free_port(options.host, {one.port for one in known})
    running = [one for one in known if one.holder is not None]
    if running and not options.endpoints and not options.invite:
        last = max(running, key=lambda one: one.held_at)
        print_notice(f"-- {last.label} is already running on port {last.port}: starting another peer, linked with it")
        options.endpoints = (f"{LOOPBACK}:{last.port}",)


def _ask_name(default: str, ask: Ask) -> str:
    while True:
        try:
            return validate_name(_answer(ask, f"Your name [{default}]: ") or default)
        except ValueError as error:
            print_error(str(error))


def _answer(ask: Ask, prompt: str) -> str:
    answer = ask(prompt)
    if answer is None:
        raise InputEnded
    return answer


def next_steps(port: int, host: str, network: str, names: Collection[str], *, has_invite: bool, dials: bool) -> str:
    """Return lines that say what to do next.

    Args:
        network: The name of a named network; "" for another.
        names: Names that are taken.
        has_invite: An invite stands above.
        dials: This peer dials others, so nobody has to join it.
    """
    typing = "-- Enter sends to everyone here; /help shows more, /quit leaves"
    if dials:
        return typing
    name = next((name for name in EXAMPLES if name not in names), EXAMPLES[0])
    there = ["--network", network] if network else []
    other = next_port(port, LOOPBACK, network or None)
    near = f"-- another terminal joins with: {command(other, port, *there, '--name', name)}"
    lines = [near, typing]
    if has_invite:
        lines.insert(1, f"-- another machine joins with: {JOIN_COMMAND}, and the invite above")
    elif is_loopback(host):
        lines.insert(1, f"-- for other machines: /quit, then {command(port, *there, '--host', '0.0.0.0')}")
    return "\n".join(lines)


# ---- joining a network


def open_to_others(options: ChatOptions, invite: str | None, *, is_person: bool) -> None:
    """Let a person's peer listen for other machines if it joined the network of one, and nobody chose where it listens.

    Members there can then dial it. Programs stay on loopback, and so does whoever is alone.

    Args:
        invite: The text of the invite that the options name.
        is_person: A person types here, and reads what is said of it.
    """
    here = own_addresses()
    hosts = [endpoint.rpartition(":")[0].strip("[]") for endpoint in endpoints_of(invite or "")]
    options.joined = options.joined or not all(is_loopback(host) or host in here for host in hosts)
    may_open = is_person and not (options.as_json or options.host_chosen or options.no_listen)
    if options.joined and may_open and is_free(EVERYWHERE, options.port):
        options.host = EVERYWHERE


JOINS_SETTLE_AFTER = 0.5  # seconds without news: a guess at what people gladly wait
JOIN_SUMMARY_WITHIN = 3.0  # seconds after the first link, for networks where users come and go all the time
INVITER_KNOWN_WITHIN = 15.0  # seconds after the first link, for a busy machine that says late who is there; a guess


class JoinSummary:
    """One line about the network joined with an invite, once it is known who is there.

    Links come up and users appear one after the other; the summary waits until no more do, and for the inviter.

    Args:
        invite: Its text; "": none was given.
        dials: Whether this start dials anyone.
    Attributes:
        in_progress: True from the first outgoing link until the summary: users who appear then are not new.
        finished: No summary will follow.
    """

    def __init__(self, peer: TCPPeer, invite: str, *, dials: bool) -> None:
        self._peer = peer
        self._inviter = parse_invite(invite).peer_id if invite else ""
        self._endpoint = ""  # of the first link
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self.finished: bool = not dials
        self.in_progress: bool = False

    def on_event(self, event: Any) -> None:
        """Handle any event of the peer."""
        is_outgoing = isinstance(event, Link) and event.state == "up" and event.endpoint
        if self.finished or not (self.in_progress or is_outgoing):
            return
        loop = asyncio.get_running_loop()
        if not self.in_progress:
            self.in_progress, self._endpoint, self._deadline = True, event.endpoint, loop.time() + JOIN_SUMMARY_WITHIN
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(min(loop.time() + JOINS_SETTLE_AFTER, self._deadline), self._finish)

    def close(self) -> None:
        """Print nothing any more."""
        self.in_progress, self.finished = False, True
        if self._timer is not None:
            self._timer.cancel()

    def _finish(self) -> None:
        loop, users = asyncio.get_running_loop(), self._peer.users()
        inviter = self._find_inviter(users) if self._inviter else None
        if (
            self._inviter
            and inviter is None
            and loop.time() < self._deadline - JOIN_SUMMARY_WITHIN + INVITER_KNOWN_WITHIN
        ):
            self._timer = loop.call_later(JOINS_SETTLE_AFTER, self._finish)
            return
        self.in_progress, self.finished = False, True
        if not self._inviter:
            return
        whose = "" if inviter is None else f" of {quote_name(inviter.label)}"
        online = sum(user.is_me or user.status in ("online", "idle") for user in users)
        now = "all online" if online == len(users) else f"{online} of them online"
        print_notice(f"-- joined the network{whose} at {safe_line(self._endpoint)}: {len(users)} people, {now}")

    def _find_inviter(self, users: Sequence[User]) -> User | None:
        """Return the user whose peer made the invite; of a machine with a key of its own whoever admitted this one."""
        for user in users:
            if user.key == self._inviter:
                return user
        with suppress(P2PChatError):  # nothing is known of the members yet
            by = self._peer.people.find(self._peer.me).by
            return by if by in users else None
        return None


# ---- startup errors


MAX_PORT_ATTEMPTS = 8  # free ports that other processes took in the same moment
_PROBE_TIMEOUT = 1.0  # seconds
_NO_PEER = frozenset(("refused", "no_answer", "unreachable", "no_such_host", "cut", "silent", "other_program"))


class StartupErrors:
    """Advice for errors that keep a peer from starting: one line, mostly with a command to copy.

    Args:
        others: The words of the command line without PORT.
    """

    def __init__(self, options: ChatOptions, others: Sequence[str]) -> None:
        self._options = options
        self._others = list(others)
        self._tried: set[int] = set()
        self._was_there = options.port > 0 and (
            profile_directory(options.port, options.network) in known_profiles(options.network)
        )

    def try_next_port(self, error: P2PChatError) -> bool:
        """Choose another port if the one chosen by the wizard was taken meanwhile; False: the error is another one."""
        is_picked = self._options.bare and not self._was_there and not self._options.data
        if not is_picked or not isinstance(error, (PortInUse, DataLocked)) or len(self._tried) >= MAX_PORT_ATTEMPTS:
            return False
        self._tried.add(self._options.port)
        self._options.port = free_port(self._options.host, self._tried)
        return True

    def explain(self, error: P2PChatError) -> Exception:
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
        """Return the command line with another port and the same identity."""
        rest = self._others
        if any(looks_like_invite(word) for word in rest):
            rest = ["--invite", "-"]
        if self._was_there and not (self._options.data or self._options.temp):
            rest = [*rest, "--data", str(profile_directory(self._options.port, self._options.network))]
        return command(port, *rest)

    def _in_use(self, error: DataLocked) -> CommandError:
        who = f"process {error.pid}" if error.pid else "another process"
        which = profile_words(Path(error.path))
        send, tail = command("send", "room", "TEXT", *which), command("tail", *which)
        other = "another peer needs its own port and directory"
        if not self._options.data:
            other = f"for another peer: {command(next_port(self._options.port), self._options.port)}"
        return CommandError(f"{error.path} is in use by {who}; use it with `{send}` and `{tail}`; {other}")


def _who_listens(port: int) -> str:
    """Return what listens on a port of this machine."""
    try:
        verdict = asyncio.run(probe(port, timeout=_PROBE_TIMEOUT)).verdict
    except (P2PChatError, ValueError, OSError):
        return "another program"
    return "another program" if verdict in _NO_PEER else "another p2pchat peer"
