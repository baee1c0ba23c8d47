"""`p2pchat send`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat send TO [TEXT] [options]

Send one message. TO is room, bob, or bob#K7QF2M3P; without TEXT all of standard input is the message, and nothing in \
it is a command. Beside an open chat its peer sends; without one this command runs the peer while it lasts.

Options:
{options}

Examples:
  p2pchat send bob "lunch?"
  make 2>&1 | p2pchat send bob
  tail -f app.log | p2pchat send room --lines
  p2pchat send bob --wait accepted -- "-5 degrees"

Exit codes: 0 it was delivered (or what --wait says); 3 it is kept and not delivered in time, and will be; 4 no such \
name, or several; 1 it could not be sent; 2 usage, a text that is empty or too long.
"""

COMMAND = Command(
    name="send",
    summary="send one message, or each line of a pipe",
    page=_PAGE,
    run="cli.subcommands.send:run_send",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--lines",), "", "each line of standard input is a message, sent as it comes"),
        Option(
            ("--wait",),
            "WHAT",
            "accepted: safe on this disk; delivered (default): on theirs; read: their programs say so",
            ("accepted", "delivered", "read"),
        ),
        Option(("--timeout",), "SECONDS", "wait at most so long (default 5)"),
    ),
    words="address",
)
