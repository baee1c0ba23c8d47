"""`p2pchat invite`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat invite [options]

Show the command to paste on another machine, and the invite it asks for. Whoever has the invite can join, read the \
room's history, and invite others.

Options:
{options}

Examples:
  p2pchat invite
  p2pchat invite --port 8080 --advertise chat.example.org:8080
"""

COMMAND = Command(
    name="invite",
    summary="the command for another machine, and the invite",
    page=_PAGE,
    run="cli.subcommands.invite:run_invite",
    options=(
        *WHICH_PEER,
        Option(("--advertise",), "HOST:PORT", "the address others reach this peer at"),
    ),
)
