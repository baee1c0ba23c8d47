"""Which version a database has: made when new, migrated when older, refused when newer.

A migration (migrations.py) turns version n into n + 1. All that are needed run in one transaction, of a file after a
backup copy beside it; of a server's database nobody makes a copy here, and MySQL and MariaDB commit each change of a
table at once: so a migration may be run again when it was broken off. The tables of the present version are in
schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.records import relation_of
from p2pchat.errors import LogError, StorageError
from p2pchat.storage.database import Database, relation_row
from p2pchat.storage.schema import SCHEMA_KEY, SCHEMA_VERSION, SEQ_BITS, SEQS, TABLES, mendings, meta

# ---- migrating
#
# What turns a database of one version into one of the next: a named function each, run in order in one transaction.
#
# A copy of the former one is beside it by then (migrations.py). Each may take its time: it happens once.


VERSION = "select value from meta where name = ?"
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
    database.dialect.make_tables(database)
    after = 0
    while rows := database.all(REFERRING, after, ROWS_AT_ONCE):
        values: list[object] = []
        for id, body, conversation, writer, *names in rows:
            try:
                mending = relation_of(LogId(*(name.hex() for name in names)), id % SEQS, decode_entry(body))
            except LogError:
                continue  # the disk's doing: told when somebody reads it, as before
            if mending is not None:
                values += relation_row(mending, id, conversation, writer)
        database.insert(mendings, values)
        after = rows[-1][0]


def keep_hosted(database: Database) -> None:
    """To version 3: tables for hosted users and their tokens."""
    database.dialect.make_tables(database)


MIGRATIONS: Sequence[Migration] = (keep_mendings, keep_hosted)  # MIGRATIONS[n - 1] turns version n into n + 1


# ---- migrations


def prepare(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the tables of a new database, or bring an older one to this version.

    Raises:
        StorageError: It is of a newer version, or no database of ours; it is left as it was.
    """
    wanted = 1 + len(migrations)
    with database.transaction():
        found = version(database)
        if found is None:
            database.dialect.make_tables(database)
            database.insert(meta, (SCHEMA_KEY, str(wanted)))
            return
    if found > wanted:
        raise _newer(database, found)
    if found < wanted:
        database.dialect.back_up(database, found)
        _migrate(database, migrations, found)


def is_older(database: Database) -> bool:
    """Say whether a database is of an earlier version of ours; StorageError when it is none of ours."""
    found = version(database)
    return found is not None and found < SCHEMA_VERSION


def bring_up_to_date(database: Database) -> None:
    """Migrate a database that is only a copy."""
    with database.transaction():
        found = version(database) or 1
    _migrate(database, MIGRATIONS, found)


def check(database: Database) -> None:
    """Raise StorageError unless the database has exactly this version: for those that only read."""
    found = version(database)
    if found is not None and found > SCHEMA_VERSION:
        raise _newer(database, found)
    if found != SCHEMA_VERSION:
        where = database.dialect.where
        raise StorageError(f"{where} has schema {found or 'none'}, not {SCHEMA_VERSION}: start a peer with it once")


def _newer(database: Database, found: int) -> StorageError:
    where = database.dialect.where
    return StorageError(f"{where} was written by a newer version of p2pchat (schema {found}): update this one")


def version(database: Database) -> int | None:
    """Return the schema version, None for an empty database."""
    tables = database.dialect.table_names(database)
    if not tables:
        return None
    text = database.value(VERSION, SCHEMA_KEY) if "meta" in tables else None
    if text is None and database.dialect.commits_tables and tables <= {table.name for table in TABLES}:
        return None  # it was stopped while they were made
    if not isinstance(text, str) or not (text.isdecimal() and len(text) < 9):
        raise StorageError(f"{database.dialect.where} is a database of another program: name another one")
    return int(text)


def _migrate(database: Database, migrations: Sequence[Migration], found: int) -> None:
    with database.transaction():
        for migration in migrations[found - 1 :]:
            migration(database)
        database.run("update meta set value = ? where name = ?", str(1 + len(migrations)), SCHEMA_KEY)
