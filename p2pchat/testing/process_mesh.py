"""Peers as real processes, driven over `--json`: tests wait for their event lines, kill them and read their logs.

    async with processes("ada", "bob", logs=Path("logs")) as net:
        ada, bob = net.peers
        await ada.send("hello", to="bob")
        await bob.event("message", text="hello")
        assert await net.finish() == []

Lines are kept as they come, and a caller waits for the line it wants. Nothing here sleeps. `p2pchat demo` and the
scenario tests of p2pchat use it too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from p2pchat.testing.eventlog_checker import causes, check
from p2pchat.testing.eventlog_parser import Line as Line
from p2pchat.testing.eventlog_parser import Log

PATIENCE = 60.0  # seconds for one thing to happen on a busy machine
LOOP_VARIABLE = "P2PCHAT_LOOP"  # the only P2PCHAT_ variable that a process takes over: which event loop it uses
# Below those that systems give to outgoing connections and to port 0: one of theirs may be somebody else's by the time
# its peer is started again. In 200 s of one test run Linux gave a port again within 10 s 40 times.
LOWEST_PORT, HIGHEST_PORT = 20_000, 29_999
PORT_TAKEN_FOR = 10.0  # seconds in which a start is tried again when another program has its port; a guess
TRIED_EVERY = 0.1  # seconds between two of these
CHECKED_EVERY = 0.1  # seconds between two looks at the logs, when finish() waits
_LINE_BYTES = 1 << 20  # a text of 32 KiB, escaped, stays far below


class ChildFailed(Exception):
    """A child process ended, or did not do in time what it was asked to do."""


class Child:
    """One `python -m p2pchat PORT ... --json` process: one life of a peer.

    Args:
        name: The name of its user.
        home: The value of P2PCHAT_HOME.
        options: Everything after `--json`.
        port: The port to listen on, which the next life may have again; 0 for one that no system gives to anybody.
        under: The words of a command that runs the process elsewhere, in a container for example.
        command: The words that run p2pchat.
    Attributes:
        name: The name of its user.
        lines: Every event line so far, in order (docs/cli.md).
        complaints: Every line on its standard error so far.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        *options: str,
        port: int = 0,
        under: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "p2pchat"),
    ) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._news = asyncio.Condition()
        self._ended = False
        self._home = home
        self._port = port
        self._options = options
        self._under = under
        self._command = command
        self._refs = itertools.count(1)
        self.complaints: list[str] = []

    async def start(self, timeout: float = PATIENCE) -> None:
        """Start the process and wait until it listens; for 10 s try again while another program has its port."""
        self._port = self._port or unused_port()
        deadline = asyncio.get_running_loop().time() + PORT_TAKEN_FOR
        while True:
            try:
                return await self._start_once(timeout)
            except ChildFailed:
                if not await self._found_its_port_taken() or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(TRIED_EVERY)
            self.lines, self.complaints, self._ended = [], [], False

    async def _start_once(self, timeout: float) -> None:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_") or key == LOOP_VARIABLE
        }
        environment |= {"P2PCHAT_HOME": str(self._home), "PYTHONUTF8": "1"}
        self.process: asyncio.subprocess.Process = await self._spawn(
            [str(self._port), "--json", "--name", self.name, *self._options], environment
        )
        self._tasks = [asyncio.create_task(self._read_lines()), asyncio.create_task(self._read_complaints())]
        await self.wait(lambda line: line["event"] == "listening", timeout)

    async def _found_its_port_taken(self) -> bool:
        """Return whether the process ended because another program listens on its port."""
        if not self._ended:
            return False
        await self.ended()
        return any(f"port {self._port} on " in line and " is in use by " in line for line in self.complaints)

    async def _spawn(self, words: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(*self._under, *self._command, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=_LINE_BYTES,
        )

    @property
    def listening(self) -> Line:
        """The first event line, `listening`."""
        return self.lines[0]

    @property
    def is_running(self) -> bool:
        """True from start() until the process has ended."""
        return hasattr(self, "process") and self.process.returncode is None

    @property
    def endpoint(self) -> str:
        """The endpoint "host:port" by which others reach it."""
        return f"127.0.0.1:{self.listening['port']}"

    async def _read_lines(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            if not raw.endswith(b"\n"):
                break  # killed while it wrote a line
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
        """Give it one JSON command (docs/cli.md): `do(do="typing", to="bob")`."""
        await self.type(json.dumps(order))

    async def send(self, text: str, *, to: str = "room") -> Line:
        """Send a message; return its line `sent`, with its `id`, when it is on the disk of this peer.

        Raises:
            ChildFailed: The peer refused it, ended, or did not store it in time.
        """
        ref = f"send {next(self._refs)}"
        await self.do(do="send", to=to, text=text, ref=ref)
        [line] = await self.wait(lambda line: line.get("ref") == ref and line["event"] in ("sent", "error"))
        if line["event"] == "error":
            raise ChildFailed(self._failure(f"refused it: {line['text']}"))
        return line

    async def type(self, *lines: str) -> None:
        """Give it lines as a person types them: `type("/msg bob hello")`."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(line + "\n" for line in lines).encode())
        await self.process.stdin.drain()

    async def wait(self, wanted: Callable[[Line], bool], timeout: float = PATIENCE, *, count: int = 1) -> list[Line]:
        """Wait for `count` wanted lines and return them; lines that came before count too.

        Raises:
            ChildFailed: The process ended, or did not write them in time.
        """
        found: list[Line] = []
        checked = 0
        try:
            async with asyncio.timeout(timeout), self._news:
                while len(found) < count:
                    found += [line for line in self.lines[checked:] if wanted(line)]
                    checked = len(self.lines)
                    if len(found) < count:
                        if self._ended:
                            raise ChildFailed(self._failure(f"ended after {len(found)} of {count} lines"))
                        await self._news.wait()
        except TimeoutError:
            raise ChildFailed(self._failure(f"wrote {len(found)} of {count} lines in {timeout:g} s")) from None
        return found[:count]

    def _failure(self, what: str) -> str:
        said = "; it wrote on standard error:" if self.complaints else ""
        return "\n  ".join([f"{self.name} {what}{said}", *self.complaints[-5:]])

    async def event(self, event: str, timeout: float = PATIENCE, **fields: Any) -> Line:
        """Wait for an event and return its first line with these fields; raises as wait."""
        [line] = await self.wait(lambda line: matches(line, event, fields), timeout)
        return line

    def count(self, event: str, **fields: Any) -> int:
        """Return how many lines of this event with these fields came so far."""
        return sum(matches(line, event, fields) for line in self.lines)

    def kill(self) -> None:
        """Kill the process with SIGKILL, or its equivalent on Windows."""
        with suppress(ProcessLookupError):
            self.process.kill()

    async def leave(self, timeout: float = PATIENCE) -> int:
        """Make it leave in good order; return its exit code."""
        with suppress(OSError):
            await self.do(do="quit")
        return await self.ended(timeout)

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Wait until the process has ended and everything it wrote is read; return its exit code."""
        try:
            async with asyncio.timeout(timeout):
                code = await self.process.wait()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            raise ChildFailed(self._failure(f"did not end within {timeout:g} s")) from None
        return code

    async def destroy(self) -> None:
        """Kill the process if it still runs, and end the tasks that read its output."""
        if not hasattr(self, "process"):
            return
        if self.process.returncode is None:
            self.kill()
        await self.process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def unused_port() -> int:
    """Return a port of this machine's loopback that nobody has, and that no system gives to anybody."""
    while True:
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def matches(line: Line, event: str, fields: Mapping[str, Any]) -> bool:
    return line["event"] == event and all(line.get(name) == value for name, value in fields.items())


class ProcessMesh:
    """Peers as processes of one network, with a directory and a log for each. Make it with `processes`.

    Attributes:
        home: The directory of their data, P2PCHAT_HOME of all.
        logs: The directory of their event logs; a name keeps one log through all its lives.
        children: Every life of every peer, in the order in which they were made.
    """

    def __init__(self, home: Path, logs: Path) -> None:
        self.home = home
        self.logs = logs
        self.children: list[Child] = []

    @property
    def peers(self) -> list[Child]:
        """The newest life of each peer, in the order of the names."""
        return list({child.name: child for child in self.children}.values())

    def log(self, name: str) -> Path:
        """Return the path of the event log of a peer."""
        return self.logs / f"{name}.jsonl"

    def child(self, name: str, *words: str, port: int = 0) -> Child:
        """Return a peer that is not started yet; the same name again is the next life of the same peer.

        Args:
            words: Endpoints and options of the command line.
        """
        options = (*words, "--data", str(self.home / name), "--log", str(self.log(name)))
        self.children.append(Child(name, self.home, *options, port=port))
        return self.children[-1]

    async def add(self, name: str, *words: str) -> Child:
        """Start one more peer and wait until it is linked with all that run.

        Args:
            words: Options of the command line.
        """
        running = [peer for peer in self.peers if peer.is_running]
        child = self.child(name, *(peer.endpoint for peer in running[:1]), *words)
        await self._join(child, running)
        return child

    async def kill(self, child: Child) -> None:
        """Kill a peer (kill -9), and wait until its process has ended."""
        child.kill()
        await child.ended()

    async def restart(self, child: Child) -> Child:
        """Start a peer again that was killed or left, with its data and its port; return its new life.

        It is given no endpoint: it finds its mesh by itself. Returns when it is linked with all that run.
        """
        running = [peer for peer in self.peers if peer.is_running]
        new = self.child(child.name, port=child.listening["port"])
        await self._join(new, running)
        return new

    async def _join(self, child: Child, others: Sequence[Child]) -> None:
        await child.start()
        for other in others:
            await child.event("joined", user=other.name)
            await other.event("joined", user=child.name)  # of an earlier life, too: a quick restart is not reported

    async def finish(self, timeout: float = PATIENCE) -> list[str]:
        """Wait until everybody has everything, have all peers leave, and return every promise that was broken.

        A message that a running peer lacks after `timeout` seconds counts as lost. When somebody does not run, nothing
        that is missing does.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        running = [peer for peer in self.peers if peer.is_running]
        while faults := self.faults(complete=len(running) == len(self.peers)):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(CHECKED_EVERY)
        for peer in running:
            await peer.leave()
        return faults or self.faults(complete=False)  # a receipt may be missing after its writer has left

    def faults(self, *names: str, complete: bool) -> list[str]:
        """Return every promise that logs prove broken, and restored or copied disks, as `p2pchat check` does.

        Args:
            names: The peers whose logs are read; none for all.
            complete: Everybody has everything by now, so what is missing in a log was lost.
        """
        logs = [Log.read(self.log(name)) for name in names or (peer.name for peer in self.peers)]
        return [str(fault) for fault in (*causes(logs), *check(logs, complete=complete))]

    async def destroy(self) -> None:
        """Kill what still runs."""
        for child in self.children:
            await child.destroy()


@asynccontextmanager
async def processes(*names: str, logs: Path | str | None = None) -> AsyncIterator[ProcessMesh]:
    """Start peers with these names as processes on this machine, all linked; at the end none is left.

    Args:
        logs: The directory for their event logs, `ada.jsonl` and so on, which replace those of the run before; None for
            a directory that is removed at the end, as their data is.
    Raises:
        ChildFailed: A peer did not start, or did not do in time what it was asked to do.
    """
    # On Windows a file that is still open cannot be removed; the system cleans up what is left.
    with tempfile.TemporaryDirectory(prefix="p2pchat-", ignore_cleanup_errors=True) as home:
        net = ProcessMesh(Path(home), Path(home if logs is None else logs).absolute())
        net.logs.mkdir(parents=True, exist_ok=True)
        for name in names:
            net.log(name).unlink(missing_ok=True)
        try:
            for name in names:
                await net.add(name)
            yield net
        finally:
            await net.destroy()
