"""The index of one database, kept in a thread of its own: made when somebody searches far, and kept up from then on.

Who never searches has none. Who does, has it brought up to date when searching, and between searches in what time the
peer leaves: a chunk at a time, so that nobody waits long for the interpreter. An index that cannot be used, for want of
room, rights or FTS5, is none: searches look through the database itself then, and find the same.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from p2pchat.config import Settings
from p2pchat.errors import P2PChatError
from p2pchat.storage.base import Storage

if TYPE_CHECKING:
    from p2pchat.storage.search.index import Hit, SearchIndex
    from p2pchat.storage.sql import SqlStorage

LOOKED_EVERY = 5.0  # seconds between looks for something new, while a peer runs; a guess
REST = 0.2  # seconds between two chunks that nobody waits for: a tenth of one processor
FAR = 2000  # entries an index may be behind and still be the quicker way
USUAL_DATABASE = "history.db"

T = TypeVar("T")
Progress = Callable[[int, int], None]  # entries indexed, of how many
_log = logging.getLogger("p2pchat.search")


def indexing_of(storage: Storage, settings: Settings, directory: Path | None) -> Indexing | None:
    """Return what indexes this storage; None where it is only memory: all of that is looked through at once.

    Args:
        directory: The peer's data directory, None without one.
    """
    if not storage.durable:
        return None
    from p2pchat.storage.sql import SqlStorage

    if not isinstance(storage, SqlStorage):
        return None
    path = index_path(storage.path, directory)
    return None if path is None else Indexing(storage, settings, path)


def index_path(database: Path | None, directory: Path | None = None) -> Path | None:
    """Return where the index of a database is: search.db beside history.db, beside others with their name before.

    That of a server's database is in the data directory; without one (None) there is none.
    """
    from p2pchat.storage.search.index import FILE_NAME

    if database is None:
        return None if directory is None else directory / FILE_NAME
    return database.with_name(FILE_NAME if database.name == USUAL_DATABASE else f"{database.name}.{FILE_NAME}")


class Indexing:
    """The index of one database. Whatever becomes of it raises nothing: it cannot be used then."""

    def __init__(self, storage: SqlStorage, settings: Settings, path: Path) -> None:
        self._storage = storage
        self._settings = settings
        self._path = path
        self._threads = ThreadPoolExecutor(1, "p2pchat index")  # none is started before there is work
        self._reader: SqlStorage | None = None
        self._index: SearchIndex | None = None
        self._unusable = False
        self._upkeep: asyncio.Task[None] | None = None
        self._quiet: Callable[[], bool] | None = None
        self._used = False  # its thread has run
        self._closed = False

    # ---- in the loop

    def keep_up(self, quiet: Callable[[], bool]) -> None:
        """Take what comes from now on, as long as there is an index, in moments when `quiet` says so."""
        self._quiet = quiet
        if self._path.exists():
            self._begin_upkeep()

    async def is_near(self) -> bool:
        """Whether there is an index and it lacks so little that it is the quicker way."""
        return self._path.exists() and (await self._run(self._behind, FAR + 1)) <= FAR

    async def catch_up(self, progress: Progress | None = None) -> bool:
        """Bring the index up to date, made if need be; return whether it can be used."""
        done, behind = 0, await self._run(self._behind, -1)
        while behind >= 0:
            taken = await self._run(self._feed, -1)
            if taken <= 0:
                behind = taken
                break
            done += taken
            if progress is not None:
                progress(done, max(done, behind))
        self._begin_upkeep()
        return behind == 0

    async def find(self, look: Callable[[SearchIndex], list[Hit]]) -> list[Hit] | None:
        """Return what `look` finds in the index; None when it cannot be used."""
        return await self._run(lambda: look(self._opened()[0]), None)

    async def aclose(self) -> None:
        """Let the file go."""
        self._closed = True
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
        if self._used:
            self._threads.submit(self._close)
            await asyncio.to_thread(self._threads.shutdown)

    def _begin_upkeep(self) -> None:
        if self._upkeep is None and self._quiet is not None and not self._closed:
            self._upkeep = asyncio.create_task(self._keep_up(self._quiet))

    async def _keep_up(self, quiet: Callable[[], bool]) -> None:
        while not self._unusable:
            await asyncio.sleep(LOOKED_EVERY)
            while quiet() and (await self._run(self._feed, -1)) > 0:
                await asyncio.sleep(REST)

    async def _run(self, work: Callable[[], T], otherwise: T) -> T:
        """Return what `work` returns in the index's thread; `otherwise` when the index cannot be used."""
        if self._closed or self._unusable:
            return otherwise
        self._used = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._guarded, work)
        except (sqlite3.Error, OSError, P2PChatError) as error:
            _log.info("the search index cannot be used: %s", ascii(str(error))[:200])
            self._unusable = "no such module" in str(error)  # all else may be over the next time
            return otherwise

    # ---- in its thread

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do some work; once more with a new index when the file turns out to be spoiled."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            self._close()
            if isinstance(error, (sqlite3.OperationalError, sqlite3.ProgrammingError, sqlite3.InterfaceError)):
                raise
            from p2pchat.storage.search.index import delete

            delete(self._path)
            return work()
        except P2PChatError:
            self._close()
            raise

    def _opened(self) -> tuple[SearchIndex, SqlStorage]:
        if self._index is None or self._reader is None:
            from p2pchat.storage.search.index import SearchIndex

            self._reader = self._storage.another_reader()
            self._index = SearchIndex(self._path)
            if not self._index.belongs_to(self._reader):
                self._index.forget()
        return self._index, self._reader

    def _behind(self) -> int:
        index, reader = self._opened()
        return max(0, reader.last_place() - index.taken().place)

    def _feed(self) -> int:
        """Take a chunk; return how many entries that were, 0 when it is up to date."""
        from p2pchat.storage.search.texts import docs_of

        if shutil.disk_usage(self._path.parent).free < self._settings.min_free_disk_bytes:
            raise sqlite3.OperationalError("there is no room for it")
        index, reader = self._opened()
        return index.feed(reader, docs_of)

    def _close(self) -> None:
        index, self._index = self._index, None
        reader, self._reader = self._reader, None
        if index is not None:
            index.close()
        if reader is not None:
            reader.close()
