"""`p2pchat bench`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import JSON, WHICH_PEER, Command, Option

_PAGE = """\
Usage: p2pchat bench HOST:PORT [options]

Measure the way to a peer of this network, and this machine's own disk, as messages use them: how long a connection, \
a link and an answer take, and how soon a message is safe here. None of it is seen there, nor kept on either side. A \
running peer may go on meanwhile; what it does is measured with it.

With --write N it sends N direct messages of 180 bytes too, and measures how many a second are delivered, and how \
long one takes: safe on that disk, and known here. They are real: the user there sees them, and they stay in that \
history. They come from a passing user called bench, whom everybody in the network sees come and go; your own \
history has none of them.

Options:
{options}

Examples:
  p2pchat bench 192.168.1.20:8080
  p2pchat bench localhost:8081 --write 5000
  p2pchat bench bob.example.org:8080 --port 8080 --json | jq -c '[.what, .value]'

Exit codes: 0 it was measured; 1 nobody of this network answers there, or a message was not delivered in time; 2 usage.
"""

COMMAND = Command(
    name="bench",
    summary="how quick the way to a peer is, and this disk",
    page=_PAGE,
    run="cli.subcommands.bench:run_bench",
    options=(
        *WHICH_PEER,
        Option(("--write",), "N", "send N real messages there too, up to 100,000 (default: none)"),
        Option(("--seconds",), "SECONDS", "each part takes at most about so long (default 2)"),
        JSON,
    ),
    words="endpoint",
)
