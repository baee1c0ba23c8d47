"""Storage that ends with the process: for tests, simulations, and bots that keep nothing.

It is a database in a private temporary folder, in memory where the system has a file system there. `snapshot` and
`restore` are for simulations of disks that come back from an older copy.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

from p2pchat.config import Settings
from p2pchat.storage.dialects.sqlite import sqlite_url
from p2pchat.storage.sql import SqlStorage
from p2pchat.storage.statements_and_transactions import Database

IN_MEMORY = Path("/dev/shm")  # Linux


class TemporaryStorage(SqlStorage):
    """Storage without a place of its own: nothing is left after the process, or once it is closed."""

    def __init__(self, settings: Settings | None = None) -> None:
        place = IN_MEMORY if IN_MEMORY.is_dir() else None
        self._file = Path(tempfile.mkdtemp(prefix="p2pchat-", dir=place), "chat.db")  # 0700
        super().__init__(sqlite_url(self._file), settings)
        self._end = weakref.finalize(self, _end, self._databases, self._file.parent)  # also if nobody closes it

    def _open(self, *, writes: bool) -> Database:
        database = super()._open(writes=writes)
        database.driver.execute("pragma synchronous = off")  # no power loss is outlived
        return database

    def close(self) -> None:
        with self._lock:
            self._end()

    def snapshot(self) -> bytes:
        """Return a copy of everything, to be given to `restore` of any such storage, any number of times."""
        with self._reading():
            return bytes(self._read.driver.serialize())

    def restore(self, snapshot: bytes) -> None:
        """Hold what the snapshot holds, and nothing else."""
        _close(self._databases)
        for file in self._file.parent.iterdir():
            file.unlink()
        self._file.write_bytes(snapshot)
        self._writer = self._open_writer()
        self._open_reader()


def _close(databases: list[Database]) -> None:
    while databases:
        databases.pop().close()


def _end(databases: list[Database], folder: Path) -> None:
    _close(databases)
    shutil.rmtree(folder, ignore_errors=True)
