"""A fork server: a parent process that has imported everything, and forks each new `p2pchat`.

A test that kills hundreds of peers would spend most of its time with Python's imports. A forked process is a real
process with real files; it differs from `python -m p2pchat` only in where its modules come from. Linux only (packets
with descriptors between the test and the parent); elsewhere peers start as usual.

The test side is ForkServer. Its first use starts `python -m tests.processes.fork_server FD`, which imports everything
and, until the tests end, forks a server for each ForkServer: it is sent an end of a pair of sockets. On that pair they
exchange JSON objects, one per packet: {"words", "environment", "points"} with three descriptors -> {"started": pid};
{"signal", "pid"} -> nothing; and {"ended": pid, "code": n} when a process has ended. A request may also have "changes"
(settings_override.py), "namespace" (a file below /proc), and "terminal": the first descriptor is then the controlling
terminal of a new session, and what is bound to 5 s may take a minute, as on a busy machine: the delivery mark of an own
line of the chat, and the answer of a running peer to a command. The setup wizard there looks for a port from "terminal"
on, since those from 8080 on belong to the developer, and to other tests.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from tests.ports import free_ports
from tests.processes.peers import KILLED, ROOT

AVAILABLE = sys.platform == "linux"
MOST_BYTES = 128 * 1024  # of a packet; a request contains the words and the environment
LINE_BYTES = 1 << 20  # as in children.py


class ForkedProcess:
    """A forked process, with the interface of asyncio.subprocess.Process."""

    def __init__(self, fork_server: ForkServer, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid = pid
        self._fork_server = fork_server
        self._ended = ended
        self.stdin: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader

    @property
    def returncode(self) -> int | None:
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        self._fork_server.signal(self.pid, number)

    def kill(self) -> None:
        self.send_signal(-KILLED)

    async def communicate(self) -> tuple[bytes, bytes]:
        """Close its input; return the rest of its output once it has ended."""
        self.stdin.close()
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return out, err


class ForkServer:
    """The parent process of a test's peers. Use with `async with`, in the loop of the test.

    Attributes:
        killed: The number of peers that SIGKILL ended, sent by themselves or by a test.
    """

    killed = 0
    _socket: socket.socket

    async def __aenter__(self) -> ForkServer:
        if sys.platform == "win32":
            raise NotImplementedError  # for type checkers: AVAILABLE is False there
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(_importer(), [b"fork"], [theirs.fileno()])
        self._socket.setblocking(False)
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._alive: dict[int, asyncio.Future[int]] = {}
        self._one = asyncio.Lock()
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._on_packet)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._socket.shutdown(socket.SHUT_WR)  # the server ends on this, and kills the remaining processes
        while await loop.sock_recv(self._socket, MOST_BYTES):
            pass
        self._socket.close()

    def _on_packet(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            packet = self._socket.recv(MOST_BYTES)
        except OSError:
            packet = b""
        if not packet:
            loop.remove_reader(self._socket.fileno())
            return
        message = json.loads(packet)
        if "started" in message:
            self._alive[message["started"]] = loop.create_future()
            self._started.put_nowait(message["started"])
        else:
            self.killed += message["code"] == KILLED
            self._alive.pop(message["ended"]).set_result(message["code"])

    def signal(self, pid: int, number: int) -> None:
        """Send a signal, unless the process has ended and its number may belong to another."""
        if pid in self._alive:
            self._socket.send(json.dumps({"signal": number, "pid": pid}).encode())

    async def start(
        self, words: Sequence[str], environment: Mapping[str, str], points: Sequence[str],
        changes: Sequence[str] = (), namespace: str = "", merged: bool = False,
    ) -> ForkedProcess:  # fmt: skip
        """Start `p2pchat WORDS`, with failpoints (failpoints.py), changes (settings_override.py), in a namespace.

        If `merged`, stderr goes to stdout.
        """
        if sys.platform == "win32":
            raise NotImplementedError  # for type checkers: AVAILABLE is False there
        ends = [os.pipe() for _ in range(3)]  # (read, write) of stdin, stdout, stderr
        if merged:
            os.dup2(ends[1][1], ends[2][1])
        theirs = [ends[0][0], ends[1][1], ends[2][1]]
        request = {"words": [*words], "environment": {**environment}, "points": [*points]}
        process = await self._ask({**request, "changes": [*changes], "namespace": namespace}, theirs)
        for end in theirs:
            os.close(end)
        process.stdin = await _writer(ends[0][1])
        process.stdout, process.stderr = await _reader(ends[1][0]), await _reader(ends[2][0])
        return process

    async def start_in_terminal(
        self, words: Sequence[str], environment: Mapping[str, str], terminal: int
    ) -> ForkedProcess:
        """Start `p2pchat WORDS` in this terminal (the program's side of it), without pipes."""
        request = {"words": [*words], "environment": {**environment}, "points": [], "terminal": int(free_ports(1)[0])}
        return await self._ask(request, [terminal] * 3)

    async def _ask(self, request: dict[str, Any], descriptors: list[int]) -> ForkedProcess:
        if sys.platform == "win32":
            raise NotImplementedError  # for type checkers: AVAILABLE is False there
        async with self._one:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            pid = await self._started.get()
        return ForkedProcess(self, pid, self._alive[pid])


@cache
def _importer() -> socket.socket:
    """Start the process that has imported everything; return the socket by which it takes the ends of pairs."""
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.fork_server", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env={**os.environ, "PYTHONUTF8": "1"},
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


async def _reader(end: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader),
        open(end, "rb", buffering=0),  # noqa: SIM115  # closed with the transport
    )
    return reader


async def _writer(end: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()  # stays empty; the protocol needs one
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(reader),
        open(end, "wb", buffering=0),  # noqa: SIM115
    )
    return asyncio.StreamWriter(transport, protocol, reader, loop)


# ---- the parent


def _import_everything() -> None:
    import p2pchat

    for module in pkgutil.walk_packages(p2pchat.__path__, "p2pchat."):
        left_out = (
            "p2pchat.testing",
            "p2pchat.web.",
            "p2pchat.cli.gateway",
        )  # a gateway needs a second of imports
        if not module.name.startswith(left_out) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "filelock",
        "asyncio.runners",
        "tests.processes.failpoints",
        "tests.processes.settings_override",
    ):
        importlib.import_module(name)


def _fork_servers(fd: int) -> None:
    """Fork a server for each end of a pair of sockets that comes, until the tests end."""
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    _import_everything()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the servers
    with socket.socket(fileno=fd) as tests:
        while ends := socket.recv_fds(tests, 16, 1)[1]:
            if os.fork() == 0:
                tests.close()
                _serve(ends[0])
                os._exit(0)
            os.close(ends[0])


def _serve(fd: int) -> None:
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    with socket.socket(fileno=fd) as sock:
        woken, wakes = os.pipe()
        os.set_blocking(wakes, False)
        signal.set_wakeup_fd(wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        children: set[int] = set()
        try:
            while True:
                ready, _, _ = select.select([sock.fileno(), woken], [], [])
                if woken in ready:
                    os.read(woken, 4096)
                    _tell_ended(sock, children)
                if sock.fileno() in ready and not _serve_one(sock, children, (woken, wakes)):
                    return
        except OSError:
            return  # the test has ended
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)


def _tell_ended(sock: socket.socket, children: set[int]) -> None:
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            sock.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _serve_one(sock: socket.socket, children: set[int], pipe: tuple[int, int]) -> bool:
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    packet, fds, _, _ = socket.recv_fds(sock, MOST_BYTES, 3)
    if not packet:
        return False
    request = json.loads(packet)
    if "signal" in request:
        if request["pid"] in children:
            os.kill(request["pid"], request["signal"])
        return True
    pid = os.fork()
    if pid == 0:
        for mine in (sock.fileno(), *pipe):
            os.close(mine)
        _live(request, fds)
    children.add(pid)
    for end in fds:
        os.close(end)
    sock.send(json.dumps({"started": pid}).encode())
    return True


def _live(request: dict[str, Any], fds: list[int]) -> NoReturn:
    """Run `p2pchat` as if this process had been started for it."""
    if sys.platform == "win32":
        raise NotImplementedError  # for type checkers: AVAILABLE is False there
    import fcntl
    import termios

    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, end in enumerate(fds):
            os.dup2(end, number)
            os.close(end)
        if request.get("terminal"):
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if request.get("namespace"):
            _enter(request["namespace"])
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        sys.argv = ["p2pchat", *request["words"]]
        sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r", closefd=False) for n in range(3))  # noqa: SIM115
        from p2pchat.__main__ import main
        from p2pchat.cli import control_client, profiles
        from p2pchat.cli.terminal import screen
        from tests.processes.failpoints import arm
        from tests.processes.settings_override import alter

        arm(request["points"])
        if request.get("changes"):
            alter(request["changes"])
        if request.get("terminal"):
            profiles.FIRST_PORT = request["terminal"]
            screen.SETTLED_AFTER = 60.0
            control_client.CONNECT_TIMEOUT = control_client.START_TIMEOUT = 60.0
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _enter(namespace: str) -> None:
    """Enter a namespace, as nsenter does (os.setns exists since Python 3.12)."""
    with open(namespace, "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns", namespace)
    os.chdir(ROOT)


if __name__ == "__main__":
    _fork_servers(int(sys.argv[1]))
