"""MySQL and MariaDB, by PyMySQL.

Their tables are made with a collation that never takes two different texts for one: it tells upper case from lower
case, knows accents, and counts blanks at the end.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from p2pchat.errors import StorageError
from p2pchat.extras import missing_extra
from p2pchat.storage.dialects.dialect import (
    BUSY,
    COMMON_TYPES,
    FULL,
    DatabaseURL,
    InsertConflict,
    OpenDatabase,
    ViewFunctions,
)
from p2pchat.storage.dialects.server_dialect import (
    AWAY,
    CONNECT_WITHIN,
    CROWDED,
    LOGIN,
    MISSING,
    READONLY,
    REPLICA,
    ServerDialect,
    execute,
    value,
)
from p2pchat.storage.schema import (
    BYTES,
    LOG_SIZE,
    LOG_SIZE_GROUPED,
    LONG_TEXT,
    NEWEST_HEAD,
    NEWEST_HEAD_GROUPED,
    THEN_ENTRIES,
    THEN_ENTRIES_STRAIGHT,
    Table,
    create_statements,
)

ANSWERS_WITHIN = 60  # seconds: longer than any statement of ours takes; then the server is gone
IDLE_MOST = 2_147_483  # seconds that a connection may rest: the most that Windows takes
STATEMENT_BYTES = 4 << 20  # of text: MariaDB takes 16 MiB, and quotes and backslashes count twice
LOCK = "concat('p2pchat.', left(sha2(database(), 256), 40))"  # names of locks are the whole server's
SIZE = """
select coalesce(sum(data_length + index_length), 0) from information_schema.tables where table_schema = database()
"""
TABLE_NAMES = """
select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'
"""
TOO_LARGE = "{where} takes no message this large: raise max_allowed_packet of the server to 16 MiB"
# Options of a URL that are no text. Those that begin with ssl_ are for the TLS context.
NUMBERS = ("port", "connect_timeout", "read_timeout", "write_timeout", "client_flag", "max_allowed_packet")
TLS = ("ca", "key", "cert", "capath", "cipher", "check_hostname")
TRUE = ("true", "yes", "on", "1")
FUNCTIONS = ViewFunctions(
    hex="lower(hex({0}))",
    time="left(date_format(timestampadd(microsecond, cast({0} as signed), '1970-01-01'), '%Y-%m-%d %H:%i:%s.%f'), 23)",
    # The second and third condition: no key twice, none with escapes.
    member="case when json_valid({0}) and json_length({0}) = json_length(json_keys({0}))"
    " and locate(char(92), json_keys({0})) = 0 then json_unquote(json_extract({0}, '$.{1}')) end",
    is_text="case when json_valid({0}) then json_type(json_extract({0}, '$.{1}')) = 'STRING' else false end",
    joined="concat({0}, ', ', {1})",
)


class MySQLDialect(ServerDialect):
    """A database on a server of MySQL 8.0 or MariaDB 10.3, or later ones."""

    name: str = "MySQL"
    driver = "pymysql"
    types: dict[str, str] = COMMON_TYPES | {LONG_TEXT: "TEXT(16777215)", BYTES: "VARBINARY({})"}
    words: dict[str, str] = {
        LOG_SIZE: LOG_SIZE_GROUPED,
        NEWEST_HEAD: NEWEST_HEAD_GROUPED,
        THEN_ENTRIES: THEN_ENTRIES_STRAIGHT,
    } | ServerDialect.words
    table_names_query = TABLE_NAMES
    commits_tables = True
    max_statement_bytes = STATEMENT_BYTES
    functions = FUNCTIONS
    sentences: dict[Any, str] = {
        **dict.fromkeys((1021, 1114, 3675), FULL),
        **dict.fromkeys((1205, 1213), BUSY),
        **dict.fromkeys((1040, 1203), CROWDED),
        **dict.fromkeys((1044, 1045, 1698), LOGIN),
        1142: READONLY,
        **dict.fromkeys((1290, 1792, 1836), REPLICA),
        1049: MISSING,
        # 0 is PyMySQL's code for a connection that was lost before.
        **dict.fromkeys((0, 1053, 1927, 2002, 2003, 2006, 2013, 4031), AWAY),
        1153: TOO_LARGE,
    }

    def __init__(self, url: DatabaseURL, busy_timeout: float) -> None:
        super().__init__(url, busy_timeout)
        self._token = f"p2pchat.{os.urandom(12).hex()}"  # a second lock, which tells the server our connections

    def _load(self) -> None:
        try:
            import pymysql
        except ImportError:
            raise StorageError(missing_extra("MySQL and MariaDB need PyMySQL", "mysql")) from None
        self.errors: tuple[type[Exception], ...] = (pymysql.Error,)

    def on_conflict(self, table: Table, conflict: InsertConflict) -> str:
        if conflict is InsertConflict.NONE:
            return ""
        last = table.names[-1]  # it is set last, since each assignment sees those before it
        sets = "{0} = values({0})"
        if conflict is InsertConflict.HIGHER:
            sets = f"{{0}} = if(values({last}) > {last}, values({{0}}), {{0}})"
        values = [sets.format(name) for name in table.names if name not in table.keys]
        return f"on duplicate key update {', '.join(values)}"

    # ---- connections

    def _connect_args(self, *, writes: bool) -> dict[str, Any]:
        from pymysql.constants import CLIENT

        found = super()._connect_args(writes=writes)
        found |= {name: int(found[name]) for name in NUMBERS if name in found}
        tls = {name: found.pop(f"ssl_{name}") for name in TLS if f"ssl_{name}" in found}
        if "check_hostname" in tls:
            tls["check_hostname"] = tls["check_hostname"].lower() in TRUE
        if tls:
            found["ssl"] = tls
        found["client_flag"] = found.get("client_flag", 0) | CLIENT.FOUND_ROWS  # an update counts the rows it found
        timeouts = {"read_timeout": ANSWERS_WITHIN, "write_timeout": ANSWERS_WITHIN} if writes else {}
        own = {"charset": "utf8mb4", "connect_timeout": CONNECT_WITHIN, "local_infile": False, **timeouts}
        return {**found, "database": self._url.database, **own}

    def _connect(self, arguments: dict[str, Any]) -> Any:
        """Connect. PyMySQL forgets to close a Unix socket nobody answers at, so that one is opened here."""
        import pymysql

        path = arguments.get("unix_socket")
        if not path or sys.platform == "win32":
            return pymysql.connect(**arguments)
        driver: Any = pymysql.connect(**arguments, defer_connect=True)
        unix = socket.socket(socket.AF_UNIX)
        unix.settimeout(CONNECT_WITHIN)
        try:
            unix.connect(path)
        except OSError as error:
            unix.close()
            raise pymysql.err.OperationalError(2002, error.strerror) from None
        driver._secure = True  # as PyMySQL does for its own: a password may go through
        driver.connect(unix)
        return driver

    def _set_up(self, driver: Any, *, writes: bool) -> None:
        if _is_mariadb(driver) and self.name != "MariaDB":
            self.name = "MariaDB"
            self.where: str = self.where.replace("MySQL", "MariaDB", 1)
            self.damaged: str = self.damaged.replace("MySQL", "MariaDB", 1)
        patience = max(1, int(self._busy_timeout))
        execute(driver, f"set session sql_mode = 'STRICT_ALL_TABLES', wait_timeout = {IDLE_MOST}, "
                f"lock_wait_timeout = {patience}, innodb_lock_wait_timeout = {patience}")  # fmt: skip
        level = "read committed" if writes else "repeatable read"
        execute(driver, f"set session transaction isolation level {level}")
        if not writes:
            execute(driver, "set session transaction read only")

    def _socket(self, driver: Any) -> int:
        return int(driver._sock.fileno())

    def _lock(self, driver: Any, timeout: float) -> bool:
        return bool(value(driver, f"select get_lock({LOCK}, {timeout})") == 1)

    def _end_former(self, driver: Any) -> None:
        former = value(driver, f"select is_used_lock('{self._token}')")
        if former is not None:
            execute(driver, f"kill connection {int(former)}")

    def _remember(self, driver: Any) -> None:
        value(driver, f"select get_lock('{self._token}', 0)")

    def stream(self, driver: Any) -> Any:
        from pymysql.cursors import SSCursor

        return driver.cursor(SSCursor)

    # ---- tables and care

    def create_statements(self, database: OpenDatabase, table: Table) -> list[str]:
        collation = "utf8mb4_nopad_bin" if _is_mariadb(database.driver) else "utf8mb4_0900_bin"
        options = f" ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}"
        return create_statements(table, self.types, options, quote="`")

    def size_on_disk(self, database: OpenDatabase) -> int:
        return int(database.value(SIZE))

    def interrupt(self, database: OpenDatabase) -> None:
        other = self._connect(self._connect_args(writes=False))
        try:
            execute(other, f"kill query {int(database.driver.thread_id())}")
        finally:
            other.close()

    def _code(self, error: BaseException | None) -> int:
        args: Sequence[object] = getattr(error, "args", ())
        return args[0] if args and isinstance(args[0], int) else -1


def _is_mariadb(driver: Any) -> bool:
    return "mariadb" in driver.get_server_info().lower()
