"""One connection to a database: transactions, statements and rows, and a new connection after it was lost.

Statements are SQL with `?` for each value; the dialect turns them into what its driver takes. They run by the driver's
own cursor, so exceptions are the driver's (errors.py translates them).

Rows are inserted with cached text and many VALUES, never by executemany: that takes and gives the interpreter's lock
once a row, and falls to 2,700 rows a second beside a busy loop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Relation
from p2pchat.protocol import Mark, Naming
from p2pchat.storage.dialects.dialect import Conflict, Dialect, placeholders
from p2pchat.storage.errors import decoding
from p2pchat.storage.schema import Table

MOST_ROWS = 128  # in one statement; more gains nothing


class Database:
    """A connection of one storage, used by one thread at a time.

    Args:
        writes: Whether it is the one that writes; no other program may have such a one at the same time.
        driver: A connection of the driver that is open already.
    """

    def __init__(self, dialect: Dialect, *, writes: bool = False, driver: Any = None) -> None:
        self.dialect = dialect
        self._writes = writes
        self._text = dialect.text
        self._begins = dialect.begins_write if writes else dialect.begins_read
        self._most_bytes = dialect.max_statement_bytes
        self._is_suspect = False
        self._use(dialect.connect(writes=writes) if driver is None else driver)

    def _use(self, driver: Any) -> None:
        self.driver = driver
        self._cursor = driver.cursor()

    # ---- transactions

    def begin(self) -> None:
        if self._begins:
            self._cursor.execute(self._begins)

    def commit(self) -> None:
        """Make durable what was written since begin()."""
        self.driver.commit()

    def rollback(self) -> None:
        """Undo what was written since begin(); if the connection is lost, all of that is lost anyway."""
        with suppress(*self.dialect.errors):
            self.driver.rollback()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written inside, or undo it if anything fails."""
        self.begin()
        try:
            yield
            self.driver.commit()
        except BaseException:
            self.rollback()
            raise

    # ---- the connection

    def mark_suspect(self) -> None:
        """Have the next `reconnect` ask whether the connection still works, since something failed."""
        self._is_suspect = True

    def reconnect(self) -> bool:
        """Connect again if the connection was lost; return whether it was. Raises StorageError, or the driver's."""
        if not self._is_suspect and not self.dialect.is_cut(self.driver):
            return False
        self._is_suspect = True
        if self.dialect.is_alive(self.driver):
            self._is_suspect = False
            return False
        self.close()
        self._use(self.dialect.connect(writes=self._writes))
        self._is_suspect = False
        return True

    def close(self) -> None:
        """Close it; of one that was lost, errors do not matter."""
        with suppress(*self.dialect.errors, OSError):
            self.driver.close()

    # ---- statements

    def all(self, statement: str, *parameters: object) -> Sequence[Any]:
        """Return all rows of an answer."""
        self._cursor.execute(self._text(statement), parameters)
        rows: Sequence[Any] = self._cursor.fetchall()
        return rows

    def first(self, statement: str, *parameters: object) -> Any:
        """Return the first row, None if there is none."""
        rows = self.all(statement, *parameters)
        return rows[0] if rows else None

    def value(self, statement: str, *parameters: object) -> Any:
        """Return the first value of the first row, None if there is none."""
        rows = self.all(statement, *parameters)
        return rows[0][0] if rows else None

    def pages(self, statement: str, rows: int) -> Iterator[Sequence[Any]]:
        """Yield the rows of an answer, so many at a time: never all of them are in memory."""
        cursor = self.dialect.stream(self.driver)
        try:
            cursor.execute(self._text(statement))
            while page := cursor.fetchmany(rows):
                yield page
        finally:
            cursor.close()

    def run(self, statement: str, *parameters: object) -> int:
        """Run a statement that gives no rows; return how many rows it changed."""
        self._cursor.execute(self._text(statement), parameters)
        changed: int = self._cursor.rowcount
        return changed

    def insert(self, table: Table, values: Sequence[Any], conflict: Conflict = Conflict.NONE) -> None:
        """Insert rows; `values` are those of all rows in one list, `conflict` says what to do if a key exists."""
        if not values:
            return
        width = len(table.names)
        left = len(values) // width
        begin, rows = 0, MOST_ROWS
        while left:
            rows = min(rows, 1 << left.bit_length() - 1)  # powers of two, so that there are few texts to cache
            part = values[begin : begin + rows * width]
            while self._most_bytes and rows > 1 and self._is_too_long(part):
                rows >>= 1
                part = part[: rows * width]
            self._cursor.execute(_insert_text(self.dialect, table, rows, conflict), part)
            begin, left = begin + len(part), left - rows

    def _is_too_long(self, values: Sequence[Any]) -> bool:
        return sum(len(value) for value in values if isinstance(value, (str, bytes))) > self._most_bytes


@lru_cache(maxsize=512)
def _insert_text(dialect: Dialect, table: Table, rows: int, conflict: Conflict) -> str:
    clause = dialect.on_conflict(table, conflict)
    rows_text = placeholders(len(table.names), rows)
    return dialect.text(f"insert into {table.name} ({', '.join(table.names)}) values {rows_text} {clause}")


# ---- columns
#
# Records that are kept in one column, and back.


def relation_row(relation: Relation, id: int, conversation: int, author: int) -> tuple[object, ...]:
    """Return the row of an entry that changes how another is shown; the others are numbers in this database."""
    writer, run = bytes.fromhex(relation.re.log[:16]), bytes.fromhex(relation.re.log[16:])
    return (id, conversation, run, relation.re.seq, writer, author, int(relation.reaction), relation.c)


def marks_to_bytes(marks: Sequence[Mark]) -> bytes:
    return b"".join(bytes.fromhex(m.run) + m.seq.to_bytes(8, "big") + bytes.fromhex(m.chain8) for m in marks)


def marks_of_bytes(data: bytes) -> tuple[Mark, ...]:
    parts = (data[at : at + 24] for at in range(0, len(data), 24))
    return tuple(Mark(part[:8].hex(), int.from_bytes(part[8:16], "big"), part[16:].hex()) for part in parts)


def naming_to_text(naming: Naming) -> str:
    values = {"room": naming.room, "dm": naming.dm, "group": naming.group, "talk": naming.talk}
    return json.dumps({name: value for name, value in values.items() if value})


def naming_of_text(text: str) -> Naming:
    with decoding():
        values = json.loads(text).items()
        columns: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Naming(**columns)


def batch_to_text(batch: Batch) -> str:
    return json.dumps([batch.first, batch.raws, batch.prev.hex(), batch.chain.hex(), batch.head.hex()])


def batch_of_text(log: LogId, text: str) -> Batch:
    with decoding():
        first, raws, prev, chain, head = json.loads(text)
        return Batch(log, first, raws, None, bytes.fromhex(prev), bytes.fromhex(chain), bytes.fromhex(head))
