"""The command `p2pchat check`: it checks event logs against the promises."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pchat.cli.options import complete_file, option, subcommand
from p2pchat.commands.exit_codes import DONE, FAILED, CommandError, UsageError
from p2pchat.safe_text import safe_line

if TYPE_CHECKING:
    from p2pchat.testing import Log

MAX_SHOWN = 100  # faults; one cause often has thousands


EPILOG = """\
\b
Examples:
  p2pchat check ada.jsonl bob.jsonl cyd.jsonl
  p2pchat check logs/*.jsonl

Exit codes: 0 every promise was kept; 1 one was broken.
"""


@subcommand("check", EPILOG)
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", shell_complete=complete_file)
@option("--complete", "", "all peers were idle when the logs end: what is missing was lost")
def check(logs: tuple[str, ...], complete: bool) -> int:
    """Check event logs (--log FILE, or the output of --json) of peers that talked with each other against the promises.

    Everything that was accepted arrived, once and in order, and departures were reported with the right reason. The
    output of `history --json` may be among the logs.

    A disk restored from an older copy and a copied directory are named and are no faults.

    Each line says where, which promise (lost, twice, order ...) and what is wrong: please report it with the lines it
    names. Texts are never shown. The clocks of the machines should agree within a second.
    """
    from p2pchat.testing import causes
    from p2pchat.testing import check as check_promises

    read = read_logs(logs)
    faults = check_promises(read, complete=complete)
    for fault in [*causes(read), *faults[:MAX_SHOWN]]:  # restored disks and copied directories break no promise
        print(safe_line(str(fault)))
    if len(faults) > MAX_SHOWN:
        print(f"... and {len(faults) - MAX_SHOWN} more")
    sent, received = sum(len(log.sent) for log in read), sum(len(log.received) for log in read)
    counted = f"{len(read)} log{'' if len(read) == 1 else 's'}, {sent} sent, {received} received"
    print(f"{counted}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}", flush=True)
    return FAILED if faults else DONE


def read_logs(paths: Iterable[str | Path]) -> list[Log]:
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
