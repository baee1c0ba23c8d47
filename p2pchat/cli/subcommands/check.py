"""`p2pchat check LOG...`: did the promises hold? The judging is p2pchat.testing's; this reads, counts and prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat.cli.command_table import CHECK_COMMAND
from p2pchat.cli.options import parse_words
from p2pchat.commands.errors import DONE, FAILED, CommandError, UsageError
from p2pchat.safe_text import safe_line

if TYPE_CHECKING:
    from p2pchat.testing import Fault, Log

MOST_SHOWN = 100  # faults; one cause often has thousands


@dataclass(slots=True)
class CheckOptions:
    """`p2pchat check`."""

    logs: tuple[str, ...]
    complete: bool = False


def parse_check(argv: Sequence[str]) -> CheckOptions:
    """Read `check LOG...`.

    Raises:
        Usage: There is no log.
    """
    words, given, _ = parse_words(CHECK_COMMAND, argv)
    if not words:
        raise UsageError("which logs? For example: p2pchat check ada.jsonl bob.jsonl")
    return CheckOptions(tuple(words), given["complete"])


def run_check(argv: Sequence[str]) -> int:
    """Judge event logs; 1 when a promise was broken."""
    options = parse_check(argv)
    logs = read_logs(options.logs)
    faults = judge(logs, complete=options.complete)
    for fault in faults[:MOST_SHOWN]:
        print(safe_line(str(fault)))
    if len(faults) > MOST_SHOWN:
        print(f"... and {len(faults) - MOST_SHOWN} more")
    print(f"{_counted(logs)}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    sys.stdout.flush()
    return FAILED if faults else DONE


def read_logs(paths: Iterable[str | Path]) -> list[Log]:
    """Read event logs.

    Raises:
        Failure: One cannot be read.
        Usage: One holds no event at all, so it is some other file.
    """
    from p2pchat.testing import Log

    logs = []
    for path in paths:
        try:
            log = Log.read(path)
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror or error}") from None
        if log.bad and not log.lines:
            raise UsageError(f"{path} is no event log: each line of one is a JSON object with `event`")
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
