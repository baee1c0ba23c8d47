"""Errors of databases, each as one sentence that says what to do.

Exceptions of a driver become StorageError here and nowhere else. The text of the driver is never shown: it may quote
the parameters of a statement, which are what people wrote. The sentences for SQLite are here, those for servers in
dialects/.

SQLite has no checksums over its pages: a disk that flips bits gives back rows of a wrong type as if they were right.
Code that looks at such values says so (CorruptRow, LogError). But most errors that such a row causes look like a bug
of ours, and a bug must not be reported as a broken disk. So the whole database is checked then, and only if it is
damaged, damage is reported; the cause is chained for programmers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from p2pchat.errors import LogError, StorageError

if TYPE_CHECKING:
    from p2pchat.storage.dialects.dialect import Dialect

DAMAGED = (
    "{where} is damaged: move it away and start again, what others hold comes back by itself;"
    " or put a backup in its place"
)
NOT_TEXT = "Could not decode to UTF-8"  # this error of the driver has a text and no code
# What a row of a wrong type raises, and a bug of ours too. In a commit a ValueError is always the caller's: changes
# that do not follow.
SUSPECT_IN_READS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
SUSPECT_IN_COMMITS = (TypeError, AttributeError, LookupError, ArithmeticError)
SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk that holds {where} is full: free some space; nothing of this was kept",
    sqlite3.SQLITE_BUSY: "{where} is in use by another program: stop that one, then start again",
    sqlite3.SQLITE_LOCKED: "{where} is in use by another program: stop that one, then start again",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: "{where} is not a database: name another file, or move this one away",
    sqlite3.SQLITE_READONLY: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_PERM: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: check that its directory exists and may be written",
    sqlite3.SQLITE_IOERR: "the disk that holds {where} cannot be read or written: check the disk",
}


class CorruptRow(ValueError):
    """A stored value that no version of p2pchat writes."""


@contextmanager
def decoding() -> Iterator[None]:
    """Raise CorruptRow for anything that stored values raise: around code that only decodes them."""
    try:
        yield
    except SUSPECT_IN_READS as error:
        raise CorruptRow(f"a value of a wrong type: {type(error).__name__}") from error


def explain_sqlite(error: BaseException | None, where: str) -> str:
    """Return the error text for an exception of SQLite's driver; `where` is the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the higher bits say more, which is not needed
    known = DAMAGED if str(error).startswith(NOT_TEXT) else SENTENCES.get(code)
    if known is not None:
        return known.format(where=where)
    return f"{where} cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})"


@contextmanager
def translate_errors(
    dialect: Dialect,
    is_damaged: Callable[[], bool] = lambda: False,
    suspect: tuple[type[Exception], ...] = SUSPECT_IN_READS,
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
