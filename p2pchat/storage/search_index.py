"""Search index: the words of all messages, in a file beside the database.

The index is SQLite's FTS5 in a file of its own, `search.db`. It may be deleted at any time and is made again. It takes
released entries in order of place, about a thousand per transaction, and remembers the last one. If the database has
another entry at that place, because it was restored or replaced, or if entries were deleted there, the index is
cleared. Several processes may feed the index at once: each transaction begins where the last one ended.

The index stores no texts, only the places of words. It finds entries that once had the words; whether the current
text has them is decided by `Query.matches`, so that the index and a plain search give the same answers.

    docs      one row for each text: its id, and its log and seq in one number. The id is the clock of the message and
              a few bits to tell equal clocks apart, so that hits come newest first without sorting
    text      what FTS5 makes of the words, and of two marks for each text: its conversation and its writer

Commits here promise nothing, so synchronous=FULL is not needed. OFF would be wrong: a power cut could lose single
pages, and the index would open and miss messages. In WAL mode NORMAL costs one fsync in a thousand pages, and after a
power cut the index is whole, only older.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from p2pchat.core.log import Entry, LogId, decode_entry
from p2pchat.errors import StorageError
from p2pchat.kinds.edit import EDIT
from p2pchat.protocol import ConversationId, UserId, split_ref
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.storage.dialects.sqlite_dialect import CANNOT_WRITE, make_private
from p2pchat.storage.schema import SEQ_BITS, SEQS
from p2pchat.storage.search_words import Query, searchable_text, text_of, words

if TYPE_CHECKING:
    from p2pchat.storage.sql_storage import SqlStorage

FILE_NAME = "search.db"
VERSION = 0x70327001  # of the tables and of what a word is; a file with another number is made again
MOST_NAMES = 4_000  # logs, conversations and users whose number is in memory; about 1 MiB
MOST_CONVERSATIONS = 500  # in one expression: a user of a gateway may have thousands; a guess
CHUNK = 1000  # entries read and indexed in one transaction: some 20 ms
TIE_BITS = 9  # texts of one microsecond that are told apart; clocks are below 2**53
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


class IndexPlace(NamedTuple):
    """The last entry an index took; it tells whether a database still has the same past."""

    place: int
    log: LogId
    seq: int
    received_at: int


NOWHERE = IndexPlace(0, LogId("", "", ""), 0, 0)


class IndexHit(NamedTuple):
    """An entry that once had the words; a later search may continue below `id`."""

    id: int
    log: LogId
    seq: int


class IndexedText(NamedTuple):
    """A text to be indexed: its message, the clock that sorts the message, and the text."""

    log: LogId
    seq: int
    c: int
    text: str


class SearchIndex:
    """One index, used from one thread at a time; its methods raise sqlite3.Error if the file cannot be used."""

    def __init__(self, path: Path | None) -> None:
        """Open the index, or make it: in memory if there is no path, or no file can be written there.

        Raises:
            sqlite3.Error: It cannot be made or opened, or this SQLite has no FTS5.
        """
        self._db = self._open(path)
        self._names: dict[str, int] = {}
        self._logs: dict[int, LogId] = {}

    def _open(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return self._opened(":memory:")
        try:
            if path.is_symlink():
                delete(path)  # it leads to no index of ours
            make_private(path)
            return self._opened(path)
        except sqlite3.Error as error:
            if is_damage(error):
                delete(path)
                make_private(path)
                return self._opened(path)
            if error.sqlite_errorcode & 0xFF not in CANNOT_WRITE:
                raise
        except (OSError, StorageError):
            pass
        return self._opened(":memory:")

    def _opened(self, path: Path | str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode = wal", "synchronous = normal", "cache_size = -8000"):
                db.execute(f"pragma {pragma}").fetchall()
            db.execute("begin immediate")  # fails where it could not be fed
            db.rollback()
            if db.execute("pragma user_version").fetchone()[0] != VERSION:
                self._make(db)
        except BaseException:  # also when interrupted: do not leak the connection
            db.close()
            raise
        return db

    def _make(self, db: sqlite3.Connection) -> None:
        with db:  # commits, or rolls back
            db.execute("begin immediate")
            if db.execute("pragma user_version").fetchone()[0] == VERSION:
                return  # another process was quicker
            for (name,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                with suppress(sqlite3.OperationalError):  # FTS5 drops its own tables with `text`
                    db.execute(f'drop table if exists "{name}"')
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
            db.execute(f"pragma user_version = {VERSION}")

    def close(self) -> None:
        """Close the file; idempotent."""
        self._db.close()

    # ---- feeding

    def position(self) -> IndexPlace:
        """Return the last entry the index took; NOWHERE if it is empty."""
        row = self._db.execute("select value from state where name = 'taken'").fetchone()
        if row is None:
            return NOWHERE
        try:
            place, log, seq, received_at = json.loads(row[0])
            return IndexPlace(int(place), LogId(*log), int(seq), int(received_at))
        except (ValueError, TypeError):
            raise sqlite3.DatabaseError("an index with a place that cannot be read") from None

    def belongs_to(self, source: SqlStorage) -> bool:
        """Return whether the last entry it took is still at its place there, and nothing was deleted since the index
        was begun; then all entries before are the same.
        """
        last = self.position()
        row = self._db.execute("select value from state where name = 'deleted'").fetchone()
        if (row[0] if row is not None else "0") != str(source.count_deleted()):
            return False
        return last == NOWHERE or next(map(place_of, source.places(last.place - 1, 1, hidden=True)), NOWHERE) == last

    def forget(self, source: SqlStorage) -> None:
        """Clear the index, and let it begin anew. No word stays in the file.

        Raises StorageError while another program reads the file; it is cleared again then.
        """
        self._db.execute("pragma user_version = 0")
        self._names.clear()
        self._logs.clear()
        self._make(self._db)
        self._db.execute("vacuum")
        if self._db.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
            raise StorageError("another process uses the search index, which holds deleted words: search again later")
        self._db.execute("insert or replace into state values ('deleted', ?)", (str(source.count_deleted()),))

    def feed(self, source: SqlStorage, most: int = CHUNK) -> int:
        """Take at most so many more entries in one transaction; return how many there were, 0 at the end."""
        try:
            with self._db:
                self._db.execute("begin immediate")
                shown = source.places(self.position().place, most, hidden=True)
                docs = [doc for one in shown for doc in documents_of(source, one, decode_entry(one.raw))]
                if shown:
                    self._add(docs)
                    taken = json.dumps(place_of(shown[-1]))
                    self._db.execute("insert or replace into state values ('taken', ?)", (taken,))
        except BaseException:  # the transaction is undone, and with it the new names
            self._names.clear()
            raise
        if len(self._names) > MOST_NAMES:  # anybody can begin any number of logs
            self._names.clear()
        return len(shown)

    def _add(self, docs: Sequence[IndexedText]) -> None:
        rows: list[tuple[int, str, str]] = []
        entries: list[tuple[int, int]] = []
        used = self._ids_near(docs)
        for doc in sorted(docs, key=lambda doc: doc.c):  # FTS5 flushes whenever ids go down
            id = doc.c << TIE_BITS
            while id in used:
                id += 1
            used.add(id)
            log = self._number(json.dumps(doc.log))
            entries.append((id, log << SEQ_BITS | doc.seq))
            whose = f"c{self._number(doc.log.conversation)} u{self._number(doc.log.user)}"
            rows.append((id, " ".join(words(doc.text)), whose))
        self._db.executemany("insert into docs values (?, ?)", entries)
        self._db.executemany("insert into text (rowid, said, whose) values (?, ?, ?)", rows)

    def _ids_near(self, docs: Iterable[IndexedText]) -> set[int]:
        """Return the ids in use among those of these clocks."""
        found: set[int] = set()
        for doc in docs:
            near = (doc.c << TIE_BITS, doc.c + 1 << TIE_BITS)
            found.update(id for (id,) in self._db.execute("select id from docs where id >= ? and id < ?", near))
        return found

    def _number(self, name: str) -> int:
        """Return the number of a log, conversation or user in this index; a new one if it has none."""
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
        conversations: Collection[ConversationId] | None,
        writer: UserId | None,
        below: int,
        above: int,
        limit: int,
    ) -> list[IndexHit]:
        """Return entries that once matched a query, newest first.

        Args:
            conversations, writer: Search only there, only what this user wrote; None for all.
            below, above: Ids (see first_id): hits are below the first and not below the second.
        """
        whose = () if writer is None else (f"u{self._known_number(writer) or 0}",)
        rows: list[tuple[int, int]] = []
        for where in [()] if conversations is None else self._marks(list(conversations)):
            rows += self._db.execute(FIND, (_expression(query, where, whose), below, above, limit))
        newest = sorted(rows, reverse=True)[:limit]
        return [IndexHit(id, self._log(entry >> SEQ_BITS), entry % SEQS) for id, entry in newest]

    def _marks(self, conversations: Sequence[ConversationId]) -> Iterator[list[str]]:
        """Yield the marks of those of these conversations that have texts here, for some of them at a time."""
        for at in range(0, len(conversations), MOST_CONVERSATIONS):
            names = conversations[at : at + MOST_CONVERSATIONS]
            known = f"select number from numbers where name in ({', '.join('?' * len(names))})"
            if marks := [f"c{number}" for (number,) in self._db.execute(known, names)]:
                yield marks

    def _log(self, number: int) -> LogId:
        if number not in self._logs:
            row = self._db.execute("select name from numbers where number = ?", (number,)).fetchone()
            if len(self._logs) >= MOST_NAMES:
                self._logs.clear()
            try:
                self._logs[number] = LogId(*json.loads(row[0]))
            except (ValueError, TypeError):
                raise sqlite3.DatabaseError("an index with a log that cannot be read") from None
        return self._logs[number]


def first_id(c: int) -> int:
    """Return the lowest id for a message of this clock."""
    return c << TIE_BITS


def clock_of(id: int) -> int:
    """Return the clock of the message that has this id."""
    return id >> TIE_BITS


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether the file is no index, or a damaged one; deleting it would not help against anything else."""
    return type(error) is sqlite3.DatabaseError


def explain(error: sqlite3.Error) -> str:
    """Return why there can be no search, in words."""
    if "no such module" in str(error):
        return "this Python's SQLite has no full-text index (FTS5), which a search needs: use another build of Python"
    code = getattr(error, "sqlite_errorcode", 0)
    return f"the search index cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)}): " + (
        "another process uses it, search again"
        if code & 0xFF == sqlite3.SQLITE_BUSY
        else "delete search.db in the data directory, it is made again"
    )


def delete(path: Path) -> None:
    """Delete an index."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def place_of(shown: ReleasedEntry) -> IndexPlace:
    return IndexPlace(shown.place, shown.log, shown.seq, shown.received_at)


def _expression(query: Query, *marks: Sequence[str]) -> str:
    """Return a query in the language of FTS5. Words have only letters and digits, so quotes are enough.

    Args:
        marks: A text has one of each of these, unless they are none.
    """
    terms = " AND ".join(f'"{" ".join(term.words)}"{" *" * term.is_prefix}' for term in query.terms)
    parts = [f"said : ({terms})"] if terms else []
    parts += ["whose : (" + " OR ".join(f'"{one}"' for one in group) + ")" for group in marks if group]
    return " AND ".join(parts)


# ---- texts
#
# The index takes every text a message ever had, hidden ones too: which of them counts may still change, by an edit that
# comes late or by new facts of a group.


def documents_of(source: SqlStorage, shown: ReleasedEntry, entry: Entry) -> list[IndexedText]:
    """Return the texts of a new entry for the index.

    The text of an edit belongs to the message it edits. If that message is not here yet, the text comes with it.
    """
    if entry.is_message:
        texts = dict.fromkeys((text_of(entry.b), searchable_text(shown, entry)))
        return [IndexedText(shown.log, shown.seq, entry.c, text) for text in texts if text]
    message = _edited_message(source, shown, entry) if entry.k == EDIT.name else None
    text = text_of(entry.b)
    if message is None or not text:
        return []
    return [IndexedText(message.log, message.seq, decode_entry(message.raw).c, text)]


def _edited_message(source: SqlStorage, shown: ReleasedEntry, entry: Entry) -> ReleasedEntry | None:
    """Return the message that an edit changes; None if it is another writer's, or not here."""
    start, run = ("", "") if entry.re is None else split_ref(entry.re.log)
    if entry.re is None or not shown.log.user.startswith(start):
        return None
    log = LogId(shown.log.conversation, shown.log.user, run)
    return source.entry(log, entry.re.seq, hidden=True)
