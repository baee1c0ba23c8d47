"""What is different from one kind of database to the next; everything else in storage/ is the same for all of them.

Statements are written once, with `?` for each value and in words that SQLite, MySQL, MariaDB and PostgreSQL share:
`text` turns them into what the driver takes. What SQLite and PostgreSQL answer in the order of an index, MySQL sorts
whole first, so questions for the newest of very many are asked within bounds (`asks_within_bounds`, showing.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Table

from p2pchat.storage.schema import metadata

if TYPE_CHECKING:
    from p2pchat.storage.database import Database


class Conflict(Enum):
    """What becomes of a row whose key is there already."""

    NONE = ""  # no such row may come
    REPLACE = "replace"  # it takes the other one's place
    HIGHER = "higher"  # it does if its last column is higher


class Dialect(ABC):
    """One database and how it is spoken to.

    Attributes:
        where: What errors call it: never with a password in it.
        path: The file it is kept in; None where a server keeps it.
        errors: What its driver raises.
        begins: The statement a transaction that writes begins with; "" where any statement begins one.
        asks_within_bounds: Whether it would sort all of a table to give the newest few.
        commits_tables: Whether what makes or changes a table is kept at once, whatever becomes of the transaction.
        is_shared: Whether others could write there unnoticed: then each commit says who it is from (write.py).
        most_bytes: What one statement may have of text, 0 for no such limit.
        damaged: What to tell when what it holds is not what was written.
    """

    where: str
    path: Path | None = None
    errors: tuple[type[BaseException], ...]
    begins = ""
    asks_within_bounds = False
    commits_tables = False
    is_shared = False
    most_bytes = 0
    damaged: str

    # ---- statements

    def text(self, statement: str) -> str:
        """Return a statement as the driver takes it."""
        return statement

    def on_conflict(self, table: Table, conflict: Conflict) -> str:
        """Return the clause that an insert ends with."""
        if conflict is Conflict.NONE:
            return ""
        return _on_conflict(table, conflict)

    # ---- connections

    @abstractmethod
    def require(self) -> None:
        """Raise StorageError when there is nothing to read here."""

    @abstractmethod
    def connect(self, *, writes: bool) -> Connection:
        """Open a connection; one that writes is the only one, or StorageError says who else does."""

    def is_cut(self, connection: Connection) -> bool:
        """Whether a connection that rests seems to have been ended from the other side; asks nobody."""
        return False

    @abstractmethod
    def answers(self, connection: Connection) -> bool:
        """Whether a connection that failed can still be used."""

    @abstractmethod
    def sentence(self, error: BaseException | None) -> str:
        """Return what to tell a person about this exception of the driver."""

    # ---- care

    def make_tables(self, database: Database) -> None:
        """Make those tables of a new database that are not there."""
        metadata.create_all(database.connection)

    def older(self, database: Database) -> Database | None:
        """Return a copy for reading of a database of an earlier version, brought up to date; None when it is not so."""
        return None

    @abstractmethod
    def keep_former(self, database: Database, version: int) -> None:
        """Put a copy aside before a database of this version is migrated; a server's own backups are for that."""

    @abstractmethod
    def warm(self, database: Database, size_bytes: int) -> None:
        """Make the first commits as quick as later ones."""

    @abstractmethod
    def tidy(self, database: Database) -> None:
        """Spare a commit to come what it would do for many before it."""

    @abstractmethod
    def check_writable(self, database: Database, size_bytes: int) -> None:
        """Write about so many bytes and take them away again; raises what a commit would."""

    @abstractmethod
    def most_stored(self, database: Database) -> int:
        """Return a number of bytes that all entries together do not exceed, without reading them."""

    @abstractmethod
    def size_on_disk(self, database: Database) -> int:
        """Return about how many bytes the database takes."""

    def faults(self, database: Database, most: int) -> list[str]:
        """Read everything and return what is wrong in its structure, at most so many; a server sees to that itself."""
        return []

    def wrong_types(self, database: Database) -> Iterator[str]:
        """Yield what is wrong with the kinds of values; where columns have types there is nothing to look for."""
        yield from ()

    def is_damaged(self, database: Database) -> bool:
        """Whether rows hold what nobody wrote there; asked when something stumbled over one."""
        return False

    def copy_to(self, database: Database, path: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database into a new file, as it is at this moment."""
        raise NotImplementedError

    @abstractmethod
    def interrupt(self, database: Database) -> None:
        """Have what another thread asks there end with an error."""

    def facts(self, database: Database) -> dict[str, str]:
        """Return how it is really set, for benchmarks and `doctor`."""
        return {}


@lru_cache(maxsize=128)
def _on_conflict(table: Table, conflict: Conflict) -> str:
    keys = ", ".join(column.name for column in table.primary_key)
    sets = [f"{c.name} = excluded.{c.name}" for c in table.columns if not c.primary_key]
    last = columns_of(table)[-1]
    only = f" where excluded.{last} > {table.name}.{last}" if conflict is Conflict.HIGHER else ""
    return f"on conflict ({keys}) do update set {', '.join(sets)}{only}"


def placeholders(width: int, rows: int) -> str:
    """Return the list of values of an insert."""
    row = f"({', '.join('?' * width)})"
    return ", ".join([row] * rows)


@lru_cache(maxsize=128)
def columns_of(table: Table) -> Sequence[str]:
    return tuple(column.name for column in table.columns)
