"""Command lines that are run to their end, as processes of their own, and what they left."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pchat.cli.loop import VARIABLE as LOOP
from p2pchat.cli.subcommands.demo import Line
from tests.processes.stage import Stage

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
one_loop = pytest.mark.asyncio(loop_scope="module")  # of those that share a nursery
TIMEOUT = 60.0


class Ran:
    """What a finished command line left."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def events(self) -> list[Line]:
        return [json.loads(line) for line in self.out.splitlines()]

    def complains(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("p2pchat: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0]


def environment(home: Path) -> dict[str, str]:
    """Return what a command line finds around it: of what is meant for p2pchat only the loop, as tests have it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_") or key == LOOP}
    return {**kept, "P2PCHAT_HOME": str(home), "PYTHONUTF8": "1"}


def p2pchat(home: Path, *words: str) -> Ran:
    """Run a command line to its end; nothing is typed."""
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


async def born(quick: Stage, home: Path, *words: str, stdin: str = "") -> Ran:
    """Run a command line to its end as p2pchat() does, quickly born."""
    async with asyncio.timeout(TIMEOUT):
        code, out, err = await quick.talk(*words, stdin=stdin.encode(), environment=environment(home))
    return Ran(code, out.decode(), err.decode())
