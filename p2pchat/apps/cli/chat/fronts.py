"""What is in front of a running peer: where its events are shown, and where its input comes from.

A chat knows no more of its front end than this. There are two: the standard streams, for pipes, programs and
`--plain`, and the interactive line of a terminal, which alone needs prompt_toolkit and is only imported there.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

from p2pchat import TCPPeer
from p2pchat.apps.cli.chat.options import ChatOptions
from p2pchat.cli.chat.endpoint_status import Endpoints
from p2pchat.cli.chat.shutdown import Leaving
from p2pchat.cli.stdin import Kind
from p2pchat.commands.display import Show
from p2pchat.commands.output import Log
from p2pchat.commands.session import Session


class Front(Protocol):
    """One front end.

    Attributes:
        show: Takes what is to be shown.
        interactive: Somebody sees the errors, so that they do not change the exit code.
        patience: Seconds to wait for deliveries at the end of input.
    """

    show: Show
    interactive: bool
    patience: float

    @property
    def has_input(self) -> bool:
        """Whether there is anything to read at all."""

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more what is shown."""

    @property
    def reads_to_the_end(self) -> bool:
        """Whether input is read to its end although nobody reads what is shown."""

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        """The peer runs: show where one is, before any event is shown."""

    async def read(self, peer: TCPPeer, session: Session, endpoints: Endpoints) -> None:
        """Do what input says; at its end decide to leave. Cancelled when something else decides."""

    def close(self) -> None:
        """Show what was kept for a moment, and leave the streams as they were."""


def choose_front(options: ChatOptions, kind: Kind, log: Log | None, leaving: Leaving) -> Front:
    """Return the front end that fits what standard input and output are, and what was asked for."""
    if wants_terminal(options, kind):
        from p2pchat.cli.terminal.app import TerminalFront

        return TerminalFront(options, log, leaving)
    from p2pchat.apps.cli.chat.streams import Streams

    return Streams(options, kind, log, leaving)


def wants_terminal(options: ChatOptions, kind: Kind) -> bool:
    """Whether somebody types at a terminal that can move its cursor, and wants to be treated so."""
    if options.as_json or options.plain or kind is not Kind.TERMINAL or not _is_terminal():
        return False
    return sys.platform == "win32" or os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _is_terminal() -> bool:
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        return False
