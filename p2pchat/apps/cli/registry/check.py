"""`p2pchat check`: its options and help page."""

from __future__ import annotations

from p2pchat.cli.command_table import Command, Option

_PAGE = """\
Usage: p2pchat check LOG... [options]

Read event logs (--log FILE, or the output of --json) of peers that talked with each other, and decide whether the \
promises held: everything that was accepted arrived, once and in order, and departures were told with the right \
reason. What `history --json` printed may be among them. Exit code 0 when they held, 1 when one was broken.

A line says where, which promise (lost, twice, order ...) and what is wrong: please report it with the lines it names. \
Texts are never shown. Clocks of the machines should agree within a second.

Options:
{options}

Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl
"""

COMMAND = Command(
    name="check",
    summary="judge event logs: was every promise held?",
    page=_PAGE,
    run="cli.subcommands.check:run_check",
    options=(Option(("--complete",), "", "everything had come to rest before the logs end: what is missing was lost"),),
    words="file",
)
