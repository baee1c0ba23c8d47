"""Storage in a database: one connection writes, one reads; at present SQLite files only.

Opened, it is of the right version, or StorageError says in one sentence what to do. After a failed commit
nothing of it is stored, and the next one may be tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from p2pchat.config import MIB, Settings
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Change, LogFacts, LogKey, Position, ShownKey, Start, Stored
from p2pchat.errors import StorageError
from p2pchat.protocol import ConversationId, Mark, UserId
from p2pchat.storage import connect, schema
from p2pchat.storage.base import Holding, Shown, SortKey
from p2pchat.storage.faults import IN_ROWS_WRITTEN, told_clearly
from p2pchat.storage.fetching import Fetching
from p2pchat.storage.loading import holdings, load, load_meta
from p2pchat.storage.proving import is_damaged, unproven
from p2pchat.storage.reading import READ, Reader
from p2pchat.storage.showing import Showing
from p2pchat.storage.writing import Writer

BUSY_TIMEOUT = 4.0  # seconds; less than Settings.slow_storage_after, so that it is told as what it is
TRIED_OUT_BYTES = 4 * MIB  # more than nearly every commit; as many bytes warm the log


class SqlStorage:
    """See storage/base.py for what each call promises."""

    durable = True

    def __init__(
        self, url: str, settings: Settings | None = None, *, read_only: bool = False, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        """Open the database at `url`, made when it is not there.

        Args:
            url: sqlite:////absolute/path (connect.sqlite_url makes one of a path).
            read_only: For programs that read beside a running peer: nothing is made, migrated or written.
            busy_timeout: Seconds to wait for another program that writes there.
        """
        self._settings = settings or Settings()
        self._url, self._path = connect.parsed(url)
        self._lock = threading.Lock()  # one reader at a time
        self._damaged = False  # looked through once, and something was wrong
        self._connections: list[Connection] = []
        try:
            with told_clearly(str(self._path)):
                self._writer = None if read_only else self._open_writer(busy_timeout)
                self._open_reader(busy_timeout)
        except BaseException:
            self.close()
            raise

    def _open_writer(self, busy_timeout: float) -> Writer:
        connect.make_private(self._path)
        connection = self._open("begin immediate", busy_timeout)
        schema.prepare(connection, self._path)
        return Writer(connection, self._settings)

    def _open_reader(self, busy_timeout: float) -> None:
        if not self._path.exists():
            raise StorageError(f"nothing is stored at {self._path}: name another file, or start a peer there first")
        self._read = self._open("begin", busy_timeout)
        if self._writer is None:
            self._read_older()
        with self._read.begin():
            schema.check(self._read, self._path)
        self._reader = Reader(self._read, self._settings)
        self._showing = Showing(self._reader)

    def _read_older(self) -> None:
        """Who may not write reads a database of an earlier version as it will be: from a copy that is up to date."""
        with self._read.begin():
            older = schema.is_older(self._read, self._path)
        if older:
            self._read = connect.temporary_copy(self._read)
            self._connections.append(self._read)
            schema.bring_up_to_date(self._read, self._path)

    def _open(self, begin: str, busy_timeout: float) -> Connection:
        self._connections.append(connect.open_connection(self._url, begin, busy_timeout))
        return self._connections[-1]

    # ---- the writer thread

    def load(self, hosted: Sequence[UserId]) -> Stored:
        with self._reading():
            return load(self._read, hosted, self._settings)

    def meta(self) -> dict[str, str]:
        with self._reading():
            return load_meta(self._read)

    def commit(self, changes: Sequence[Change]) -> None:
        if self._writer is None:
            raise StorageError(f"{self._path} was opened for reading only")
        with told_clearly(str(self._path), self._is_damaged, IN_ROWS_WRITTEN):
            self._writer.commit(changes)

    def _is_damaged(self) -> bool:
        with self._lock:
            return self._looks_damaged()

    def warm(self) -> None:
        if self._writer is not None and self._settings.wal_warm_bytes:
            with told_clearly(str(self._path)):
                connect.warm_log(self._connections[0], self._settings.wal_warm_bytes)

    def try_out(self) -> None:
        if self._writer is None:
            raise StorageError(f"{self._path} was opened for reading only")
        with told_clearly(str(self._path)):
            connect.try_out(self._connections[0], TRIED_OUT_BYTES)

    def close(self) -> None:
        with self._lock:
            while self._connections:
                connection = self._connections.pop()
                connection.close()
                connection.engine.dispose()

    # ---- the reader thread

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, told_clearly(str(self._path), self._looks_damaged), self._read.begin():
            yield

    def _looks_damaged(self) -> bool:
        """Look through the database, unless that was found out before; the lock is held."""
        if not self._damaged:
            self._damaged = is_damaged(self._read)
        return self._damaged

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        with self._reading():
            found = {key: facts for key in logs if (facts := self._reader.facts(key))}
            return found, {whose: self._reader.older(*whose) for whose in older}

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        with self._reading():
            return self._reader.logs_of(conversation, user)

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        with self._reading():
            return Fetching(self._reader, self._settings, conversation, user).fetch(start, batches)

    def holdings(self) -> list[Holding]:
        with self._reading():
            return holdings(self._read)

    def places(self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None) -> list[Shown]:
        with self._reading():
            return self._showing.places(after, limit, conversations)

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> list[Shown]:
        with self._reading():
            return self._showing.history(conversation, before, after, since, limit)

    def entry(self, log: LogId, seq: int) -> Shown | None:
        with self._reading():
            return self._showing.entry(log, seq)

    def first_heard(self, user: UserId) -> int:
        with self._reading():
            return self._showing.first_heard(user)

    # ---- what an index of all words is fed with: also what may not be read now, for that may change

    def placed(self, after: int, limit: int) -> list[Shown]:
        """Return all entries with place > after, in order of place."""
        with self._reading():
            return self._showing.places(after, limit, hidden=True)

    def placed_entry(self, log: LogId, seq: int) -> Shown | None:
        """Return one entry that has a place, None when it has none."""
        with self._reading():
            return self._showing.entry(log, seq, hidden=True)

    def last_place(self) -> int:
        """Return the newest place, 0 when nothing was released."""
        with self._reading():
            return self._showing.last_place()

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._reading():
            return self._reader.heard(log, seq)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._reading():
            return self._reader.heard(log, seq, READ)

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        with self._reading():
            return self._reader.shown_by(key)

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        with self._reading():
            return self._reader.size_bytes(user, conversation)

    # ---- beside

    @property
    def path(self) -> Path:
        """The file it is kept in."""
        return self._path

    def another_reader(self) -> SqlStorage:
        """Open the same database once more, for reading in a thread of its own."""
        url = self._url.render_as_string(hide_password=False)
        return SqlStorage(url, self._settings, read_only=True)

    # ---- diagnostics

    def pragmas(self) -> dict[str, str]:
        """Return how SQLite is really set, for benchmarks and diagnostics."""
        with self._lock, told_clearly(str(self._path)):
            return connect.pragmas(self._read)

    def faults(self, most: int) -> list[str]:
        """Read the whole file and return what is damaged in it, at most so many faults; [] when it is whole."""
        with self._reading():
            return connect.faults(self._read, most) or unproven(self._read, most)

    def copy_to(self, path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Make a copy at `path` of what is committed now, readable by its owner only; `progress` is told bytes."""
        with self._reading():
            connect.copy_to(self._read, path, progress)

    def interrupt(self) -> None:
        """Have what another thread reads here end with StorageError."""
        connect.driver_of(self._read).interrupt()

    def size_on_disk(self) -> int:
        """Return the bytes of the database file and of its write-ahead log."""
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(path.stat().st_size for path in files if path.exists())
