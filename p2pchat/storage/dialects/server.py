"""What MySQL, MariaDB and PostgreSQL have in common: a place on the network, a password, and connections that end.

Whoever writes holds a lock of the server's that ends with its connection. Where the network between was cut the server
may hold a dead connection, and that lock, for hours: so the next connection of the same process ends the one before.
"""

from __future__ import annotations

import select
import sqlite3
import sys
from abc import abstractmethod
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from p2pchat.errors import StorageError
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import Dialect
from p2pchat.storage.errors import SENTENCES
from p2pchat.storage.schema import heads, meta

CONNECT_WITHIN = 5  # seconds
TRIED_OUT_MOST = 1 << 18  # bytes: what is deleted on a server stays in its files for a while
TRIAL = "trial"  # in meta, never committed
ALL_SIZES = f"""
select coalesce(sum(h.size), 0) from {heads.name} h
join (select max(id) as id from {heads.name} group by id >> 40) newest on newest.id = h.id
"""

FULL = SENTENCES[sqlite3.SQLITE_FULL]
BUSY = SENTENCES[sqlite3.SQLITE_BUSY]
CROWDED = "{where} has no connection left: raise max_connections of the server, or stop other programs"
READONLY = "{where} cannot be written: give this user the right to make and change tables there"
AWAY = "{where} does not answer: is the server running, and reached from here?"
LOGIN = "{where} refuses the user or the password: check both in the database URL"
MISSING = "{where} is not there: make it first, docs/databases.md says how"
DAMAGED = "{where} holds what no peer has written there: put a backup of the server in its place, or name another one"
TAKEN = "{where} is in use by another peer: stop that one, or give each peer a database of its own"
TOLD = (CROWDED, READONLY, AWAY, LOGIN, MISSING, DAMAGED, TAKEN)


class ServerDialect(Dialect):
    """A database on a server; `name` is what people call its kind."""

    name: str
    driver: str
    extra: str
    is_shared = True
    sentences: dict[Any, str]

    def __init__(self, url: URL, busy_timeout: float) -> None:
        self._load()
        _, _, driver = url.drivername.partition("+")
        if driver not in ("", self.driver):
            raise StorageError(f"p2pchat speaks to {self.name} with {self.driver}: leave +{driver!a} out of the URL")
        if not url.database:
            raise StorageError(f"that URL names no database: write {url.get_backend_name()}://USER@HOST/DATABASE")
        host = f"on {url.host}{f':{url.port}' if url.port else ''}" if url.host else "on this machine"
        self.where = f"the {self.name} database {url.database!a} {host}"
        self.damaged = DAMAGED.format(where=self.where)
        self._url = self._completed(url)
        self._busy_timeout = busy_timeout

    @abstractmethod
    def _load(self) -> None:
        """Import the driver and set `errors`."""

    @abstractmethod
    def _completed(self, url: URL) -> URL:
        """Return the URL with our driver."""

    def text(self, statement: str) -> str:
        return placed(statement)

    # ---- connections

    def require(self) -> None:
        """Connecting says what is wrong."""

    def connect(self, *, writes: bool) -> Connection:
        try:
            connection = self._engine(writes=writes).connect()
        except TypeError:  # an argument that its connect() does not have
            raise StorageError(f"{self.driver} does not know an option of that database URL, behind its ?") from None
        try:
            self._set_up(connection, writes=writes)
            connection.commit()
            if writes:
                self._take_lock(connection)
        except BaseException:
            with suppress(Exception):  # what was wrong with it is told already
                connection.close()
            raise
        return connection

    def _engine(self, *, writes: bool) -> Engine:
        """A transaction that only reads sees one moment; one that writes is the only one there is.

        It connects once. By itself it would do so again for a connection that was lost, without the lock.
        """
        connected: list[bool] = []

        def once(*_: object) -> None:
            if connected:
                raise StorageError(AWAY.format(where=self.where))
            connected.append(True)

        engine = create_engine(
            self._url,
            poolclass=NullPool,
            pool_reset_on_return=None,  # transactions end here, or with their connection
            hide_parameters=True,  # they are what people wrote
            isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
            connect_args=self._connect_args(writes=writes),
        )
        event.listen(engine, "do_connect", once)
        return engine

    @abstractmethod
    def _connect_args(self, *, writes: bool) -> dict[str, Any]: ...

    @abstractmethod
    def _set_up(self, connection: Connection, *, writes: bool) -> None:
        """Set a new connection as it must be; StorageError for a database that cannot keep what we give it."""

    def _take_lock(self, connection: Connection) -> None:
        """Become the one who writes; StorageError when somebody else is."""
        if not self._lock(connection, 0.0):
            self._end_former(connection)
            if not self._lock(connection, self._busy_timeout):
                raise StorageError(TAKEN.format(where=self.where))
        self._remember(connection)
        connection.commit()

    @abstractmethod
    def _lock(self, connection: Connection, timeout: float) -> bool:
        """Whether the lock could be had within so many seconds."""

    @abstractmethod
    def _end_former(self, connection: Connection) -> None:
        """End the connection with which this process had the lock before, if the server still has it."""

    @abstractmethod
    def _remember(self, connection: Connection) -> None:
        """Keep what `_end_former` needs to know of this connection."""

    def is_cut(self, connection: Connection) -> bool:
        """Nothing comes unasked but an end."""
        try:
            return _is_readable(self._socket(connection))
        except Exception:  # SQLAlchemy's, of one that it has given up already
            return True

    @abstractmethod
    def _socket(self, connection: Connection) -> int:
        """Return the descriptor of its socket."""

    def answers(self, connection: Connection) -> bool:
        try:
            with connection.begin():
                connection.exec_driver_sql("select 1").all()
        except Exception:  # the driver's, or SQLAlchemy's of a transaction that cannot be ended any more
            return False
        return True

    # ---- care

    def keep_former(self, database: Database, version: int) -> None:
        """Nothing: that is for the server's own tools."""

    def warm(self, database: Database, size_bytes: int) -> None:
        """Nothing: a server is warm."""

    def tidy(self, database: Database) -> None:
        """Nothing: a server does that beside."""

    def check_writable(self, database: Database, size_bytes: int) -> None:
        transaction = database.begin()
        try:
            database.insert(meta, (TRIAL, "x" * min(size_bytes, TRIED_OUT_MOST)))
        finally:
            transaction.rollback()

    def most_stored(self, database: Database) -> int:
        return int(database.value(ALL_SIZES))

    def sentence(self, error: BaseException | None) -> str:
        known = self.sentences.get(self._code(error))
        if known is not None:
            return known.format(where=self.where)
        return f"{self.where} cannot be used ({type(error).__name__} {self._code(error)})"

    @abstractmethod
    def _code(self, error: BaseException | None) -> Any:
        """Return the server's or the driver's number of what went wrong."""


def _is_readable(descriptor: int) -> bool:
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


@lru_cache(maxsize=1024)
def placed(statement: str) -> str:
    """Return a statement with the placeholders of these drivers."""
    return statement.replace("%", "%%").replace("?", "%s")
