"""The tables of schema version 3, for every kind of database.

Conversations, users and logs have a number of their own, given in the order they came; other tables name them by it.
The id of an entry is `log << 40 | seq`: one integer key, entries of a log next to each other. The same id names the
head of an entry. Nothing is stored twice:

    the last entry of a log     its newest row in heads; no commit touches a row of logs
    what is released            everything, except in logs that `waiting` names (released: how far)
    which logs are tips         state 0, found by an index

The statements that make the tables are the ones SQLAlchemy made for earlier versions, so that all databases of one
version are alike to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

SCHEMA_VERSION = 3
SCHEMA_KEY = "schema"  # in meta
WRITER_KEY = "writer"  # in meta of a database on a server: who wrote last (write.py)
OWN_KEYS = (SCHEMA_KEY, WRITER_KEY)  # the core may not use these keys

SEQ_BITS = 40
SEQS = 1 << SEQ_BITS  # ids of one log: number * SEQS + seq
MAX_LOG = (1 << 63 - SEQ_BITS) - 1

COVERED = 1  # bits of logs.state; 0 is a tip
FORKED = 2
OLD = 1  # bits of places.flags
GAP = 2

# Types of columns. Each dialect has its word for them; "{}" stands for the most bytes of a value.
NUMBER = "number"  # in SQLite INTEGER: as the only key it is the row id
BIGINT = "bigint"
SMALLINT = "smallint"
NAME = "name"  # text of at most 190 characters, so that MySQL can index it
TEXT = "text"
LONG_TEXT = "long text"  # an entry may have 64 KiB
BYTES = "bytes"

Types = Mapping[str, str]


@dataclass(frozen=True)
class Column:
    """A column; `size` is the most bytes of a value where the type is BYTES."""

    name: str
    type: str = NUMBER
    size: int = 0
    key: bool = False
    nullable: bool = False
    unique: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its indexes: the columns of each by its name, and which of them are unique."""

    name: str
    columns: tuple[Column, ...]
    indexes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unique_indexes: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.columns if column.key)


def create_statements(table: Table, types: Types, options: str = "", quote: str = "") -> list[str]:
    """Return the statements that make a table and its indexes.

    Args:
        types: The database's word for each type of column.
        options: What it wants behind the columns.
        quote: What its names of columns are quoted with where they could be taken for a word of its own.
    """
    lines = []
    for column in table.columns:
        kind = types[column.type].format(column.size)
        lines.append(f"{quote}{column.name}{quote} {kind}{'' if column.nullable else ' NOT NULL'}")
    lines.append(f"PRIMARY KEY ({', '.join(quote + name + quote for name in table.keys)})")
    lines += [f"UNIQUE ({quote}{column.name}{quote})" for column in table.columns if column.unique]
    made = [f"CREATE TABLE {table.name} (\n\t" + ", \n\t".join(lines) + f"\n){options}"]
    for name in sorted(table.indexes):
        unique = "UNIQUE " if name in table.unique_indexes else ""
        columns = ", ".join(quote + each + quote for each in table.indexes[name])
        made.append(f"CREATE {unique}INDEX {name} ON {table.name} ({columns})")
    return made


def _key(name: str, type: str = NUMBER, size: int = 0) -> Column:
    return Column(name, type, size, key=True)


meta = Table("meta", (_key("name", NAME), Column("value", LONG_TEXT)))
conversations = Table(
    "conversations",
    (
        _key("number"),
        Column("id", BYTES, 32, unique=True),
        Column("naming", TEXT, nullable=True),  # JSON; null while only the id is known
    ),
)
users = Table(
    "users",
    (
        _key("number"),
        Column("id", BYTES, 32, unique=True),
        Column("name", TEXT, nullable=True),  # null while the name is not known
        Column("named_c", BIGINT, nullable=True),
        Column("about", TEXT, nullable=True),
    ),
)
logs = Table(
    "logs",
    (
        _key("number"),
        Column("conversation"),
        Column("writer"),
        Column("run", BYTES, 8),
        Column("state", SMALLINT),
        Column("whole", SMALLINT),
        Column("builds_on", BYTES, 24 * 64),  # the marks of `before`: run, seq and chain, 8 bytes each
    ),
    {
        "logs_by_run": ("conversation", "run", "writer"),
        "logs_by_writer": ("writer", "conversation", "number"),
        "logs_by_state": ("state",),
    },
    frozenset({"logs_by_run"}),
)
entries = Table(
    "entries",
    (_key("id"), Column("conversation"), Column("c"), Column("body", LONG_TEXT)),
    {"entries_by_clock": ("conversation", "c")},
)
heads = Table(
    "heads",
    (
        _key("id"),
        Column("size"),  # bytes of all entries of the log up to here
        Column("c"),
        Column("chain", BYTES, 32),
        Column("sig", BYTES, 64),
    ),
)
places = Table(
    "places",
    (
        _key("first_place"),
        Column("start", unique=True),  # the id of its first entry
        Column("entries"),
        Column("received_at"),
        Column("flags", SMALLINT),
    ),
)
mendings = Table(  # released edits, deletions and reactions, by the message they name
    "mendings",
    (
        _key("id"),  # of the entry itself
        Column("conversation"),
        Column("run", BYTES, 8),
        Column("seq"),
        Column("writer", BYTES, 8),  # the first bytes of the id of the message's writer
        Column("author"),  # the user who edits, deletes or reacts
        Column("reaction", SMALLINT),
        Column("c"),
    ),
    {"mendings_by_message": ("conversation", "run", "seq", "writer", "author", "reaction", "c")},
)
waiting = Table("waiting", (_key("log"), Column("released")))
heard = Table("heard", (_key("log"), _key("member"), Column("seq")))
read_marks = Table("read_marks", (_key("log"), _key("reader"), Column("seq")))
addresses = Table(
    "addresses",
    (
        _key("peer", BYTES, 32),
        _key("endpoint", NAME),
        Column("verified_at"),
        Column("failing_since"),
        Column("teller", BYTES, 32),
    ),
)
former_names = Table(
    "former_names",
    (
        _key("owner"),  # a user's number
        _key("name", BYTES, 128),  # UTF-8: 32 characters, told apart by every bit
        Column("c"),
    ),
)
consumers = Table("consumers", (_key("name", NAME), Column("place")))
cites = Table("cites", (_key("log"), _key("first"), Column("gen"), Column("chain8", BYTES, 8)))
seen = Table("seen", (_key("log"), Column("upto")))  # only entries 1..upto of the log may be read
forks = Table("forks", (_key("log"), Column("one", LONG_TEXT), Column("other", LONG_TEXT)))
hosted = Table(  # users of a gateway; their keys are stored nowhere else
    "hosted",
    (
        _key("id", BYTES, 32),
        Column("secret", BYTES, 32),
        Column("name", BYTES, 128),  # UTF-8, as in former_names
        Column("created_at"),
    ),
)
tokens = Table(  # what lets programs act for hosted users
    "tokens",
    (
        _key("hash", BYTES, 32),
        Column("owner", BYTES, 32),  # the id of a hosted user
        Column("created_at"),
        Column("label", TEXT),
    ),
    {"ix_tokens_owner": ("owner",)},
)
TABLES = (addresses, cites, consumers, conversations, entries, forks, former_names, heads, heard, hosted, logs,
          mendings, meta, places, read_marks, seen, tokens, users, waiting)  # fmt: skip


# ---- parts of statements that dialects replace; they find them by their text

# Entries are looked up for each row before: SQLite keeps the order of a cross join, MySQL has a word of its own.
THEN_ENTRIES = "cross join entries e"
THEN_ENTRIES_STRAIGHT = "straight_join entries e"

# The newest head of log `l` is row `h`, if there is one.
NEWEST_HEAD = f"""
left join heads h on h.id = (select max(id) from heads where id > l.number * {SEQS} and id < (l.number + 1) * {SEQS})
"""
NEWEST_HEAD_GROUPED = f"""
left join (select id >> {SEQ_BITS} as log, max(id) as id from heads group by id >> {SEQ_BITS}) n on n.log = l.number
left join heads h on h.id = n.id
"""  # for MySQL, which would look through all heads for each log
