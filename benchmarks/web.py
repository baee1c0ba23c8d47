"""The gateway: thousands of users with a WebSocket on one peer, compared with plain servers that store nothing.

One user writes each message, and all others get it, with a few messages under way at a time. The clock runs from the
write until the last user has the message. The gateway signs and stores each message, with an fsync, before any user
sees it; the plain servers (webservers.py) forward messages to the connected users.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Row, Setting, middle, shown, spread
from benchmarks.workers import Worker, WorkFailed

WINDOW = 10  # messages under way
EACH = 100  # messages in a round
WARMING = 10
KINDS = (
    ("chat", "WebSocket /chat", "FastAPI", "plain_chat"),
    ("socketio", "Socket.IO", "python-socketio", "plain_socketio"),
)


@dataclass(slots=True)
class ServedCrowd:
    """A server with its users, and its measurements; memory in KiB per user."""

    server: Worker
    crowd: Worker
    users: int
    before: float  # KiB, without users
    fresh: float = 0.0
    used: float = 0.0
    rates: list[float] = field(default_factory=list)  # deliveries per second, by round
    p99: list[float] = field(default_factory=list)  # seconds

    def memory(self) -> float:
        """Return the growth of the server per user, compared with no users."""
        self.server.put({"memory": True})
        return (float(self.server.get()["kib"]) - self.before) / self.users

    def round(self, messages: int, *, counts: bool = True) -> None:
        """Let users write `messages` messages, and wait until all users have them."""
        self.crowd.put({"messages": messages, "window": WINDOW})
        found = _worked(self.crowd.get())
        if counts:
            self.rates.append(found["deliveries"] / found["seconds"])
            self.p99.append(found["p99"])


def _worked(said: dict[str, Any]) -> dict[str, Any]:
    if "failed" in said:
        raise WorkFailed(said["failed"])
    return said


def _start(stack: ExitStack, kind: str, server: str, directory: Path, users: int) -> ServedCrowd:
    """Start a server, and connect its users."""
    directory.mkdir()
    words: dict[str, Any] = {"directory": str(directory), "users": users} if server == "gateway" else {}
    running = stack.enter_context(Worker(f"webservers.{server}", home=directory, **words))
    reported = running.get()
    there = {"kind": kind, "ports": [reported["port"]], "users": users, "tokens": reported.get("tokens", "")}
    crowd = stack.enter_context(Worker("webcrowd.crowd", home=directory, **there))
    served = ServedCrowd(running, crowd, users, reported["before"])
    _worked(crowd.get())
    served.fresh = served.memory()
    return served


def run(setting: Setting) -> list[Row]:
    """Measure both interfaces, each next to its plain server, in turn."""
    rows: list[Row] = []
    for kind, name, library, plain in KINDS:
        with ExitStack() as stack:
            place = setting.directory / f"web-{kind}"
            place.mkdir()
            ours = _start(stack, kind, "gateway", place / "gateway", setting.users)
            theirs = _start(stack, kind, plain, place / "plain", setting.users)
            for served in (ours, theirs):
                served.round(WARMING, counts=False)
            for _ in range(setting.rounds):
                for served in (ours, theirs):
                    served.round(EACH)
            for served in (ours, theirs):
                served.used = served.memory()
            rows += _rows(name, library, ours, theirs, setting.users)
    return rows


def _rows(name: str, library: str, ours: ServedCrowd, theirs: ServedCrowd, users: int) -> list[Row]:
    many = f"{users:,} users, {EACH} messages to each a round, {WINDOW} under way"
    rate, plain = middle(ours.rates), middle(theirs.rates)
    slow, plain_slow = middle(ours.p99), middle(theirs.p99)
    return [
        Row(
            f"{name}: gateway / plain {library}, deliveries", rate / plain, "x", "0.5",
            f"{shown(rate)} / {shown(plain)} a second; p99 {shown(slow * 1e3)} / {shown(plain_slow * 1e3)} ms",
            f"{many}; gateway {spread(ours.rates)}; plain {spread(theirs.rates)}",
        ),
        Row(
            f"{name}: memory of a user, idle", ours.fresh / theirs.fresh, "x", "at most 1.5",
            f"{shown(ours.fresh)} / {shown(theirs.fresh)} KiB a user",
            "growth of the server since it knew nobody; the gateway's accounts and keys included",
        ),
        Row(
            f"{name}: the same after the messages", ours.used / theirs.used, "x", "at most 1.5",
            f"{shown(ours.used)} / {shown(theirs.used)} KiB a user",
        ),
    ]  # fmt: skip
