"""Statements of SQL on one connection: transactions, values and rows, and a new connection after one was lost.

Statements are SQL with `?` for each value; the dialect turns them into what its driver takes. They run by the driver's
own cursor, so exceptions are the driver's until `translate_errors` makes sentences of them.

Rows are inserted with cached text and many VALUES, never by executemany: that takes and gives the interpreter's lock
once a row, and falls to 2,700 rows a second next to a busy event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import chain
from typing import Any

from p2pchat.errors import LogError, StorageError
from p2pchat.storage.dialects.dialect import Dialect, InsertConflict
from p2pchat.storage.schema import SCHEMA_KEY, SCHEMA_VERSION, TABLES, UNDECODABLE, CorruptRow, Table, meta

MOST_ROWS = 128  # in one statement; more gains nothing
MOST_NUMBERS = 10_000  # of each table; about 1.3 MiB
MOST_RANGES = 32  # in one statement; SQLite takes 500


class Database:
    """A connection of one storage, used by one thread at a time.

    Args:
        writes: Whether it is the one that writes; no other program may have such a one at the same time.
    """

    def __init__(self, dialect: Dialect, *, writes: bool = False) -> None:
        self.dialect = dialect
        self._writes = writes
        self._words = tuple(dialect.words.items())
        self._begins = dialect.begins_write if writes else dialect.begins_read
        self._most_bytes = dialect.max_statement_bytes
        self._is_suspect = False
        self.numbers: dict[str, dict[str, int]] = {"conversations": {}, "users": {}}  # by table and id
        self._inserts: dict[tuple[Table, InsertConflict, int], str] = {}  # by the number of rows
        self._use(dialect.connect(writes=writes))

    def _use(self, driver: Any) -> None:
        self.driver = driver
        self._cursor = driver.cursor()

    def forget_numbers(self) -> None:
        """Forget the numbers of conversations and users. They are read again when they are needed."""
        for numbers in self.numbers.values():
            numbers.clear()

    # ---- transactions

    def begin(self) -> None:
        if self._begins:
            self._cursor.execute(self._begins)

    def commit(self) -> None:
        """Make durable what was written since begin()."""
        self.driver.commit()

    def rollback(self) -> None:
        """Undo what was written since begin(); if the connection is lost, all of that is lost anyway."""
        self.forget_numbers()
        with suppress(*self.dialect.errors):
            self.driver.rollback()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written inside, or undo it if anything fails."""
        self.begin()
        try:
            yield
            self.driver.commit()
        except BaseException:  # also when interrupted: undo it all
            self.rollback()
            raise

    # ---- the connection

    def mark_suspect(self) -> None:
        """Have the next `reconnect` ask whether the connection still works, since something failed."""
        self._is_suspect = True

    def reconnect(self) -> bool:
        """Connect again if the connection was lost; return whether it was. Raises StorageError, or the driver's."""
        if not self._is_suspect and not self.dialect.is_cut(self.driver):
            return False
        self._is_suspect = True
        if self.dialect.is_alive(self.driver):
            self._is_suspect = False
            return False
        self.close()
        self._use(self.dialect.connect(writes=self._writes))
        self._is_suspect = False
        return True

    def close(self) -> None:
        """Close it; of one that was lost, errors do not matter."""
        with suppress(*self.dialect.errors, OSError):
            self.driver.close()

    # ---- statements

    def _text(self, statement: str) -> str:
        """Return a statement as the driver takes it."""
        return _in_words(statement, self._words) if self._words else statement

    def all(self, statement: str, *parameters: object) -> Sequence[Any]:
        """Return all rows of an answer."""
        self._cursor.execute(self._text(statement), parameters)
        rows: Sequence[Any] = self._cursor.fetchall()
        return rows

    def first(self, statement: str, *parameters: object) -> Any:
        """Return the first row, None if there is none."""
        rows = self.all(statement, *parameters)
        return rows[0] if rows else None

    def value(self, statement: str, *parameters: object) -> Any:
        """Return the first value of the first row, None if there is none."""
        row = self.first(statement, *parameters)
        return row[0] if row else None

    def of_ranges(self, statement: str, ranges: Sequence[tuple[int, int]], end: str = "") -> Iterator[Any]:
        """Yield the rows that a statement gives for each of these ranges, many of them at once; `end` orders them."""
        for at in range(0, len(ranges), MOST_RANGES):
            part = ranges[at : at + MOST_RANGES]
            yield from self.all(" union all ".join([statement] * len(part)) + end, *chain.from_iterable(part))

    def number(self, table: str, id: str) -> int:
        """Return the number of a conversation or user; 0 if it is not known here."""
        numbers = self.numbers[table]
        found = numbers.get(id)
        if found is None:
            if len(numbers) >= MOST_NUMBERS:
                numbers.clear()
            found = self.value(f"select number from {table} where id = ?", bytes.fromhex(id)) or 0
            if found:
                numbers[id] = found
        return found

    def pages(self, statement: str, rows: int) -> Iterator[Sequence[Any]]:
        """Yield the rows of an answer, so many at a time: never all of them are in memory."""
        cursor = self.dialect.stream(self.driver)
        try:
            cursor.execute(self._text(statement))
            while page := cursor.fetchmany(rows):
                yield page
        finally:
            cursor.close()

    def run(self, statement: str, *parameters: object) -> int:
        """Run a statement that gives no rows; return how many rows it changed."""
        self._cursor.execute(self._text(statement), parameters)
        changed: int = self._cursor.rowcount
        return changed

    def insert(self, table: Table, values: Sequence[Any], conflict: InsertConflict = InsertConflict.NONE) -> None:
        """Insert rows; `values` are those of all rows in one list, `conflict` says what to do if a key exists."""
        if not values:
            return
        width = len(table.names)
        if len(values) == width:
            text = self._inserts.get((table, conflict, 1)) or self._insert_text(table, conflict, 1)
            self._cursor.execute(text, values)
            return
        left = len(values) // width
        begin, rows = 0, MOST_ROWS
        while left:
            rows = min(rows, 1 << left.bit_length() - 1)  # powers of two, so that there are few texts to cache
            part = values[begin : begin + rows * width]
            while self._most_bytes and rows > 1 and self._is_too_long(part):
                rows >>= 1
                part = part[: rows * width]
            text = self._inserts.get((table, conflict, rows)) or self._insert_text(table, conflict, rows)
            self._cursor.execute(text, part)
            begin, left = begin + len(part), left - rows

    def _insert_text(self, table: Table, conflict: InsertConflict, rows: int) -> str:
        clause = self.dialect.on_conflict(table, conflict)
        values = placeholders(len(table.names), rows)
        text = self._text(f"insert into {table.name} ({', '.join(table.names)}) values {values} {clause}")
        self._inserts[table, conflict, rows] = text
        return text

    def _is_too_long(self, values: Sequence[Any]) -> bool:
        return sum(len(value) for value in values if isinstance(value, (str, bytes))) > self._most_bytes

    # ---- versions
    #
    # A new database gets its tables. One of another version is refused and left as it was.

    def prepare(self) -> None:
        """Make the tables of a new database. Raises StorageError if it has another version or is of another program."""
        with self.transaction():
            if self._version() is None:
                self.dialect.make_tables(self)
                self.insert(meta, (SCHEMA_KEY, str(SCHEMA_VERSION)))
            else:
                self.check()

    def check(self) -> None:
        """Raise StorageError unless the database has exactly this version."""
        found, where = self._version(), self.dialect.where
        if found is None:
            raise StorageError(f"{where} has no tables of p2pchat: start a peer with it once")
        if found > SCHEMA_VERSION:
            raise StorageError(f"{where} was made by a newer version of p2pchat (0.{found}): update this one")
        if found < SCHEMA_VERSION:
            raise StorageError(
                f"{where} was made by an earlier version of p2pchat (0.{found}): export its messages with that one "
                "(`p2pchat export FILE`), move it away, start anew, and import them (`p2pchat import FILE`)"
            )

    def _version(self) -> int | None:
        """Return the schema version, None for an empty database."""
        tables = self.dialect.table_names(self)
        if not tables:
            return None
        text = self.value("select value from meta where name = ?", SCHEMA_KEY) if "meta" in tables else None
        if text is None and self.dialect.commits_tables and tables <= {table.name for table in TABLES}:
            return None  # a peer was stopped while it made the tables
        if not isinstance(text, str) or not (text.isdecimal() and len(text) < 9):
            raise StorageError(f"{self.dialect.where} is a database of another program: name another one")
        return int(text)


@lru_cache(maxsize=1024)
def _in_words(statement: str, words: tuple[tuple[str, str], ...]) -> str:
    for common, own in words:
        statement = statement.replace(common, own)
    return statement


def placeholders(width: int, rows: int) -> str:
    """Return the list of values of an insert."""
    return ", ".join([f"({', '.join('?' * width)})"] * rows)


def flat(rows: Iterable[Iterable[object]]) -> list[object]:
    """Return the values of all rows in one list."""
    return [*chain.from_iterable(rows)]


# ---- errors
#
# Exceptions of a driver become StorageError here and nowhere else, each as one sentence that says what to do. The text
# of the driver is never shown: it may quote the parameters of a statement, which are what people wrote.
#
# SQLite has no checksums over its pages: a disk that flips bits gives back rows of a wrong type as if they were right.
# Code that looks at such values says so (CorruptRow, LogError). But most errors that such a row causes look like a bug
# of ours, and a bug must not be reported as a broken disk. So the whole database is checked then, and only if it is
# damaged, damage is reported; the cause is chained for programmers.

# UNDECODABLE without ValueError, which in a commit is always the caller's: changes that do not follow.
SUSPECT_IN_COMMITS = (TypeError, AttributeError, LookupError, ArithmeticError)


@contextmanager
def translate_errors(
    dialect: Dialect,
    is_damaged: Callable[[], bool] = lambda: False,
    suspect: tuple[type[Exception], ...] = UNDECODABLE,
) -> Iterator[None]:
    """Raise StorageError for exceptions of the driver, and for those that damaged rows cause.

    Args:
        is_damaged: Checks the database; called when one of `suspect` was raised.
    """
    try:
        yield
    except dialect.errors as error:
        raise StorageError(dialect.explain(error)) from None
    except (CorruptRow, LogError, UnicodeDecodeError) as error:  # the last is the driver's, for what is no text
        raise StorageError(dialect.damaged) from error
    except suspect as error:
        if not is_damaged():
            raise
        raise StorageError(dialect.damaged) from error


# ---- URLs
#
# Errors never show a URL: it may have a password in it. The same URLs are understood as by SQLAlchemy, which read them
# in earlier versions.
