"""`p2pchat history`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, JSON, WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat history [TO] [options]

Print what was said, oldest first: in one conversation (room, bob, bob#K7QF2M3P), or without TO in all of them in one \
order. Reads beside a running peer.

Options:
{options}

Examples:
  p2pchat history
  p2pchat history bob --port 8080 --since 7d
  p2pchat history room --json --search "deploy failed"
  p2pchat history --search 'from:bob "deploy failed"'
"""

COMMAND = Command(
    name="history",
    summary="print what was said, oldest first",
    page=_PAGE,
    run="cli.subcommands.history:run_history",
    options=(
        *WHICH_PEER,
        DB,
        Option(("--limit",), "N", "at most the newest N (default: all)"),
        Option(("--since",), "TIME", "from then on: 2026-11-20, 2026-11-20T08:30, 90m, 7d"),
        Option(("--before",), "TIME", "only what was written before this time"),
        Option(("--search",), "WORDS", 'only messages with all these words; "in a row", from:bob'),
        JSON,
    ),
    words="address",
)
