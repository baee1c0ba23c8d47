"""PostgreSQL, by psycopg."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL, Connection

from p2pchat.errors import StorageError
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.server import (
    AWAY,
    BUSY,
    CONNECT_WITHIN,
    CROWDED,
    FULL,
    LOGIN,
    MISSING,
    READONLY,
    ServerDialect,
)

LOCK = 0x70327063686174  # "p2pchat": advisory locks are numbers; the schema is the other half
ALIVE = {  # a dead network is noticed within a minute and not after hours
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
SIZE = "select pg_database_size(current_database())"
REFUSED = ("password authentication failed", "no password supplied", "role ", "pg_hba")
SHOWN = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "server_encoding")


class PostgreSQLDialect(ServerDialect):
    """A database on a PostgreSQL server, version 12 or later; the tables lie in the first schema of its search path."""

    name = "PostgreSQL"
    driver = "psycopg"
    extra = "postgresql"
    sentences = {
        "53100": FULL,
        "55P03": BUSY,
        "40P01": BUSY,
        "40001": BUSY,
        "53300": CROWDED,
        "42501": READONLY,
        "25006": READONLY,
        "28000": LOGIN,
        "28P01": LOGIN,
        "3D000": MISSING,
        "option": "the database URL has an option, behind its ?, that PostgreSQL does not know",
        "": AWAY,  # the connection ended, or none came about
        "57P01": AWAY,
        "57P02": AWAY,
        "57P03": AWAY,
        "08006": AWAY,
    }
    _former: tuple[int, str] | None = None

    def _load(self) -> None:
        try:
            import psycopg
        except ImportError:
            raise StorageError(
                "PostgreSQL needs psycopg, which is not installed: install the extra `postgresql`, "
                "p2pchat-mesh[postgresql]"
            ) from None
        self.errors = (psycopg.Error,)
        self._of_connections = (psycopg.OperationalError, psycopg.InterfaceError)

    def _completed(self, url: URL) -> URL:
        return url.set(drivername="postgresql+psycopg")

    def _connect_args(self, *, writes: bool) -> dict[str, Any]:
        return {**ALIVE, "connect_timeout": CONNECT_WITHIN, "application_name": "p2pchat", "client_encoding": "utf8"}

    def _set_up(self, connection: Connection, *, writes: bool) -> None:
        from psycopg.types.numeric import Int8Dumper

        driver: Any = connection.connection.driver_connection
        driver.adapters.register_dumper(int, Int8Dumper)  # one prepared statement, however large the numbers are
        encoding = connection.exec_driver_sql("show server_encoding").scalar()
        if encoding != "UTF8":
            raise StorageError(f"{self.where} keeps text as {encoding}: make one with encoding 'UTF8'")
        run = connection.exec_driver_sql
        run(f"set lock_timeout = {int(self._busy_timeout * 1000)}")
        run("select set_config(name, '0', false) from pg_settings where name in "
            "('idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout')")  # fmt: skip
        run("set jit = off")  # what is asked is of few rows, whatever their number is thought to be
        run("set enable_hashjoin = off")
        run("set enable_mergejoin = off")
        if writes:  # whatever the server is set to: a commit that has returned is on its disk
            run("select set_config(name, 'on', false) from pg_settings where name = 'synchronous_commit' "
                "and setting in ('off', 'local')")  # fmt: skip
        else:
            run("set default_transaction_read_only = on")

    def _socket(self, connection: Connection) -> int:
        driver: Any = connection.connection.driver_connection
        return int(driver.fileno())

    def _lock(self, connection: Connection, timeout: float) -> bool:
        run = connection.exec_driver_sql
        if not timeout:
            text = f"select pg_try_advisory_lock({LOCK} # hashtext(current_schema())::bigint)"
            return bool(run(text).scalar())
        try:
            run(f"select pg_advisory_lock({LOCK} # hashtext(current_schema())::bigint)")
        except Exception as error:
            if self._code(getattr(error, "orig", None)) != "55P03":
                raise
            connection.rollback()
            return False
        return True

    def _end_former(self, connection: Connection) -> None:
        if self._former is not None:
            ended = "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and backend_start::text = %s"
            connection.exec_driver_sql(ended, self._former).all()

    def _remember(self, connection: Connection) -> None:
        row = connection.exec_driver_sql(
            "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()"
        ).one()
        self._former = (row[0], row[1])

    def size_on_disk(self, database: Database) -> int:
        return int(database.value(SIZE))

    def interrupt(self, database: Database) -> None:
        driver: Any = database.connection.connection.driver_connection
        driver.cancel()

    def facts(self, database: Database) -> dict[str, str]:
        return {name: str(database.value(f"show {name}")) for name in SHOWN}

    def _code(self, error: BaseException | None) -> str:
        code = getattr(error, "sqlstate", None)
        if code is None and isinstance(error, self._of_connections):
            return _told_by_libpq(str(error))
        return str(code or ("option" if "invalid connection option" in str(error) else "unknown"))


def _told_by_libpq(text: str) -> str:
    """Return the number of what a connection that never came about was refused for: it has none, only words."""
    if any(words in text for words in REFUSED):
        return "28P01"
    if "database " in text and "does not exist" in text:
        return "3D000"
    return "53300" if "too many clients" in text or "remaining connection slots" in text else ""
