"""One connection to a database: questions and rows, in whatever dialect, and opened again after it was lost.

Statements stand in the code as SQL with `?`; the dialect makes of them what its driver takes. Rows are inserted by the
driver's own statement with cached text and many VALUES, never by executemany: that takes and gives the interpreter's
lock once a row, and falls to 2,700 rows a second beside a busy loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, RootTransaction, Table

from p2pchat.storage.dialects.dialect import Conflict, Dialect, columns_of, placeholders

MOST_ROWS = 128  # in one statement; more gains nothing


class Database:
    """A connection of one storage; one thread at a time uses it.

    Args:
        writes: Whether it is the one that writes; no other program may have such a one at the same time.
        connection: One that is open already.
    """

    def __init__(self, dialect: Dialect, *, writes: bool = False, connection: Connection | None = None) -> None:
        self.dialect = dialect
        self.connection = connection or dialect.connect(writes=writes)
        self._writes = writes
        self._text = dialect.text
        self._doubted = False

    def begin(self) -> RootTransaction:
        return self.connection.begin()

    def doubt(self) -> None:
        """Something failed: `rejoin` shall look whether the connection still lives."""
        self._doubted = True

    def rejoin(self) -> bool:
        """Connect anew if the connection was lost; return whether it was. Raises StorageError, or the driver's."""
        if not self._doubted and not self.dialect.is_cut(self.connection):
            return False
        self._doubted = True
        if self.dialect.answers(self.connection):
            self._doubted = False
            return False
        self._drop()
        self.connection = self.dialect.connect(writes=self._writes)
        self._doubted = False
        return True

    def close(self) -> None:
        """Let it go for good."""
        if self._doubted:
            self._drop()
        else:
            self.connection.close()
            self.connection.engine.dispose()
        self._doubted = False

    def _drop(self) -> None:
        """Let go what was lost: nothing more is heard of it."""
        for end in (self.connection.invalidate, self.connection.close, self.connection.engine.dispose):
            with suppress(Exception):
                end()

    # ---- questions

    def all(self, statement: str, *parameters: object) -> Sequence[Any]:
        return self.connection.exec_driver_sql(self._text(statement), parameters).all()

    def first(self, statement: str, *parameters: object) -> Any:
        return self.connection.exec_driver_sql(self._text(statement), parameters).first()

    def value(self, statement: str, *parameters: object) -> Any:
        """Return the first value of the first row, None where there is none."""
        return self.connection.exec_driver_sql(self._text(statement), parameters).scalar()

    # ---- rows

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that gives no rows, by the driver's own cursor; return how many rows it has changed.

        A message alone is a commit of five statements: SQLAlchemy's wrapping of each costs 4 us, the statement itself
        1. What it raises are the driver's exceptions (faults.py knows them).
        """
        cursor = self.connection.connection.cursor()
        cursor.execute(self._text(statement), parameters)
        changed: int = cursor.rowcount
        cursor.close()
        return changed

    def insert(self, table: Table, values: Sequence[Any], conflict: Conflict = Conflict.NONE) -> None:
        """Insert rows; `values` are those of all rows on end, `conflict` what to do with a key that is there."""
        width = len(table.columns)
        left = len(values) // width
        begin, rows = 0, MOST_ROWS
        while left:
            while rows > left:
                rows >>= 1
            end = begin + rows * width
            while rows > 1 and self._is_too_much(values[begin:end]):
                rows >>= 1
                end = begin + rows * width
            self.run(_insert_text(self.dialect, table, rows, conflict), tuple(values[begin:end]))
            begin, left = end, left - rows

    def _is_too_much(self, values: Sequence[Any]) -> bool:
        most = self.dialect.most_bytes
        return bool(most) and sum(len(value) for value in values if isinstance(value, (str, bytes))) > most


@lru_cache(maxsize=512)
def _insert_text(dialect: Dialect, table: Table, rows: int, conflict: Conflict) -> str:
    names = columns_of(table)
    clause = dialect.on_conflict(table, conflict)
    return f"insert into {table.name} ({', '.join(names)}) values {placeholders(len(names), rows)} {clause}"
