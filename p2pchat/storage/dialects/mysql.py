"""MySQL and MariaDB, by PyMySQL.

Their tables are made with a collation that takes no two texts for one: not upper and lower case, no accents, and no
blanks at the end.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable

from p2pchat.errors import StorageError
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import Conflict
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
    placed,
)
from p2pchat.storage.schema import NEWEST_HEAD, NEWEST_HEAD_GROUPED, THEN_ENTRIES, THEN_ENTRIES_STRAIGHT

ANSWERS_WITHIN = 60  # seconds: the longest that a statement of ours takes; then the server is gone
IDLE_MOST = 2_147_483  # seconds that a connection may rest: the most that Windows takes
STATEMENT_BYTES = 4 << 20  # of text: MariaDB takes 16 MiB, and quotes and backslashes count twice
LOCK = "concat('p2pchat.', left(sha2(database(), 256), 40))"  # names of locks are the whole server's
SIZE = """
select coalesce(sum(data_length + index_length), 0) from information_schema.tables where table_schema = database()
"""
TOO_LARGE = "{where} takes no message this large: raise max_allowed_packet of the server to 16 MiB"
OTHERWISE = {NEWEST_HEAD: NEWEST_HEAD_GROUPED, THEN_ENTRIES: THEN_ENTRIES_STRAIGHT}
SHOWN = ("version", "innodb_flush_log_at_trx_commit", "innodb_doublewrite", "innodb_buffer_pool_size", "sync_binlog")


@compiles(CreateTable, "mysql", "mariadb")
def _create_table(element: CreateTable, compiler: Any, **words: Any) -> str:
    collation = "utf8mb4_nopad_bin" if compiler.dialect.is_mariadb else "utf8mb4_0900_bin"
    made = compiler.visit_create_table(element, **words).rstrip()
    return f"{made} ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}"


def _through_socket(_dialect: object, _record: object, _words: object, options: dict[str, Any]) -> Any:
    """Connect through a Unix socket; None for any other way. PyMySQL forgets to close one where nobody answers."""
    path = options.get("unix_socket")
    if not path or sys.platform == "win32":
        return None
    import pymysql

    connection: Any = pymysql.connect(**options, defer_connect=True)
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(CONNECT_WITHIN)
    try:
        door.connect(path)
    except OSError as error:
        door.close()
        raise pymysql.err.OperationalError(2002, error.strerror) from None
    connection._secure = True  # as it would say of its own: a password may go through
    connection.connect(door)
    return connection


@lru_cache(maxsize=1024)
def _text(statement: str) -> str:
    for said, here in OTHERWISE.items():
        statement = statement.replace(said, here)
    return placed(statement)


class MySQLDialect(ServerDialect):
    """A database on a server of MySQL 8.0 or MariaDB 10.3, or later ones."""

    name = "MySQL"
    driver = "pymysql"
    extra = "mysql"
    commits_tables = True
    asks_within_bounds = True
    most_bytes = STATEMENT_BYTES
    sentences = {
        1021: FULL,
        1114: FULL,
        3675: FULL,
        1205: BUSY,
        1213: BUSY,
        1040: CROWDED,
        1203: CROWDED,
        1044: LOGIN,
        1045: LOGIN,
        1698: LOGIN,
        1142: READONLY,
        1290: READONLY,
        1792: READONLY,
        1049: MISSING,
        1053: AWAY,
        1927: AWAY,
        2002: AWAY,
        2003: AWAY,
        2006: AWAY,
        2013: AWAY,
        4031: AWAY,
        0: AWAY,  # PyMySQL's word for a connection that was lost before
        1153: TOO_LARGE,
    }

    def __init__(self, url: URL, busy_timeout: float) -> None:
        super().__init__(url, busy_timeout)
        self._token = (
            f"p2pchat.{os.urandom(12).hex()}"  # a second lock: by it the server knows which connection is ours
        )

    def _load(self) -> None:
        try:
            import pymysql
        except ImportError:
            raise StorageError(
                "MySQL and MariaDB need PyMySQL, which is not installed: install the extra `mysql`, p2pchat-mesh[mysql]"
            ) from None
        self.errors = (pymysql.Error,)

    def _completed(self, url: URL) -> URL:
        return url.set(drivername="mysql+pymysql").update_query_dict({"charset": "utf8mb4"})

    def text(self, statement: str) -> str:
        return _text(statement)

    def on_conflict(self, table: Table, conflict: Conflict) -> str:
        if conflict is Conflict.NONE:
            return ""
        names = [column.name for column in table.columns if not column.primary_key]
        taken = "{0} = values({0})" if conflict is Conflict.REPLACE else "{0} = greatest({0}, values({0}))"
        return f"on duplicate key update {', '.join(map(taken.format, names))}"

    def _connect_args(self, *, writes: bool) -> dict[str, Any]:
        timeouts = {"read_timeout": ANSWERS_WITHIN, "write_timeout": ANSWERS_WITHIN} if writes else {}
        return {"connect_timeout": CONNECT_WITHIN, "local_infile": False, **timeouts}

    def _engine(self, *, writes: bool) -> Engine:
        engine = super()._engine(writes=writes)
        event.listen(engine, "do_connect", _through_socket)
        return engine

    def _set_up(self, connection: Connection, *, writes: bool) -> None:
        if getattr(connection.dialect, "is_mariadb", False) and self.name != "MariaDB":
            self.name = "MariaDB"
            self.where, self.damaged = (text.replace("MySQL", "MariaDB", 1) for text in (self.where, self.damaged))
        run = connection.exec_driver_sql
        patience = max(1, int(self._busy_timeout))
        run(f"set session sql_mode = 'STRICT_ALL_TABLES', wait_timeout = {IDLE_MOST}, "
            f"lock_wait_timeout = {patience}, innodb_lock_wait_timeout = {patience}")  # fmt: skip
        if not writes:
            run("set session transaction read only")

    def _socket(self, connection: Connection) -> int:
        driver: Any = connection.connection.driver_connection
        return int(driver._sock.fileno())

    def _lock(self, connection: Connection, timeout: float) -> bool:
        return connection.exec_driver_sql(f"select get_lock({LOCK}, {timeout})").scalar() == 1

    def _end_former(self, connection: Connection) -> None:
        former = connection.exec_driver_sql(f"select is_used_lock('{self._token}')").scalar()
        if former is not None:
            connection.exec_driver_sql(f"kill connection {int(former)}")

    def _remember(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"select get_lock('{self._token}', 0)").all()

    def size_on_disk(self, database: Database) -> int:
        return int(database.value(SIZE))

    def interrupt(self, database: Database) -> None:
        driver: Any = database.connection.connection.driver_connection
        with self._engine(writes=False).connect() as other:
            other.exec_driver_sql(f"kill query {int(driver.thread_id())}")

    def facts(self, database: Database) -> dict[str, str]:
        wanted = ", ".join(f"@@global.{name}" for name in SHOWN)
        return dict(zip(SHOWN, map(str, database.first(f"select {wanted}")), strict=True))

    def _code(self, error: BaseException | None) -> int:
        args: Sequence[object] = getattr(error, "args", ())
        return args[0] if args and isinstance(args[0], int) else -1
