"""What was written, read back in one order: for a running peer, and for a database nobody runs.

History is sorted by (clock, user, run, seq), the same on every peer that has the same entries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.sync.conversations import dm_id
from p2pchat.errors import P2PChatError, PeerClosed, UnknownName
from p2pchat.peer.conversation import Conversation, Desk
from p2pchat.peer.events import Message, Post, Sent
from p2pchat.peer.people import People, User
from p2pchat.peer.reader import NOT_SHOWN
from p2pchat.peer.receipt import Receipt, Receipts
from p2pchat.peer.times import micros_of
from p2pchat.protocol import ConversationId, Naming
from p2pchat.storage.base import Shown, Storage

SortKey = tuple[int, str, str, int]
Read = Callable[[Callable[[], list[Shown]]], Awaitable[list[Shown]]]
ALL_AT_ONCE = 2000  # entries read at once when there is no limit


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
    return kind(desk, shown.log, shown.seq, entry, shown.place, shown.received_at, shown.old, shown.gap)


class History:
    """The history of a peer that need not run. Read-only; `async with open_history(data) as history`."""

    def __init__(self, data: str | os.PathLike[str] | int, db: str | None = None) -> None:
        self._data = data
        self._db = db
        self._storage: Storage | None = None
        self._talks: dict[ConversationId, Naming] = {}
        self._conversations: dict[ConversationId, Conversation] = {}
        self.people = People("", lambda user: ("unknown", "", 0))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        storage, self._storage = self._storage, None
        if storage is not None:
            await asyncio.to_thread(storage.close)

    def _open(self) -> None:
        from p2pchat.identity.keys import load_identity
        from p2pchat.identity.profile import DATABASE_NAME, KEY_NAME, profile_directory
        from p2pchat.storage.connect import sqlite_url
        from p2pchat.storage.sql import SqlStorage

        directory = profile_directory(self._data) if isinstance(self._data, int) else Path(self._data)
        try:
            me = load_identity(directory / KEY_NAME).peer_id
        except FileNotFoundError:
            raise P2PChatError(f"there is no history in {directory}: name the data directory of a peer") from None
        self._storage = SqlStorage(self._db or sqlite_url(directory / DATABASE_NAME), read_only=True)
        stored = self._storage.load([me])
        self.people.me = me
        self.people.learn((user.id, user.name) for user in stored.users)
        self._talks = {talk.id: talk.naming for talk in stored.talks}

    @property
    def room(self) -> Conversation:
        for key, naming in self._talks.items():
            if naming.room:
                return self.conversation(key)
        raise UnknownName("room", "nothing was written there yet")

    def users(self) -> list[User]:
        """Return everybody with a name, by label."""
        return self.people.all()

    def conversations(self) -> list[Conversation]:
        """Return all conversations known here, the room first."""
        known = [self.conversation(key) for key in self._talks]
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the handle of a conversation."""
        found = self._conversations.get(key)
        if found is None:
            found = self._conversations[key] = Conversation(self, key, self._talks.get(key))
        return found

    def find(self, text: str) -> Conversation:
        """Return the conversation an address names: `room`, or a user. Raises UnknownName, AmbiguousName."""
        if text in ("room", "#room"):
            return self.room
        key = dm_id(self.people.me, self.people.find(text).key)
        return self.conversation(key)

    async def history(
        self,
        conversation: Conversation | str | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages, oldest first; as TCPPeer.history."""
        if self._storage is None:
            raise PeerClosed("this history is closed: use it inside `async with`")
        if isinstance(conversation, str):
            conversation = self.find(conversation)
        key = None if conversation is None else conversation.key
        return await read_posts(
            self, self._storage, asyncio.to_thread, key, before=before, after=after, since=since, limit=limit
        )

    def ref(self, log: LogId, seq: int) -> str | None:
        return None

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt:
        raise PeerClosed("this history is only read: start a peer to write")

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        raise PeerClosed("this history is only read: start a peer to write")


def open_history(data: str | os.PathLike[str] | int, *, db: str | None = None) -> History:
    """Read the history of a peer without running it and without its lock.

    Args:
        data: The peer's data directory, or its port.
        db: Its database, when that is elsewhere.
    Raises, from `async with`:
        P2PChatError: There is none, or its files cannot be read.
        StorageError: The database cannot be used.
    """
    return History(data, db)
