"""Unread messages of a local user, and the cursors behind them: of each consumer, and of what was marked as read.

A place is the number of an entry in the order in which entries were shown here. Feed in subscription.py stores the
places. Marks of single logs come from the core, also those that other peers of the user made, and those of what its
programs took there (core/receipts/peer_receipts.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import LogFacts
from p2pchat.core.inputs import MarkedRead
from p2pchat.core.log import LogId, decode_entry
from p2pchat.messaging.durable_event import DurableEvent
from p2pchat.messaging.events import micros_of
from p2pchat.messaging.messages import Message, Post, Sent
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.contract import ReleasedEntry

if TYPE_CHECKING:
    from p2pchat.lifecycle import PeerLifecycle
    from p2pchat.messaging.history import StorageReader
    from p2pchat.messaging.local_user import LocalUser
    from p2pchat.storage.sql import SqlStorage

READ_PLACE = "read "  # and the id of a conversation: the consumer whose place is the newest message marked as read
HIDDEN_AT_ONCE = 64  # entries read at once behind a page of which most are no messages; the longest take 4 MiB. A guess
UNREAD_AT_ONCE = 50  # unread messages; the longest take 6 MiB
UNREAD_PAGES = 200  # of them: a fifth of a second


class UserCursors:
    """The cursors of one user, and the messages after them.

    Args:
        prefix: Of the names of the user's consumers in storage; "" for the peer's own user.
    """

    __slots__ = ("_lifecycle", "_prefix", "_user")

    def __init__(self, user: LocalUser, lifecycle: PeerLifecycle, prefix: str) -> None:
        self._user = user
        self._lifecycle = lifecycle
        self._prefix = prefix

    # ---- consumers

    @property
    def first(self) -> int:
        """The place after which a new consumer begins."""
        feed = self._lifecycle.feed
        return feed.place_of(self._prefix) if self._prefix else feed.start

    def of(self, consumer: str) -> int:
        """Return the place of the newest message that a consumer acknowledged."""
        return self._lifecycle.feed.place_of(self._prefix + consumer, self.first)

    def hand_on(self, post: DurableEvent, consumer: str) -> None:
        """Acknowledge every message up to this one for a consumer; stored soon. It never goes back."""
        if post.place > self.of(consumer):
            name, feed = self._prefix + consumer, self._lifecycle.feed
            if self._lifecycle.hosted.deliveries.on_handed_on(self._user.directory.me, consumer, post.place):
                feed.load_offsets({name: post.place})  # and stored together with what its writers will be told
            else:
                feed.commit_offset(name, post.place)

    async def released(
        self, after: Post | datetime | None, consumer: str, asked: Callable[[], list[ConversationId]], limit: int
    ) -> list[Message | Sent]:
        """Return a page of messages of the conversations that are asked for; see LocalUser.released."""
        user, disk = self._user, self._user._disk
        if limit < 1:
            raise ValueError("a page has 1 message or more")
        if isinstance(after, datetime):
            newest = self._lifecycle.feed.recent.newest
            place = await disk.read(partial(_place_before, disk.storage, newest, micros_of(after)))
        else:
            place = self.of(consumer) if after is None else after.place
        found, size = list[ReleasedEntry](), limit
        while True:  # only these conversations are read, so that a page costs a gateway's user no walk through the room
            keys = asked()
            page = await disk.read(partial(disk.storage.places, place, size, keys))
            if page and not set(keys).issuperset(asked()):
                continue  # one began meanwhile: its first message may be before the last one of this page
            found += islice(filter(user._is_shown, page), limit - len(found))
            if 2 * len(found) >= limit or len(page) < size:
                return user._posts(found)
            place, size = page[-1].place, max(limit, HIDDEN_AT_ONCE)

    # ---- marks

    def mark(self, post: DurableEvent) -> Callable[[int], MarkedRead]:
        """Mark everything in the conversation up to this message as read.

        Returns:
            A function that makes the input of the core, given its ticket, or 0 for none.
        """
        people, key = self._user.directory, post.log.conversation
        if post.place > (place := self._read_place(key)):
            self._lifecycle.hosted.deliveries.on_reading(people.me, post, place)
            self._lifecycle.feed.commit_offset(self._prefix + READ_PLACE + key, post.place)
        return partial(MarkedRead, people.me, post.log, post.seq, post.place, frozenset(people.hidden))

    def _read_place(self, key: ConversationId) -> int:
        """Return the place of the newest message marked as read; 0 for none."""
        return self._lifecycle.feed.place_of(self._prefix + READ_PLACE + key, 0)

    def _read_to(self, key: ConversationId) -> tuple[dict[LogId, int], int]:
        """Return how far each log of a conversation is marked as read, and the place up to which all of it is."""
        marks, place = self._lifecycle.started_driver.node.receipts.read.marked_to(key, self._user.directory.me)
        return dict(marks), max(place, self._read_place(key))

    def has_read(self, key: ConversationId) -> bool:
        """Return whether anything in a conversation was marked as read, by this peer or another of the user."""
        return any(self._read_to(key))

    async def unread(self, key: ConversationId, limit: int, max_bytes: int) -> list[Message]:
        """Return the messages of others in a conversation that are not marked as read; see LocalUser.unread."""
        found, size = list[Message](), 0
        async for post in self.each_unread(key):
            found.append(post)
            size += len(post.text.encode()) if max_bytes else 0
            if len(found) == limit or (max_bytes and size >= max_bytes):
                break
        return found

    async def each_unread(self, key: ConversationId) -> AsyncIterator[Message]:
        """Yield the messages of others in a conversation that are not marked as read; see LocalUser.unread."""
        user, disk, ignored = self._user, self._user._disk, self._user.directory.hidden
        marks, place = self._read_to(key)
        place = max(place, self.first if self._prefix else 0)
        for _ in range(UNREAD_PAGES):
            page = await disk.read(partial(disk.storage.places, place, UNREAD_AT_ONCE, [key]))
            for post in await _unread_among(user._posts(filter(user._is_shown, page)), marks, disk):
                if not (post.old or post.deleted or post.expelled or post.log.user in ignored):
                    yield post
            if len(page) < UNREAD_AT_ONCE:
                break
            place = page[-1].place

    async def without_read(self, posts: Iterable[Message | Sent]) -> list[Message]:
        """Return those messages of others that the user has not read, nor taken; see LocalUser.without_read."""
        by_key: dict[ConversationId, list[Message | Sent]] = {}
        for post in posts:
            by_key.setdefault(post.log.conversation, []).append(post)
        found: list[Message] = []
        marked = self._lifecycle.started_driver.node.receipts.taken
        for key, those in by_key.items():
            marks, place = self._read_to(key)
            unread = await _unread_among([post for post in those if post.place > place], marks, self._user._disk)
            taken, _ = marked.marked_to(key, self._user.directory.me)
            found += await _untaken_among(unread, taken, self._user._disk) if taken else unread
        return found


async def _unread_among(
    posts: Sequence[Message | Sent], marks: Mapping[LogId, int], disk: StorageReader
) -> list[Message]:
    """Return those messages of others that are neither deleted nor marked as read, by this peer or another of the user.

    A mark on a log covers everything its writer wrote before, in other logs too: what counts is the clock of the
    newest marked entry of each writer.

    Args:
        posts: Messages of one conversation.
        marks: The number up to which each log there is marked.
    """
    came = [post for post in posts if isinstance(post, Message)]
    writers = {post.log.user for post in came}
    marked = [(log, seq) for log, seq in marks.items() if log.user in writers]

    def look_up() -> list[ReleasedEntry]:
        return [shown for log, seq in marked if (shown := disk.storage.entry(log, seq)) is not None]

    read_to: dict[UserId, int] = {}
    for shown in await disk.read(look_up) if marked else ():
        read_to[shown.log.user] = max(read_to.get(shown.log.user, 0), decode_entry(shown.raw).c)
    return [post for post in came if post.sort_key[0] > read_to.get(post.log.user, 0)]


async def _untaken_among(posts: Sequence[Message], marks: Mapping[LogId, int], disk: StorageReader) -> list[Message]:
    """Return those messages that no taken mark stands for: on their log, or on one that builds on it.

    The clock says nothing here: a writer with two peers writes two logs side by side, and none of them may be missed.

    Args:
        posts: Messages of one conversation.
        marks: The number up to which each log there is marked.
    """
    rest = [post for post in posts if marks.get(post.log, 0) < post.seq]
    writers = {log.user for log in marks} & {post.log.user for post in rest if post.log not in marks}
    if not writers:
        return rest
    [conversation] = {post.log.conversation for post in rest}

    def look_up() -> dict[LogId, LogFacts]:
        return {facts.log: facts for user in writers for facts in disk.storage.logs_of(conversation, user)}

    logs = await disk.read(look_up)
    below: dict[LogId, int] = {}
    asked = [log for log in marks if log in logs]
    while asked:
        log = asked.pop()
        for mark in logs[log].before if log in logs else ():
            one = log._replace(run=mark.run)
            if below.get(one, 0) < mark.seq:
                below[one] = mark.seq
                asked.append(one)
    return [post for post in rest if below.get(post.log, 0) < post.seq]


def _place_before(storage: SqlStorage, newest: int, moment: int) -> int:
    """Return the place of the last entry that was shown here before a moment, in UTC microseconds.

    Places are given in the order of time. So some 20 looks find it, most of them near the newest place.
    """

    def is_before(place: int) -> bool:
        found = storage.places(place - 1, 1)
        return bool(found) and found[0].received_at < moment

    low, high, step = newest, newest + 1, 1  # what is at `low` was shown before it, what is at `high` was not
    while low > 0 and not is_before(low):
        low, high, step = max(0, low - step), low, 4 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return low
