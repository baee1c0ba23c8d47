"""PostgreSQL, by psycopg."""

from __future__ import annotations

from typing import Any

from p2pchat.errors import StorageError
from p2pchat.extras import missing_extra
from p2pchat.storage.dialects.dialect import BUSY, COMMON_TYPES, FULL, OpenDatabase, ViewFunctions
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
from p2pchat.storage.schema import BYTES

LOCK = 0x70327063686174  # "p2pchat": advisory locks are numbers; the schema is the other half
ALIVE = {  # a dead network is noticed within a minute and not after hours
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}
SIZE = "select pg_database_size(current_database())"
TABLE_NAMES = "select tablename from pg_tables where schemaname = current_schema()"
REFUSED = ("password authentication failed", "no password supplied", "role ", "pg_hba")
# JSON with \\u0000 anywhere is not read. The first pass leaves every other one of several in a row.
WITHOUT_ZERO = r"regexp_replace({0}, '((^|[^\\])(\\\\)*)\\u0000', '\1\\ufffd', 'g')"
CLEANED = WITHOUT_ZERO.replace("{0}", WITHOUT_ZERO)
JSON = rf"(case when position('\u0000' in {{0}}) = 0 then {{0}} else {CLEANED} end)::json"
FUNCTIONS = ViewFunctions(
    hex="encode({0}, 'hex')",
    time="to_char(to_timestamp(cast({0} as double precision) / 1000000) at time zone 'UTC',"
    " 'YYYY-MM-DD HH24:MI:SS.MS')",
    member=JSON + " ->> '{1}'",
    is_text=f"coalesce(json_typeof({JSON} -> '{{1}}') = 'string', false)",
    joined="{0} || ', ' || {1}",
)


class PostgreSQLDialect(ServerDialect):
    """A database on a PostgreSQL server, version 12 or later; the tables lie in the first schema of its search path."""

    name: str = "PostgreSQL"
    driver = "psycopg"
    types: dict[str, str] = COMMON_TYPES | {BYTES: "BYTEA"}
    table_names_query = TABLE_NAMES
    functions = FUNCTIONS
    sentences: dict[Any, str] = {
        "53100": FULL,
        **dict.fromkeys(("55P03", "40P01", "40001"), BUSY),
        "53300": CROWDED,
        "42501": READONLY,
        "25006": REPLICA,
        **dict.fromkeys(("28000", "28P01"), LOGIN),
        "3D000": MISSING,
        "option": "the database URL has an option, behind its ?, that PostgreSQL does not know",
        # "" if the connection ended, or none came about
        **dict.fromkeys(("", "57P01", "57P02", "57P03", "08006"), AWAY),
    }
    _former: tuple[int, str] | None = None

    def _load(self) -> None:
        try:
            import psycopg
        except ImportError:
            raise StorageError(missing_extra("PostgreSQL needs psycopg", "postgresql")) from None
        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        self._of_connections = (psycopg.OperationalError, psycopg.InterfaceError)

    # ---- connections

    def _connect_args(self, *, writes: bool) -> dict[str, Any]:
        found = super()._connect_args(writes=writes)
        own = {"connect_timeout": CONNECT_WITHIN, "application_name": "p2pchat", "client_encoding": "utf8"}
        return {**found, "dbname": self._url.database, **ALIVE, **own}

    def _connect(self, arguments: dict[str, Any]) -> Any:
        import psycopg

        return psycopg.connect(**arguments)

    def _set_up(self, driver: Any, *, writes: bool) -> None:
        from psycopg import IsolationLevel
        from psycopg.types.numeric import Int8Dumper

        driver.isolation_level = IsolationLevel.READ_COMMITTED if writes else IsolationLevel.REPEATABLE_READ
        driver.adapters.register_dumper(int, Int8Dumper)  # one prepared statement, however large the numbers are
        encoding = value(driver, "show server_encoding")
        if encoding != "UTF8":
            raise StorageError(f"{self.where} keeps text as {encoding}: make one with encoding 'UTF8'")
        for setting in (
            f"set lock_timeout = {int(self._busy_timeout * 1000)}",
            "select set_config(name, '0', false) from pg_settings where name in "
            "('idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout')",
            "set jit = off",  # queries return few rows, even if more are estimated
            "set enable_hashjoin = off",
            "set enable_mergejoin = off",
            # Whatever the server is set to: a commit that has returned is on its disk.
            "select set_config(name, 'on', false) from pg_settings where name = 'synchronous_commit' "
            "and setting in ('off', 'local')"
            if writes
            else "set default_transaction_read_only = on",
        ):
            execute(driver, setting)

    def _socket(self, driver: Any) -> int:
        return int(driver.fileno())

    def _lock(self, driver: Any, timeout: float) -> bool:
        key = f"{LOCK} # hashtext(current_schema())::bigint"
        if not timeout:
            return bool(value(driver, f"select pg_try_advisory_lock({key})"))
        try:
            execute(driver, f"select pg_advisory_lock({key})")
        except self.errors as error:
            if self._code(error) != "55P03":
                raise
            driver.rollback()
            return False
        return True

    def _end_former(self, driver: Any) -> None:
        if self._former is not None:
            ended = "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and backend_start::text = %s"
            execute(driver, ended, *self._former)

    def _remember(self, driver: Any) -> None:
        own = "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()"
        self._former = execute(driver, own).fetchone()

    def stream(self, driver: Any) -> Any:
        return driver.cursor("rows")

    # ---- tables and care

    def size_on_disk(self, database: OpenDatabase) -> int:
        return int(database.value(SIZE))

    def interrupt(self, database: OpenDatabase) -> None:
        database.driver.cancel()

    def _code(self, error: BaseException | None) -> str:
        code = getattr(error, "sqlstate", None)
        if code is None and isinstance(error, self._of_connections):
            return _code_of_refusal(str(error))
        return str(code or ("option" if "invalid connection option" in str(error) else "unknown"))


def _code_of_refusal(text: str) -> str:
    """Return the code for a connection that never came about: libpq gives it words only."""
    if any(words in text for words in REFUSED):
        return "28P01"
    if "database " in text and "does not exist" in text:
        return "3D000"
    return "53300" if "too many clients" in text or "remaining connection slots" in text else ""
