"""The gateway: thousands of users with a WebSocket on one peer, beside plain servers that keep nothing.

Every message is written by one of them and goes to all others; the clock runs from its writing until the last of
them has it, a few under way at a time. The gateway signs and stores each, with its fsync, before anybody sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.workers import Worker, WorkFailed

WINDOW = 10  # messages under way


@dataclass(slots=True)
class Served:
    """A server with its crowd, and what was measured of it; memory in KiB for each user."""

    server: Worker
    crowd: Worker
    users: int
    before: float
    fresh: float = 0.0
    used: float = 0.0
    rates: list[float] = field(default_factory=list)  # deliveries a second, by round
    p99: list[float] = field(default_factory=list)  # seconds

    def memory(self) -> float:
        """Return how much the server has grown for each user since nobody was there."""
        self.server.put({"memory": True})
        return (float(self.server.get()["kib"]) - self.before) / self.users

    def round(self, messages: int) -> None:
        self.crowd.put({"messages": messages, "window": WINDOW})
        found = _worked(self.crowd.get())
        self.rates.append(found["deliveries"] / found["seconds"])
        self.p99.append(found["p99"])


def _worked(said: dict[str, Any]) -> dict[str, Any]:
    if "failed" in said:
        raise WorkFailed(said["failed"])
    return said
