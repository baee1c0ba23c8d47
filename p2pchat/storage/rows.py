"""Statements with many rows, and small things between records and columns.

Rows are inserted by the driver's own statement with cached text and many VALUES, never by executemany: that takes
and gives the interpreter's lock once a row, and falls to 2,700 rows a second beside a busy loop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Mending
from p2pchat.protocol import Mark, Naming
from p2pchat.storage.faults import fitting

MOST_ROWS = 128  # in one statement; more gains nothing


@lru_cache(maxsize=256)
def _insert_text(table: Table, rows: int, conflict: str) -> str:
    names = [column.name for column in table.columns]
    row = f"({', '.join('?' * len(names))})"
    return f"insert into {table.name} ({', '.join(names)}) values {', '.join([row] * rows)} {conflict}"


def run(connection: Connection, statement: str, parameters: Sequence[Any]) -> None:
    """Run a statement that gives no rows, by the driver's own cursor.

    A message alone is a commit of five statements: SQLAlchemy's wrapping of each costs 4 us, the statement itself 1.
    What it raises are the driver's exceptions (faults.py knows them).
    """
    cursor = connection.connection.cursor()
    cursor.execute(statement, parameters)
    cursor.close()


def insert_rows(connection: Connection, table: Table, values: Sequence[Any], conflict: str = "") -> None:
    """Insert rows; `values` are those of all rows on end, `conflict` what to do with a key that is there."""
    width = len(table.columns)
    left = len(values) // width
    begin, rows = 0, MOST_ROWS
    while left:
        while rows > left:
            rows >>= 1
        end = begin + rows * width
        run(connection, _insert_text(table, rows, conflict), tuple(values[begin:end]))
        begin, left = end, left - rows


@lru_cache(maxsize=64)
def replacing(table: Table) -> str:
    """Return the conflict clause that makes a row replace the one of the same key."""
    keys = ", ".join(column.name for column in table.primary_key)
    sets = ", ".join(f"{c.name} = excluded.{c.name}" for c in table.columns if not c.primary_key)
    return f"on conflict ({keys}) do update set {sets}"


# ---- records as columns


def mending_row(mending: Mending, id: int, conversation: int, author: int) -> tuple[object, ...]:
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
    with fitting():
        values = json.loads(text).items()
        columns: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Naming(**columns)


def batch_to_text(batch: Batch) -> str:
    return json.dumps([batch.first, batch.raws, batch.prev.hex(), batch.chain.hex(), batch.head.hex()])


def batch_of_text(log: LogId, text: str) -> Batch:
    with fitting():
        first, raws, prev, chain, head = json.loads(text)
        return Batch(log, first, raws, None, bytes.fromhex(prev), bytes.fromhex(chain), bytes.fromhex(head))
