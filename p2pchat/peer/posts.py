"""Messages read back from storage, in the one order that is the same on every peer: (clock, user, run, seq).

By when they were written, by the words in them, or one by its id. A search reads page after page in the reader's
thread, newest first: the loop is never held up by a long history.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from p2pchat.core.log import Entry, decode_entry
from p2pchat.core.records import LogKey
from p2pchat.errors import UnknownName
from p2pchat.peer.conversation import Desk
from p2pchat.peer.events import NOT_SHOWN, SHOWN_KINDS, Message, Post, Sent, parse_message_id
from p2pchat.peer.times import micros_of
from p2pchat.protocol import ConversationId
from p2pchat.storage.base import Shown, SortKey, Storage
from p2pchat.storage.mended import shown_body

Read = Callable[[Callable[[], list[Shown]]], Awaitable[list[Shown]]]
ALL_AT_ONCE = 2000  # entries read at once when there is no limit
LOOKED_THROUGH = 1000  # entries a search looks through at once: some 10 ms, then others who read get their turn


def sort_key(where: Post | datetime) -> SortKey:
    """Return the place in history of a message, or of a moment."""
    return where.sort_key if isinstance(where, Post) else (micros_of(where), "", "", 0)


async def read_posts(
    desk: Desk,
    storage: Storage,
    read: Read,
    conversation: ConversationId | None,
    *,
    before: Post | datetime | None,
    after: Post | datetime | None,
    since: datetime | None,
    limit: int,
) -> list[Message | Sent]:
    """Return messages, oldest first; entries that are none do not count.

    Args:
        conversation: None for all, in one order.
        before, after: The newest ones before (nothing: before the end), or the oldest ones after; both: between.
        since: Nothing written before this moment.
        limit: Most messages; 0 for all.
    """
    if limit < 0:
        raise ValueError("a limit is 0 (none) or more")
    low, high = (None if where is None else sort_key(where) for where in (after, before))
    since_c = None if since is None else micros_of(since)
    found: list[Shown] = []
    while True:
        asked = min(limit - len(found), ALL_AT_ONCE) if limit else ALL_AT_ONCE
        here = (low, None) if after is not None else (None, high)
        page = await read(_page(storage, conversation, here, since_c, asked))
        if high is not None:
            page_below = [shown for shown in page if _key(shown) < high]
        else:
            page_below = page
        shown = [one for one in page_below if decode_entry(one.raw).k not in NOT_SHOWN]
        found = [*found, *shown] if after is not None else [*shown, *found]
        if len(page) < asked or len(page_below) < len(page) or (limit and len(found) >= limit):
            break
        if after is not None:
            low = _key(page[-1])
        else:
            high = _key(page[0])
    return [post_of(desk, one) for one in found]


def _page(
    storage: Storage,
    conversation: ConversationId | None,
    here: tuple[SortKey | None, SortKey | None],
    since: int | None,
    limit: int,
) -> Callable[[], list[Shown]]:
    return lambda: storage.history(conversation, after=here[0], before=here[1], since=since, limit=limit)


def _key(shown: Shown) -> SortKey:
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


def post_of(desk: Desk, shown: Shown) -> Message | Sent:
    """Return a stored entry as programs see it."""
    kind = Sent if shown.log.user == desk.people.me else Message
    entry = decode_entry(shown.raw)
    return kind(desk, shown.log, shown.seq, entry, shown.place, shown.received_at, shown.old, shown.gap, shown.mended)


class _Looked(NamedTuple):
    """What one page brought, newest first, and where the next one ends; None: there is none."""

    found: list[Shown]
    before: SortKey | None


async def search_posts(
    desk: Desk,
    storage: Storage,
    read: Callable[[Callable[[], _Looked]], Awaitable[_Looked]],
    words: str,
    conversation: ConversationId | None,
    *,
    before: Post | datetime | None,
    since: datetime | None,
    limit: int,
) -> list[Message | Sent]:
    """Return the newest messages that contain all of `words`, oldest first.

    Raises:
        ValueError: There is no word, or no limit above 0.
    """
    wanted = [plain(word) for word in words.split()]
    if not wanted:
        raise ValueError("a search needs a word")
    if limit < 1:
        raise ValueError("a limit of a search is 1 or more")
    high = None if before is None else sort_key(before)
    since_c = None if since is None else micros_of(since)
    found: list[Shown] = []
    while True:
        page = await read(_looked_through(storage, conversation, high, since_c, wanted))
        found += page.found
        if page.before is None or len(found) >= limit:
            return [post_of(desk, one) for one in reversed(found[:limit])]
        high = page.before


def plain(text: str) -> str:
    """Return a text as searches compare it: in one normal form, and without difference between ADA and ada."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _looked_through(
    storage: Storage, conversation: ConversationId | None, before: SortKey | None, since: int | None, wanted: list[str]
) -> Callable[[], _Looked]:
    def look() -> _Looked:
        page = storage.history(conversation, before=before, since=since, limit=LOOKED_THROUGH)
        entries = [(one, decode_entry(one.raw)) for one in page]
        found = [one for one, entry in reversed(entries) if _says(one, entry, wanted)]
        if len(page) < LOOKED_THROUGH:
            return _Looked(found, None)
        oldest = page[0]
        return _Looked(found, (entries[0][1].c, oldest.log.user, oldest.log.run, oldest.seq))

    return look


def _says(shown: Shown, entry: Entry, wanted: list[str]) -> bool:
    body = shown_body(shown, entry)
    if entry.k not in SHOWN_KINDS or not isinstance(body, str):
        return False
    text = plain(body)
    return all(word in text for word in wanted)


async def find_post(
    desk: Desk,
    storage: Storage,
    read: Callable[[Callable[[], Shown | None]], Awaitable[Shown | None]],
    talks: Iterable[ConversationId],
    message_id: str,
) -> Message | Sent:
    """Return one message of one of these conversations.

    Raises:
        ValueError: That is no message id. UnknownName: No message here has it.
    """
    prefix, ref = parse_message_id(message_id)
    keys = [LogKey(key, ref.log) for key in talks if key.startswith(prefix)]

    def look() -> Shown | None:
        for facts in storage.lookup(keys, [])[0].values():
            shown = storage.entry(facts.log, ref.seq)
            if shown is not None and decode_entry(shown.raw).k not in NOT_SHOWN:
                return shown
        return None

    shown = await read(look)
    if shown is None:
        raise UnknownName(message_id, text="there is no message with this id here")
    return post_of(desk, shown)
