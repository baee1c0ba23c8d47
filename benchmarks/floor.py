"""The limits of the machine: a commit, a row, a round trip, a stream. Other figures are compared with these.

This measures no code of p2pchat, only the modules sqlite3, ssl and socket, configured as in p2pchat.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import ssl
import threading
import time
from pathlib import Path

from benchmarks.results import Row, Setting, middle, text
from benchmarks.workers import Channel, Worker

ENTRY_BYTES = 264  # a text of 180 bytes as a stored entry
WARM_BYTES = 4 * 1024 * 1024  # same as Settings.wal_warm_bytes
STREAM_BYTES = 64 * 1024 * 1024
PIECE = 64 * 1024


def open_database(path: Path) -> sqlite3.Connection:
    """Return a database configured like p2pchat's, with its write-ahead log at full size."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = wal", "synchronous = full", "fullfsync = on", "checkpoint_fullfsync = on"):
        db.execute(f"pragma {pragma}")
    db.execute("create table entries (id integer primary key, conversation integer, c integer, body text)")
    db.execute("create index by_clock on entries (conversation, c)")
    db.execute("insert into entries values (0, 0, 0, zeroblob(?))", (WARM_BYTES,))
    db.execute("delete from entries")
    db.execute("pragma wal_checkpoint(restart)").fetchall()
    return db


class Commits:
    """A timer for commits of one row."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path)
        self._count = 0
        self._body = text(0).ljust(ENTRY_BYTES)

    def measure(self, times: int) -> list[float]:
        """Return the seconds of each of `times` commits."""
        took = []
        for _ in range(times):
            self._count += 1
            begun = time.perf_counter()
            self._db.execute("begin immediate")
            self._db.execute("insert into entries values (?, 1, ?, ?)", (self._count, self._count, self._body))
            self._db.execute("commit")
            took.append(time.perf_counter() - begun)
        return took

    def close(self) -> None:
        self._db.close()


def row_rate(path: Path, rows: int = 200_000, a_commit: int = 1_000) -> float:
    """Return rows per second, in commits of 1,000 and statements of 100 rows."""
    db = open_database(path)
    body = text(0).ljust(ENTRY_BYTES)
    statement = "insert into entries values " + ", ".join(["(?, 1, ?, ?)"] * 100)
    begun = time.perf_counter()
    for first in range(0, rows, a_commit):
        db.execute("begin immediate")
        for at in range(first, first + a_commit, 100):
            db.execute(statement, [value for i in range(at, at + 100) for value in (i, i, body)])
        db.execute("commit")
    took = time.perf_counter() - begun
    db.close()
    return rows / took


# ---- TLS between two processes, blocking sockets


async def serve_tls(channel: Channel, directory: str) -> None:
    """Run as a worker: echo the bytes of one connection, count those of a second one."""
    from p2pchat.identity.identity import Identity
    from p2pchat.identity.tls_pipe import server_context

    context = server_context(Identity.generate(), Path(directory))
    listening = socket.create_server(("127.0.0.1", 0))
    channel.send(port=listening.getsockname()[1])
    threading.Thread(target=_serve, args=(context, listening), daemon=True).start()
    await channel.closed()


def _serve(context: ssl.SSLContext, listening: socket.socket) -> None:
    while True:
        plain, _ = listening.accept()
        threading.Thread(target=_answer, args=(context, plain), daemon=True).start()


def _answer(context: ssl.SSLContext, plain: socket.socket) -> None:
    """Serve one connection. The first byte is e for an echo, or s for a stream that is answered at its end."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(plain, server_side=True) as link:
        if link.recv(1) == b"e":
            while data := link.recv(PIECE):
                link.sendall(data)
            return
        buffer = bytearray(PIECE)
        left = STREAM_BYTES
        while left:
            left -= link.recv_into(buffer, min(PIECE, left))
        link.sendall(b"!")


class RoundTrips:
    """A timer for round trips of a small message over TLS, to another process."""

    def __init__(self, port: int) -> None:
        self._link = _connect(port)
        self._link.sendall(b"e")

    def measure(self, times: int) -> list[float]:
        """Return the seconds of each of `times` round trips."""
        message = bytes(ENTRY_BYTES)
        took = []
        for _ in range(times):
            begun = time.perf_counter()
            self._link.sendall(message)
            left = len(message)
            while left:
                left -= len(self._link.recv(left))
            took.append(time.perf_counter() - begun)
        return took

    def close(self) -> None:
        self._link.close()


def stream_rate(port: int) -> float:
    """Return MB per second through one TLS connection, both ends on this machine."""
    with _connect(port) as link:
        link.sendall(b"s")
        piece = bytes(PIECE)
        begun = time.perf_counter()
        for _ in range(STREAM_BYTES // PIECE):
            link.sendall(piece)
        link.recv(1)
        return STREAM_BYTES / (time.perf_counter() - begun) / 1e6


def _connect(port: int) -> ssl.SSLSocket:
    from p2pchat.identity.tls_pipe import client_context

    plain = socket.create_connection(("127.0.0.1", port))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client_context().wrap_socket(plain)


# ---- the rows


async def measure(channel: Channel, directory: str, port: int, small: bool) -> None:
    """Run as a worker: measure all of it."""
    home = Path(directory)
    commits, trips = Commits(home / "commits.db"), RoundTrips(port)
    times = 50 if small else 500
    channel.send(
        commit=middle(commits.measure(times)),
        trip=middle(trips.measure(times)),
        rows=row_rate(home / "rows.db", 2_000 if small else 200_000),
        stream=await asyncio.to_thread(stream_rate, port) if not small else 0.0,
    )
    commits.close()
    trips.close()


def run(setting: Setting) -> list[Row]:
    """Measure the floor and remember it for the other works."""
    home = setting.directory / "floor"
    home.mkdir()
    small = setting.messages < 10_000
    with Worker("floor.serve_tls", home=home, directory=str(home)) as far:
        port = far.get()["port"]
        with Worker("floor.measure", home=home, directory=str(home), port=port, small=small) as near:
            setting.floor = near.get()
    found = setting.floor
    rows = [
        Row("one SQLite commit of one row, fsync included", found["commit"] * 1e6, "us"),
        Row("SQLite rows in commits of 1,000", found["rows"], "rows/s"),
        Row(f"TLS round trip of {ENTRY_BYTES} bytes, blocking sockets", found["trip"] * 1e6, "us"),
    ]
    if found["stream"]:
        rows.append(Row("TLS stream, both ends here", found["stream"], "MB/s"))
    return rows
