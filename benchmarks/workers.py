"""Works in processes of their own: started by the benchmark, spoken with in JSON lines.

A worker is `python -m benchmarks.workers MODULE FUNCTION` and runs `async def FUNCTION(channel, **arguments)` of
benchmarks.MODULE. Its first line in are the arguments; afterwards both sides say what they like, an object a line.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE = 120.0  # seconds until a worker that says nothing is ended


class WorkFailed(Exception):
    """A worker ended before it had said what was asked of it; its own words are on stderr."""


class Worker:
    """The starting side."""

    def __init__(self, where: str, *, home: Path, **arguments: Any) -> None:
        """Start `module.function`. `home` is the login's directory of all p2pchat in there."""
        self.where = where
        module, _, function = where.rpartition(".")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("P2PCHAT_")}
        environment["P2PCHAT_HOME"] = str(home)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.workers", module, function],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT, env=environment,
        )  # fmt: skip
        self.put(arguments)

    @property
    def pid(self) -> int:
        return self._process.pid

    def put(self, said: dict[str, Any]) -> None:
        """Say something to the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()

    def get(self) -> dict[str, Any]:
        """Return the next thing it says. Raises WorkFailed when it ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkFailed(f"{self.where} ended with {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end: its end of input says so."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # it is gone already
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Channel:
    """The worker's side."""

    def tell(self, **said: Any) -> None:
        """Say something to who started us."""
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    async def heard(self) -> dict[str, Any] | None:
        """Return the next thing said to us; None when there will be no more."""
        line = await asyncio.to_thread(sys.stdin.readline)
        return json.loads(line) if line else None

    async def closed(self) -> None:
        """Wait until nothing more will be said."""
        while await self.heard() is not None:
            pass


def peak_kib() -> int:
    """Return the most memory this process ever had, in KiB; 0 where the system does not say."""
    return _status("VmHWM") or _peak_elsewhere()


def resident_kib() -> int:
    """Return the memory this process has now, in KiB; 0 where the system does not say."""
    return _status("VmRSS")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def _peak_elsewhere() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak  # bytes there


def settle() -> None:
    """Put what exists now out of the collector's sight, as the command line does after its start."""
    gc.collect()
    gc.freeze()


def main() -> None:
    module, function = sys.argv[1:3]
    work = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    arguments = json.loads(sys.stdin.readline())
    asyncio.run(work(Channel(), **arguments))


if __name__ == "__main__":
    main()
