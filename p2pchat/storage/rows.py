"""Small things between records and columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Mending
from p2pchat.protocol import Mark, Naming
from p2pchat.storage.errors import fitting


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
