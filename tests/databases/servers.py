"""Real MariaDB and PostgreSQL servers for tests, if they are installed.

A Server is a process with its own data directory and a Unix socket, to be started, stopped and killed at will. Shared
is the server that all workers of a run use: it starts when it is first needed and ends with the last worker
(keeper.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import quote, quote_plus

from tests.deadlines import WAIT

ROOT = Path(__file__).resolve().parent.parent.parent
RELEASED_WITHIN = 60.0  # seconds until the system has ended the children of a killed server
POLL_EVERY = 0.02
PASSWORD = "open/sesame:1"  # with characters that URLs must escape


class Server(ABC):
    """A database server in a directory of its own.

    Args:
        durable: Whether commits are on the disk; tests that kill no server are quicker without.
    """

    kind: ClassVar[str]
    accounts: ClassVar[tuple[str, ...]]  # the accounts it may run as if the tests run as root

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str:
        """Return the name of a missing program; "" if none is missing."""

    def make(self) -> None:
        """Make the data directory, and a user `chat` with all rights on databases."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if sys.platform != "win32" and os.geteuid() == 0:
            shutil.chown(self.directory, self._account())
        self._install()

    @abstractmethod
    def _install(self) -> None: ...

    @property
    @abstractmethod
    def listens_at(self) -> Path: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def url(self, database: str, *, user: str = "chat", password: str = PASSWORD) -> str:
        """Return the URL of a database there."""

    @abstractmethod
    def admin(self, *statements: str) -> None:
        """Run statements with all rights."""

    @abstractmethod
    def create(self, database: str) -> str:
        """Make an empty database; return its URL."""

    def start(self) -> None:
        """Start the server; return when it answers."""
        begun, written = time.monotonic(), len(self.log())
        self._process = self._popen(self._command())
        while not self._answers():
            waited = time.monotonic() - begun
            if self._process.poll() is not None:
                assert self._is_still_held(self.log()[written:]) and waited < RELEASED_WITHIN, self.log()
                written = len(self.log())
                self._process = self._popen(self._command())
            assert waited < WAIT, self.log()
            time.sleep(POLL_EVERY)  # poll: a server does not report that it is ready

    def _is_still_held(self, log: str) -> bool:
        """Return whether it ended since a killed server still holds something; `log` is what this start wrote."""
        return False

    def _answers(self) -> bool:
        if sys.platform == "win32":
            raise NotImplementedError
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.listens_at))
            self.admin()
        except Exception:  # each driver has its own error for a server that does not answer yet
            return False
        return True

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the server with a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        self.stop(signal.SIGKILL)

    def end(self) -> None:
        """Kill the server and delete its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def _account(self) -> str:
        if sys.platform == "win32":
            raise NotImplementedError
        import pwd

        names = {entry.pw_name for entry in pwd.getpwall()}
        return next(name for name in (*self.accounts, "nobody") if name in names)

    def _popen(self, command: list[str], stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a program of the server, not as root, and in a session of its own so that Ctrl-C does not reach it."""
        who: dict[str, Any] = {}
        if sys.platform != "win32" and os.geteuid() == 0:
            who = {"user": self._account(), "group": self._account_group(), "extra_groups": []}
        with open(self.directory / "log", "ab") as log:
            return subprocess.Popen(
                command, stdin=stdin, stdout=log, stderr=log, cwd=self.directory, start_new_session=True, **who
            )

    def _account_group(self) -> int:
        if sys.platform == "win32":
            raise NotImplementedError
        import pwd

        return pwd.getpwnam(self._account()).pw_gid

    def _run(self, command: list[str]) -> None:
        assert self._popen(command).wait(WAIT) == 0, self.log()


class MariaDB(Server):
    kind = "mariadb"
    accounts = ("mysql",)

    @classmethod
    def missing(cls) -> str:
        return _missing("MariaDB", "pymysql", _found("mariadbd", "/usr/sbin"), _found("mariadb-install-db", "/usr/bin"))

    def _install(self) -> None:
        install = _found("mariadb-install-db", "/usr/bin")
        words = ["--auth-root-authentication-method=normal", "--skip-name-resolve"]
        self._run([install, "--no-defaults", f"--datadir={self.directory / 'data'}", *words, *self._small])

    @property
    def _small(self) -> list[str]:
        quick = [] if self.durable else ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"]
        return ["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=32M", *self._alone, *quick]

    @property
    def _alone(self) -> list[str]:
        """Options for a temporary directory of its own.

        A start removes all temporary tables of that directory, by default /tmp: those of other servers too, which then
        report a missing file, or crash.
        """
        return [f"--tmpdir={self.directory}"]

    def _command(self) -> list[str]:
        words = ["--skip-networking", f"--socket={self.listens_at}", f"--pid-file={self.directory / 'pid'}"]
        daemon = _found("mariadbd", "/usr/sbin")
        return [daemon, "--no-defaults", f"--datadir={self.directory / 'data'}", *words, *self._small]

    @property
    def listens_at(self) -> Path:
        return self.directory / "s"

    def url(self, database: str, *, user: str = "chat", password: str = PASSWORD) -> str:
        login = f"{user}:{quote(password, safe='')}"
        return f"mariadb://{login}@localhost/{database}?unix_socket={quote_plus(str(self.listens_at))}"

    def admin(self, *statements: str) -> None:
        import pymysql

        with pymysql.connect(unix_socket=str(self.listens_at), user="root", autocommit=True) as root:
            with root.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def create(self, database: str) -> str:
        grant = f"grant all on {database}.* to chat@localhost identified by '{PASSWORD}'"
        self.admin(f"create or replace database {database}", grant)
        return self.url(database)


class PostgreSQL(Server):
    kind = "postgresql"
    accounts = ("postgres",)

    @classmethod
    def missing(cls) -> str:
        return _missing("PostgreSQL", "psycopg", _postgres("initdb"), _postgres("postgres"))

    def _install(self) -> None:
        words = ["--auth-local=scram-sha-256", "--username=root", "--encoding=UTF8", "--no-locale", "--no-sync"]
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run([_postgres("initdb"), "-D", str(self.directory / "data"), f"--pwfile={password}", *words])

    def end(self) -> None:
        """Stop the server first: killed, it would leave a segment of shared memory."""
        self.stop(signal.SIGINT)
        super().end()

    def _command(self) -> list[str]:
        quick = [] if self.durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        words = ["-k", str(self.directory), "-c", "listen_addresses=", "-c", "shared_buffers=16MB"]
        words += ["-c", "dynamic_shared_memory_type=mmap", *quick]
        return [_postgres("postgres"), "-D", str(self.directory / "data"), *words]

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the server. SIGINT is its clean fast stop; a kill ends its children too, as a power cut would."""
        children: list[str] = []
        if number == signal.SIGTERM:
            number = signal.SIGINT
        elif self._process is not None:
            listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            children = listed.read_text().split() if listed.exists() else []
        super().stop(number)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), number)

    def _is_still_held(self, log: str) -> bool:
        """Children sent SIGKILL hold the shared memory until they are gone."""
        return "pre-existing shared memory block" in log

    @property
    def listens_at(self) -> Path:
        return self.directory / ".s.PGSQL.5432"

    def url(self, database: str, *, user: str = "chat", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={quote_plus(str(self.directory))}"

    def admin(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres", user="root"), autocommit=True) as root:
            for statement in statements:
                root.execute(statement.encode())

    def create(self, database: str) -> str:
        there = "exception when duplicate_object or unique_violation then end"  # another worker may make it too
        role = f"do $$ begin create role chat login password '{PASSWORD}'; {there} $$"
        self.admin(role, f"drop database if exists {database}", f"create database {database} owner chat")
        return self.url(database)


KINDS: dict[str, type[Server]] = {kind.kind: kind for kind in (MariaDB, PostgreSQL)}


def _found(program: str, usual: str) -> str:
    return shutil.which(program) or shutil.which(program, path=usual) or ""


def _postgres(program: str) -> str:
    """Return a program of PostgreSQL. Debian keeps those of each version in a directory that is not on the path."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((found for path in ("", *map(str, newest)) if (found := shutil.which(program, path=path or None))), "")


def _missing(name: str, driver: str, *programs: str) -> str:
    from importlib.util import find_spec

    if sys.platform == "win32":
        return f"{name} is tested with unix sockets only"
    if not all(programs):
        return f"{name} is not installed"
    return "" if find_spec(driver) else f"{driver} is not installed"


def memory_directory() -> Path:
    """Make a directory for a server.

    It is in memory if possible, since a disk makes a start ten times slower. Its name is short, since the path of a
    socket may have only a hundred characters.
    """
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="p2p", dir=shm if os.access(shm, os.W_OK) else None))


@contextmanager
def private(kind: str, *, durable: bool = True) -> Iterator[Server]:
    """Provide a server for a single test."""
    server = KINDS[kind](memory_directory(), durable=durable)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.end()


class Shared:
    """The server that all workers of a run share; it ends when the last of them closes this."""

    server: Server
    _users: IO[bytes]

    def __init__(self, kind: str, run: Path) -> None:
        """`run` is a directory that all workers have in common."""
        if sys.platform == "win32":
            raise NotImplementedError
        import fcntl

        self._users = open(run / f"{kind}.users", "ab")  # noqa: SIM115  # until close()
        with open(run / f"{kind}.start", "ab") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            fcntl.flock(self._users, fcntl.LOCK_SH)  # waits while a keeper ends the server
            address = run / f"{kind}.json"
            if not address.exists():
                self._begin(kind, run)
            self.server = KINDS[kind](Path(json.loads(address.read_text())))

    def _begin(self, kind: str, run: Path) -> None:
        command = [sys.executable, "-m", "tests.databases.server_process", kind, str(run)]
        keeper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
        )
        assert keeper.stdout is not None
        with keeper.stdout:
            assert keeper.stdout.readline() == b"ready\n", f"{kind} did not start"
        keeper.returncode = 0  # it outlives this process, which never waits for it

    def close(self) -> None:
        self._users.close()
