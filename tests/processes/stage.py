"""Where the peers of a test over real processes live."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from p2pchat.apps.cli.commands.children import Child, Line
from p2pchat.testing import Log, check

ROOT = Path(__file__).resolve().parent.parent.parent


class Stage:
    """Where a test's peers live. `log(name)` is the event log of a peer, kept in logs/ for whoever wants to look."""

    def __init__(self, home: Path, logs: Path) -> None:
        self.home = home
        self.logs = logs
        self.children: list[Child] = []

    def child(self, name: str, *words: str, port: int = 0, log: bool = True) -> Child:
        """Return a peer that is not started yet; the same name again is the next life of the same peer."""
        options = ["--data", str(self.home / name), *(["--log", str(self.log(name))] if log else [])]
        child = Child(name, self.home, *words, *options, port=port)
        self.children.append(child)
        return child

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.jsonl"

    def faults(self, *names: str, complete: bool) -> list[str]:
        """Judge the logs of these peers, as `p2pchat check` does."""
        return [str(fault) for fault in check([Log.read(self.log(name)) for name in names], complete=complete)]

    async def history(self, name: str) -> list[Line]:
        """Read what a peer has stored, with `p2pchat history --json`; it may run meanwhile."""
        command = [sys.executable, "-m", "p2pchat", "history", "--json", "--data", str(self.home / name)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "P2PCHAT_HOME": str(self.home)}
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]
