"""Search for messages by their words: an index finds them, and storage/search_words.py checks each one.

The index of a database is built by its first search, in a thread of its own, and brought up to date by each later one,
in chunks that keep nobody waiting for the interpreter: 10,000 entries take a quarter of a second. The index of a
database in memory is in memory, and so is one that cannot be written beside its database.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, TypeVar

from p2pchat.core.log import decode_entry
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.identity.profile import DATABASE_NAME
from p2pchat.messaging.access_policy import AccessPolicy
from p2pchat.messaging.messages import key_of
from p2pchat.protocol import ConversationId, UserId
from p2pchat.settings import Settings
from p2pchat.storage.contract import ReleasedEntry, SortKey
from p2pchat.storage.search_words import Query, searchable_text
from p2pchat.threads import in_thread

if TYPE_CHECKING:
    from p2pchat.messaging.viewer import StorageReader
    from p2pchat.storage.search_index import IndexHit, SearchIndex
    from p2pchat.storage.sql_storage import SqlStorage

T = TypeVar("T")
Progress = Callable[[int, int], None]  # called with the number of entries indexed, and of all

FOUND_AT_ONCE = (20, 200)  # hits asked of the index, at least and at most: each is looked up one by one
_LAST_ID = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search.

    Attributes:
        within: The conversations to search; None for all there are. The index is asked about these only: how
            long an answer takes must not depend on what others wrote to each other.
        writer: Search messages of this user; None for all.
        high, since: Search below this position, and from this clock on; None for no limit.
        limit: The maximum number of messages.
        access: What may be read; None for everything.
        hidden: Users of whom nothing is wanted.
    """

    query: Query
    within: Collection[ConversationId] | None = field(repr=False)
    writer: UserId | None
    high: SortKey | None
    since: int | None
    limit: int
    access: AccessPolicy | None
    hidden: Collection[UserId]

    def matches(self, shown: ReleasedEntry) -> bool:
        entry = decode_entry(shown.raw)
        if self.writer not in (None, shown.log.user) or shown.log.user in self.hidden:
            return False
        if self.access is not None and not self.access.sees(shown.log, entry):
            return False
        text = searchable_text(shown, entry)
        return bool(text) and self.query.matches(text)


async def search_messages(
    disk: StorageReader, request: SearchRequest, indexer: SearchIndexer, progress: Progress | None = None
) -> list[ReleasedEntry]:
    """Return the newest entries that match, oldest first. Raises StorageError if there can be no index."""
    from p2pchat.storage.search_index import clock_of, first_id

    await indexer.catch_up(progress)
    high, limit = request.high, request.limit
    at_once = min(max(limit, FOUND_AT_ONCE[0]), FOUND_AT_ONCE[1])
    above = 0 if request.since is None else first_id(request.since)
    below = _LAST_ID if high is None else first_id(high[0] + 1)
    # The index has every version of a text, so one message may be found more than once.
    found: dict[tuple[SortKey, ConversationId], ReleasedEntry] = {}
    while True:
        hits = await indexer.find(request, below, above, at_once)
        for one in await disk.read(partial(_entries_of, disk.storage, hits)):
            key = key_of(one)
            if (high is None or key < high) and request.matches(one):
                found[key, one.log.conversation] = one
        newest = sorted(found, reverse=True)[:limit]
        if len(hits) < at_once or (len(newest) == limit and clock_of(hits[-1].id) < newest[-1][0][0]):
            return [found[key] for key in reversed(newest)]
        below = hits[-1].id


def _entries_of(storage: SqlStorage, hits: Sequence[IndexHit]) -> list[ReleasedEntry]:
    return [one for hit in hits if (one := storage.entry(hit.log, hit.seq)) is not None]


def index_path(database: Path | None, directory: Path | None = None) -> Path | None:
    """Return the path of a database's index: search.db beside history.db, NAME.search.db beside a database NAME.

    The index of a server's database (None) is in the data directory; None without one.
    """
    from p2pchat.storage.search_index import FILE_NAME

    if database is None:
        return None if directory is None else directory / FILE_NAME
    return database.with_name(FILE_NAME if database.name == DATABASE_NAME else f"{database.name}.{FILE_NAME}")


class SearchIndexer:
    """Builds and queries the index of one database."""

    def __init__(self, storage: SqlStorage, settings: Settings, directory: Path | None) -> None:
        self._storage = storage
        self._settings = settings
        self._path = None if storage.in_memory else index_path(storage.path, directory)  # None: in memory
        self._turn = RLock()  # of its threads: one works at a time
        self._reader: SqlStorage | None = None
        self._index: SearchIndex | None = None
        self._used = False  # a thread was started
        self._closed = False

    # ---- in the event loop

    @property
    def _exists(self) -> bool:
        return self._index is not None or (self._path is not None and self._path.exists())

    async def catch_up(self, progress: Progress | None = None) -> None:
        """Build the index, or bring it up to date. Raises StorageError."""
        done, behind = 0, await self._run(self._behind)
        while taken := await self._run(self._feed):
            done += taken
            if progress is not None:
                progress(done, max(done, behind))

    async def find(self, request: SearchRequest, below: int, above: int, limit: int) -> list[IndexHit]:
        """Return the newest hits with ids between these two. Raises StorageError."""
        query, writer = request.query, request.writer

        def find() -> list[IndexHit]:
            while self._feed():  # it may have been damaged, and be new
                pass
            return self._opened()[0].find(query, request.within, writer, below, above, limit)

        return await self._run(find)

    async def check_deleted(self) -> None:
        """Clear the index if it has words of entries that were deleted. Raises StorageError."""
        if self._exists:
            await self._run(self._close)
            await self._run(self._opened)

    async def aclose(self) -> None:
        """Close the file; soon after this if the disk does not answer."""
        self._closed = True
        if self._used:
            await asyncio.wait([asyncio.ensure_future(in_thread(self._close))], timeout=self._settings.bye_timeout)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result. Raises StorageError, PeerClosed."""
        self._used = True
        return await in_thread(self._guarded, work)

    # ---- in a thread

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run `work`; if the file is damaged, delete it and run `work` again."""
        from p2pchat.storage import search_index

        was_damaged = False
        while True:
            try:
                with self._turn:
                    return self._unless_closed(work)
            except sqlite3.Error as error:
                self._close()
                if was_damaged or self._path is None or not search_index.is_damage(error):
                    raise StorageError(search_index.explain(error)) from None
                was_damaged = True
                search_index.delete(self._path)
            except P2PChatError:
                self._close()
                raise

    def _unless_closed(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise PeerClosed("the peer was closed")
        return work()

    def _opened(self) -> tuple[SearchIndex, SqlStorage]:
        if self._index is None or self._reader is None:
            from p2pchat.storage.search_index import SearchIndex

            self._reader = self._storage if self._storage.in_memory else self._storage.another_reader()
            self._index = SearchIndex(self._path)
            if not self._index.belongs_to(self._reader):
                self._index.forget(self._reader)
        return self._index, self._reader

    def _behind(self) -> int:
        index, reader = self._opened()
        return max(0, reader.last_place() - index.position().place)

    def _feed(self) -> int:
        """Index one chunk; return its number of entries, 0 when the index is up to date."""
        index, reader = self._opened()
        if not self._behind():
            return 0
        if self._path is not None and shutil.disk_usage(self._path.parent).free < self._settings.min_free_disk_bytes:
            raise StorageError(f"there is no space for {self._path}, which a search needs: free some space")
        return index.feed(reader)

    def _close(self) -> None:
        with self._turn:
            index, self._index = self._index, None
            reader, self._reader = self._reader, None
            if index is not None:
                index.close()
            if reader is not None and reader is not self._storage:
                reader.close()
