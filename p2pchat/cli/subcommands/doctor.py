"""`p2pchat doctor`: looks at everything that can be wrong with a peer, and says how to mend it.

What is looked at is in doctoring/, one subject a file; here it is asked in order and printed as it comes. Only looks:
nothing is made, mended or kept open.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from p2pchat import (
    History,
    Message,
    ProfileState,
    Sent,
    StorageError,
    inspect_profile,
    known_profiles,
    open_history,
    probe,
)
from p2pchat.cli.command_table import DOCTOR_COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import ProfileChoice, database_of, find_profile, parse_words, which_peer
from p2pchat.cli.subcommands.doctor_checks import (
    Finding,
    check_clock,
    check_database,
    check_disk,
    check_machine,
    check_profile,
    from_error,
    ok,
    warning,
    with_progress,
)
from p2pchat.cli.subcommands.doctor_network import (
    LOOPBACKS,
    check_firewalls,
    check_nat,
    check_peers,
    check_port,
    check_reachability,
    check_remote,
    is_only_loopback,
    probe_own_addresses,
    user_label,
)
from p2pchat.commands.endpoints import command, parse_endpoint
from p2pchat.commands.errors import DONE, FAILED, CommandError, UsageError
from p2pchat.commands.invites import own_addresses
from p2pchat.commands.output import json_line
from p2pchat.commands.wrap import fold, terminal_width
from p2pchat.safe_text import safe_line

USUAL_PORT = 8080  # of the examples
NEWEST = 1000  # messages whose times the clock is compared with
_COLUMNS = (9, 10)  # of the verdict and of what was looked at


@dataclass(slots=True)
class DoctorOptions:
    """`p2pchat doctor [HOST:PORT]`. `endpoint` "" looks at the peer itself."""

    which: ProfileChoice
    endpoint: str = ""
    db: str = field(default="", repr=False)
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The peer that is looked at: its profile, and the port it has or will have, 0 when nobody says."""

    state: ProfileState
    port: int
    db: str

    @property
    def is_readable(self) -> bool:
        """Whether key and network can be used, so that one can knock at doors as this peer would."""
        return not self.state.key_trouble and not self.state.network_trouble


def parse_doctor(argv: Sequence[str]) -> DoctorOptions:
    """Read `doctor [HOST:PORT] [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(DOCTOR_COMMAND, argv)
    if len(words) > 1:
        raise UsageError(f"doctor takes one HOST:PORT at most, these are {len(words)} words")
    endpoint = parse_endpoint(words[0]) if words else ""
    return DoctorOptions(which_peer(given, typed), endpoint, database_of(given, typed), given["as_json"])


def run_doctor(argv: Sequence[str]) -> int:
    """Print what was found; 1 when something is wrong."""
    options = parse_doctor(argv)
    return asyncio.run(_print(options, _profile(options.which)))


def _profile(which: ProfileChoice) -> Path | None:
    """Return the profile that is meant; None when nothing was said and there is none yet."""
    if not which.data and which.port < 0 and not known_profiles():
        return None
    return find_profile(which).expanduser().absolute()


async def _print(options: DoctorOptions, directory: Path | None) -> int:
    found: list[Finding] = []
    findings = _check_endpoint(options, directory) if options.endpoint else examine(options, directory)
    async for finding in findings:
        found.append(finding)
        print(json_line(asdict(finding)) if options.as_json else shown(finding), flush=True)
    if not options.as_json and not options.endpoint:
        print(summary(found), flush=True)
    return FAILED if any(finding.verdict == "wrong" for finding in found) else DONE


def shown(finding: Finding) -> str:
    """Return a finding as people read it: one line, and how to mend it on one more."""
    verdict, what = _COLUMNS
    head = f"{finding.verdict:<{verdict}}{finding.what:<{what}}"
    lines = [fold(f"{head} {safe_line(finding.seen)}", terminal_width(sys.stdout), verdict + what + 1)]
    if finding.mend:
        lines.append(" " * verdict + f"-> {safe_line(finding.mend)}")
    return "\n".join(lines)


def summary(found: Sequence[Finding]) -> str:
    """Return the last line."""
    wrongs, warnings = (sum(finding.verdict == verdict for finding in found) for verdict in ("wrong", "warning"))
    told = f"{wrongs} {'thing is' if wrongs == 1 else 'things are'} wrong" if wrongs else "nothing is wrong"
    return told + (f", {warnings} warning{'' if warnings == 1 else 's'}" if warnings else "")


async def _check_endpoint(options: DoctorOptions, directory: Path | None) -> AsyncIterator[Finding]:
    """Look at the way to an endpoint."""
    found = await probe(options.endpoint, data=directory)
    yield check_remote(found, await user_label(found.peer_id, directory, options.db))


async def examine(options: DoctorOptions, directory: Path | None) -> AsyncIterator[Finding]:
    """Look at everything about one profile; None looks at the machine only."""
    for finding in check_machine():
        yield finding
    if directory is None:
        yield warning("profile", "there is none yet", f"start a peer, which makes one: {command(USUAL_PORT)}")
        yield check_clock(datetime.now(UTC), [])
        return
    state = await asyncio.to_thread(inspect_profile, directory)
    for finding in check_profile(state):
        yield finding
    running, trouble = await _running_port(directory)
    if trouble:
        yield warning("commands", trouble, "end that process, and start the peer again")
    diagnosis = Diagnosis(state, running or _usual_port(options.which, directory), options.db)
    own = await asyncio.to_thread(own_addresses)
    async for finding in _check_ways_in(diagnosis, own):
        yield finding
    async for finding in _check_stored(diagnosis, own):
        yield finding
    if state.exists:
        yield await asyncio.to_thread(check_disk, directory)


async def _running_port(directory: Path) -> tuple[int, str]:
    """Return where the running peer of a profile listens, 0 when none answers; and what is wrong with its answering."""
    try:
        control = await connect(directory)
    except CommandError as failure:
        return 0, str(failure)
    if control is None:
        return 0, ""
    await control.aclose()
    return int(control.listening["port"]), ""


def _usual_port(which: ProfileChoice, directory: Path) -> int:
    """Return the port that was said, or that the directory is for."""
    if which.port >= 0:
        return which.port
    return int(directory.name) if directory.name.isdecimal() and int(directory.name) <= 65535 else 0


async def _check_ways_in(diagnosis: Diagnosis, own: Sequence[str]) -> AsyncIterator[Finding]:
    """Look at the port and at how others reach it."""
    number = diagnosis.port
    if not number:
        yield ok("port", "which one this peer has is not known while it does not run", "say it with --port PORT")
        return
    found = {}
    if diagnosis.is_readable:
        found = await probe_own_addresses(number, [*LOOPBACKS, *own], str(diagnosis.state.directory))
    yield check_port(number, found, diagnosis.state.holder)
    for finding in check_reachability(number, own, found):
        yield finding
    if not is_only_loopback(own, found):
        for finding in await asyncio.to_thread(lambda: list(check_firewalls(number))):
            yield finding


async def _check_stored(diagnosis: Diagnosis, own: Sequence[str]) -> AsyncIterator[Finding]:
    """Look at what is stored, and at what it says of the clock and of the network around."""
    state, posts = diagnosis.state, list[Message | Sent]()
    if not state.peer_id:
        if state.key_trouble:
            yield ok("database", "not looked at before the key can be read")
    elif diagnosis.db.startswith("memory:"):
        yield ok("database", "none: everything is in memory")
    elif not diagnosis.db and not state.database_path.exists():
        yield ok("database", "nothing is stored yet")
    else:
        try:
            async with open_history(state.directory, db=diagnosis.db or None) as history:
                yield await with_progress(f"looking through {state.database_path}", check_database(history))
                posts = await history.history(limit=NEWEST)
                async for finding in _check_known_peers(diagnosis, own, history):
                    yield finding
        except StorageError as error:
            yield from_error("database", error)
    yield check_clock(datetime.now(UTC), posts)


async def _check_known_peers(diagnosis: Diagnosis, own: Sequence[str], history: History) -> AsyncIterator[Finding]:
    """Look at the peers that are known here."""
    known = history.addresses()
    for finding in check_nat(diagnosis.port or USUAL_PORT, own, [address.endpoint for address in known]):
        yield finding
    if diagnosis.is_readable:
        for finding in await check_peers(known, str(diagnosis.state.directory)):
            yield finding
