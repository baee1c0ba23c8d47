"""What turns a database of one version into one of the next: a named function each, run in order in one transaction.

A copy of the former one is beside it by then (migrations.py). Each may take its time: it happens once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.mending import mending_of
from p2pchat.errors import LogError
from p2pchat.storage.database import Database
from p2pchat.storage.rows import mending_row
from p2pchat.storage.schema import SEQ_BITS, SEQS, mendings, metadata

Migration = Callable[[Database], None]

ROWS_AT_ONCE = 10_000  # read and decoded; some megabytes
REFERRING = f"""
select e.id, e.body, e.conversation, l.writer, c.id, u.id, l.run from entries e
join logs l on l.number = e.id >> {SEQ_BITS}
join conversations c on c.number = l.conversation join users u on u.number = l.writer
left join waiting w on w.log = l.number
where e.id > ? and (instr(e.body, '"re"') or instr(e.body, '\\u'))
and (w.log is null or e.id & {SEQS - 1} <= w.released)
order by e.id limit ?
"""  # a key may be written with escapes


def keep_mendings(database: Database) -> None:
    """To version 2: edits, deletions and reactions change what they name. The former version only stored them."""
    metadata.create_all(database.connection)
    after = 0
    while rows := database.all(REFERRING, after, ROWS_AT_ONCE):
        values: list[object] = []
        for id, body, conversation, writer, *names in rows:
            try:
                mending = mending_of(LogId(*(name.hex() for name in names)), id % SEQS, decode_entry(body))
            except LogError:
                continue  # the disk's doing: told when somebody reads it, as before
            if mending is not None:
                values += mending_row(mending, id, conversation, writer)
        database.insert(mendings, values)
        after = rows[-1][0]


def keep_hosted(database: Database) -> None:
    """To version 3: tables for hosted users and their tokens."""
    metadata.create_all(database.connection)


MIGRATIONS: Sequence[Migration] = (keep_mendings, keep_hosted)  # MIGRATIONS[n - 1] turns version n into n + 1
