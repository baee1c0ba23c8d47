"""Worker processes of the benchmarks, controlled with JSON lines.

A worker is `python -m benchmarks.workers MODULE FUNCTION` and runs `async def FUNCTION(channel, **arguments)` of
benchmarks.MODULE. Its first input line has the arguments; after that both sides send objects, one per line.
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
PATIENCE = 120.0  # seconds until a silent worker is ended


class WorkFailed(Exception):
    """A worker ended before it gave the expected answer; its error is on stderr."""


class Worker:
    """The starting side."""

    def __init__(self, where: str, *, home: Path, **arguments: Any) -> None:
        """Start `module.function`. `home` is the worker's P2PCHAT_HOME."""
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
        """Send an object to the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()

    def get(self) -> dict[str, Any]:
        """Return the next object from the worker. Raises WorkFailed if it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkFailed(f"{self.where} ended with {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker."""
        self._process.send_signal(number)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """End the worker by closing its input."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # it has ended already
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Channel:
    """The worker's side."""

    def send(self, **said: Any) -> None:
        """Send an object to the starting side."""
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    async def receive(self) -> dict[str, Any] | None:
        """Return the next object from the starting side; None at the end."""
        line = await asyncio.to_thread(sys.stdin.readline)
        return json.loads(line) if line else None

    async def closed(self) -> None:
        """Wait until the input ends."""
        while await self.receive() is not None:
            pass


def peak_kib() -> int:
    """Return the peak memory of this process, in KiB; 0 if the system does not say."""
    return _status("VmHWM") or _peak_elsewhere()


def resident_kib() -> int:
    """Return the current memory of this process, in KiB; 0 if the system does not say."""
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
    return peak // 1024 if sys.platform == "darwin" else peak  # in bytes there


def settle() -> None:
    """Exclude existing objects from garbage collection, like the command line after its start."""
    gc.collect()
    gc.freeze()


def main() -> None:
    module, function = sys.argv[1:3]
    work = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    arguments = json.loads(sys.stdin.readline())
    asyncio.run(work(Channel(), **arguments))


if __name__ == "__main__":
    main()
