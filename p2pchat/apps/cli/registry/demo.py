"""`p2pchat demo`: its help page."""

from __future__ import annotations

from p2pchat.cli.command_table import Command

_PAGE = """\
Usage: p2pchat demo

A tour in under 30 seconds, with real peers on this machine in a directory of their own: the room, a message to \
somebody who is away, a kill, a restart, receipts. Says what it shows and checks it; exit code 1 when a check fails.

Example:
  p2pchat demo
"""

COMMAND = Command(
    name="demo",
    summary="the tour: real peers, a kill, a restart, receipts",
    page=_PAGE,
    run="cli.subcommands.demo:run_demo",
)
