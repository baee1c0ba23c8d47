"""Differences between kinds of databases. The rest of storage/ is the same for all of them.

Statements are written once, with `?` for each value and in words that SQLite, MySQL, MariaDB and PostgreSQL share;
`Dialect.words` lists the exceptions. MySQL sorts all rows of an answer before it gives the first one: so queries for
the newest few rows have bounds in the statement.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

from p2pchat.errors import StorageError
from p2pchat.storage.schema import (
    BIGINT,
    LONG_TEXT,
    NAME,
    NUMBER,
    SMALLINT,
    TABLES,
    TEXT,
    Table,
    Types,
    create_statements,
)

COMMON_TYPES = {
    NUMBER: "BIGINT",
    BIGINT: "BIGINT",
    SMALLINT: "SMALLINT",
    NAME: "VARCHAR(190)",
    TEXT: "TEXT",
    LONG_TEXT: "TEXT",
}


# Error texts of several kinds of databases.
FULL = "the disk that holds {where} is full: free some space; nothing of this was kept"
BUSY = "{where} is in use by another program: stop that one, then start again"


class OpenDatabase(Protocol):
    """An open database, as far as a dialect may ask it; see database.py."""

    driver: Any

    def begin(self) -> None: ...
    def rollback(self) -> None: ...
    def all(self, statement: str, *parameters: object) -> Sequence[Any]: ...
    def value(self, statement: str, *parameters: object) -> Any: ...
    def run(self, statement: str, *parameters: object) -> int: ...
    def insert(self, table: Table, values: Sequence[Any]) -> None: ...


@dataclass(frozen=True)
class ViewFunctions:
    """Expressions that databases write differently, with {0} and {1} for their arguments.

    Attributes:
        hex: Bytes as lower-case hex.
        time: UTC microseconds, a number or its text, as the text "2026-11-20 12:00:00.000".
        member: A member of a JSON object as text, null if it has none.
        is_text: Whether that member is a string.
        joined: Two texts with a comma between them.
    """

    hex: str
    time: str
    member: str
    is_text: str
    joined: str


@dataclass(frozen=True)
class DatabaseURL:
    """A parsed URL of a database; None and "" mean missing parts.

    The password is not in its repr.
    """

    kind: str
    driver: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    database: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False)


class InsertConflict(StrEnum):
    """Handling of a row whose key exists already, in an insert."""

    NONE = ""  # fail
    REPLACE = "replace"  # replace the row
    HIGHER = "higher"  # replace the row if the last column of the new one is higher


class Dialect(ABC):
    """One database and the language it speaks.

    Connections are those of the driver, as PEP 249 has them.

    Attributes:
        where: Its name in errors, without a password.
        path: Its file; None if a server or memory keeps it.
        in_memory: Whether it ends with the process; then all transactions are on one connection, one at a time.
        errors: The exceptions of its driver.
        types: Its words for the types of schema.py.
        words: Parts of statements, and what it takes instead of them.
        table_names_query: The query for the names of all tables.
        begins_write, begins_read: The statement that begins a transaction; "" if any statement begins one.
        commits_tables: True if making or changing a table commits at once, even if the transaction fails.
        is_shared: Whether others could write there unnoticed; then each commit says who it is from (commit_writer.py).
        max_statement_bytes: Most bytes of text in one statement; 0 for no limit.
        functions: Its expressions for views.
        damaged: The error text for a database that holds something else than was written.
    """

    where: str
    path: Path | None = None
    in_memory = False
    errors: tuple[type[BaseException], ...]
    types: Types = COMMON_TYPES
    words: Mapping[str, str] = {}
    table_names_query: str
    begins_write = ""
    begins_read = ""
    commits_tables = False
    is_shared = False
    max_statement_bytes = 0
    functions: ViewFunctions
    damaged: str

    # ---- statements

    def on_conflict(self, table: Table, conflict: InsertConflict) -> str:
        """Return the clause that ends an insert."""
        if conflict is InsertConflict.NONE:
            return ""
        sets = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.keys)
        last = table.names[-1]
        only = f" where excluded.{last} > {table.name}.{last}" if conflict is InsertConflict.HIGHER else ""
        return f"on conflict ({', '.join(table.keys)}) do update set {sets}{only}"

    # ---- connections

    def require(self) -> None:  # noqa: B027
        """Raise StorageError if there is nothing to read; a server says so when it is connected to."""

    @abstractmethod
    def connect(self, *, writes: bool) -> Any:
        """Open a connection. Only one may write at a time; StorageError if another program has it."""

    def is_cut(self, driver: Any) -> bool:
        """Return whether the other side seems to have ended an idle connection; sends nothing."""
        return False

    def is_alive(self, driver: Any) -> bool:
        """Return whether a connection that failed can still be used."""
        return True

    @abstractmethod
    def explain(self, error: BaseException | None) -> str:
        """Return the error text for this exception of the driver."""

    def stream(self, driver: Any) -> Any:
        """Return a cursor that never holds all rows of an answer in memory."""
        return driver.cursor()

    # ---- tables

    def table_names(self, database: OpenDatabase) -> set[str]:
        """Return the names of all tables."""
        return {name for (name,) in database.all(self.table_names_query)}

    def make_tables(self, database: OpenDatabase) -> None:
        """Make the tables that are missing."""
        there = self.table_names(database)
        for table in TABLES:
            if table.name not in there:
                for statement in self.create_statements(database, table):
                    database.run(statement)

    def create_statements(self, database: OpenDatabase, table: Table) -> list[str]:
        """Return the statements that make a table and its indexes."""
        return create_statements(table, self.types)

    # ---- care; a server is warm, and tidies by itself

    def check_in_place(self) -> None:  # noqa: B027
        """Raise StorageError if what is committed would not be found at its place."""

    def warm(self, database: OpenDatabase, size_bytes: int) -> None:  # noqa: B027
        """Make the first commits as quick as later ones."""

    def tidy(self, database: OpenDatabase) -> None:  # noqa: B027
        """Do what a later commit would otherwise do for many before it."""

    def release_memory(self, database: OpenDatabase) -> None:  # noqa: B027
        """Give back the memory of pages that this connection has read or written."""

    def compact(self, database: OpenDatabase, *, all: bool) -> None:  # noqa: B027
        """Give the room of deleted rows back to the disk; a large database only if `all` may take minutes."""

    def empty_log(self, database: OpenDatabase) -> bool:
        """Empty a log that this machine keeps of former pages; return False while another program reads them."""
        return True

    @abstractmethod
    def check_writable(self, database: OpenDatabase, size_bytes: int) -> None:
        """Write about so many bytes and delete them; raise what a commit would."""

    @abstractmethod
    def size_on_disk(self, database: OpenDatabase) -> int:
        """Return about how many bytes the database takes."""

    def lost(self) -> str:
        """Return what became of commits that the disk changed afterwards; "" for nothing. A server looks after that."""
        return ""

    def faults(self, database: OpenDatabase, most: int) -> list[str]:
        """Check the structure of the database; return at most so many faults. A server does that itself."""
        return []

    def wrong_types(self, database: OpenDatabase) -> Iterator[str]:
        """Yield a sentence for values of a wrong type, for databases that take any type anywhere."""
        yield from ()

    def copy_to(self, database: OpenDatabase, path: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database into a new file, as of now."""
        raise NotImplementedError

    @abstractmethod
    def interrupt(self, database: OpenDatabase) -> None:
        """Make what another thread asks there fail."""


# ---- URLs


WRITTEN = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://USER@HOST/DATABASE, memory://"
ALIASES = {"postgres": "postgresql"}  # people write both


def parse_url(url: str) -> DatabaseURL:
    """Return the parts of a database URL.

    Raises:
        StorageError: This is no URL; the text does not show it.
    """
    refused = StorageError(f"that is no database URL: write {WRITTEN}")
    try:
        parts = urlsplit(url, allow_fragments=False)
        port = parts.port
    except ValueError:
        raise refused from None
    if not url.partition("://")[1] or not parts.scheme:
        raise refused
    kind, _, driver = parts.scheme.partition("+")
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    database = os.fsdecode(unquote_to_bytes(os.fsencode(parts.path[1:])))
    options = dict(parse_qsl(parts.query))
    return DatabaseURL(ALIASES.get(kind, kind), driver, user, password, parts.hostname, port, database, options)
