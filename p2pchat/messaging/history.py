"""Stored messages, read page by page.

Histories have one order, the same on every peer: (clock, user, run, seq). Search is in search.py; messages as they are
shown, with a durable cursor, are in subscription.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from p2pchat.core.log import LogId, Ref, decode_entry, referred_id
from p2pchat.core.records import LogKey
from p2pchat.errors import UnknownName
from p2pchat.messaging.access import AccessPolicy
from p2pchat.messaging.conversations import Viewer
from p2pchat.messaging.events import Gap, micros_of
from p2pchat.messaging.messages import NOT_SHOWN, Message, Post, Sent, parse_message_id, post_of, users_with
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import ReleasedEntry, SortKey, Storage

ALL_AT_ONCE = 2000  # entries read at once when there is no limit


def sort_key(where: Post | datetime) -> SortKey:
    """Return the position in history of a message, or of a moment."""
    return where.sort_key if isinstance(where, Post) else (micros_of(where), "", "", 0)


def key_of(shown: ReleasedEntry) -> SortKey:
    """Return the position in history of a stored entry."""
    return decode_entry(shown.raw).c, shown.log.user, shown.log.run, shown.seq


class StoredMessages(NamedTuple):
    """The messages in one storage that one user may read.

    Attributes:
        viewer: Given to the messages returned.
        storage: Where they are.
        read: Runs a function in the thread that reads this storage, and returns its result.
        access: What the user may read.
    """

    viewer: Viewer
    storage: Storage
    read: Callable[[Callable[[], Any]], Awaitable[Any]]
    access: AccessPolicy

    def _is_shown(self, shown: ReleasedEntry) -> bool:
        entry = decode_entry(shown.raw)
        return entry.k not in NOT_SHOWN and (self.access.is_all or self.access.sees(shown.log, entry))

    def _posts(self, entries: Iterable[ReleasedEntry]) -> list[Message | Sent]:
        return [post_of(self.viewer, one) for one in entries]

    async def history(
        self,
        conversation: ConversationId | Sequence[ConversationId] | None,
        *,
        before: Post | datetime | None,
        after: Post | datetime | None,
        since: datetime | None,
        limit: int,
    ) -> list[Message | Sent]:
        """Return messages, oldest first; entries that are no messages do not count.

        Args:
            conversation: One, or several, which are read in one order; None for all.
            before, after: Without `after` the newest messages before `before`, or before the end; with `after` the
                oldest ones after it, up to `before` if that is given.
            since: Skip messages written before this moment.
            limit: The maximum number of messages; 0 for no limit.
        """
        if limit < 0:
            raise ValueError("a limit is 0 (none) or more")
        low, high = (None if where is None else sort_key(where) for where in (after, before))
        since_c = None if since is None else micros_of(since)
        found: list[ReleasedEntry] = []
        while True:
            asked = min(limit - len(found), ALL_AT_ONCE) if limit else ALL_AT_ONCE
            first, last = (low, None) if after is not None else (None, high)
            page: list[ReleasedEntry] = await self.read(partial(self._page, conversation, first, last, since_c, asked))
            below = page if high is None else [shown for shown in page if key_of(shown) < high]
            shown = list(filter(self._is_shown, below))
            found = [*found, *shown] if after is not None else [*shown, *found]
            if len(page) < asked or len(below) < len(page) or (limit and len(found) >= limit):
                return self._posts(found)
            if after is not None:
                low = key_of(page[-1])
            else:
                high = key_of(page[0])

    def _page(
        self,
        conversation: ConversationId | Sequence[ConversationId] | None,
        after: SortKey | None,
        before: SortKey | None,
        since: int | None,
        limit: int,
    ) -> list[ReleasedEntry]:
        read = partial(self.storage.history, after=after, before=before, since=since, limit=limit)
        if conversation is None or isinstance(conversation, str):
            return read(conversation)
        found = sorted((one for key in conversation for one in read(key)), key=key_of)
        return found[:limit] if after is not None else found[-limit:]

    async def find(self, conversations: Iterable[ConversationId], message_id: str) -> Message | Sent:
        """Return one message of one of these conversations.

        Raises:
            ValueError: That is no message id. UnknownName: No message here has it.
        """
        prefix, ref = parse_message_id(message_id)
        keys = [LogKey(key, ref.log) for key in conversations if key.startswith(prefix)]

        def look_up() -> ReleasedEntry | None:
            for facts in self.storage.lookup(keys, [])[0].values():
                shown = self.storage.entry(facts.log, ref.seq)
                if shown is not None and self._is_shown(shown):
                    return shown
            return None

        shown = await self.read(look_up)
        if shown is None:
            raise UnknownName(message_id, text="there is no message with this id here")
        return post_of(self.viewer, shown)

    async def released(self, conversations: Sequence[ConversationId], after: int, limit: int) -> list[Message | Sent]:
        """Return the messages of these conversations with place > after, in order of place; [] if there are none.

        Only these conversations are read. A thousand users of one gateway, each with a few direct messages, cost no
        walk through the room for each of them.

        Args:
            limit: The maximum number of entries, 1 or more. There may be fewer messages among them, but at least one
                if there is any.
        """
        if limit < 1:
            raise ValueError("a page has 1 message or more")
        while True:
            page = await self.read(partial(self.storage.places, after, limit, conversations))
            found = list(filter(self._is_shown, page))
            if found or len(page) < limit:
                return self._posts(found)
            after = page[-1].place

    async def unread_among(
        self, posts: Sequence[Message | Sent], marks: Mapping[LogId, int], place: int
    ) -> list[Message]:
        """Return those of these messages that are not marked as read.

        A mark on a log covers everything its writer wrote before, in other logs too: what counts is the clock of the
        newest marked entry of each writer.

        Args:
            posts: The newest messages of one conversation, oldest first.
            marks: The number up to which each log there is marked.
            place: Every message up to this place counts as read, whatever the marks say; 0 for none.
        """
        came = [post for post in posts if isinstance(post, Message) and not (post.old or post.place <= place)]
        writers = {post.log.user for post in came}
        marked = [(log, seq) for log, seq in marks.items() if log.user in writers]

        def look_up() -> list[ReleasedEntry]:
            return [shown for log, seq in marked if (shown := self.storage.entry(log, seq)) is not None]

        read_to: dict[UserId, int] = {}
        for shown in await self.read(look_up) if marked else ():
            read_to[shown.log.user] = max(read_to.get(shown.log.user, 0), decode_entry(shown.raw).c)
        return [post for post in came if post.sort_key[0] > read_to.get(post.log.user, 0)]

    async def missing(self, post: Post) -> Gap | None:
        """Return which entries that a message follows are not here; None if none is missing, or not any more.

        A message names the entries that its writer had seen. Whether they are still missing is looked up now.
        """
        if not post.gap:
            return None
        keys = {ref: LogKey(post.log.conversation, ref.log) for ref in post.follows}

        def look_up() -> list[Ref]:
            held = self.storage.lookup(list(keys.values()), [])[0]
            return [
                ref
                for ref, key in keys.items()
                if key not in held or (held[key].released < ref.seq and not held[key].forked)
            ]

        missing = await self.read(look_up)
        if not missing:
            return None
        ids = tuple(referred_id(post.log.conversation, ref) for ref in missing)
        labels = users_with(self.viewer.people, post.log.user, missing)
        return Gap(at=post.received_at, about=post.id, missing=ids, last_seen_with=labels)
