"""`p2pchat export`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat export FILE [options]

Write what is stored here, the room and my direct conversations, into a file that another peer of this network can \
import: a USB stick delivers too. The file holds messages of all their writers as readable text: whoever has it can \
read it, and nobody can change it unnoticed. FILE - is standard output. Reads beside a running peer.

Options:
{options}

Examples:
  p2pchat export /media/stick/chat.p2p
  p2pchat export --conversation room room.p2p
  p2pchat export - --port 8080 | gzip > chat.p2p.gz
"""

COMMAND = Command(
    name="export",
    summary="write what is stored into a file that others can import",
    page=_PAGE,
    run="cli.subcommands.transfer:run_export",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--conversation",), "TO", "only this one: room, bob (default: all)"),
    ),
    words="file",
)
