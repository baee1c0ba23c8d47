"""The command `p2pchat check`: event logs checked against the promises by p2pchat.testing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pchat.cli.options import CONTEXT, Command, complete_file, option
from p2pchat.commands.errors import DONE, FAILED, CommandError, UsageError
from p2pchat.safe_text import safe_line

if TYPE_CHECKING:
    from p2pchat.testing import Fault, Log

MAX_SHOWN = 100  # faults; one cause often has thousands


EPILOG = """\
\b
Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl

Exit codes: 0 every promise was kept; 1 one was broken.
"""


@click.command("check", cls=Command, context_settings=CONTEXT, epilog=EPILOG)
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", shell_complete=complete_file)
@option("--complete", "", "all peers were idle when the logs end: what is missing was lost")
def check(logs: tuple[str, ...], complete: bool) -> int:
    """Check event logs (--log FILE, or the output of --json) of peers that talked with each other against the promises.

    Everything that was accepted arrived, once and in order, and departures were reported with the right reason. The
    output of `history --json` may be among the logs.

    Each line says where, which promise (lost, twice, order ...) and what is wrong: please report it with the lines it
    names. Texts are never shown. The clocks of the machines should agree within a second.
    """
    return _report(read_logs(logs), complete)


def _report(logs: Sequence[Log], complete: bool) -> int:
    faults = judge(logs, complete=complete)
    for fault in faults[:MAX_SHOWN]:
        print(safe_line(str(fault)))
    if len(faults) > MAX_SHOWN:
        print(f"... and {len(faults) - MAX_SHOWN} more")
    print(f"{_counted(logs)}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    sys.stdout.flush()
    return FAILED if faults else DONE


def read_logs(paths: Iterable[str | Path]) -> list[Log]:
    """Read event logs.

    Raises:
        CommandError: A log cannot be read.
        UsageError: A file holds no event at all.
    """
    from p2pchat.testing import Log

    logs = []
    for path in paths:
        try:
            log = Log.read(path)
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror or error}") from None
        if log.bad and not log.lines:
            raise UsageError(f"{path} is not an event log: each line must be a JSON object with `event`")
        logs.append(log)
    return logs


def judge(logs: Sequence[Log], *, complete: bool) -> list[Fault]:
    """Return every broken promise these logs prove."""
    from p2pchat.testing import check

    return check(logs, complete=complete)


def _counted(logs: Sequence[Log]) -> str:
    sent = sum(len(log.sent) for log in logs)
    received = sum(len(log.received) for log in logs)
    return f"{len(logs)} log{'' if len(logs) == 1 else 's'}, {sent} sent, {received} received"
