"""The tables of this schema version, and the values in their columns.

Conversations, users and logs have a number of their own, given in the order they came; other tables name them by it.
The id of an entry is `log << 40 | seq`: one integer key, entries of a log next to each other. The same id names the
head of an entry. Nothing is stored twice:

    the last entry of a log     its newest row in heads; no commit touches a row of logs
    what is released            has a place: everything, except in logs that `waiting` names (released: how far)
    which logs are tips         state 0, found by an index

The statements that make the tables are fixed, so that all databases of one version are alike to the byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from p2pchat.core.log import (
    MARK,
    MAX_BEFORE,
    Batch,
    Entry,
    LogId,
    attachments_of,
    batch_of,
    encode_header,
    marks_of_bytes,
)
from p2pchat.protocol import (
    REF_USER_BYTES,
    Entries,
    GuestCertificate,
    Naming,
    PeerId,
    PeerRecord,
    Stub,
)

SCHEMA_VERSION = 21
SCHEMA_KEY = "schema"  # in meta
WRITER_KEY = "writer"  # in meta of a database on a server: who wrote last (commit_writer.py)
VIEWS_KEY = "views"  # in meta: which views there are (views.py)
OWN_KEYS = (SCHEMA_KEY, WRITER_KEY, VIEWS_KEY)  # the core may not use these keys


SEQ_BITS = 40
SEQS = 1 << SEQ_BITS  # ids of one log: number * SEQS + seq
MAX_LOG = (1 << 63 - SEQ_BITS) - 1

COVERED = 1  # bits of logs.state; 0 is a tip
FORKED = 2
OLD = 1  # bits of entries.flags
GAP = 2

# Types of columns. Each dialect has its word for them; "{}" is replaced by the maximum bytes of a value.
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
        options: The clauses after the columns.
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


meta: Table = Table("meta", (_key("name", NAME), Column("value", LONG_TEXT)))
conversations: Table = Table(
    "conversations",
    (
        _key("number"),
        Column("id", BYTES, 32, unique=True),
        Column("naming", TEXT, nullable=True),  # JSON; null while only the id is known
    ),
)
users: Table = Table(
    "users",
    (
        _key("number"),
        Column("id", BYTES, 32, unique=True),
        Column("name", TEXT, nullable=True),  # null while the name is not known
        Column("named_c", BIGINT, nullable=True),
        Column("about", TEXT, nullable=True),
    ),
)
logs: Table = Table(
    "logs",
    (
        _key("number"),
        Column("conversation"),
        Column("writer"),
        Column("run", BYTES, 8),
        Column("state", SMALLINT),
        Column("whole", SMALLINT),
        # The rest of its header: the marks of `before` (run and seq, 8 bytes each, and chain), and the certificate of
        # the member that answers for the writer (key and signature; empty for a member).
        Column("builds_on", BYTES, MARK.size * MAX_BEFORE),
        Column("certificate", BYTES, 96),
    ),
    {
        "logs_by_run": ("conversation", "run", "writer"),
        "logs_by_writer": ("writer", "conversation", "number"),
        "logs_by_state": ("state",),
    },
    frozenset({"logs_by_run"}),
)
entries: Table = Table(
    "entries",
    (
        _key("id"),
        Column("conversation"),
        Column("c"),
        Column("place", nullable=True),  # with the next two null until it is released
        Column("received_at", nullable=True),
        Column("flags", SMALLINT, nullable=True),
        Column("body", LONG_TEXT),
    ),
    {"entries_by_clock": ("conversation", "c")},
)
gone: Table = Table(  # entries of which no text is shown: it was deleted here, or only its stub came
    "gone",
    (
        _key("id"),
        Column("c"),
        Column("hash", BYTES, 32, nullable=True),  # null where deletion keeps the text (core/sync/pruner.py)
        Column("rest", LONG_TEXT),  # the text that is kept
    ),
)
unreadable: Table = Table("unreadable", (_key("id"),))  # entries whose texts cannot be read
heads: Table = Table(
    "heads",
    (
        _key("id"),
        Column("size"),  # bytes of the entries of the log from after the head before up to here
        Column("c"),
        Column("chain", BYTES, 32),
        Column("sig", BYTES, 64),
    ),
)
places: Table = Table(  # the entries by place, consecutive ones together
    "places",
    (
        _key("first_place"),
        Column("start"),  # the id of its first entry
        Column("entries"),
    ),
)
changes: Table = Table(  # released entries that change a message: edits, deletions and reactions
    "changes",
    (
        _key("id"),  # of the entry itself
        Column("conversation"),
        Column("run", BYTES, 8),
        Column("seq"),
        Column("writer", BYTES, REF_USER_BYTES),  # the first bytes of the id of the message's writer
        Column("author"),  # the user who edits, deletes or reacts
        Column("aspect", NAME),  # as in kinds/
        Column("c"),
    ),
    {
        "changes_by_message": ("conversation", "run", "seq", "writer", "author", "aspect", "c"),
        "changes_by_aspect": ("conversation", "aspect", "c"),
    },
)
attachments: Table = Table(  # of stored messages, deleted or not: which content they name
    "attachments",
    (_key("id"), _key("root", BYTES, 32)),  # of the message
    {"attachments_by_root": ("root",)},
)
waiting: Table = Table("waiting", (_key("log"), Column("released")))
heard: Table = Table("heard", (_key("log"), _key("member"), Column("seq")))
MARK_COLUMNS = (_key("log"), _key("reader"), Column("chain", BYTES, 32), Column("seq"))
read_marks: Table = Table("read_marks", MARK_COLUMNS)
taken_marks: Table = Table("taken_marks", MARK_COLUMNS)
addresses: Table = Table(
    "addresses",
    (
        _key("peer", BYTES, 32),
        _key("endpoint", NAME),
        Column("verified_at"),
        Column("failed"),
        Column("told"),
    ),
)
peer_records: Table = Table("peer_records", (_key("peer", BYTES, 32), Column("said", LONG_TEXT)))
former_names: Table = Table(
    "former_names",
    (
        _key("owner"),  # a user's number
        _key("name", BYTES, 128),  # UTF-8: 32 characters, told apart by every bit
        Column("c"),
    ),
)
guests: Table = Table(  # users, and the members that they named, first when `log` began
    "guests", (_key("guest"), _key("member", BYTES, 32), Column("log"))
)
consumers: Table = Table("consumers", (_key("name", NAME), Column("place")))
seen: Table = Table("seen", (_key("log"), Column("upto")))  # only entries 1..upto of the log may be read
pruned: Table = Table(  # entries 1..upto of these logs were deleted, with their places; they stand in `gone`
    "pruned",
    (
        _key("log"),
        Column("size"),  # bytes that were freed
        Column("messages"),
        Column("place"),
        Column("received_at"),
        Column("upto"),
    ),
)
forks: Table = Table("forks", (_key("log"), Column("one", LONG_TEXT), Column("other", LONG_TEXT)))
hosted: Table = Table(  # users of a gateway; their keys are stored nowhere else
    "hosted",
    (
        _key("id", BYTES, 32),
        Column("secret", BYTES, 32),
        Column("name", BYTES, 128),  # UTF-8, as in former_names
        Column("created_at"),
        Column("hosted_as", BYTES, 128, unique=True),  # UTF-8: a program's own key for this user
    ),
)
tokens: Table = Table(  # what lets programs act for hosted users
    "tokens",
    (
        _key("hash", BYTES, 32),
        Column("owner", BYTES, 32),  # the id of a hosted user, or of a former one
        Column("created_at"),
        Column("label", TEXT),
    ),
    {"ix_tokens_owner": ("owner",)},
)
statements: Table = Table(  # about members of the network
    "statements",
    (_key("id", BYTES, 32), Column("said", LONG_TEXT), Column("signature", BYTES, 64)),
)
TABLES = (addresses, attachments, changes, consumers, conversations, entries, forks, former_names, gone, guests,
          heads, heard, hosted, logs, meta, peer_records, places, pruned, read_marks, seen, statements, taken_marks,
          tokens, unreadable, users, waiting)  # fmt: skip


# ---- parts of statements that dialects replace; they find them by their text

# Entries are looked up for each row before: SQLite keeps the order of a cross join, MySQL has a word of its own.
THEN_ENTRIES = "cross join entries e"
THEN_ENTRIES_STRAIGHT = "straight_join entries e"

# The newest head of log `l` is row `h`, if there is one; LOG_SIZE its bytes of the log.
NEWEST_HEAD = f"""
left join heads h on h.id = (select max(id) from heads where id > l.number * {SEQS} and id < (l.number + 1) * {SEQS})
"""
LOG_SIZE = f"(select sum(size) from heads where id > l.number * {SEQS} and id < (l.number + 1) * {SEQS})"
# For MySQL, which would look through all heads for each log:
NEWEST_HEAD_GROUPED = f"""
left join (
    select id >> {SEQ_BITS} as log, max(id) as id, sum(size) as size from heads group by id >> {SEQ_BITS}
) n on n.log = l.number
left join heads h on h.id = n.id
"""
LOG_SIZE_GROUPED = "n.size"


# ---- columns
#
# Records that are kept in one column, and back.

# Raised by a row of a wrong type.
UNDECODABLE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, struct.error)


class CorruptRow(ValueError):
    """A stored value that no version of p2pchat writes."""


@contextmanager
def decoding() -> Iterator[None]:
    """Raise CorruptRow for anything that stored values raise: around code that only decodes them."""
    try:
        yield
    except UNDECODABLE as error:
        raise CorruptRow(f"a value of a wrong type: {type(error).__name__}") from error


def attachment_rows(id: int, entry: Entry) -> list[object]:
    """Return the values of the rows of what an entry names, each content once."""
    roots = dict.fromkeys(file.root for file in attachments_of(entry))
    return [value for root in roots for value in (id, bytes.fromhex(root))]


def log_of(conversation: bytes, user: bytes, run: bytes, *_: object) -> LogId:
    """Return the log whose ids are the first columns of a row."""
    return LogId(conversation.hex(), user.hex(), run.hex())


def header_of(log: LogId, builds_on: bytes, certificate: bytes) -> str:
    """Return the text of a log's header, from what is stored of it."""
    by = GuestCertificate(certificate[:32].hex(), certificate[32:].hex()) if certificate else None
    return encode_header(log, marks_of_bytes(builds_on), by)


def naming_to_text(naming: Naming) -> str:
    values = {"room": naming.room, "dm": naming.dm, "group": naming.group, "talk": naming.talk}
    return json.dumps({name: value for name, value in values.items() if value})


def naming_of_text(text: str) -> Naming:
    with decoding():
        values = json.loads(text).items()
        columns: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Naming(**columns)


def record_to_text(record: PeerRecord) -> str:
    return json.dumps([record.text, record.sig])


def record_of_text(peer: PeerId, text: str) -> PeerRecord:
    with decoding():
        said, sig = json.loads(text)
        record = PeerRecord(said, sig)
    if type(said) is not str or not record.is_readable or record.id != peer:
        raise CorruptRow("a record of another peer, or one that cannot be read")
    return record


def batch_to_text(batch: Batch, header: str) -> str:
    """Return the text of a batch of evidence, with the header of its log."""
    ends = batch.prev.hex(), batch.chain.hex(), batch.head.hex()
    raws = [(c, text if isinstance(text, str) else (text.hash,)) for c, text in batch.raws]
    return json.dumps([batch.first, raws, *ends, header])


def batch_of_text(log: LogId, text: str) -> Batch:
    with decoding():
        first, raws, prev, _, head, header = json.loads(text)
        entries = [(c, text if isinstance(text, str) else Stub(*text)) for c, text in raws]
        return batch_of(Entries(*log, first, prev, entries, head, header))
