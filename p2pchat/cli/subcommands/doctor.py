"""The command `p2pchat doctor`: checks everything that can be wrong with a peer, and says how to fix it.

The checks are in doctor_checks.py (this machine and the profile) and doctor_network.py. They only look: nothing is
created, changed or kept open.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage

import click

from p2pchat import (
    Message,
    P2PChatError,
    ProfileState,
    Sent,
    StorageError,
    inspect_profile,
    known_profiles,
    open_history,
    probe,
)
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import (
    ENDPOINT,
    Command,
    ProfileChoice,
    json_option,
    stored_options,
)
from p2pchat.cli.profiles import find_profile, port_of
from p2pchat.cli.subcommands import doctor_checks as checks
from p2pchat.cli.subcommands import doctor_network as network
from p2pchat.cli.subcommands.doctor_checks import Finding, ok, warning
from p2pchat.commands.endpoints import ANOTHER_ADDRESS, own_addresses
from p2pchat.commands.event_text import UNREACHABLE, EventLine, exclusion_text, format_user, is_gateway
from p2pchat.commands.exit_codes import DONE, FAILED, CommandError
from p2pchat.commands.shell_command import command
from p2pchat.commands.standard_output import json_line
from p2pchat.commands.wrap import fold, terminal_width
from p2pchat.safe_text import quote_name, quote_names, safe_line
from p2pchat.threads import in_thread

USUAL_PORT = 8080  # as in the examples
NEWEST = 1000  # messages that the clock is compared with
_COLUMNS = (9, 10)  # widths of the verdict and of the subject


EPILOG = """\
\b
Examples:
  p2pchat doctor
  p2pchat doctor 192.168.1.20:8080
  p2pchat doctor --port 8080 --json | jq -r 'select(.verdict != "ok") | .mend'

Exit codes: 0 nothing is wrong (there may be warnings); 1 something is; 2 usage.
"""


@click.command("doctor", cls=Command, epilog=EPILOG)
@click.argument("endpoint", required=False, metavar="[HOST:PORT]", type=ENDPOINT)
@stored_options
@json_option
def doctor(endpoint: str | None, profile: ProfileChoice, db: str, as_json: bool) -> int:
    """Find out what is wrong, with or without a running peer: key and files, port, access from outside, clock, disk,
    database.

    One line for each check, ok, warning or wrong, and below it how to fix it. With HOST:PORT only the way from here to
    there is checked: who answers, and if nobody does, why.
    """
    directory = _find_profile(profile)
    findings = _check_endpoint(endpoint, directory, db) if endpoint else examine(profile, directory, db)
    return asyncio.run(_print(findings, as_json, with_summary=not endpoint))


def _find_profile(choice: ProfileChoice) -> Path | None:
    """Return the profile that is meant, or None where none was named and there is none yet."""
    if not choice.data and choice.port < 0 and not known_profiles(choice.network):
        return None
    return find_profile(choice, acts=True)


async def _print(findings: AsyncIterator[Finding], as_json: bool, *, with_summary: bool) -> int:
    found: list[Finding] = []
    async for finding in findings:
        found.append(finding)
        print(json_line(asdict(finding)) if as_json else shown(finding), flush=True)
    if with_summary and not as_json:
        print(summary(found), flush=True)
    return FAILED if any(finding.verdict == "wrong" for finding in found) else DONE


def shown(finding: Finding) -> str:
    """Return a finding for people: one line, and a second one that says how to fix it."""
    verdict, what = _COLUMNS
    head = f"{finding.verdict:<{verdict}}{finding.what:<{what}}"
    lines = [fold(f"{head} {safe_line(finding.seen)}", terminal_width(sys.stdout), verdict + what + 1)]
    if finding.mend:
        lines.append(" " * verdict + f"-> {safe_line(finding.mend)}")
    return "\n".join(lines)


def summary(found: Sequence[Finding]) -> str:
    """Return the last line: how many things are wrong, and how many warnings there are."""
    wrongs, warnings = (sum(finding.verdict == verdict for finding in found) for verdict in ("wrong", "warning"))
    text = f"{wrongs} {'thing is' if wrongs == 1 else 'things are'} wrong" if wrongs else "nothing is wrong"
    return text + (f", {warnings} warning{'' if warnings == 1 else 's'}" if warnings else "")


async def _check_endpoint(endpoint: str, directory: Path | None, db: str) -> AsyncIterator[Finding]:
    found, name = await probe(endpoint, data=directory), ""
    if directory is not None and found.peer_id:
        with suppress(P2PChatError):
            async with open_history(directory, db=db or None) as history:
                for user in history.users():
                    if user.id == found.peer_id:
                        name = user.label
    yield network.check_remote(found, name)


async def examine(choice: ProfileChoice, directory: Path | None, db: str) -> AsyncIterator[Finding]:
    """Check everything about one profile; without a profile (None) this machine only."""
    for finding in checks.check_machine():
        yield finding
    if directory is None:
        yield warning("profile", "there is none yet", f"start a peer, which creates one: {command(USUAL_PORT)}")
        yield checks.check_clock(datetime.now(UTC), [])
        return
    state = await in_thread(inspect_profile, directory)
    for finding in checks.check_profile(state):
        yield finding
    host, port = "", 0
    users: list[EventLine] | None = None  # as the running peer lists them
    try:
        control = await connect(directory)
        if control is not None:
            async with aclosing(control):
                users = await control.ask("who")
                users += [
                    {"user": f"your {one['name']}", "me": False, "status": "online", "cut_by": ""}
                    for one in await control.ask("devices")
                    if one["linked"]
                ]
            host, port = control.listening["host"], control.listening["port"]
    except CommandError as failure:
        yield warning("commands", str(failure), "end that process, then start the peer again")
    # As this peer others can be probed if its key and its network can be read.
    data = None if state.key_trouble or state.network_trouble else str(directory)
    if port:
        yield ok("port", f"{port} is this peer's, which answers")
    else:
        host, port = "", max(choice.port, 0) or port_of(directory)
        if port:
            yield await network.check_port(port, data, state.holder)
        else:
            yield ok("port", "no peer answers for this profile, so its port is not known", "add --port PORT")
    for finding in network.check_reachability(host, port, await in_thread(own_addresses)):
        yield finding
    async for finding in _check_stored(state, db, users, data):
        yield finding
    if state.exists:
        disk = await in_thread(disk_usage, directory)
        yield checks.check_disk(directory, disk.free)


def _linked(users: Sequence[EventLine]) -> str:
    """Return who is linked, and through whom."""
    by_carrier = dict[str, list[str]]()
    for user in users:
        if not user["me"] and (user["status"] in ("online", "idle") or is_gateway(user)):
            by_carrier.setdefault(user.get("via", ""), []).append(user["user"])
    through = {via: f" through {quote_name(via)}" if via else "" for via in by_carrier}
    return "; ".join(f"{quote_names(by_carrier[via])}{through[via]}" for via in sorted(by_carrier))


async def _check_stored(
    state: ProfileState, db: str, users: Sequence[EventLine] | None, data: str | None
) -> AsyncIterator[Finding]:
    """Check the database, and what it and the running peer, if any, say about the clock and the peers around."""
    posts: list[Message | Sent] = []
    if not state.peer_id:
        if state.key_trouble:
            yield ok("database", "not checked until the key can be read")
    elif db.startswith("memory:"):
        yield ok("database", "none: everything is in memory")
    elif not db and not state.database_path.exists():
        yield ok("database", "nothing is stored yet")
    else:
        try:
            async with open_history(state.directory, db=db or None) as history:
                yield await checks.check_database(history)
                if out := exclusion_text(history, "nothing is sent or taken"):
                    mend = "ask them, or the founder: p2pchat pardon NAME lets it in"
                    if history.shut_out_at is not None:
                        mend = "if it was found, make it yours anew, from `p2pchat device add` at another one"
                    yield checks.wrong("member", out, mend)
                posts = await history.history(limit=NEWEST)
                linked = _linked(users or ())
                if linked:  # perhaps over links that they opened, from where nobody can reach them
                    yield ok("peers", f"linked with {linked}")
                elif data is not None:
                    for finding in await network.check_peers(history.addresses(), data, runs=users is not None):
                        yield finding
                for user in users or ():
                    if user["status"] == UNREACHABLE or user["cut_by"]:
                        yield warning("peers", format_user(user).removeprefix("-- "), f"try {ANOTHER_ADDRESS}")
        except StorageError as error:
            yield checks.from_error("database", error)
    yield checks.check_clock(datetime.now(UTC), posts)
