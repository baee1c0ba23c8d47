"""Checks of this machine and of a profile, for `p2pchat doctor`: Python, clock, disk, database, key, lock.

A check returns findings: one line each about one subject, with one way to fix it where something is wrong.
"""

from __future__ import annotations

import os
import platform
import ssl
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from p2pchat import (
    History,
    Message,
    P2PChatError,
    ProfileState,
    Sent,
    Settings,
    __version__,
    read_login_network,
)
from p2pchat.cli.profiles import key_commands, port_of
from p2pchat.commands.shell_command import command, quoted
from p2pchat.safe_text import safe_line

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One line of `p2pchat doctor`.

    Attributes:
        what: The subject, one word.
        verdict: `wrong` keeps p2pchat from working, `warning` may.
        seen: What was found, a sentence without a full stop.
        mend: A command to run or a thing to do; "" where there is nothing to do.
    """

    what: str
    verdict: Verdict
    seen: str
    mend: str = ""


def ok(what: str, seen: str, mend: str = "") -> Finding:
    """Return a good finding; `mend` is what can be done to be sure."""
    return Finding(what, "ok", seen, mend)


def warning(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, "warning", seen, mend)


def wrong(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, "wrong", seen, mend)


def from_error(what: str, error: BaseException | str) -> Finding:
    """Return a finding from an error of the library, whose text says what is wrong, a colon, and what to do."""
    seen, colon, mend = str(error).partition(": ")
    return wrong(what, seen, mend if colon else "start the peer: its error may say more")


# ---- machine

EXTRAS = {"zeroconf": "--discover", "mcp": "p2pchat mcp"}


def check_machine() -> Iterator[Finding]:
    """Check what all peers of this machine share."""
    yield ok("python", f"p2pchat {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}")
    yield check_extras()


def check_extras() -> Finding:
    def present(name: str) -> str:
        return "here" if find_spec(name) else "not installed"

    return ok("extras", ", ".join(f"{name} ({use}): {present(name)}" for name, use in EXTRAS.items()))


# ---- clock
#
# The time a message was written and the time it came here differ by its delay and by the two clocks. A message that
# came before it was written shows that its writer's clock is ahead. A message that came late may only have waited: a
# machine that wakes up gets many at once, each with another delay. Messages written at different times with the same
# delay did not wait, so their delay is the difference of the clocks. Two writers who agree outvote this machine.

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # before p2pchat
TOLERATED = timedelta(minutes=1)
OLDEST = timedelta(days=2)  # older messages say little about the clock as it is now
SAME = timedelta(seconds=10)  # delays of about the same length; a guess
APART = timedelta(minutes=1)  # times that are not one burst
ENOUGH_WRITERS = 2  # who agree; with one alone it is not known whose clock is off

SET_COMMANDS = {
    "linux": "sudo timedatectl set-ntp true",
    "darwin": "sudo sntp -sS time.apple.com",
    "win32": "w32tm /resync",
}


def check_clock(now: datetime, posts: Sequence[Message | Sent]) -> Finding:
    """Compare the clock with the times of the newest messages (`posts`)."""
    mend = f"set the clock: {SET_COMMANDS.get(sys.platform, SET_COMMANDS['linux'])}"
    if now < EARLIEST:
        return wrong("clock", f"it says {now:%Y-%m-%d}, which is in the past", mend)
    latest = max((post.received_at for post in posts), default=now)
    if latest > now + TOLERATED:
        text = f"messages were received here {span(latest - now)} from now: the clock went back, or was ahead before"
        return wrong("clock", text, mend)
    offsets = dict(_offsets(now, posts))
    for sign, where in ((-1, "behind"), (1, "ahead of")):
        off = [sign * offset for offset in offsets.values() if sign * offset > TOLERATED]
        if len(off) >= ENOUGH_WRITERS and len(off) * 2 > len(offsets):
            return wrong("clock", f"it is {span(min(off))} or more {where} those of {len(off)} others", mend)
    for label, offset in offsets.items():
        if abs(offset) > TOLERATED:
            text = f"it and the clock of {label} differ by {span(abs(offset))}; one of the two is wrong"
            return warning("clock", text, mend)
    return ok("clock", f"{now.astimezone():%Y-%m-%d %H:%M:%S %z}" + (", as others have it" if offsets else ""))


def _offsets(now: datetime, posts: Sequence[Message | Sent]) -> Iterator[tuple[str, timedelta]]:
    """Yield (label, how far this clock is ahead) for each writer of recent messages whose clock can be compared."""
    of: dict[str, list[Message]] = defaultdict(list)
    for post in posts:
        if isinstance(post, Message) and not post.old and post.received_at > now - OLDEST:
            of[post.sender.id].append(post)
    for messages in of.values():
        least = min(map(_delay, messages))
        if least < TOLERATED or _did_not_wait(messages, least):
            yield messages[0].sender.label, least


def _delay(message: Message) -> timedelta:
    return message.received_at - message.sent_at


def _did_not_wait(messages: Sequence[Message], least: timedelta) -> bool:
    """Return whether the fastest of these were written at different times and had about the same delay."""
    written = [message.sent_at for message in messages if _delay(message) - least < SAME]
    return max(written) - min(written) >= APART


def span(length: timedelta) -> str:
    """Return a length of time for people, as "3 hours"."""
    seconds = length.total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


# ---- database

RESTORE = (
    "stop the peer, move history.db away and start again: what others hold comes back; or put a backup in its place"
)


async def check_database(history: History) -> Finding:
    """Read all of an opened database. Raises StorageError when it cannot be read."""
    found = await history.check()
    if found.faults:
        more = f" and {len(found.faults) - 1} more" if len(found.faults) > 1 else ""
        return wrong("database", f"it is damaged ({safe_line(found.faults[0])}{more})", RESTORE)
    if found.lost:
        return warning(
            "database", f"whole, {size(found.size_bytes)}, but {found.lost}", "check the disk, then delete it"
        )
    return ok("database", f"whole, {size(found.size_bytes)}")


# ---- disk


def check_disk(directory: Path, free: int) -> Finding:
    """Check how many bytes are free for an existing directory."""
    limit = Settings().min_free_disk_bytes
    text = f"{size(free)} are free where {directory} is"
    if free < limit:
        return wrong("disk", f"{text}: below {size(limit)} nothing is accepted", "free some space on that disk")
    if free < 2 * limit:
        return warning(
            "disk",
            f"{text}: nothing of others is accepted, below {size(limit)} nothing",
            "free some space on that disk",
        )
    return ok("disk", text)


def size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, bytes_ in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}" if count < 10 * bytes_ else f"{count / bytes_:.0f} {unit}"
    return f"{count} bytes"


# ---- profile

OTHERS_WRITE = 0o022


def check_profile(state: ProfileState) -> Iterator[Finding]:
    """Check everything in a data directory except the database."""
    yield check_directory(state)
    if state.exists:
        yield check_key(state)
        yield check_network(state)
        yield from check_backup(state)
        yield check_lock(state)


def check_directory(state: ProfileState) -> Finding:
    if not state.exists:
        start = command(port_of(state.directory) or 8080)
        return warning("profile", f"there is nothing at {state.directory}", f"start a peer, which creates it: {start}")
    private = f"chmod 700 {quoted(str(state.directory))}"
    if state.others_mode & OTHERS_WRITE:
        return wrong("profile", f"others may write to {state.directory}", private)
    if state.others_mode:
        return warning("profile", f"others may read {state.directory}", private)
    if not os.access(state.directory, os.R_OK | os.W_OK | os.X_OK):
        return wrong("profile", f"{state.directory} cannot be written", "run this as its owner, or give it back to you")
    return ok("profile", str(state.directory))


def check_key(state: ProfileState) -> Finding:
    if state.key_trouble:
        return from_error("key", state.key_trouble)
    if state.peer_id:
        return ok("key", f"{state.key_path.name} of peer {state.peer_id[:8]}")
    if state.database_path.exists():
        mend = "restore identity.pem from a backup, or start with --key; otherwise the next start makes a new user"
        return warning("key", f"there is a history in {state.directory}, but not the key of its user", mend)
    return warning("key", f"no peer has used {state.directory} yet", "start one there, or name another directory")


def check_network(state: ProfileState) -> Finding:
    if state.network_trouble:
        return from_error("network", state.network_trouble)
    if not state.network:
        return ok("network", "none yet: the first start creates one, or joins one with --invite")
    whose = "its own" if state.network_path.parent == state.directory else "this login's"
    name = safe_line(state.network_name)
    return ok("network", f"{whose}, {name}: whoever knows that name is a member" if name else f"{whose}, with invites")


def check_backup(state: ProfileState) -> Iterator[Finding]:
    """Remind of a copy of the founder's key, until there is one, and of the key that was left on another machine."""
    if not state.network_id or state.network_trouble:
        return
    try:
        found = read_login_network(state.directory)
    except P2PChatError as error:
        yield from_error("founder", str(error))
        return
    take, put = key_commands(state.directory)
    is_device = (state.directory / "user.pem").exists()  # it needs no key of the member
    if found.role == "guest" and not is_device and read_login_network().role in ("guest", ""):
        seen = "the key of this network's member is on another machine: no other profile can be started here"
        yield warning("member", seen, f"there {take}, and here {put}")
    if found.role == "founder" and not found.backed_up:
        seen = "there is no copy of this network's founder's key: without it nobody can make admins"
        yield warning("founder", seen, f"make one: {take}")


def check_lock(state: ProfileState) -> Finding:
    if state.holder is None:
        return ok("lock", "no peer is using this profile now")
    return ok("lock", f"in use by {f'process {state.holder}' if state.holder else 'another process'}")
