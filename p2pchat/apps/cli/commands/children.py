"""Peers as processes of their own, driven over --json: what the tour shows, and the scenario tests judge.

A child's lines are kept as they come; whoever waits says which line is meant. Nothing here sleeps.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pchat.cli import loop

Line = dict[str, Any]
_LINE_BYTES = 1 << 20  # a text of 32 KiB, escaped, stays far below


class ChildFailed(Exception):
    """A child did not do in time what it was asked for, or ended."""


class Child:
    """One `python -m p2pchat PORT ... --json` process.

    Args:
        options: Everything after `--json`.
        home: Becomes P2PCHAT_HOME.
        under: Words that run what stands behind them somewhere else, in a container for example.
    Attributes:
        lines: Every event line so far, in order.
    """

    def __init__(self, name: str, home: Path, *options: str, port: int = 0, under: Sequence[str] = ()) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._news = asyncio.Condition()
        self._ended = False
        self._home = home
        self._port = port
        self._options = options
        self._under = under
        self.complaints: list[str] = []

    async def start(self, timeout: float = 15.0) -> None:
        """Start the process; returns when it listens.

        Raises:
            ChildFailed: It does not.
        """
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_") or key == loop.VARIABLE
        }
        environment |= {"P2PCHAT_HOME": str(self._home), "PYTHONUTF8": "1"}
        self.process = await self._spawn([str(self._port), "--json", "--name", self.name, *self._options], environment)
        self._tasks = [asyncio.create_task(self._read_lines()), asyncio.create_task(self._read_complaints())]
        await self.wait(lambda line: line["event"] == "listening", timeout)

    async def _spawn(self, words: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*self._under, sys.executable, "-m", "p2pchat", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=_LINE_BYTES,
        )

    @property
    def listening(self) -> Line:
        """The first line."""
        return self.lines[0]

    @property
    def endpoint(self) -> str:
        """Where others reach it."""
        return f"127.0.0.1:{self.listening['port']}"

    async def _read_lines(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            if not raw.endswith(b"\n"):
                break  # killed in the middle of it
            async with self._news:
                self.lines.append(json.loads(raw))
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def _read_complaints(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            self.complaints.append(raw.decode("utf-8", "replace").rstrip())

    async def do(self, **order: Any) -> None:
        """Write one command object."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        await self.process.stdin.drain()

    async def type(self, *lines: str) -> None:
        """Write typed lines."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(line + "\n" for line in lines).encode())
        await self.process.stdin.drain()

    async def wait(self, wanted: Callable[[Line], bool], timeout: float = 15.0, *, count: int = 1) -> list[Line]:
        """Return the first `count` lines that are wanted, waiting for them; lines that came before count too.

        Raises:
            ChildFailed: Too late, or the process ended.
        """
        found: list[Line] = []
        looked = 0
        try:
            async with asyncio.timeout(timeout), self._news:
                while len(found) < count:
                    found += [line for line in self.lines[looked:] if wanted(line)]
                    looked = len(self.lines)
                    if len(found) < count:
                        if self._ended:
                            raise ChildFailed(self._told(f"ended after {len(found)} of {count} lines"))
                        await self._news.wait()
        except TimeoutError:
            raise ChildFailed(self._told(f"told {len(found)} of {count} lines in {timeout:g} s")) from None
        return found[:count]

    def _told(self, what: str) -> str:
        return "; ".join([f"{self.name} {what}", *self.complaints[-5:]])

    async def event(self, event: str, timeout: float = 15.0, **fields: Any) -> Line:
        """Return the first line of this event with these fields."""
        [line] = await self.wait(lambda line: matches(line, event, fields), timeout)
        return line

    def count(self, event: str, **fields: Any) -> int:
        """Return how many such lines came so far."""
        return sum(matches(line, event, fields) for line in self.lines)

    def kill(self) -> None:
        """kill -9, or what Windows has for it."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def close_input(self) -> None:
        """End its input: it drains and leaves."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with suppress(OSError):
            await self.process.stdin.wait_closed()

    async def leave(self, timeout: float = 15.0) -> int:
        """Have it leave in good order; return its exit code."""
        with suppress(OSError):
            await self.do(do="quit")
        return await self.ended(timeout)

    async def ended(self, timeout: float = 15.0) -> int:
        """Wait until the process has ended and everything it wrote is read; return its exit code."""
        try:
            async with asyncio.timeout(timeout):
                code = await self.process.wait()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            raise ChildFailed(self._told(f"did not end within {timeout:g} s")) from None
        return code

    async def destroy(self) -> None:
        """Make sure that nothing of it is left; for the end of a test or tour."""
        if not hasattr(self, "process"):
            return
        if self.process.returncode is None:
            self.kill()
        await self.process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def matches(line: Line, event: str, fields: Mapping[str, Any]) -> bool:
    """Whether a line is of this event and has these fields."""
    return line["event"] == event and all(line.get(name) == value for name, value in fields.items())
