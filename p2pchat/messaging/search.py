"""Messages found by their words: the newest looked through one by one, what is behind them with the index.

Most of what people look for is not long ago, and most histories are short: neither needs an index. Whatever way a
message is found, it is storage/search.py that says whether it fits, so that all ways find the same.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from p2pchat.config import Settings
from p2pchat.core.log import decode_entry
from p2pchat.errors import P2PChatError
from p2pchat.messaging.access import AccessPolicy
from p2pchat.messaging.history import post_of, sort_key
from p2pchat.messaging.messages import Message, Post, Sent, Viewer
from p2pchat.messaging.timestamps import micros_of
from p2pchat.messaging.users import User
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import ReleasedEntry, SortKey, Storage
from p2pchat.storage.search import Query, parse_query, searchable_text

if TYPE_CHECKING:
    from p2pchat.storage.search import IndexHit, SearchIndex
    from p2pchat.storage.sql import SqlStorage


LOOKED_THROUGH = 1000  # entries looked through at once: some 10 ms, then others who read get their turn
WITHOUT_INDEX = 10  # times so many before an index is asked for: a tenth of a second, as long as nobody minds
FOUND_AT_ONCE = (20, 200)  # in the index, at least and at most: each is looked up one by one
_LAST_ID = (1 << 63) - 1

Read = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is looked for, and where: in one conversation or (None) all, of one writer or all, below `high`, and not
    before the clock `since`; and what of it may be read (None: everything)."""

    query: Query
    conversation: ConversationId | None
    writer: UserId | None
    high: SortKey | None
    since: int | None
    limit: int
    access: AccessPolicy | None = None

    def fits(self, shown: ReleasedEntry) -> bool:
        entry = decode_entry(shown.raw)
        if self.writer not in (None, shown.log.user):
            return False
        if self.access is not None and not self.access.sees(shown.log, entry):
            return False
        text = searchable_text(shown, entry)
        return bool(text) and self.query.fits(text)


class _Page(NamedTuple):
    """What was found, newest first, and where the next page ends; None: there is none."""

    found: list[ReleasedEntry]
    high: SortKey | None


def search_request(
    words: str,
    conversation: ConversationId | None,
    user_of: Callable[[str], User],
    *,
    sender: User | str | None,
    before: Post | datetime | None,
    since: datetime | None,
    limit: int,
    access: AccessPolicy | None = None,
) -> SearchRequest | None:
    """Return what is meant by the words of a search; None when nothing can be that.

    Raises:
        ValueError: There is no word, or no limit above 0. UnknownName, AmbiguousName: Whom it is to be from.
    """
    query = parse_query(words)
    if limit < 1:
        raise ValueError("a limit of a search is 1 or more")
    senders = {(one if isinstance(one, User) else user_of(one)).key for one in (sender, query.sender) if one}
    if len(senders) > 1:
        return None
    high = None if before is None else sort_key(before)
    since_c = None if since is None else micros_of(since)
    seen = None if access is None or access.is_all else access
    return SearchRequest(query, conversation, next(iter(senders), None), high, since_c, limit, seen)


async def search_posts(
    viewer: Viewer,
    storage: Storage,
    read: Read,
    request: SearchRequest | None,
    indexer: SearchIndexer | None,
    progress: Progress | None = None,
) -> list[Message | Sent]:
    """Return the newest messages that fit, oldest first.

    Args:
        read: Runs something in the thread that reads this storage.
        progress: Told how many entries are indexed, and of how many, while that is waited for.
    """
    if request is None:
        return []
    found, high = [], request.high
    indexed = indexer is not None and await indexer.is_near() and await indexer.catch_up()
    pages = 0
    while not indexed:
        page = await read(_scan_page(storage, request, high))
        found += page.found
        if page.high is None or len(found) >= request.limit:
            return [post_of(viewer, one) for one in reversed(found[: request.limit])]
        high, pages = page.high, pages + 1
        if indexer is not None and pages == WITHOUT_INDEX:
            indexed = await indexer.catch_up(progress)
    assert indexer is not None
    behind = await _search_index(storage, read, request, indexer, high, request.limit - len(found))
    if behind is None:  # spoiled, or another process keeps it: without it then
        return await search_posts(viewer, storage, read, request, None)
    return [post_of(viewer, one) for one in reversed([*found, *behind])]


def _scan_page(storage: Storage, request: SearchRequest, high: SortKey | None) -> Callable[[], _Page]:
    def look() -> _Page:
        page = storage.history(request.conversation, before=high, since=request.since, limit=LOOKED_THROUGH)
        found = [one for one in reversed(page) if request.fits(one)]
        return _Page(found, key_of(page[0]) if len(page) == LOOKED_THROUGH else None)

    return look


def key_of(shown: ReleasedEntry) -> SortKey:
    """Return the place in history of a stored entry."""
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


async def _search_index(
    storage: Storage, read: Read, request: SearchRequest, indexer: SearchIndexer, high: SortKey | None, limit: int
) -> list[ReleasedEntry] | None:
    """Return the newest entries below `high` that fit, newest first; None when the index cannot be used."""
    from p2pchat.storage.search import clock_of, first_id

    at_once = min(max(limit, FOUND_AT_ONCE[0]), FOUND_AT_ONCE[1])
    above = 0 if request.since is None else first_id(request.since)
    below = _LAST_ID if high is None else first_id(high[0] + 1)
    # The index has every version of a text, so one message may be found more than once.
    found: dict[tuple[SortKey, ConversationId], ReleasedEntry] = {}
    while True:

        def look(index: SearchIndex, below: int = below) -> list[IndexHit]:
            return index.find(request.query, request.conversation, request.writer, below, above, at_once)

        hits = await indexer.find(look)
        if hits is None:
            return None
        for one in await read(_shown(storage, hits)):
            key = key_of(one)
            if (high is None or key < high) and request.fits(one):
                found[key, one.log.conversation] = one
        newest = sorted(found, reverse=True)[:limit]
        if len(hits) < at_once or (len(newest) == limit and clock_of(hits[-1].id) < newest[-1][0][0]):
            return [found[key] for key in newest]
        below = hits[-1].id


def _shown(storage: Storage, hits: Sequence[Any]) -> Callable[[], list[ReleasedEntry]]:
    return lambda: [one for hit in hits if (one := storage.entry(hit.log, hit.seq)) is not None]


# ---- indexing
#
# The index of one database, kept in a thread of its own: made when somebody searches far, and kept up from then on.
#
# Who never searches has none. Who does, has it brought up to date when searching, and between searches in what time the
# peer leaves: a chunk at a time, so that nobody waits long for the interpreter. An index that cannot be used, for want
# of room, rights or FTS5, is none: searches look through the database itself then, and find the same.


LOOKED_EVERY = 5.0  # seconds between looks for something new, while a peer runs; a guess
REST = 0.2  # seconds between two chunks that nobody waits for: a tenth of one processor
FAR = 2000  # entries an index may be behind and still be the quicker way
USUAL_DATABASE = "history.db"

T = TypeVar("T")
Progress = Callable[[int, int], None]  # entries indexed, of how many
_log = logging.getLogger("p2pchat.search")


def open_indexer(storage: Storage, settings: Settings, directory: Path | None) -> SearchIndexer | None:
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
    return None if path is None else SearchIndexer(storage, settings, path)


def index_path(database: Path | None, directory: Path | None = None) -> Path | None:
    """Return where the index of a database is: search.db beside history.db, beside others with their name before.

    That of a server's database is in the data directory; without one (None) there is none.
    """
    from p2pchat.storage.search import FILE_NAME

    if database is None:
        return None if directory is None else directory / FILE_NAME
    return database.with_name(FILE_NAME if database.name == USUAL_DATABASE else f"{database.name}.{FILE_NAME}")


class SearchIndexer:
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

    async def find(self, look: Callable[[SearchIndex], list[IndexHit]]) -> list[IndexHit] | None:
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
            from p2pchat.storage.search import delete

            delete(self._path)
            return work()
        except P2PChatError:
            self._close()
            raise

    def _opened(self) -> tuple[SearchIndex, SqlStorage]:
        if self._index is None or self._reader is None:
            from p2pchat.storage.search import SearchIndex

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
        from p2pchat.storage.search import documents_of

        if shutil.disk_usage(self._path.parent).free < self._settings.min_free_disk_bytes:
            raise sqlite3.OperationalError("there is no room for it")
        index, reader = self._opened()
        return index.feed(reader, documents_of)

    def _close(self) -> None:
        index, self._index = self._index, None
        reader, self._reader = self._reader, None
        if index is not None:
            index.close()
        if reader is not None:
            reader.close()
