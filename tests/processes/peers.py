"""The peers of a test with real processes, with their directories and logs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from p2pchat.identity.network import Network, load_network
from p2pchat.testing.process_mesh import Child, Line, ProcessMesh
from tests.deadlines import WAIT, within
from tests.ports import free_ports

if TYPE_CHECKING:
    from tests.processes.fork_server import ForkServer

KILLED = -9  # the exit code of a process that SIGKILL ended
ROOT = Path(__file__).resolve().parent.parent.parent


class ProcessNamespace(Protocol):
    """A place where a process may run: a Machine, a SmallDisk."""

    @property
    def namespace(self) -> str:
        """The file of the namespace below /proc, for processes that enter it as root."""

    def under(self, *command: str) -> list[str]:
        """Return the words that run a command there."""


class PeerProcess(Child):
    """A peer that may kill itself at points of failpoints.py; forked if there is a fork server.

    Attributes:
        changes: Words of settings_override.py: altered settings, clock and disk.
        place: The namespace it runs in; None is that of the tests.
    """

    points: Sequence[str] = ()
    changes: Sequence[str] = ()
    place: ProcessNamespace | None = None
    fork_server: ForkServer | None = None

    async def _spawn(self, words: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        from tests.processes.machines import IS_ROOT
        from tests.processes.settings_override import altered  # a fork server needs neither

        if self.fork_server is not None and (self.place is None or IS_ROOT):
            namespace = self.place.namespace if self.place is not None else ""
            process = await self.fork_server.start(words, environment, self.points, self.changes, namespace)
            return cast(asyncio.subprocess.Process, process)
        if self.points:
            self._under = [*launcher(self.points)]
        elif self.changes:
            self._under = altered(self.changes)
        if self.place is not None:
            self._under = self.place.under(*self._under)
        return await super()._spawn(words, environment)


async def linked_directly(one: Child, other: Child) -> None:
    """Wait until nobody carries the link of two children: a carried one may come first, and ends with its carrier."""
    async with within(WAIT, f"a direct link of {one.name} and {other.name}"):
        for number in count():
            ref = f"way to {other.name} {number}"
            await one.do(do="whois", user=other.name, ref=ref)
            [row] = (await one.event("answer", ref=ref))["rows"]
            if any(host["linked"] and not host["via"] for host in row["hosts"]):
                return
            await asyncio.sleep(0.05)  # poll: nobody is told of a link that takes the place of a carried one


def launcher(points: Sequence[str]) -> list[str]:
    """Return the words that run `python -m p2pchat` with failpoints."""
    return [sys.executable, str(ROOT / "tests" / "processes" / "failpoints.py"), ",".join(points)]


class Cluster(ProcessMesh):
    """The peers of a test.

    With a fork server peers start quickly, and may have failpoints.

    Attributes:
        changes: Words of settings_override.py for each peer that is given none.
    """

    changes: Sequence[str] = ()

    def __init__(self, home: Path, logs: Path, fork_server: ForkServer | None = None) -> None:
        super().__init__(home, logs)
        self.fork_server = fork_server

    def child(
        self, name: str, *words: str, port: int = 0, log: bool = True,
        points: Sequence[str] = (), changes: Sequence[str] = (), place: ProcessNamespace | None = None,
    ) -> Child:  # fmt: skip
        """Return a peer that is not started yet; the same name again is the next life of the same peer."""
        options = ["--data", str(self.home / name), *(["--log", str(self.log(name))] if log else [])]
        if not port:
            port = int(free_ports(1)[0])  # no system gives it to somebody else before the next life
        child = PeerProcess(name, self.home, *words, *options, port=port)
        child.points, child.changes = points, changes or self.changes
        child.place, child.fork_server = place, self.fork_server
        self.children.append(child)
        return child

    @property
    def network(self) -> Network:
        """The network of the peers, once one has started."""
        network = load_network(self.home / "network")
        assert network is not None
        return network

    async def history(self, name: str) -> list[Line]:
        """Return what a peer has stored, from `p2pchat history --json`; it may run meanwhile."""
        code, out = await self.run("history", "--json", "--data", str(self.home / name))
        assert code == 0
        return [json.loads(line) for line in out.splitlines()]

    async def judge(self, *names: str) -> None:
        """Check that the logs of these peers, or of all, show no broken promise, and that the last receipts come."""
        assert self.faults(*names, complete=False) == []
        deadline = time.monotonic() + WAIT
        while (faults := self.faults(*names, complete=True)) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)  # poll: other processes append to the logs
        assert faults == []

    async def run(self, *words: str, points: Sequence[str] = ()) -> tuple[int, bytes]:
        """Run a command of p2pchat to its end; return its exit code and what it printed."""
        code, out, _ = await self.talk(*words, points=points)
        return code, out

    async def talk(
        self,
        *words: str,
        points: Sequence[str] = (),
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run a command of p2pchat with this input to its end; return its exit code, stdout and stderr.

        `environment` replaces all variables; None means those of this process, with the home of the test.
        """
        environment = environment or {**os.environ, "P2PCHAT_HOME": str(self.home), "PYTHONUTF8": "1"}
        if self.fork_server is not None:
            forked = await self.fork_server.start(words, environment, points)
            out, err, _ = await asyncio.gather(forked.stdout.read(), forked.stderr.read(), _feed(forked.stdin, stdin))
            return await forked.wait(), out, err
        command = [*(launcher(points) if points else ()), sys.executable, "-m", "p2pchat", *words]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=ROOT
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return process.returncode, out, err


async def _feed(pipe: asyncio.StreamWriter, what: bytes) -> None:
    with suppress(OSError):  # the process ended before it had read everything
        pipe.write(what)
        await pipe.drain()
    pipe.close()
