"""Full text in a file of its own beside the database: `search.db`, an index of SQLite's FTS5.

All of it is derived: it may be deleted at any time, and is made again. It is fed from what is released, in order of
place, some thousand entries a transaction, and remembers the last one it took. Where the database has another entry at
that place (it was restored, or is another one) the index belongs to a past that is no more, and is begun anew. Any
process may feed it, several at once too: each transaction begins where the last one ended, whoever made that.

It keeps no texts, only which words stand where; what it finds are entries that once had these words. Whether what is
shown of them now has them, is looked up and decided by query.py, so that index and plain search give the same answers.

    docs      one row for each text: its id, and its log and seq in a number each. The id is the clock of its message
              and a few bits to tell equal clocks apart, so that the newest found come first without sorting
    text      what FTS5 makes of the words, and of two marks for each: of its conversation and of its writer

Not synchronous=FULL: a commit here promises nothing to anybody. Nor OFF, though nobody would miss what is lost: pages
lost here and there by a power cut leave an index that opens and misses messages. In WAL mode NORMAL costs one fsync in
a thousand pages, and what is there after a power cut is whole, only older.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from p2pchat.core.log import Entry, LogId, decode_entry
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Shown
from p2pchat.storage.connect import make_private
from p2pchat.storage.search.query import Query, Term
from p2pchat.storage.search.words import words

FILE_NAME = "search.db"
VERSION = 1  # of the tables and of what a word is: another one is made anew
CHUNK = 1000  # entries read and indexed in one transaction: some 20 ms
TIE_BITS = 9  # texts of one microsecond that are told apart; clocks are below 2**53
TIES = 1 << TIE_BITS
SEQ_BITS = 40  # as in tables.py
BUSY_TIMEOUT = 4.0  # seconds for another process that feeds the same index

SCHEMA = """
create table state (name text primary key, value text not null) without rowid;
create table numbers (number integer primary key, name text not null unique);
create table docs (id integer primary key, entry integer not null);
create virtual table text using fts5(
    said, whose, content='', columnsize=0, tokenize='ascii'
);
"""
FIND = """
select d.id, d.entry from text t join docs d on d.id = t.rowid
where text match ? and t.rowid < ? and t.rowid >= ? order by t.rowid desc limit ?
"""


class Place(NamedTuple):
    """The last entry an index took: enough to know that a database still has the same past."""

    place: int
    log: LogId
    seq: int
    received_at: int


NOWHERE = Place(0, LogId("", "", ""), 0, 0)


class Hit(NamedTuple):
    """An entry that once had the words. `id`: where to go on below."""

    id: int
    log: LogId
    seq: int


class Doc(NamedTuple):
    """A text to be indexed: of which message, the clock that message is sorted by, and what it says now."""

    log: LogId
    seq: int
    c: int
    text: str


class Source(Protocol):
    """Where an index takes entries from: a storage in a database (sql.py)."""

    def placed(self, after: int, limit: int) -> list[Shown]:
        """Return all entries with place > after, in order of place."""

    def placed_entry(self, log: LogId, seq: int) -> Shown | None:
        """Return one entry that has a place, None when it has none."""


DocsOf = Callable[[Source, Shown, Entry], list[Doc]]


class SearchIndex:
    """One index. Used from one thread at a time; raises sqlite3.Error where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            sqlite3.Error, OSError, StorageError: It cannot be made or opened, or this SQLite has no FTS5.
        """
        self._path = path
        self._db = self._open()
        self._names: dict[str, int] = {}
        self._logs: dict[int, LogId] = {}

    def _open(self) -> sqlite3.Connection:
        if self._path.is_symlink():
            delete(self._path)  # what it leads to is no index of ours
        try:
            return self._opened()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # busy, full, no FTS5: another time, or never
            delete(self._path)  # no database, or a spoiled one
            return self._opened()

    def _opened(self) -> sqlite3.Connection:
        make_private(self._path)
        db = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode = wal", "synchronous = normal", "cache_size = -8000"):
                db.execute(f"pragma {pragma}").fetchall()
            if db.execute("pragma user_version").fetchone()[0] != VERSION:
                self._make(db)
            if _schema(db) != _own_schema():
                raise sqlite3.DatabaseError("an index with other tables")
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, db: sqlite3.Connection) -> None:
        db.execute("begin immediate")
        try:
            if db.execute("pragma user_version").fetchone()[0] != VERSION:  # nobody else was quicker
                for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                    with suppress(sqlite3.OperationalError):  # tables of FTS5 go with theirs
                        db.execute(f'drop table if exists "{name}"')
                for statement in SCHEMA.split(";")[:-1]:
                    db.execute(statement)
                db.execute(f"pragma user_version = {VERSION}")
            db.execute("commit")
        except BaseException:
            if db.in_transaction:
                db.execute("rollback")
            raise

    def close(self) -> None:
        """Let the file go; idempotent."""
        self._db.close()

    # ---- feeding

    def taken(self) -> Place:
        """Return the last entry it took, NOWHERE for an empty index."""
        row = self._db.execute("select value from state where name = 'taken'").fetchone()
        if row is None:
            return NOWHERE
        try:
            place, log, seq, received_at = json.loads(row[0])
            return Place(int(place), LogId(*log), int(seq), int(received_at))
        except (ValueError, TypeError):
            raise sqlite3.DatabaseError("an index that says nonsense") from None

    def belongs_to(self, source: Source) -> bool:
        """Whether what it took is still at its place there: entries before it are then those it took before."""
        taken = self.taken()
        return taken == NOWHERE or next(map(place_of, source.placed(taken.place - 1, 1)), NOWHERE) == taken

    def forget(self) -> None:
        """Begin anew."""
        self._db.execute("begin immediate")
        self._db.execute("pragma user_version = 0")
        self._db.execute("commit")
        self._names.clear()
        self._logs.clear()
        self._make(self._db)

    def feed(self, source: Source, docs_of: DocsOf, most: int = CHUNK) -> int:
        """Take the next entries, at most so many, in one transaction; return how many there were, 0 at the end.

        Args:
            docs_of: Returns what is to be found of an entry.
        """
        self._db.execute("begin immediate")
        try:
            shown = source.placed(self.taken().place, most)
            docs = [doc for one in shown for doc in docs_of(source, one, decode_entry(one.raw))]
            if shown:
                self._add(docs)
                self._db.execute("insert or replace into state values ('taken', ?)", (json.dumps(place_of(shown[-1])),))
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            self._names.clear()
            raise
        return len(shown)

    def _add(self, docs: Sequence[Doc]) -> None:
        rows: list[tuple[int, str, str]] = []
        entries: list[tuple[int, int]] = []
        taken = self._ids_near(docs)
        for doc in sorted(docs, key=lambda doc: doc.c):  # FTS5 writes out what it has whenever ids go down
            id = doc.c << TIE_BITS
            while id in taken:
                id += 1
            taken.add(id)
            log = self._number(json.dumps(doc.log))
            entries.append((id, log << SEQ_BITS | doc.seq))
            rows.append((id, " ".join(words(doc.text)), self._marks(doc.log.conversation, doc.log.user)))
        self._db.executemany("insert into docs values (?, ?)", entries)
        self._db.executemany("insert into text (rowid, said, whose) values (?, ?, ?)", rows)

    def _ids_near(self, docs: Iterable[Doc]) -> set[int]:
        """Return the ids that are taken already among those of these clocks."""
        found: set[int] = set()
        for doc in docs:
            near = (doc.c << TIE_BITS, doc.c + 1 << TIE_BITS)
            found.update(id for (id,) in self._db.execute("select id from docs where id >= ? and id < ?", near))
        return found

    def _marks(self, conversation: ConversationId, writer: UserId) -> str:
        return f"c{self._number(conversation)} u{self._number(writer)}"

    def _number(self, name: str) -> int:
        """Return the number of a log, conversation or user here, a new one when there is none."""
        number = self._names.get(name)
        if number is None:
            number = self._known_number(name)
            if number is None:
                number = self._db.execute("insert into numbers (name) values (?)", (name,)).lastrowid or 0
            self._names[name] = number
        return number

    def _known_number(self, name: str) -> int | None:
        row = self._db.execute("select number from numbers where name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    # ---- finding

    def find(
        self,
        query: Query,
        conversation: ConversationId | None,
        writer: UserId | None,
        below: int,
        above: int,
        limit: int,
    ) -> list[Hit]:
        """Return entries that once had all of a query, the newest first.

        Args:
            conversation, writer: Only there, only of this one; None: wherever, whoever.
            below, above: ids (see first_id): those found are below the one, and not below the other.
        """
        of = {"c": conversation, "u": writer}
        marks = [f"{kind}{self._known_number(name) or 0}" for kind, name in of.items() if name]
        rows = self._db.execute(FIND, (_expression(query, marks), below, above, limit)).fetchall()
        return [Hit(id, self._log(entry >> SEQ_BITS), entry & (1 << SEQ_BITS) - 1) for id, entry in rows]

    def _log(self, number: int) -> LogId:
        if number not in self._logs:
            row = self._db.execute("select name from numbers where number = ?", (number,)).fetchone()
            try:
                self._logs[number] = LogId(*json.loads(row[0]))
            except (ValueError, TypeError):
                raise sqlite3.DatabaseError("an index that names no log") from None
        return self._logs[number]


@cache
def _own_schema() -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return _schema(db)


def _schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return what tables there are, and how they were made."""
    return db.execute("select name, sql from sqlite_master where type = 'table' order by name").fetchall()


def first_id(c: int) -> int:
    """Return the lowest id a message of this clock can have."""
    return c << TIE_BITS


def clock_of(id: int) -> int:
    """Return the clock of the message that has this id."""
    return id >> TIE_BITS


def delete(path: Path) -> None:
    """Throw an index away."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def place_of(shown: Shown) -> Place:
    return Place(shown.place, shown.log, shown.seq, shown.received_at)


def _expression(query: Query, marks: Sequence[str]) -> str:
    """Return a query as FTS5 reads it. Words have letters and digits only, so that quotes are enough."""
    said = " AND ".join(_phrase(term) for term in query.terms)
    parts = [f"said : ({said})"] if said else []
    return " AND ".join([*parts, *(f'whose : "{mark}"' for mark in marks)])


def _phrase(term: Term) -> str:
    return f'"{" ".join(term.words)}"{" *" if term.goes_on else ""}'
