"""`p2pchat` without a port, on a terminal: who one is, and on which port, is asked for or picked.

Nothing was ever started here: a name is asked for and a free port taken. One profile: it is started again. Several:
which one. All of them run: one more peer, linked with one that runs, which is what somebody wants who opens a second
terminal to try it. Only what is missing is asked for, and Enter is always an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from p2pchat import P2PChatError, login_name, parse_invite, profile_invite, validate_name
from p2pchat.apps.cli.asking import NothingSaid
from p2pchat.apps.cli.chat.known import Known, look, started_before
from p2pchat.apps.cli.chat.options import ChatOptions
from p2pchat.apps.cli.ports import free_port, is_free, next_port
from p2pchat.apps.cli.program import program
from p2pchat.commands.endpoints import LOOPBACK, is_loopback
from p2pchat.commands.errors import complain, tell
from p2pchat.commands.format import shown_time
from p2pchat.commands.invites import JOIN_COMMAND
from p2pchat.commands.settings import ChatSettings

EXAMPLES = ("bob", "carol", "dan", "erin", "frank")  # names for whoever joins next
MOST_LISTED = 9  # profiles, the newest first

Ask = Callable[[str], str | None]


def settle(options: ChatOptions, invite: str | None, ask: Ask) -> ChatOptions:
    """Fill in what is missing: the port, the name, and which profile.

    Args:
        invite: Read already; None when none was given.
    Raises:
        NothingSaid: A question was answered with the end of input. Failure: No port is free.
    """
    known = _known(options)
    if options.name and any(one.name == options.name and one.holder is not None for one in known):
        _hint_running(next(one for one in known if one.name == options.name))
        options.name = ""
    profile = _which(options, known, invite, ask)
    if profile is not None:
        return _again(options, profile, ask)
    if options.data:
        return _at_its_place(options, ask)
    return _anew(options, known, ask)


# ---- which profile


def _known(options: ChatOptions) -> list[Known]:
    """Return the profiles it may be, as they are now."""
    return [] if options.data or options.temp or options.key else started_before()


def _which(options: ChatOptions, known: Sequence[Known], invite: str | None, ask: Ask) -> Known | None:
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


def _newest_first(some: Sequence[Known]) -> list[Known]:
    return sorted(some, key=lambda one: -one.used_at)


def _of_this_network(idle: Sequence[Known], invite: str) -> Known | None:
    """Return a profile that is in the invite's network, else the only one that can still go there."""
    network = parse_invite(invite).network.id
    for one in idle:
        with suppress(P2PChatError):
            if parse_invite(profile_invite(one.directory, [f"{LOOPBACK}:1"])).network.id == network:
                return one
    free = [one for one in idle if not one.is_settled]
    return free[0] if len(free) == 1 else None


def _ask_which(listed: Sequence[Known], ask: Ask) -> Known | None:
    """Let one be chosen; the first, the newest that does not run, by Enter."""
    now = datetime.now().astimezone()
    tell("Which one? Each port has an identity and a history of its own:")
    for number, one in enumerate(listed, 1):
        used = shown_time(datetime.fromtimestamp(one.used_at, now.tzinfo).isoformat(), now)
        state = f"used {used}" if one.holder is None else f"runs now, process {one.holder or '?'}"
        tell(f"  {number}  {one.port:<5} {one.label}, {state}")
    tell("  n  a new one")
    while True:
        answer = _asked(ask, "Number, or n [1]: ").lower() or "1"
        if answer == "n":
            return None
        chosen = next(
            (one for n, one in enumerate(listed, 1) if answer in (str(n), str(one.port), one.name.lower())), None
        )
        if chosen is None:
            complain(f"{answer!a} is none of them: a number from 1 to {len(listed)}, or n")
        elif chosen.holder is not None:
            _hint_running(chosen)
        else:
            return chosen


def _hint_running(one: Known) -> None:
    complain(f"{one.label} runs already, on port {one.port}: {beside(one.port)}")


def beside(port: int) -> str:
    """Return what one can do beside a running peer."""
    return f"`{program()} send room TEXT --port {port}` and `{program()} tail --port {port}` work beside it"


# ---- what follows


def _again(options: ChatOptions, profile: Known, ask: Ask) -> ChatOptions:
    """A profile there is, where others found it last; on another port while somebody else has its own."""
    last = ChatSettings.load(profile.directory).last_start
    if not options.host_given:
        options.host, options.advertise = last.host, options.advertise or last.advertise
    options.discover = options.discover or last.discover
    options.port = profile.port
    if not is_free(options.host, profile.port):
        options.data, options.port = str(profile.directory), free_port(options.host, {profile.port})
        tell(f"-- another program listens on port {profile.port}: on {options.port} this time")
    tell(f"-- starting {profile.label} again (port {profile.port})")
    if not options.name and not profile.name:
        options.name = _ask_name(login_name(), ask)
    return options


def _at_its_place(options: ChatOptions, ask: Ask) -> ChatOptions:
    """The profile of --data, on any port."""
    directory = Path(options.data).expanduser()
    found = look(directory, 0) if (directory / "identity.pem").exists() else None
    options.port = free_port(options.host)
    if not options.name and (found is None or not found.name):
        options.name = _ask_name(login_name(), ask)
    return options


def _anew(options: ChatOptions, known: Sequence[Known], ask: Ask) -> ChatOptions:
    """A new peer; when others of this login run, linked with one of them."""
    _pick_place(options, known)
    if not options.name:
        usual = login_name()
        options.name = _ask_name(login_name(options.port) if usual in {one.name for one in known} else usual, ask)
        _pick_place(options, _known(options))  # somebody may have started meanwhile in another terminal
    return options


def _pick_place(options: ChatOptions, known: Sequence[Known]) -> None:
    """Take a free port, and a running peer of this login to link with."""
    options.port = free_port(options.host, {one.port for one in known})
    running = [one for one in known if one.holder is not None]
    if running and not options.endpoints and not options.invite and not options.open_network:
        first = running[0]
        tell(f"-- {first.label} runs on port {first.port} already: this is one more peer, linked with it")
        options.endpoints = (f"{LOOPBACK}:{first.port}",)


def _ask_name(usual: str, ask: Ask) -> str:
    while True:
        try:
            return validate_name(_asked(ask, f"Your name [{usual}]: ") or usual)
        except ValueError as error:
            complain(str(error))


def _asked(ask: Ask, prompt: str) -> str:
    answer = ask(prompt)
    if answer is None:
        raise NothingSaid
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
