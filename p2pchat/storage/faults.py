"""What a database says when it cannot go on, as one sentence that says what to do.

The one place where exceptions of the driver become StorageError. Never with the driver's own text of a statement's
parameters: those are what people wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, ResourceClosedError

from p2pchat.errors import StorageError

SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk that holds {where} is full: free some space; nothing of this was kept",
    sqlite3.SQLITE_BUSY: "{where} is in use by another program: stop that one, then start again",
    sqlite3.SQLITE_LOCKED: "{where} is in use by another program: stop that one, then start again",
    sqlite3.SQLITE_CORRUPT: "{where} is damaged: move it away and start again, what others hold comes back by itself;"
    " or put a backup in its place",
    sqlite3.SQLITE_NOTADB: "{where} is not a database: name another file, or move this one away",
    sqlite3.SQLITE_READONLY: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_PERM: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: check that its directory exists and may be written",
    sqlite3.SQLITE_IOERR: "the disk that holds {where} cannot be read or written: check the disk",
}


def sentence(error: BaseException | None, where: str) -> str:
    """Return what to tell a person about this exception of the driver."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says which kind of that
    known = SENTENCES.get(code)
    if known is not None:
        return known.format(where=where)
    return f"{where} cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})"


@contextmanager
def told_clearly(where: str) -> Iterator[None]:
    """Turn every exception of the driver inside into StorageError."""
    try:
        yield
    except DBAPIError as error:
        raise StorageError(sentence(error.orig, where)) from None
    except ResourceClosedError:
        raise StorageError(f"{where} was closed") from None
    except sqlite3.Error as error:
        raise StorageError(sentence(error, where)) from None
