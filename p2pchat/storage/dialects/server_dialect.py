"""MySQL, MariaDB and PostgreSQL in common: an address, a password, and connections that end.

The peer that writes holds a lock of the server, which ends with its connection. If the network between them was cut,
the server may keep a dead connection, and that lock, for hours. So the next connection of the same process ends the
one before.
"""

from __future__ import annotations

import select
import sys
from abc import abstractmethod
from contextlib import suppress
from typing import Any

from p2pchat.errors import StorageError
from p2pchat.storage.dialects.dialect import DatabaseURL, Dialect, OpenDatabase
from p2pchat.storage.schema import meta

CONNECT_WITHIN = 5  # seconds
TRIED_OUT_MOST = 1 << 18  # bytes: what is deleted on a server stays in its files for a while
TRIAL = "trial"  # in meta, never committed
CROWDED = "{where} has no connection left: raise max_connections of the server, or stop other programs"
READONLY = "{where} cannot be written: give this user the right to make and change tables there"
REPLICA = "{where} is read-only, as a replica is: name the server that it copies, or have its operator end that"
AWAY = "{where} does not answer: is the server running, and reached from here?"
LOGIN = "{where} refuses the user or the password: check both in the database URL"
MISSING = "{where} is not there: make it first, docs/databases.md says how"
DAMAGED = "{where} holds what no peer has written there: put a backup of the server in its place, or name another one"
TAKEN = "{where} is in use by another peer: stop that one, or give each peer a database of its own"


class ServerDialect(Dialect):
    """A database on a server; `name` is the name of the server program, `driver` that of the Python package."""

    name: str
    driver: str
    is_shared = True
    words: dict[str, str] = {"%": "%%", "?": "%s"}
    sentences: dict[Any, str]  # error texts by the codes of the server or the driver

    def __init__(self, url: DatabaseURL, busy_timeout: float) -> None:
        self._load()
        if url.driver not in ("", self.driver):
            raise StorageError(
                f"p2pchat speaks to {self.name} with {self.driver}: leave +{url.driver!r} out of the URL"
            )
        if not url.database:
            raise StorageError(f"that URL names no database: write {url.kind}://USER@HOST/DATABASE")
        host = f"on {url.host}{f':{url.port}' if url.port else ''}" if url.host else "on this machine"
        self.where: str = f"the {self.name} database {url.database!r} {host}"
        self.damaged: str = DAMAGED.format(where=self.where)
        self._url = url
        self._busy_timeout = busy_timeout

    @abstractmethod
    def _load(self) -> None:
        """Import the driver and set `errors`."""

    # ---- connections

    def connect(self, *, writes: bool) -> Any:
        """Open a connection; one that writes has the lock.

        A transaction that reads sees one moment; a transaction that writes is the only one there is.
        """
        try:
            driver = self._connect(self._connect_args(writes=writes))
        except (TypeError, ValueError):  # an argument that its connect() does not have, or a value it cannot take
            raise StorageError(f"{self.driver} does not know an option of that database URL, behind its ?") from None
        try:
            self._set_up(driver, writes=writes)
            driver.commit()
            if writes:
                self._take_lock(driver)
        except BaseException:  # also when interrupted: do not leak the connection
            with suppress(Exception):  # the first error is the one to report
                driver.close()
            raise
        return driver

    def _connect_args(self, *, writes: bool) -> dict[str, Any]:
        """Return the arguments of the driver's connect() that the URL gives; options of the URL win."""
        parts = {"host": self._url.host, "port": self._url.port, "user": self._url.user, "password": self._url.password}
        return {name: part for name, part in parts.items() if part is not None} | self._url.options

    @abstractmethod
    def _connect(self, arguments: dict[str, Any]) -> Any:
        """Return a new connection of the driver, with default settings."""

    @abstractmethod
    def _set_up(self, driver: Any, *, writes: bool) -> None:
        """Change the settings of a new connection; StorageError if the database cannot keep what peers write."""

    def _take_lock(self, driver: Any) -> None:
        """Take the writer's lock; StorageError if another peer has it."""
        if not self._lock(driver, 0.0):
            self._end_former(driver)
            if not self._lock(driver, self._busy_timeout):
                raise StorageError(TAKEN.format(where=self.where))
        self._remember(driver)
        driver.commit()

    @abstractmethod
    def _lock(self, driver: Any, timeout: float) -> bool:
        """Return whether the lock was free within so many seconds."""

    @abstractmethod
    def _end_former(self, driver: Any) -> None:
        """End the connection with which this process had the lock before, if the server still has it."""

    @abstractmethod
    def _remember(self, driver: Any) -> None:
        """Keep what `_end_former` needs to know of this connection."""

    def is_cut(self, driver: Any) -> bool:
        """Return whether the server ended an idle connection: it sends nothing else unasked."""
        try:
            return _is_readable(self._socket(driver))
        except Exception:  # the driver has closed it already
            return True

    @abstractmethod
    def _socket(self, driver: Any) -> int:
        """Return the descriptor of its socket."""

    def is_alive(self, driver: Any) -> bool:
        try:
            driver.rollback()
            value(driver, "select 1")
            driver.commit()
        except Exception:  # of any kind: the connection cannot be used any more
            return False
        return True

    # ---- care

    def check_writable(self, database: OpenDatabase, size_bytes: int) -> None:
        database.begin()
        try:
            database.insert(meta, (TRIAL, "x" * min(size_bytes, TRIED_OUT_MOST)))
        finally:
            database.rollback()

    def explain(self, error: BaseException | None) -> str:
        known = self.sentences.get(self._code(error))
        if known is not None:
            return known.format(where=self.where)
        return f"{self.where} cannot be used ({type(error).__name__} {self._code(error)})"

    @abstractmethod
    def _code(self, error: BaseException | None) -> Any:
        """Return the code of an error: the server's or the driver's."""


def execute(driver: Any, statement: str, *parameters: object) -> Any:
    """Run a statement of the driver's own style on a new connection; return the cursor."""
    cursor = driver.cursor()
    cursor.execute(statement, parameters)
    return cursor


def value(driver: Any, statement: str) -> Any:
    """Return the first value of the first row."""
    return execute(driver, statement).fetchall()[0][0]


def _is_readable(descriptor: int) -> bool:
    if sys.platform == "win32":
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
