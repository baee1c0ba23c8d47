"""What a database says when it cannot go on, as one sentence that says what to do.

The one place where exceptions of a driver become StorageError. Never with the driver's own text of a statement's
parameters: those are what people wrote. What SQLite's say is here, what those of servers say in dialects/.

SQLite has no sums over its pages: a disk that turns bits gives back rows of the wrong kind as willingly as true ones.
What looks at values and finds nonsense says so (Misfit, LogError). But most of what stumbles over such a row looks
like a defect of ours, and a defect of ours must not be taken for a broken disk: so then the database is looked
through, and only if it really is damaged, damage is told; the cause goes along for programmers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, ResourceClosedError

from p2pchat.errors import LogError, StorageError
from p2pchat.storage.dialects.dialect import Dialect

DAMAGED = (
    "{where} is damaged: move it away and start again, what others hold comes back by itself;"
    " or put a backup in its place"
)
NOT_TEXT = "Could not decode to UTF-8"  # how the driver's words begin, which have no code
# What a row of the wrong kind raises, and a defect of ours too. In a commit a ValueError is always the caller's:
# changes that do not follow.
IN_ROWS_READ = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
IN_ROWS_WRITTEN = (TypeError, AttributeError, LookupError, ArithmeticError)
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
    """A stored value that no writer of ours makes."""


@contextmanager
def decoding() -> Iterator[None]:
    """Call whatever stored values raise inside by its name: around what does nothing else than decode them."""
    try:
        yield
    except IN_ROWS_READ as error:
        raise CorruptRow(f"a value of another kind: {type(error).__name__}") from error


def sentence(error: BaseException | None, where: str) -> str:
    """Return what to tell a person about this exception of SQLite's driver; `where` is the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says which kind of that
    known = DAMAGED if str(error).startswith(NOT_TEXT) else SENTENCES.get(code)
    if known is not None:
        return known.format(where=where)
    return f"{where} cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})"


@contextmanager
def translate_errors(
    dialect: Dialect,
    is_damaged: Callable[[], bool] = lambda: False,
    suspect: tuple[type[Exception], ...] = IN_ROWS_READ,
) -> Iterator[None]:
    """Turn every exception of the driver inside, and what damaged rows raise, into StorageError.

    Args:
        is_damaged: Looks through the database; asked when one of `suspect` was raised.
    """
    try:
        yield
    except DBAPIError as error:
        raise StorageError(dialect.sentence(error.orig)) from None
    except ResourceClosedError:
        raise StorageError(f"{dialect.where} was closed") from None
    except dialect.errors as error:
        raise StorageError(dialect.sentence(error)) from None
    except (CorruptRow, LogError, UnicodeDecodeError) as error:  # the last is the driver's, of what is no text
        raise StorageError(dialect.damaged) from error
    except suspect as error:
        if not is_damaged():
            raise
        raise StorageError(dialect.damaged) from error
