"""`p2pchat demo`: its help page."""

from __future__ import annotations

from p2pchat.apps.cli.registry.command import Command

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
    run="commands.demo:run_demo",
)
