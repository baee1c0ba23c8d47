"""p2pchat with altered settings: `python -m tests.processes.settings_override WORD ... -- python -m p2pchat ...`.

    dead_after=2        a field of Settings
    clock=FILE          the wall clock is off by the seconds in this file, which is read at each use
    stall=FILE          while this file exists, no commit returns

changes(...) returns these words, altered(...) the whole prefix of a command. The process, its files and its sockets are
real.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import p2pchat
from p2pchat import Settings
from p2pchat.__main__ import main

POLL_EVERY = 0.02  # seconds between checks of the stall file


def changes(settings: Mapping[str, float], *, clock: Path | None = None, stall: Path | None = None) -> list[str]:
    """Return the words for these settings, and for a clock and a disk controlled by files."""
    words = [f"{name}={value}" for name, value in settings.items()]
    words += [f"{name}={path}" for name, path in (("clock", clock), ("stall", stall)) if path is not None]
    return words


def altered(words: Sequence[str]) -> list[str]:
    """Return the words that run a peer with these changes."""
    return [sys.executable, "-m", "tests.processes.settings_override", *words, "--"]


def _change_clock(file: Path) -> None:
    true_ns, true = time.time_ns, time.time

    def off() -> float:
        try:
            return float(file.read_text("ascii") or 0)
        except (OSError, ValueError):
            return 0.0

    time.time_ns = lambda: true_ns() + int(off() * 1e9)
    time.time = lambda: true() + off()


def _stall_commits(file: Path) -> None:
    from p2pchat.storage.sql_storage import SqlStorage

    commit: Callable[..., None] = SqlStorage.commit
    still = threading.Event()  # never set: its wait() is a sleep

    def when_it_may(self: SqlStorage, changes: Sequence[Any]) -> None:
        while file.exists():
            still.wait(POLL_EVERY)
        commit(self, changes)

    SqlStorage.commit = when_it_may  # type: ignore[method-assign]


def alter(words: Sequence[str]) -> None:
    """Make these changes in this process."""
    types = {field.name: {"int": int, "float": float}[str(field.type)] for field in fields(Settings)}
    settings: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in ("clock", "stall"):
            {"clock": _change_clock, "stall": _stall_commits}[name](Path(value))
        else:
            settings[name] = types[name](float(value))
    vars(p2pchat)["Settings"] = partial(Settings, **settings)


if __name__ == "__main__":
    end = sys.argv.index("--")
    alter(sys.argv[1:end])
    sys.argv[1:] = sys.argv[end + 4 :]  # "--", and python -m p2pchat
    sys.path.insert(0, os.getcwd())
    sys.exit(main())
