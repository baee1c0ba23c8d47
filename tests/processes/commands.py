"""Command lines run to their end in their own processes, and their results."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pchat.cli.process import VARIABLE as LOOP
from p2pchat.testing.process_mesh import Line
from tests.processes.peers import Cluster

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
one_loop = pytest.mark.asyncio(loop_scope="module")  # for tests that share a fork server
TIMEOUT = 120.0  # seconds


class Ran:
    """The result of a command line."""

    def __init__(self, code: int, out: str, err: str, content: bytes = b"") -> None:
        self.code = code
        self.out = out
        self.err = err
        self.content = content  # standard output as bytes, in tests/cli/
        assert "Traceback" not in err, err

    @property
    def said(self) -> tuple[int, str, str]:
        """Return the exit code and what it printed, to compare all at once."""
        return self.code, self.out, self.err

    @property
    def events(self) -> list[Line]:
        return [json.loads(line) for line in self.out.splitlines()]

    def complains(self) -> str:
        """Return the one line with the error."""
        lines = [line for line in self.err.splitlines() if line.startswith("p2pchat: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a command line: of the variables of p2pchat, only the event loop is kept.

    At the end of its input a peer waits a minute for deliveries instead of 5 s, which a busy machine may need.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_") or key == LOOP}
    return {**kept, "P2PCHAT_HOME": str(home), "PYTHONUTF8": "1", "P2PCHAT_DRAIN": "60"}


def p2pchat(home: Path, *words: str) -> Ran:
    """Run a command line to its end, without input."""
    done = subprocess.run(
        [sys.executable, "-m", "p2pchat", *words],
        input="",
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        env=environment(home),
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


async def run_forked(quick: Cluster, home: Path, *words: str, stdin: str = "") -> Ran:
    """Run a command line to its end like p2pchat(), forked by the fork server."""
    async with asyncio.timeout(TIMEOUT):
        code, out, err = await quick.talk(*words, stdin=stdin.encode(), environment=environment(home))
    return Ran(code, out.decode(), err.decode())
