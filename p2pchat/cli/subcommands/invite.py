"""The command `p2pchat invite`: how others join the network."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from p2pchat import profile_invite
from p2pchat.cli.control_client import ask_running_peer
from p2pchat.cli.options import (
    Command,
    ProfileChoice,
    advertise_option,
    profile_options,
)
from p2pchat.cli.profiles import find_profile
from p2pchat.commands.endpoints import own_endpoints
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import DONE, UsageError
from p2pchat.commands.invite_screen import invite_screen
from p2pchat.commands.shell_command import command
from p2pchat.commands.wrap import fold, terminal_width

EPILOG = """\
\b
Examples:
  p2pchat invite
  p2pchat invite --port 8080 --advertise chat.example.org:8080
"""


@click.command("invite", cls=Command, epilog=EPILOG)
@profile_options
@advertise_option
def invite(profile: ProfileChoice, advertise: str | None) -> int:
    """Show the command to paste on another machine, and the invite it asks for.

    It admits one person within seven days, while this peer runs.
    """
    directory = find_profile(profile)
    rows = asyncio.run(ask_running_peer(directory, "invite"))
    row = rows[0] if rows else _stored_invite(directory, advertise or "")
    text = row["invite"]
    if advertise:
        text = f"{text.partition('@')[0]}@{advertise}"
    screen = invite_screen(text, qr=sys.stdout.isatty())
    print(fold(screen, terminal_width(sys.stdout)))
    if row["only_this_machine"] and not advertise:
        start = command(row["port"] or "PORT", "--host", "0.0.0.0")
        print(f"It works while the peer listens for other machines: {start}")
    return DONE


def _stored_invite(directory: Path, advertise: str) -> EventLine:
    """Return the same row for a peer that is not running, with the profile's port and this machine's addresses."""
    port = int(directory.name) if directory.name.isdecimal() else 0
    endpoints = [advertise] if advertise else own_endpoints(port) if port else []
    if not endpoints:
        raise UsageError("at which address do others reach this peer? Add --advertise HOST:PORT")
    return {"invite": profile_invite(directory, endpoints), "port": port, "only_this_machine": True}
