"""Storage in a database, a file, in memory or on a server (dialects/): one connection writes, one reads.

An open storage has the right version; otherwise StorageError says what to do. After a failed commit nothing of it is
stored, and the next commit may be tried. The next call that needs a lost connection to a server opens a new one. If a
commit was under way when the connection was lost, the new connection finds out whether the server kept it; if not, the
commit is made again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from p2pchat.core.durable_changes import Change, Position, Start, TextStart
from p2pchat.core.log import Batch
from p2pchat.errors import StorageError
from p2pchat.protocol import ConversationId, UserId
from p2pchat.settings import MIB, Settings
from p2pchat.storage.batch_queries import BatchQueries
from p2pchat.storage.commit_writer import CommitWriter
from p2pchat.storage.database import SUSPECT_IN_COMMITS, Database, translate_errors
from p2pchat.storage.dialects.dialect import WRITTEN, Dialect, parse_url
from p2pchat.storage.dialects.sqlite_dialect import MemoryDialect, SQLiteDialect
from p2pchat.storage.message_queries import MessageQueries
from p2pchat.storage.start_queries import (
    load_conversations,
    load_hosted,
    load_meta,
    load_start,
    load_statements,
    load_tokens,
    load_users,
)
from p2pchat.storage.verify import MAX_FAULTS, verify_logs
from p2pchat.storage.views import make_views

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT = 4.0  # seconds; less than Settings.slow_storage_after, so that it is not reported as a slow disk
TRIED_OUT_BYTES = 4 * MIB  # more than nearly every commit; as many bytes warm the log


def _query(ask: Callable[Concatenate[MessageQueries, P], T]) -> Callable[Concatenate[SqlStorage, P], T]:
    """Return a method that asks the reader, in a transaction of its own."""

    def method(self: SqlStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._reading():
            return ask(self._reader, *args, **kwargs)

    return method


class SqlStorage:
    """Everything durable of one peer.

    One thread writes: it calls `load`, `commit` and `close`. Another reads, also while a commit runs. Every call raises
    StorageError, with a sentence for people. Those that are queries have their promise with the query.
    """

    def __init__(
        self, url: str, settings: Settings | None = None, *, read_only: bool = False, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        """Open the database at `url`; make its tables, and a file, if they are missing.

        Args:
            url: sqlite:////absolute/path (`sqlite_url` makes one of a path), mysql://, mariadb:// or postgresql://
                with user, host and database; memory:// for one that ends with this object.
            read_only: Make, migrate and write nothing, for programs that read while a peer runs.
            busy_timeout: Seconds to wait for another program that writes there.
        """
        self._settings = settings or Settings()
        self._url = url
        self._dialect = dialect_of(url, busy_timeout)
        self._failures = self._dialect.errors
        self._busy_timeout = busy_timeout
        self._lock = threading.RLock()  # one reader at a time
        self._write_lock = self._lock if self._dialect.in_memory else threading.RLock()
        self._damaged = False  # a check found something wrong
        self.untidied: int = 0  # commits that tidy() has not seen
        self._databases: list[Database] = []
        try:
            with translate_errors(self._dialect):
                self._writer = None if read_only else self._open_writer()
                self._open_reader()
        except BaseException:  # also when interrupted: do not leak the connections
            self.close()
            raise

    def _open_writer(self) -> CommitWriter:
        self._write = self._open(writes=True)
        self._write.prepare()
        if not self._dialect.in_memory:  # where nobody else reads
            make_views(self._write)
        return CommitWriter(self._write, self._settings)

    def _open_reader(self) -> None:
        self._dialect.require()
        self._read = self._open(writes=False)
        with self._read.transaction():
            self._read.check()
        self._reader = MessageQueries(self._read, self._settings)

    def _open(self, *, writes: bool) -> Database:
        self._databases.append(Database(self._dialect, writes=writes))
        return self._databases[-1]

    # ---- the writer thread

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these changes in order in one transaction, all or nothing; durable when this returns."""
        writer = self._writing()
        with self._write_lock:
            try:
                if writer.fence is None:
                    writer.commit(changes)
                else:
                    writer.commit_on_server(changes, self._busy_timeout)
            except Exception:
                with translate_errors(self._dialect, self._is_damaged, SUSPECT_IN_COMMITS):
                    raise
            self.untidied += 1

    def _writing(self) -> CommitWriter:
        if self._writer is None:
            raise StorageError(f"{self._dialect.where} was opened for reading only")
        if not self._databases:
            raise StorageError(f"{self._dialect.where} was closed")
        return self._writer

    def _is_damaged(self) -> bool:
        with self._lock:
            return self._check_damage()

    def warm(self) -> None:
        """Make the first commits as quick as later ones. It takes a moment; call it when nothing waits."""
        if self._writer is not None and self._settings.wal_warm_bytes:
            with translate_errors(self._dialect):
                self._dialect.warm(self._write, self._settings.wal_warm_bytes)

    def tidy(self) -> None:
        """Do what commits leave for later. Call it now and then, when nothing waits."""
        self.untidied = 0
        with translate_errors(self._dialect):
            self._dialect.tidy(self._write)

    def release_memory(self) -> None:
        """Forget what only spares reading. Call it when nothing was committed for a while."""
        writer = self._writing()
        with self._write_lock, translate_errors(self._dialect):
            writer.release_memory()
            self._dialect.release_memory(self._write)
            with self._lock:
                self._read.forget_numbers()
                self._dialect.release_memory(self._read)

    def compact(self, *, all: bool) -> None:
        """Give the room of deleted entries back to the disk; a large database only if `all` may take minutes."""
        self._writing()
        with self._write_lock, translate_errors(self._dialect):
            self._dialect.compact(self._write, all=all)

    def empty_log(self) -> bool:
        """Take deleted texts out of the log of the database too; return False while another program reads them."""
        self._writing()
        with self._write_lock, self._lock, translate_errors(self._dialect):
            return self._dialect.empty_log(self._write)

    def check_writable(self) -> None:
        """Write something and delete it. Raises StorageError if a commit would fail now."""
        writer = self._writing()
        with translate_errors(self._dialect):
            if writer.fence is not None:
                writer.reconnect()
            try:
                self._dialect.check_writable(self._write, TRIED_OUT_BYTES)
                if writer.fence is not None:
                    writer.commit([])
            except self._failures:
                self._write.mark_suspect()
                raise

    def close(self) -> None:
        """Close the storage; idempotent."""
        with self._lock:
            while self._databases:
                self._databases.pop().close()

    # ---- the reader thread

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, translate_errors(self._dialect, self._check_damage):
            if not self._databases:
                raise StorageError(f"{self._dialect.where} was closed")
            self._read.reconnect()
            try:
                with self._read.transaction():
                    yield
            except self._failures:
                self._read.mark_suspect()
                raise

    def _check_damage(self) -> bool:
        """Return whether rows hold what no peer wrote; the lock is held. A server checks what it stores.

        The quick checks come first; all of them may take 10 s for a million entries.
        """
        if not self._damaged and self._dialect.path is not None:
            dialect, database = self._dialect, self._read
            try:
                with database.transaction():
                    self._damaged = any(dialect.wrong_types(database)) or bool(
                        dialect.faults(database, 1) or verify_logs(database, 1)
                    )
            except self._failures:
                self._damaged = True
        return self._damaged

    load: Final = _query(load_start)
    meta: Final = _query(load_meta)
    hosted: Final = _query(load_hosted)
    load_users: Final = _query(load_users)
    tokens: Final = _query(load_tokens)
    lookup: Final = _query(MessageQueries.lookup)
    chain_at: Final = _query(MessageQueries.chain_at)
    logs_of: Final = _query(MessageQueries.logs_of)
    statements: Final = _query(load_statements)
    stored_conversations: Final = _query(load_conversations)
    places: Final = _query(MessageQueries.places)
    history: Final = _query(MessageQueries.history)
    entry: Final = _query(MessageQueries.entry)
    named: Final = _query(MessageQueries.named)
    changers: Final = _query(MessageQueries.changers)
    changed: Final = _query(MessageQueries.changed)
    referring: Final = _query(MessageQueries.referring)
    last_place: Final = _query(MessageQueries.last_place)
    first_received_at: Final = _query(MessageQueries.first_received_at)
    delivered_to: Final = _query(MessageQueries.delivered_to)
    readers: Final = _query(MessageQueries.readers)
    shown_by: Final = _query(MessageQueries.shown_by)
    prunable: Final = _query(MessageQueries.prunable)
    deleted: Final = _query(MessageQueries.deleted)
    count_deleted: Final = _query(MessageQueries.count_deleted)

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | TextStart | None]:
        """Return batches of what a user wrote, from `start` on.

        Logs come in the order they were stored. Each batch runs from the cursor to the farthest head within the batch
        limits, independent of the received batches. Forked logs are left out, except for the evidence that a ForkStart
        asks for. So are logs of which the asker lacks a part that was deleted here, and those that build on such a
        part.
        A tip is unknown if its chain differs from the one stored here at its seq.

        Args:
            batches: Most batches to return.
        Returns:
            The batches, with Batch.entries None, and where to continue; None at the end.
        """
        with self._reading():
            return BatchQueries(self._reader, conversation, user).fetch(start, batches)

    # ---- the database

    @property
    def where(self) -> str:
        """Its name in errors, without a password."""
        return self._dialect.where

    @property
    def path(self) -> Path | None:
        """Its file; None if a server or memory keeps it."""
        return self._dialect.path

    @property
    def is_volatile(self) -> bool:
        """True if nothing of it survives a crash, so that nothing is safer once it is stored."""
        return self._dialect.in_memory

    @property
    def in_memory(self) -> bool:
        """True if it ends with this object, so that `another_reader` would find nothing."""
        return self._dialect.in_memory

    def lost(self) -> str:
        """Return a sentence about commits that the disk lost, found when it was opened; "" if none were."""
        return self._dialect.lost()

    def another_reader(self) -> SqlStorage:
        """Open the same database once more, for reading in a thread of its own."""
        return SqlStorage(self._url, self._settings, read_only=True)

    # ---- diagnostics

    def faults(self, most: int = MAX_FAULTS) -> list[str]:
        """Read everything; return at most so many faults, [] if nothing is damaged."""
        with self._reading():
            found = self._dialect.faults(self._read, most) or verify_logs(self._read, most)
            return found or list(self._dialect.wrong_types(self._read))[:most]

    def copy_to(self, path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Copy what is committed now to `path`, readable by its owner only; `progress` gets bytes done and in all."""
        with self._reading():
            self._dialect.copy_to(self._read, path, progress)

    def interrupt(self) -> None:
        """Make what another thread reads here fail with StorageError."""
        self._dialect.interrupt(self._read)

    def size_on_disk(self) -> int:
        """Return about how many bytes the database takes."""
        with self._reading():
            return self._dialect.size_on_disk(self._read)


def dialect_of(url: str, busy_timeout: float) -> Dialect:
    """Return the dialect of the database at this URL; nothing is opened yet. Drivers are imported when first needed.

    Args:
        busy_timeout: Seconds to wait for another program that writes there.
    Raises:
        StorageError: This is no URL, names no database we support, or its driver is not installed.
    """
    given = parse_url(url)
    if given.kind == "memory":
        return MemoryDialect()
    if given.kind == "sqlite":
        return SQLiteDialect(given, busy_timeout)
    if given.kind in ("mysql", "mariadb"):
        from p2pchat.storage.dialects.mysql_dialect import MySQLDialect

        return MySQLDialect(given, busy_timeout)
    if given.kind == "postgresql":
        from p2pchat.storage.dialects.postgresql_dialect import PostgreSQLDialect

        return PostgreSQLDialect(given, busy_timeout)
    raise StorageError(f"this version keeps no {given.kind!r} databases: write {WRITTEN}")
