"""Servers of other systems, started for one run: configured by a file, on a free port of this machine."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.workers import WorkFailed

PATIENCE = 10.0  # seconds until a server listens
PORTS = range(20_000, 32_768)  # below the ports of outgoing connections, which begin here on Linux and higher elsewhere
_given: set[int] = set()


def found(program: str) -> str:
    """Return the path of a program, next to this Python or on the PATH; "" if there is none."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else shutil.which(program) or ""


def free_port() -> int:
    """Return a free port that the system does not use for outgoing connections."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as asked, suppress(OSError):
            asked.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


@contextmanager
def running(command: Sequence[str], port: int, directory: Path) -> Iterator[int]:
    """Run a server until the block ends, and yield its process id. Raises WorkFailed if it does not listen."""
    with open(directory / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
        try:
            _wait(process, port, command[0])
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise WorkFailed(f"{name} does not listen: see server.log")
