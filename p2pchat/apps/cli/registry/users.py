"""`p2pchat users`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, JSON, WHICH_PEER, Command

_PAGE = """\
Usage: p2pchat users [options]

Print who is known, and who is here: one line each. Without a running peer nobody's status is known.

Options:
{options}

Examples:
  p2pchat users
  p2pchat users --json | jq -r 'select(.status == "online") | .user'
"""

COMMAND = Command(
    name="users",
    summary="who is known, and who is here",
    page=_PAGE,
    run="cli.subcommands.users:run_users",
    options=(*WHICH_PEER, DB, JSON),
)
