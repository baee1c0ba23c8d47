"""Who wrote last, where a database lies on a server that others can reach too.

The lock that the one writer holds there ends with its connection, and somewhere between here and the server it may end
unnoticed. So each commit turns on a row of `meta`: from what this process wrote there last to the next number. A
commit of somebody else in between makes ours fail, and after a lost connection that row says whether the commit that
was under way is kept.
"""

from __future__ import annotations

import os

from p2pchat.errors import StorageError
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import Conflict
from p2pchat.storage.schema import WRITER_KEY, meta

TURN = f"update meta set value = ? where name = '{WRITER_KEY}' and value = ?"
LAST = f"select value from meta where name = '{WRITER_KEY}'"


class Fence:
    """The one who writes; made once the lock is held."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._name = os.urandom(8).hex()
        self._count = 0
        self.is_under_way = False
        with database.begin():
            database.insert(meta, (WRITER_KEY, self._stamp(0)), Conflict.REPLACE)

    def _stamp(self, count: int) -> str:
        return f"{self._name} {count}"

    def turn(self) -> None:
        """The first statement of a commit. Raises StorageError when somebody else has written."""
        if self._db.run(TURN, self._stamp(self._count + 1), self._stamp(self._count)) != 1:
            raise self._broken()

    def committing(self) -> None:
        """From here on it may be kept."""
        self.is_under_way = True

    def committed(self) -> None:
        self._count += 1
        self.is_under_way = False

    def was_kept(self) -> bool:
        """On a new connection: whether the commit under way was. Raises StorageError when somebody else has written."""
        with self._db.begin():
            last = self._db.value(LAST)
        if last == self._stamp(self._count):
            self.is_under_way = False
            return False
        if self.is_under_way and last == self._stamp(self._count + 1):
            self.committed()
            return True
        raise self._broken()

    def _broken(self) -> StorageError:
        where = self._db.dialect.where
        return StorageError(f"another peer has written into {where}: stop one of the two, then start this one again")
