"""`p2pchat tail`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, JSON, WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat tail [TO] [options]

Print the newest messages, then what comes, until Ctrl-C, or until nobody reads the output any more. TO is room, bob, \
or bob#K7QF2M3P; without it everything. Beside an open chat its peer tells; without one this command runs the peer.

Options:
{options}

Examples:
  p2pchat tail
  p2pchat tail bob -n 50
  p2pchat tail --json | jq -r 'select(.event == "message") | .text'

Exit codes: 0 the peer stopped, or the reader of the output went away; 1 the peer was killed; 130 Ctrl-C.
"""

COMMAND = Command(
    name="tail",
    summary="follow what is said",
    page=_PAGE,
    run="cli.subcommands.tail:run_tail",
    options=(
        *WHICH_PEER,
        DB,
        Option(("-n", "--last"), "N", "begin with the newest N messages (default 10)"),
        JSON,
    ),
    words="address",
)
