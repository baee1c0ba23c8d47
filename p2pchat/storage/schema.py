"""The tables of version 3, sized for SQLite now and MySQL and PostgreSQL later.

Conversations, users and logs have a number of their own here, given in the order they came; everything else names
them by it. An entry's id is `log << 40 | seq`: one integer key, entries of a log next to each other, and the same id
names its head. What is said often is said once:

    the last entry of a log     its newest row in heads; no row of logs is touched by a commit
    what is released            everything, except in logs that `waiting` names (released: how far)
    which logs are tips         state 0, found by an index
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.types import VARBINARY

SCHEMA_VERSION = 3
SCHEMA_KEY = "schema"  # in meta
WRITER_KEY = "writer"  # in meta, where a server keeps it: who wrote last (write.py)
OWN_KEYS = (SCHEMA_KEY, WRITER_KEY)  # no key of the core's may be called so

SEQ_BITS = 40
SEQS = 1 << SEQ_BITS  # ids of one log: number * SEQS + seq
MAX_LOG = (1 << 63 - SEQ_BITS) - 1

COVERED = 1  # bits of logs.state; 0 is a tip
FORKED = 2
OLD = 1  # bits of places.flags
GAP = 2

_Number = BigInteger().with_variant(Integer, "sqlite")  # INTEGER PRIMARY KEY is SQLite's row id
_Long = Text().with_variant(Text(2**24 - 1), "mysql", "mariadb")  # an entry may have 64 KiB


def _bytes(size: int) -> LargeBinary:
    return LargeBinary(size).with_variant(VARBINARY(size), "mysql", "mariadb")


def _key(name: str) -> Column[int]:
    return Column(name, _Number, primary_key=True, autoincrement=False)


def _number(name: str) -> Column[int]:
    return Column(name, _Number, nullable=False)


metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(190), primary_key=True),
    Column("value", _Long, nullable=False),
)
conversations = Table(
    "conversations",
    metadata,
    _key("number"),
    Column("id", _bytes(32), nullable=False, unique=True),
    Column("naming", Text),  # JSON; null while only the id is known
)
users = Table(
    "users",
    metadata,
    _key("number"),
    Column("id", _bytes(32), nullable=False, unique=True),
    Column("name", Text),  # null while nobody named it
    Column("named_c", BigInteger),
    Column("about", Text),
)
logs = Table(
    "logs",
    metadata,
    _key("number"),
    _number("conversation"),
    _number("writer"),
    Column("run", _bytes(8), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("whole", SmallInteger, nullable=False),
    Column("builds_on", _bytes(24 * 64), nullable=False),  # the marks of `before`: run, seq and chain, 8 bytes each
    Index("logs_by_run", "conversation", "run", "writer", unique=True),
    Index("logs_by_writer", "writer", "conversation", "number"),
    Index("logs_by_state", "state"),
)
entries = Table(
    "entries",
    metadata,
    _key("id"),
    _number("conversation"),
    _number("c"),
    Column("body", _Long, nullable=False),
    Index("entries_by_clock", "conversation", "c"),
)
heads = Table(
    "heads",
    metadata,
    _key("id"),
    _number("size"),  # bytes of all entries of the log up to here
    _number("c"),
    Column("chain", _bytes(32), nullable=False),
    Column("sig", _bytes(64), nullable=False),
)
places = Table(
    "places",
    metadata,
    _key("first_place"),
    Column("start", _Number, nullable=False, unique=True),  # id of its first entry
    _number("entries"),
    _number("received_at"),
    Column("flags", SmallInteger, nullable=False),
)
mendings = Table(  # released edits, deletions and reactions, by what they name; a message without any has no row
    "mendings",
    metadata,
    _key("id"),  # of the entry itself
    _number("conversation"),
    Column("run", _bytes(8), nullable=False),
    _number("seq"),
    Column("writer", _bytes(8), nullable=False),  # how the id of whoever wrote what is named begins
    _number("author"),  # the user who edits, deletes or reacts
    Column("reaction", SmallInteger, nullable=False),
    _number("c"),
    Index("mendings_by_message", "conversation", "run", "seq", "writer", "author", "reaction", "c"),
)
waiting = Table("waiting", metadata, _key("log"), _number("released"))
heard = Table("heard", metadata, _key("log"), _key("member"), _number("seq"))
read_marks = Table("read_marks", metadata, _key("log"), _key("reader"), _number("seq"))
addresses = Table(
    "addresses",
    metadata,
    Column("peer", _bytes(32), primary_key=True),
    Column("endpoint", String(190), primary_key=True),
    _number("verified_at"),
    _number("failing_since"),
    Column("teller", _bytes(32), nullable=False),
)
former_names = Table(
    "former_names",
    metadata,
    _key("owner"),  # a user's number
    Column("name", _bytes(128), primary_key=True),  # UTF-8: 32 characters, told apart by every bit
    _number("c"),
)
consumers = Table(
    "consumers",
    metadata,
    Column("name", String(190), primary_key=True),
    _number("place"),
)
cites = Table(
    "cites", metadata, _key("log"), _key("first"), _number("gen"), Column("chain8", _bytes(8), nullable=False)
)
seen = Table("seen", metadata, _key("log"), _number("upto"))  # only entries 1..upto of it may be read
forks = Table(
    "forks",
    metadata,
    _key("log"),
    Column("one", _Long, nullable=False),
    Column("other", _Long, nullable=False),
)
hosted = Table(  # users a gateway speaks for; their keys are nowhere else
    "hosted",
    metadata,
    Column("id", _bytes(32), primary_key=True),
    Column("secret", _bytes(32), nullable=False),
    Column("name", _bytes(128), nullable=False),  # UTF-8, as in former_names
    _number("created_at"),
)
tokens = Table(  # what lets programs act for them
    "tokens",
    metadata,
    Column("hash", _bytes(32), primary_key=True),
    Column("owner", _bytes(32), nullable=False, index=True),  # the id of a hosted user
    _number("created_at"),
    Column("label", Text, nullable=False),
)


# ---- fragments
#
# Parts of statements that one kind of database must be told in other words: it knows them by their text.


# All that follows is looked up for what stands before: SQLite keeps this order, MySQL has a word for it.
THEN_ENTRIES = "cross join entries e"
THEN_ENTRIES_STRAIGHT = "straight_join entries e"

# The newest head of log `l` is row `h`, or nothing is.
NEWEST_HEAD = f"""
left join heads h on h.id = (select max(id) from heads where id > l.number * {SEQS} and id < (l.number + 1) * {SEQS})
"""
NEWEST_HEAD_GROUPED = f"""
left join (select id >> {SEQ_BITS} as log, max(id) as id from heads group by id >> {SEQ_BITS}) n on n.log = l.number
left join heads h on h.id = n.id
"""  # for MySQL, which would look through all heads for each log
