"""Messages found by their words: the newest looked through one by one, what is behind them with the index.

Most of what people look for is not long ago, and most histories are short: neither needs an index. Whatever way a
message is found, it is query.py that says whether it fits, so that all ways find the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from p2pchat.core.log import decode_entry
from p2pchat.messaging.access import Sight
from p2pchat.messaging.history import post_of, sort_key
from p2pchat.messaging.messages import Message, Post, Sent
from p2pchat.messaging.timestamps import micros_of
from p2pchat.messaging.users import User
from p2pchat.peer.messages.conversation import Desk
from p2pchat.peer.reading.indexing import Indexing, Progress
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Shown, SortKey, Storage
from p2pchat.storage.search.query import Query, parse_query
from p2pchat.storage.search.texts import said

LOOKED_THROUGH = 1000  # entries looked through at once: some 10 ms, then others who read get their turn
WITHOUT_INDEX = 10  # times so many before an index is asked for: a tenth of a second, as long as nobody minds
FOUND_AT_ONCE = (20, 200)  # in the index, at least and at most: each is looked up one by one
_LAST_ID = (1 << 63) - 1

Read = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for, and where: in one conversation or (None) all, of one writer or all, below `high`, and not
    before the clock `since`; and what of it may be read (None: everything)."""

    query: Query
    conversation: ConversationId | None
    writer: UserId | None
    high: SortKey | None
    since: int | None
    limit: int
    sight: Sight | None = None

    def fits(self, shown: Shown) -> bool:
        entry = decode_entry(shown.raw)
        if self.writer not in (None, shown.log.user):
            return False
        if self.sight is not None and not self.sight.sees(shown.log, entry):
            return False
        text = said(shown, entry)
        return bool(text) and self.query.fits(text)


class _Page(NamedTuple):
    """What was found, newest first, and where the next page ends; None: there is none."""

    found: list[Shown]
    high: SortKey | None


def wanted(
    words: str,
    conversation: ConversationId | None,
    user_of: Callable[[str], User],
    *,
    sender: User | str | None,
    before: Post | datetime | None,
    since: datetime | None,
    limit: int,
    sight: Sight | None = None,
) -> Wanted | None:
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
    seen = None if sight is None or sight.is_all else sight
    return Wanted(query, conversation, next(iter(senders), None), high, since_c, limit, seen)


async def search_posts(
    desk: Desk,
    storage: Storage,
    read: Read,
    wanted: Wanted | None,
    indexing: Indexing | None,
    progress: Progress | None = None,
) -> list[Message | Sent]:
    """Return the newest messages that fit, oldest first.

    Args:
        read: Runs something in the thread that reads this storage.
        progress: Told how many entries are indexed, and of how many, while that is waited for.
    """
    if wanted is None:
        return []
    found, high = [], wanted.high
    indexed = indexing is not None and await indexing.is_near() and await indexing.catch_up()
    pages = 0
    while not indexed:
        page = await read(_looked_through(storage, wanted, high))
        found += page.found
        if page.high is None or len(found) >= wanted.limit:
            return [post_of(desk, one) for one in reversed(found[: wanted.limit])]
        high, pages = page.high, pages + 1
        if indexing is not None and pages == WITHOUT_INDEX:
            indexed = await indexing.catch_up(progress)
    assert indexing is not None
    behind = await _indexed(storage, read, wanted, indexing, high, wanted.limit - len(found))
    if behind is None:  # spoiled, or another process keeps it: without it then
        return await search_posts(desk, storage, read, wanted, None)
    return [post_of(desk, one) for one in reversed([*found, *behind])]


def _looked_through(storage: Storage, wanted: Wanted, high: SortKey | None) -> Callable[[], _Page]:
    def look() -> _Page:
        page = storage.history(wanted.conversation, before=high, since=wanted.since, limit=LOOKED_THROUGH)
        found = [one for one in reversed(page) if wanted.fits(one)]
        return _Page(found, key_of(page[0]) if len(page) == LOOKED_THROUGH else None)

    return look


def key_of(shown: Shown) -> SortKey:
    """Return the place in history of a stored entry."""
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


async def _indexed(
    storage: Storage, read: Read, wanted: Wanted, indexing: Indexing, high: SortKey | None, limit: int
) -> list[Shown] | None:
    """Return the newest entries below `high` that fit, newest first; None when the index cannot be used."""
    from p2pchat.storage.search.index import Hit, SearchIndex, clock_of, first_id

    at_once = min(max(limit, FOUND_AT_ONCE[0]), FOUND_AT_ONCE[1])
    above = 0 if wanted.since is None else first_id(wanted.since)
    below = _LAST_ID if high is None else first_id(high[0] + 1)
    found: dict[tuple[SortKey, ConversationId], Shown] = {}  # a text that was mended is in the index more than once
    while True:

        def look(index: SearchIndex, below: int = below) -> list[Hit]:
            return index.find(wanted.query, wanted.conversation, wanted.writer, below, above, at_once)

        hits = await indexing.find(look)
        if hits is None:
            return None
        for one in await read(_shown(storage, hits)):
            key = key_of(one)
            if (high is None or key < high) and wanted.fits(one):
                found[key, one.log.conversation] = one
        newest = sorted(found, reverse=True)[:limit]
        if len(hits) < at_once or (len(newest) == limit and clock_of(hits[-1].id) < newest[-1][0][0]):
            return [found[key] for key in newest]
        below = hits[-1].id


def _shown(storage: Storage, hits: Sequence[Any]) -> Callable[[], list[Shown]]:
    return lambda: [one for hit in hits if (one := storage.entry(hit.log, hit.seq)) is not None]
