"""`p2pchat client`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import JSON, Command, Option

_PAGE = """\
Usage: p2pchat client ws://HOST:PORT/chat [options]

Chat through a gateway (p2pchat web), without a peer of one's own: what is typed goes to everybody in the public chat, \
or with --recipient to one user or group; /dm NAME TEXT writes to one user. When the connection breaks it comes back \
by itself, misses nothing and sends what was not acknowledged. (Extra: web.)

Options:
{options}

Examples:
  p2pchat client ws://localhost:8000/chat --user A --recipient B
  p2pchat client wss://chat.example.org/chat --token ~/token --plain
  echo "backup finished" | p2pchat client ws://localhost:8000/chat --token ~/token --recipient '#ops'

--user alone is for gateways that trust this machine (p2pchat web --trust-loopback). Everybody else has a token: \
POST /accounts answers with one, and its answer may be the file. Under --json a line that begins with {{ is a frame as \
docs/gateway-api.md describes it, and what comes is printed as it is.

Exit codes: 0 everything sent was acknowledged; 1 no connection, refused, or not acknowledged in time; 2 usage; 4 no \
such name, or several; 130 interrupted.
"""

COMMAND = Command(
    name="client",
    summary="chat through a gateway, without a peer of one's own",
    page=_PAGE,
    run="cli.subcommands.web_client:run_client",
    options=(
        Option(("--user",), "NAME", "who I am, where this machine is trusted"),
        Option(("--recipient",), "TO", "whom to write to: bob, #ops (default: everybody)"),
        Option(("--token",), "FILE", "my token; - asks for it without echo"),
        Option(("--plain",), "", "plain lines, as in a chat"),
        JSON,
        Option(("--drain",), "SECONDS", "wait so long for acknowledgements at the end of input (default 5)"),
        Option(("--stay",), "", "do not leave at the end of input"),
    ),
)
