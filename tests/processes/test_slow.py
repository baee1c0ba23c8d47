"""The cost of a peer that does not read: of five peers, one is stopped while another keeps writing.

All five use the library in their own processes (library_peer.py); one writes up to 200 texts of 9,000 bytes a second to
all. The texts are few and long: a queue for a slow reader would grow by bytes, but each text costs time. The peer is
stopped until it has missed so much that a queue would show; P2PCHAT_TEST_STOPPED is the least number of seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Tell
from tests.processes import library_peer
from tests.processes.peers import ROOT

NAMES = ("ada", "bob", "cyd", "dan", "eva")
STOPPED = float(os.environ.get("P2PCHAT_TEST_STOPPED", "15"))  # seconds
GROWS_LESS_THAN = 16 * 1024  # KiB
MISSES = 3 * GROWS_LESS_THAN * 1024 // 2 // len(library_peer.TEXT.format(0))  # texts, in bytes half as much again
PROGRESS = 10 * library_peer.BATCH  # texts that each of the others gets within a minute; on a quiet machine in 1 s
PROC = Path("/proc")
Status = dict[str, Any]


class LibraryPeer:
    """A process that runs library_peer.py, and the latest value of everything it reported."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: Status = {}
        self._news = asyncio.Event()
        self._ended = False

    async def start(self, role: str, home: Path, *endpoints: str) -> None:
        command = [sys.executable, "-m", library_peer.__name__, role, self.name, str(home / self.name), *endpoints]
        self.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "P2PCHAT_HOME": str(home)},
        )
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda status: "port" in status)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.status |= json.loads(line)
            self._news.set()
        self._ended = True
        self._news.set()

    async def until(self, condition: Callable[[Status], bool], timeout: float = 60.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition(self.status):
                assert not self._ended, f"{self.name} ended"
                self._news.clear()
                await self._news.wait()

    def order(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kib(self, what: str) -> int:
        """Return a value of /proc/PID/status in KiB: VmRSS, VmHWM."""
        status = (PROC / str(self.process.pid) / "status").read_text("utf-8")
        found = re.search(rf"^{what}:\s*(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def forget_peak(self) -> None:
        """Reset VmHWM, the peak."""
        (PROC / str(self.process.pid) / "clear_refs").write_text("5", "utf-8")

    async def end(self) -> None:
        if not hasattr(self, "process"):
            return
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.mark.timeout(240 + 3 * STOPPED)
async def test_a_stopped_peer_costs_the_others_nothing_and_catches_up(tmp_path: Path, tell: Tell) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows cannot stop a process without ending it")
    if not (PROC / "self" / "clear_refs").exists():
        pytest.skip("how much memory a process takes is read from /proc")
    ada, bob, cyd, dan, eva = crowd_of_five = [LibraryPeer(name) for name in NAMES]
    try:
        await ada.start("write", tmp_path)
        for one in crowd_of_five[1:]:
            await one.start("read", tmp_path, f"127.0.0.1:{ada.status['port']}")
        for one in crowd_of_five:
            await one.until(lambda status: status.get("online") == 4)
        ada.order("go")
        for one in (bob, cyd, dan, eva):  # warm up
            await one.until(lambda status: status.get("read", 0) >= 2 * library_peer.RATE)

        dan.send_signal(signal.SIGSTOP)
        before, ada_before = dan.status["read"], ada.kib("VmRSS")
        ada.forget_peak()
        await others_keep_getting([bob, cyd, eva], before + MISSES, STOPPED)
        grown = ada.kib("VmHWM") - ada_before
        assert ada.status["left"] == ""  # no peer counts as dead

        ada.order("stop")
        await ada.until(lambda status: "written" in status)
        written = ada.status["written"]
        dan.send_signal(signal.SIGCONT)
        went_on = asyncio.get_running_loop().time()
        await dan.until(lambda status: status["read"] == written, timeout=120)  # takes 1 s on a quiet machine
        took = asyncio.get_running_loop().time() - went_on
        for one in (bob, cyd, eva, dan):
            await one.until(lambda status: status["read"] == written)
            assert one.status["whole"], f"{one.name} has something twice, or not in order"
        await ada.until(lambda status: status.get("done", False))
    finally:
        for one in crowd_of_five:
            await one.end()
    missed = written - before
    tell(
        f"a stopped peer missed {missed:,} messages and caught up in {took:.2f} s; "
        f"the writer grew by {grown / 1024:.1f} MiB"
    )
    assert missed >= MISSES and grown < GROWS_LESS_THAN


async def others_keep_getting(others: list[LibraryPeer], until: int, seconds: float) -> None:
    """Wait until each has read so many texts, at least for some seconds; check that each gets some all the time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end or min(one.status["read"] for one in others) < until:
        for one in others:
            next_goal = one.status["read"] + PROGRESS
            await one.until(lambda status, goal=next_goal: status["read"] >= goal)  # type: ignore[misc]
