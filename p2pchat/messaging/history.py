"""Messages read back from storage, in the one order that is the same on every peer: (clock, user, run, seq).

By when they were written, or one by its id; by the words in them: search.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.records import LogKey
from p2pchat.errors import UnknownName
from p2pchat.messaging.access import AccessPolicy
from p2pchat.messaging.messages import NOT_SHOWN, Message, Post, Sent, Viewer, parse_message_id
from p2pchat.messaging.timestamps import micros_of
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import ReleasedEntry, SortKey, Storage

Read = Callable[[Callable[[], list[ReleasedEntry]]], Awaitable[list[ReleasedEntry]]]
ALL_AT_ONCE = 2000  # entries read at once when there is no limit


def sort_key(where: Post | datetime) -> SortKey:
    """Return the place in history of a message, or of a moment."""
    return where.sort_key if isinstance(where, Post) else (micros_of(where), "", "", 0)


async def read_posts(
    viewer: Viewer,
    storage: Storage,
    read: Read,
    conversation: ConversationId | Sequence[ConversationId] | None,
    *,
    before: Post | datetime | None,
    after: Post | datetime | None,
    since: datetime | None,
    limit: int,
    access: AccessPolicy | None = None,
) -> list[Message | Sent]:
    """Return messages, oldest first; entries that are none do not count.

    Args:
        conversation: One or several; None for all. Several are read in one order.
        before, after: The newest ones before (nothing: before the end), or the oldest ones after; both: between.
        since: Nothing written before this moment.
        limit: Most messages; 0 for all.
        sight: What of them may be read; None: everything.
    """
    if limit < 0:
        raise ValueError("a limit is 0 (none) or more")
    low, high = (None if where is None else sort_key(where) for where in (after, before))
    since_c = None if since is None else micros_of(since)
    found: list[ReleasedEntry] = []
    while True:
        asked = min(limit - len(found), ALL_AT_ONCE) if limit else ALL_AT_ONCE
        here = (low, None) if after is not None else (None, high)
        page = await read(_page(storage, conversation, here, since_c, asked))
        if high is not None:
            page_below = [shown for shown in page if _key(shown) < high]
        else:
            page_below = page
        shown = [one for one in page_below if _is_shown(one, access)]
        found = [*found, *shown] if after is not None else [*shown, *found]
        if len(page) < asked or len(page_below) < len(page) or (limit and len(found) >= limit):
            break
        if after is not None:
            low = _key(page[-1])
        else:
            high = _key(page[0])
    return [post_of(viewer, one) for one in found]


def _is_shown(shown: ReleasedEntry, access: AccessPolicy | None) -> bool:
    entry = decode_entry(shown.raw)
    return entry.k not in NOT_SHOWN and (access is None or access.is_all or access.sees(shown.log, entry))


def _page(
    storage: Storage,
    conversation: ConversationId | Sequence[ConversationId] | None,
    here: tuple[SortKey | None, SortKey | None],
    since: int | None,
    limit: int,
) -> Callable[[], list[ReleasedEntry]]:
    after, before = here
    if conversation is None or isinstance(conversation, str):
        return lambda: storage.history(conversation, after=after, before=before, since=since, limit=limit)

    def merged() -> list[ReleasedEntry]:
        """The page of each of them has all that the page of all may have."""
        pages = [storage.history(key, after=after, before=before, since=since, limit=limit) for key in conversation]
        found = sorted((one for page in pages for one in page), key=_key)
        return found[:limit] if after is not None else found[-limit:]

    return merged


def _key(shown: ReleasedEntry) -> SortKey:
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


def post_of(viewer: Viewer, shown: ReleasedEntry) -> Message | Sent:
    """Return a stored entry as programs see it."""
    kind = Sent if shown.log.user == viewer.people.me else Message
    entry = decode_entry(shown.raw)
    return kind(viewer, shown.log, shown.seq, entry, shown.place, shown.received_at, shown.old, shown.gap, shown.edits)


async def find_post(
    viewer: Viewer,
    storage: Storage,
    read: Callable[[Callable[[], ReleasedEntry | None]], Awaitable[ReleasedEntry | None]],
    talks: Iterable[ConversationId],
    message_id: str,
    access: AccessPolicy | None = None,
) -> Message | Sent:
    """Return one message of one of these conversations.

    Raises:
        ValueError: That is no message id. UnknownName: No message here has it.
    """
    prefix, ref = parse_message_id(message_id)
    keys = [LogKey(key, ref.log) for key in talks if key.startswith(prefix)]

    def look() -> ReleasedEntry | None:
        for facts in storage.lookup(keys, [])[0].values():
            shown = storage.entry(facts.log, ref.seq)
            if shown is not None and _is_shown(shown, access):
                return shown
        return None

    shown = await read(look)
    if shown is None:
        raise UnknownName(message_id, text="there is no message with this id here")
    return post_of(viewer, shown)


# ---- released
#
# What came since: messages in the order they were shown here, behind one that somebody has already.
#
# A reader with a cursor (subscription.py) goes through all of a peer; this asks for pages of chosen conversations only.
# So a thousand users of one gateway, each with a few direct messages, cost no walk through the room for each of them.


async def read_released(
    viewer: Viewer, storage: Storage, read: Read, conversations: Sequence[ConversationId], after: int, limit: int,
    access: AccessPolicy | None = None,
) -> list[Message | Sent]:  # fmt: skip
    """Return messages of these conversations with place > after, in order of place; [] when there are none.

    Args:
        limit: Most entries, 1 or more. There may be fewer messages among them, but at least one when there is any.
        sight: What of them may be read; None: everything.
    """
    if limit < 1:
        raise ValueError("a page has 1 message or more")
    while True:
        page = await read(partial(storage.places, after, limit, conversations))
        entries = ((one, decode_entry(one.raw)) for one in page)
        found = [
            post_of(viewer, one)
            for one, entry in entries
            if entry.k not in NOT_SHOWN and (access is None or access.is_all or access.sees(one.log, entry))
        ]
        if found or len(page) < limit:
            return found
        after = page[-1].place


# ---- unread
#
# What a user has not read yet of a conversation, by the read marks that its programs have set, in this run or before.
#
# A mark on a log stands for all that its writer wrote before, so of each writer the newest entry marked says what is
# read: whatever has no later clock. Looked for are only the newest messages; who has more unread has enough to read.


async def unread_among(
    posts: Sequence[Message | Sent], marks: Mapping[LogId, int], place: int, storage: Storage, read: Read
) -> list[Message]:
    """Return those of these messages that are not read.

    Args:
        posts: The newest of one conversation, oldest first.
        marks: How far logs there are marked as read.
        place: All shown up to there is read, whatever the marks say; 0 for nothing.
    """
    came = [post for post in posts if isinstance(post, Message) and not (post.old or post.place <= place)]
    writers = {post.log.user for post in came}
    marked = [(log, seq) for log, seq in marks.items() if log.user in writers]

    def look() -> list[ReleasedEntry]:
        return [shown for log, seq in marked if (shown := storage.entry(log, seq)) is not None]

    read_to: dict[UserId, int] = {}
    for shown in await read(look) if marked else ():
        read_to[shown.log.user] = max(read_to.get(shown.log.user, 0), decode_entry(shown.raw).c)
    return [post for post in came if post.sort_key[0] > read_to.get(post.log.user, 0)]
