"""`p2pchat doctor`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import DB, JSON, WHICH_PEER, Command

_PAGE = """\
Usage: p2pchat doctor [HOST:PORT] [options]

Find out what is wrong, beside a running peer or without one: key and files, port, whether others can get in, clock, \
disk, database. One line for each check, ok, warning or wrong, and below it how to mend it. With HOST:PORT only the \
way from here to there: who answers, and if nobody does, why.

Options:
{options}

Examples:
  p2pchat doctor
  p2pchat doctor 192.168.1.20:8080
  p2pchat doctor --port 8080 --json | jq -r 'select(.verdict != "ok") | .mend'

Exit codes: 0 nothing is wrong (there may be warnings); 1 something is; 2 usage.
"""

COMMAND = Command(
    name="doctor",
    summary="what is wrong, and how to mend it",
    page=_PAGE,
    run="cli.subcommands.doctor:run_doctor",
    options=(*WHICH_PEER, DB, JSON),
    words="endpoint",
)
