"""Versions of a database: a new one gets its tables, an older one is migrated, a newer one is refused.

A migration turns version n into version n + 1; it is a named function and runs once, however long it takes. All that
are needed run in one transaction, a file after a backup copy was made beside it. The database of a server is not
copied, and MySQL and MariaDB commit each change of a table at once, so a migration that was interrupted may run again.
The tables of the present version are in schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pchat.core.edits import relation_of
from p2pchat.core.log import LogId, decode_entry
from p2pchat.errors import LogError, StorageError
from p2pchat.storage.database import Database, relation_row
from p2pchat.storage.schema import SCHEMA_KEY, SCHEMA_VERSION, SEQ_BITS, SEQS, TABLES, mendings, meta

Migration = Callable[[Database], None]

VERSION = "select value from meta where name = ?"
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


def add_relations(database: Database) -> None:
    """Migrate to version 2, which indexes edits, deletions and reactions by what they name. Version 1 did not."""
    database.dialect.make_tables(database)
    after = 0
    while rows := database.all(REFERRING, after, ROWS_AT_ONCE):
        values: list[object] = []
        for id, body, conversation, writer, *names in rows:
            try:
                relation = relation_of(LogId(*(name.hex() for name in names)), id % SEQS, decode_entry(body))
            except LogError:
                continue  # a damaged row: reported when it is read, as before
            if relation is not None:
                values += relation_row(relation, id, conversation, writer)
        database.insert(mendings, values)
        after = rows[-1][0]


def add_hosted(database: Database) -> None:
    """Migrate to version 3, which has tables for hosted users and their tokens."""
    database.dialect.make_tables(database)


MIGRATIONS: Sequence[Migration] = (add_relations, add_hosted)  # MIGRATIONS[n - 1] turns version n into n + 1


def prepare(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the tables of a new database, or bring an older one to this version.

    Raises:
        StorageError: It has a newer version, or belongs to another program; it is left as it was.
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
    """Return whether a database has an earlier version; StorageError if it belongs to another program."""
    found = version(database)
    return found is not None and found < SCHEMA_VERSION


def bring_up_to_date(database: Database) -> None:
    """Migrate a temporary copy of a database."""
    with database.transaction():
        found = version(database) or 1
    _migrate(database, MIGRATIONS, found)


def check(database: Database) -> None:
    """Raise StorageError unless the database has exactly this version. For programs that only read."""
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
        return None  # a peer was stopped while it made the tables
    if not isinstance(text, str) or not (text.isdecimal() and len(text) < 9):
        raise StorageError(f"{database.dialect.where} is a database of another program: name another one")
    return int(text)


def _migrate(database: Database, migrations: Sequence[Migration], found: int) -> None:
    with database.transaction():
        for migration in migrations[found - 1 :]:
            migration(database)
        database.run("update meta set value = ? where name = ?", str(1 + len(migrations)), SCHEMA_KEY)
