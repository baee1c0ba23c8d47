"""Processes of tests, driven and read by line: a gateway, a client, a peer in a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.processes.fork_server import AVAILABLE, ForkedProcess, ForkServer

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 60.0  # seconds for any expected line
LINE_BYTES = 1 << 20


class Program:
    """A running process, read by line. Attributes: `shown`, all lines of stdout and stderr so far."""

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self._process = process
        self.shown: list[str] = []
        self._looked_at = 0

    async def until(self, text: str) -> str:
        """Wait for a line that contains this text, after the last one waited for; return it."""
        while True:
            while self._looked_at < len(self.shown):
                self._looked_at += 1
                if text in self.shown[self._looked_at - 1]:
                    return self.shown[self._looked_at - 1]
            assert await self._read(), f"it ended without {text!r}: {self.shown}"

    async def until_all(self, *texts: str) -> None:
        """Wait until all of these were shown, in any order, after the last line waited for."""
        missing = set(texts)
        while missing:
            line = await self.until("")
            missing -= {text for text in missing if text in line}

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(WITHIN):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise AssertionError(f"nothing more is shown behind {self.shown}") from None
        if line:
            self.shown.append(line.decode().rstrip("\n"))
        return bool(line)

    async def say(self, line: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    def kill(self) -> None:
        """As kill -9."""
        self._process.kill()

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """As Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def pause(self) -> None:
        """Keep all connections, and do nothing until resume()."""
        if sys.platform != "win32":
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if sys.platform != "win32" and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)

    async def end(self) -> int:
        """Close its input, read its remaining output, and return the exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        while await self._read():
            pass
        return await self._process.wait()


P2PCHAT = (sys.executable, "-m", "p2pchat")


@asynccontextmanager
async def running(*words: str, home: Path) -> AsyncIterator[Program]:
    """Run a command line; kill it at the end of the block. A p2pchat command is forked where that is possible."""
    environment = {**os.environ, "P2PCHAT_HOME": str(home), "PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as stack:
        process: asyncio.subprocess.Process | ForkedProcess
        if AVAILABLE and words[:3] == P2PCHAT:
            fork_server = await stack.enter_async_context(ForkServer())
            process = await fork_server.start(words[3:], environment, (), merged=True)
        else:
            process = await asyncio.create_subprocess_exec(
                *words, env=environment, cwd=ROOT, limit=LINE_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        program = Program(process)
        try:
            yield program
        finally:
            if process.returncode is None:
                program.kill()
            await program.end()


def p2pchat(*words: str) -> list[str]:
    """Return the command line of a p2pchat command."""
    return [*P2PCHAT, *words]
