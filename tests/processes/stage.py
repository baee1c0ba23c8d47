"""Where the peers of a test over real processes live."""

from __future__ import annotations

from pathlib import Path

from p2pchat.apps.cli.children import Child

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
