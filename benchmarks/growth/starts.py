"""Costs of a start, and of a link with a peer that holds the same, for any driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.growth.curves import Curve
from benchmarks.workers import Worker


class Starts:
    """The costs of a start, and of the link-up with a peer that holds the same (crowded.started_and_linked)."""

    def __init__(self) -> None:
        self.ready, self.cpu = Curve("start, until ready", "ms"), Curve("CPU time of that", "ms")
        self.memory = Curve("memory used by the start", "MiB")
        self.size = Curve("link-up in step: bytes, both ways", "B")
        self.linking = Curve("CPU time of a link-up", "ms")

    @property
    def curves(self) -> list[Curve]:
        return [self.ready, self.cpu, self.memory, self.size, self.linking]

    def measure(self, size: int, home: Path, use: str) -> dict[str, Any]:
        """Let a worker start ada's peer while bob's runs, and link up with it; return its other results.

        Both profiles are below `home`. `size` is that of the driver, `use` the worker.
        """
        with Worker("crowded.hold", home=home, data=str(home / "bob")) as other:
            endpoint = other.get()["endpoint"]
            with Worker(use, home=home, data=str(home / "ada"), endpoint=endpoint) as using:
                found = using.get()
        self.ready.add(size, found["started"][0] * 1e3)
        self.cpu.add(size, found["started"][1] * 1e3)
        self.memory.add(size, found["grown"] / 1024)
        self.size.add(size, found["bytes"])
        self.linking.add(size, found["linked"][1] * 1e3)
        return found
