"""Storage in memory, with snapshots: for simulated disks that come back from an older copy, and for tests."""

from __future__ import annotations

import sqlite3
import weakref
from contextlib import closing
from functools import cache

from p2pchat.settings import Settings
from p2pchat.storage.commit_writer import CommitWriter
from p2pchat.storage.database import Database
from p2pchat.storage.sql_storage import SqlStorage

MEMORY_URL = "memory://"


class TemporaryStorage(SqlStorage):
    """Storage that ends when it is closed or forgotten."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._content = _empty()
        super().__init__(MEMORY_URL, settings)
        weakref.finalize(self, _close, self._databases)

    def _open_writer(self) -> CommitWriter:
        with closing(sqlite3.connect(":memory:")) as source:
            source.deserialize(self._content)
            source.backup(self._dialect.connect(writes=True))
        return super()._open_writer()

    def snapshot(self) -> bytes:
        """Return a copy of everything, to be given to `restore` of any such storage, any number of times."""
        with self._reading():
            return bytes(self._read.driver.serialize())

    def restore(self, snapshot: bytes) -> None:
        """Hold what the snapshot holds, and nothing else."""
        self._content = snapshot
        self._databases.clear()  # their connection stays
        self._writer = self._open_writer()
        self._open_reader()


@cache
def _empty() -> bytes:
    """Return a database without rows. To copy it takes a tenth of the time that making its tables takes."""
    storage = SqlStorage(MEMORY_URL)
    with closing(storage):
        return bytes(storage._read.driver.serialize())


def _close(databases: list[Database]) -> None:
    while databases:
        databases.pop().close()
