"""`p2pchat invite`: the screen with what another machine needs, also beside a running peer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pchat import profile_invite
from p2pchat.cli.command_table import INVITE_COMMAND
from p2pchat.cli.control_client import connect
from p2pchat.cli.options import ProfileChoice, find_profile, parse_words, which_peer
from p2pchat.commands.endpoints import command, parse_endpoint
from p2pchat.commands.errors import DONE, UsageError
from p2pchat.commands.invites import invite_screen, own_endpoints
from p2pchat.commands.output import EventLine
from p2pchat.commands.wrap import fold, terminal_width


@dataclass(slots=True)
class InviteOptions:
    """`p2pchat invite`."""

    which: ProfileChoice
    advertise: str = ""


def parse_invite_command(argv: Sequence[str]) -> InviteOptions:
    """Read `invite [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(INVITE_COMMAND, argv)
    if words:
        raise UsageError(f"invite takes no words, only options; {words[0]!a} is one too many")
    return InviteOptions(which_peer(given, typed), parse_endpoint(given["advertise"]) if given["advertise"] else "")


def run_invite(argv: Sequence[str]) -> int:
    """Print the screen of one profile: as the peer that runs tells, else as its files do."""
    options = parse_invite_command(argv)
    directory = find_profile(options.which).expanduser().absolute()
    row = asyncio.run(_ask(directory)) or _stored(directory, options.advertise)
    invite = row["invite"]
    if options.advertise:
        invite = f"{invite.partition('@')[0]}@{options.advertise}"
    screen = invite_screen(invite, qr=sys.stdout.isatty())
    print(fold(screen, terminal_width(sys.stdout)))
    if row["only_this_machine"] and not options.advertise:
        start = command(row["port"] or "PORT", "--host", "0.0.0.0")
        print(f"It works while the peer listens beyond this machine: {start}")
    return DONE


async def _ask(directory: Path) -> EventLine | None:
    """Return what the running peer says of itself; None when none runs there."""
    control = await connect(directory)
    if control is None:
        return None
    try:
        [row] = await control.ask("invite")
        return row
    finally:
        await control.aclose()


def _stored(directory: Path, advertise: str) -> EventLine:
    """Return the same of a peer that does not run: the port is the profile's, the addresses this machine's."""
    port = int(directory.name) if directory.name.isdecimal() else 0
    endpoints = [advertise] if advertise else own_endpoints(port) if port else []
    if not endpoints:
        raise UsageError("at which address do others reach this peer? Say it with --advertise HOST:PORT")
    return {"invite": profile_invite(directory, endpoints), "port": port, "only_this_machine": True}
