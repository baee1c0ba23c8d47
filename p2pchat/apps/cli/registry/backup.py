"""`p2pchat backup`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, WHICH_PEER, Command

_PAGE = """\
Usage: p2pchat backup DIR [options]

Copy a whole peer, with its key, its network and its history, into DIR, also while it runs. DIR is made, for you only; \
one that is not empty is refused. `p2pchat PORT --data DIR` runs the copy, on this machine or another one. Never run \
both: two machines with one key take each other's links.

Options:
{options}

Examples:
  p2pchat backup ~/backup/chat-2026-11-20
  p2pchat backup /media/stick/ada --port 8080
"""

COMMAND = Command(
    name="backup",
    summary="copy a peer, key and history, also while it runs",
    page=_PAGE,
    run="apps.cli.commands.backup:run_backup",
    options=(*WHICH_PEER, DB),
    words="directory",
)
