"""Storage in a database: one connection writes, one reads; in a file, or on a server (dialects/).

Opened, it is of the right version, or StorageError says in one sentence what to do. After a failed commit
nothing of it is stored, and the next one may be tried. A connection to a server that was lost is opened again by the
next call that needs it; a commit that was under way then is looked for, and made again where it is not there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from p2pchat.config import MIB, Settings
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Change, LogFacts, LogKey, Position, ShownKey, Start, Stored, StoredUser, Token
from p2pchat.errors import StorageError
from p2pchat.protocol import ConversationId, Mark, UserId
from p2pchat.storage import migrations
from p2pchat.storage.base import ReleasedEntry, SortKey, StoredConversation
from p2pchat.storage.database import Database
from p2pchat.storage.dialects import dialect_of
from p2pchat.storage.errors import SUSPECT_IN_COMMITS, translate_errors
from p2pchat.storage.load import (
    load,
    load_hosted,
    load_meta,
    load_of_users,
    load_token,
    load_tokens,
    stored_conversations,
)
from p2pchat.storage.messages import BoundedMessageQueries, MessageQueries
from p2pchat.storage.read import READ, BatchQueries, LogQueries
from p2pchat.storage.verify import verify_logs
from p2pchat.storage.write import CommitWriter

BUSY_TIMEOUT = 4.0  # seconds; less than Settings.slow_storage_after, so that it is told as what it is
TRIED_OUT_BYTES = 4 * MIB  # more than nearly every commit; as many bytes warm the log
TIDIED_EVERY = 128  # commits: alone they are 5 to 7 pages each, and SQLite itself tidies up after 1,000 pages
AGAIN_AFTER = 0.1  # seconds between attempts to reach a server that holds a commit of ours, or does not


class SqlStorage:
    """See storage/base.py for what each call promises."""

    durable = True

    def __init__(
        self, url: str, settings: Settings | None = None, *, read_only: bool = False, busy_timeout: float = BUSY_TIMEOUT
    ) -> None:
        """Open the database at `url`; its tables, and a file, are made when they are not there.

        Args:
            url: sqlite:////absolute/path (connect.sqlite_url makes one of a path), mysql://, mariadb:// or
                postgresql:// with user, host and database.
            read_only: For programs that read beside a running peer: nothing is made, migrated or written.
            busy_timeout: Seconds to wait for another program that writes there.
        """
        self._settings = settings or Settings()
        self._url = url
        self._dialect = dialect_of(url, busy_timeout)
        self._failures = self._dialect.errors
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()  # one reader at a time
        self._damaged = False  # looked through once, and something was wrong
        self._untidied = 0  # commits since that was done
        self._databases: list[Database] = []
        try:
            with translate_errors(self._dialect):
                self._writer = None if read_only else self._open_writer()
                self._open_reader()
        except BaseException:
            self.close()
            raise

    def _open_writer(self) -> CommitWriter:
        self._write = self._open(writes=True)
        migrations.prepare(self._write)
        return CommitWriter(self._write, self._settings)

    def _open_reader(self) -> None:
        self._dialect.require()
        self._read = self._open(writes=False)
        upgraded = self._dialect.upgraded_copy(self._read) if self._writer is None else None
        if upgraded is not None:
            self._read = upgraded
            self._databases.append(upgraded)
        with self._read.transaction():
            migrations.check(self._read)
        self._reader = LogQueries(self._read, self._settings)
        self._showing = (BoundedMessageQueries if self._dialect.sorts_whole_tables else MessageQueries)(self._reader)

    def _open(self, *, writes: bool) -> Database:
        self._databases.append(Database(self._dialect, writes=writes))
        return self._databases[-1]

    # ---- the writer thread

    def load(self, hosted: Sequence[UserId]) -> Stored:
        with self._reading():
            return load(self._read, hosted, self._settings)

    def meta(self) -> dict[str, str]:
        with self._reading():
            return load_meta(self._read)

    def hosted(self) -> list[StoredUser]:
        with self._reading():
            return load_hosted(self._read)

    def load_users(self, users: Sequence[UserId]) -> Stored:
        with self._reading():
            return load_of_users(self._read, users)

    def token(self, hash: bytes) -> Token | None:
        with self._reading():
            return load_token(self._read, hash)

    def tokens(self, user: UserId | None = None) -> list[Token]:
        with self._reading():
            return load_tokens(self._read, user)

    def commit(self, changes: Sequence[Change]) -> None:
        writer = self._writing()
        with translate_errors(self._dialect, self._is_damaged, SUSPECT_IN_COMMITS):
            if writer.fence is None:
                writer.commit(changes)
            else:
                self._commit_there(writer, changes)

    def _commit_there(self, writer: CommitWriter, changes: Sequence[Change]) -> None:
        """Commit on a server. Where only the connection was lost, the commit is made once more, or was kept."""
        self._rejoin_writer(writer)
        try:
            writer.commit(changes)
        except self._failures:
            self._write.mark_suspect()
            if not self._is_back(writer.is_under_way):
                raise
            if not writer.was_kept():
                writer.commit(changes)

    def _rejoin_writer(self, writer: CommitWriter) -> None:
        """Make sure of a connection, and that nobody else has written when it is a new one."""
        if self._write.reconnect():
            writer.was_kept()

    def _is_back(self, worth_waiting: bool) -> bool:
        """Whether there is a new connection. Of a commit that may be kept one waits a moment to learn it."""
        give_up = time.monotonic() + (self._busy_timeout if worth_waiting else 0.0)
        while True:
            try:
                return self._write.reconnect()
            except self._failures:
                if time.monotonic() >= give_up:
                    return False
            time.sleep(AGAIN_AFTER)

    def _writing(self) -> CommitWriter:
        if self._writer is None:
            raise StorageError(f"{self._dialect.where} was opened for reading only")
        if not self._databases:
            raise StorageError(f"{self._dialect.where} was closed")
        return self._writer

    def _is_damaged(self) -> bool:
        with self._lock:
            return self._looks_damaged()

    def warm(self) -> None:
        if self._writer is not None and self._settings.wal_warm_bytes:
            with translate_errors(self._dialect):
                self._dialect.warm(self._write, self._settings.wal_warm_bytes)

    def tidy(self) -> None:
        self._untidied += 1
        if self._untidied >= TIDIED_EVERY:
            self._untidied = 0
            with translate_errors(self._dialect):
                self._dialect.tidy(self._write)

    def check_writable(self) -> None:
        writer = self._writing()
        with translate_errors(self._dialect):
            if writer.fence is not None:
                self._rejoin_writer(writer)
            try:
                self._dialect.check_writable(self._write, TRIED_OUT_BYTES)
                if writer.fence is not None:
                    writer.commit([])
            except self._failures:
                self._write.mark_suspect()
                raise

    def close(self) -> None:
        with self._lock:
            while self._databases:
                self._databases.pop().close()

    # ---- the reader thread

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, translate_errors(self._dialect, self._looks_damaged):
            if not self._databases:
                raise StorageError(f"{self._dialect.where} was closed")
            self._read.reconnect()
            try:
                with self._read.transaction():
                    yield
            except self._failures:
                self._read.mark_suspect()
                raise

    def _looks_damaged(self) -> bool:
        """Look through the database, unless that was found out before; the lock is held."""
        if not self._damaged:
            self._damaged = self._dialect.is_damaged(self._read)
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
            return BatchQueries(self._reader, self._settings, conversation, user).fetch(start, batches)

    def stored_conversations(self) -> list[StoredConversation]:
        with self._reading():
            return stored_conversations(self._read)

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None
    ) -> list[ReleasedEntry]:
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
    ) -> list[ReleasedEntry]:
        with self._reading():
            return self._showing.history(conversation, before, after, since, limit)

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        with self._reading():
            return self._showing.entry(log, seq)

    def first_heard(self, user: UserId) -> int:
        with self._reading():
            return self._showing.first_heard(user)

    # ---- what an index of all words is fed with: also what may not be read now, for that may change

    def placed(self, after: int, limit: int) -> list[ReleasedEntry]:
        """Return all entries with place > after, in order of place."""
        with self._reading():
            return self._showing.places(after, limit, hidden=True)

    def placed_entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
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
    def where(self) -> str:
        """What errors call it; never with a password."""
        return self._dialect.where

    @property
    def path(self) -> Path | None:
        """The file it is kept in, None where a server keeps it."""
        return self._dialect.path

    def another_reader(self) -> SqlStorage:
        """Open the same database once more, for reading in a thread of its own."""
        return SqlStorage(self._url, self._settings, read_only=True)

    # ---- diagnostics

    def facts(self) -> dict[str, str]:
        """Return how the database is really set, for benchmarks and diagnostics."""
        with self._reading():
            return self._dialect.facts(self._read)

    def faults(self, most: int) -> list[str]:
        """Read everything and return what is damaged in it, at most so many faults; [] when it is whole."""
        with self._reading():
            found = self._dialect.faults(self._read, most) or verify_logs(self._read, most)
            return found or list(self._dialect.wrong_types(self._read))[:most]

    def copy_to(self, path: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Make a copy at `path` of what is committed now, readable by its owner only; `progress` is told bytes."""
        with self._reading():
            self._dialect.copy_to(self._read, path, progress)

    def interrupt(self) -> None:
        """Have what another thread reads here end with StorageError."""
        self._dialect.interrupt(self._read)

    def size_on_disk(self) -> int:
        """Return about how many bytes the database takes."""
        with self._reading():
            return self._dialect.size_on_disk(self._read)
