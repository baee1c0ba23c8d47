"""One connection to a database: questions and rows, in whatever dialect, and opened again after it was lost.

Statements stand in the code as SQL with `?`; the dialect makes of them what its driver takes. They run by the driver's
own cursor: a message alone is a commit of four statements, of which SQLAlchemy's wrapping costs 4 us each and the
statement itself 1. What is raised are the driver's exceptions then (errors.py knows them). SQLAlchemy's connection is
for what makes tables, and for what is read once.

Rows are inserted with cached text and many VALUES, never by executemany: that takes and gives the interpreter's lock
once a row, and falls to 2,700 rows a second beside a busy loop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, RootTransaction, Table

from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Relation
from p2pchat.protocol import Mark, Naming
from p2pchat.storage.dialects.dialect import Conflict, Dialect, columns_of, placeholders
from p2pchat.storage.errors import decoding

MOST_ROWS = 128  # in one statement; more gains nothing


class Database:
    """A connection of one storage; one thread at a time uses it.

    Args:
        writes: Whether it is the one that writes; no other program may have such a one at the same time.
        connection: One that is open already.
    """

    def __init__(self, dialect: Dialect, *, writes: bool = False, connection: Connection | None = None) -> None:
        self.dialect = dialect
        self._writes = writes
        self._text = dialect.text
        self._doubted = False
        self._use(connection or dialect.connect(writes=writes))

    def _use(self, connection: Connection) -> None:
        self.connection = connection
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._cursor = driver.cursor()

    # ---- transactions

    def begin(self) -> RootTransaction:
        return self.connection.begin()

    def start(self) -> None:
        """Begin a transaction that SQLAlchemy knows nothing of: inside it nobody may ask by its connection."""
        if self.dialect.begins:
            self._cursor.execute(self.dialect.begins)

    def commit(self) -> None:
        """Make durable what was written since start()."""
        self._driver.commit()

    def rollback(self) -> None:
        """Undo what was written since start(); with a connection that is lost all of it is lost anyway."""
        with suppress(*self.dialect.errors):
            self._driver.rollback()

    # ---- the connection

    def mark_suspect(self) -> None:
        """Something failed: `reconnect` shall look whether the connection still lives."""
        self._doubted = True

    def reconnect(self) -> bool:
        """Connect anew if the connection was lost; return whether it was. Raises StorageError, or the driver's."""
        if not self._doubted and not self.dialect.is_cut(self.connection):
            return False
        self._doubted = True
        if self.dialect.answers(self.connection):
            self._doubted = False
            return False
        self._drop()
        self._use(self.dialect.connect(writes=self._writes))
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
            with suppress(Exception):  # it is lost: each driver fails at it in its own way
                end()

    # ---- questions

    def all(self, statement: str, *parameters: object) -> Sequence[Any]:
        self._cursor.execute(self._text(statement), parameters)
        rows: Sequence[Any] = self._cursor.fetchall()
        return rows

    def first(self, statement: str, *parameters: object) -> Any:
        """Return the first row, None where there is none."""
        rows = self.all(statement, *parameters)
        return rows[0] if rows else None

    def value(self, statement: str, *parameters: object) -> Any:
        """Return the first value of the first row, None where there is none."""
        rows = self.all(statement, *parameters)
        return rows[0][0] if rows else None

    # ---- rows

    def run(self, statement: str, *parameters: object) -> int:
        """Run a statement that gives no rows; return how many rows it has changed."""
        self._cursor.execute(self._text(statement), parameters)
        changed: int = self._cursor.rowcount
        return changed

    def insert(self, table: Table, values: Sequence[Any], conflict: Conflict = Conflict.NONE) -> None:
        """Insert rows; `values` are those of all rows on end, `conflict` what to do with a key that is there."""
        if not values:
            return
        width = len(columns_of(table))
        left = len(values) // width
        begin, rows = 0, MOST_ROWS
        while left:
            while rows > left:
                rows >>= 1
            part = values[begin : begin + rows * width]
            while rows > 1 and self._is_too_much(part):
                rows >>= 1
                part = part[: rows * width]
            self._cursor.execute(_insert_text(self.dialect, table, rows, conflict), part)
            begin, left = begin + len(part), left - rows

    def _is_too_much(self, values: Sequence[Any]) -> bool:
        most = self.dialect.most_bytes
        return bool(most) and sum(len(value) for value in values if isinstance(value, (str, bytes))) > most


@lru_cache(maxsize=512)
def _insert_text(dialect: Dialect, table: Table, rows: int, conflict: Conflict) -> str:
    names, clause = columns_of(table), dialect.on_conflict(table, conflict)
    rows_text = placeholders(len(names), rows)
    return dialect.text(f"insert into {table.name} ({', '.join(names)}) values {rows_text} {clause}")


# ---- rows
#
# Small things between records and columns.


def mending_row(mending: Relation, id: int, conversation: int, author: int) -> tuple[object, ...]:
    """Return the row of an entry that changes how another is shown; the rest are numbers of this database."""
    writer, run = bytes.fromhex(mending.re.log[:16]), bytes.fromhex(mending.re.log[16:])
    return (id, conversation, run, mending.re.seq, writer, author, int(mending.reaction), mending.c)


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
