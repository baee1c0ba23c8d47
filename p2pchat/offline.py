"""The history of a peer that need not run: what was written, read from a database nobody runs or beside who does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from p2pchat.config import Settings
from p2pchat.core.groups.group import GroupView
from p2pchat.core.log import LogId
from p2pchat.core.records import META_NAME
from p2pchat.core.sync.conversations import dm_id, room_id
from p2pchat.errors import P2PChatError, PeerClosed, UnknownName
from p2pchat.identity.profile import KEY_NAME, profile_directory
from p2pchat.messaging.access import AccessPolicy, OfflineAccessPolicy
from p2pchat.messaging.events import Gap
from p2pchat.messaging.groups import Group, GroupDirectory, groups_of
from p2pchat.messaging.history import find_post, read_posts
from p2pchat.messaging.messages import Conversation, Message, Post, Sent, ShownEntry, find_gap
from p2pchat.messaging.receipts import Receipt, Receipts
from p2pchat.messaging.search import Progress, SearchIndexer, open_indexer, search_posts, search_request
from p2pchat.messaging.timestamps import aware
from p2pchat.messaging.users import User, UserDirectory, id_of, load_ignored
from p2pchat.peer import TCPPeer
from p2pchat.protocol import ConversationId, Naming, UserId
from p2pchat.resources import PathLike
from p2pchat.transfer import Exported, Imported, Place, write_file

if TYPE_CHECKING:
    from p2pchat.core.records import Address, FormerName
    from p2pchat.storage.sql import SqlStorage


INTERRUPTED_EVERY = 0.05  # seconds
MOST_FAULTS = 10  # of a damaged database that are named; one bad page makes thousands


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """Where another peer is known to be. `answered_at` is when it was reached there last; None: never yet."""

    user: User
    endpoint: str
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look through a whole database found. `faults` are SQLite's words; () when nothing is damaged."""

    size_bytes: int
    faults: tuple[str, ...]


class History:
    """The history of a peer that need not run. Read-only; `async with open_history(data) as history`."""

    def __init__(self, data: str | os.PathLike[str] | int, db: str | None = None) -> None:
        self._data = data
        self._db = db
        self._storage: SqlStorage | None = None
        self._search_indexer: SearchIndexer | None = None
        self._addresses: list[Address] = []
        self._former: dict[str, list[FormerName]] = {}  # by user
        self._talks: dict[ConversationId, Naming] = {}
        self._conversations: dict[ConversationId, Conversation] = {}
        self._groups = GroupDirectory(dict)
        self._access: AccessPolicy = OfflineAccessPolicy("", {}, {}, has_guests=False)
        self.people = UserDirectory("", lambda user: ("unknown", "", 0))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        storage, self._storage = self._storage, None
        if self._search_indexer is not None:
            await self._search_indexer.aclose()
        if storage is not None:
            await asyncio.to_thread(storage.close)

    def _open(self) -> None:
        from p2pchat.identity.keys import load_identity
        from p2pchat.identity.profile import DATABASE_NAME, KEY_NAME, profile_directory
        from p2pchat.storage.dialects.sqlite import sqlite_url
        from p2pchat.storage.sql import SqlStorage

        directory = profile_directory(self._data) if isinstance(self._data, int) else Path(self._data)
        self._directory = directory
        try:
            me = load_identity(directory / KEY_NAME).peer_id
        except FileNotFoundError:
            raise P2PChatError(f"there is no history in {directory}: name the data directory of a peer") from None
        self._storage = SqlStorage(self._db or sqlite_url(directory / DATABASE_NAME), read_only=True)
        self._search_indexer = open_indexer(self._storage, Settings(), directory)
        stored = self._storage.load([me])
        self.people.me = me
        self.people.learn((user.id, user.name) for user in stored.users)
        for user in stored.users:
            self.people.tell_about(user.id, user.about)
        load_ignored(self.people, stored.meta)
        if META_NAME in stored.meta:
            self.people.learn([(me, stored.meta[META_NAME])])
        talks, groups = {talk.id: talk.naming for talk in stored.conversations}, groups_of(stored.group_entries)
        book = GroupDirectory.of_stored(groups)
        talks |= {view.talk: Naming(talk=view.group) for view in book.all()}
        self._access = OfflineAccessPolicy(me, talks, groups, has_guests=bool(self._storage.hosted()))
        self._groups = book.seen_by(self._access.knows)
        self._talks = {key: naming for key, naming in talks.items() if self._access.knows(key)}
        self._addresses = stored.addresses
        for one in stored.former_names:
            self._former.setdefault(one.user, []).append(one)

    @property
    def me(self) -> User:
        """The peer's own user; without a name when none was ever chosen or told."""
        return self.people.user(self.people.me)

    @property
    def room(self) -> Conversation:
        for key, naming in self._talks.items():
            if naming.room:
                return self.conversation(key)
        raise UnknownName("room", "nothing was written there yet")

    def ignores(self, id: str) -> bool:
        """Whether the user of this id, as in event lines, is ignored; as TCPPeer.ignores."""
        return bool(self.people.ignored) and id_of(id) in self.people.ignored

    def users(self) -> list[User]:
        """Return everybody with a name, by label."""
        return self.people.all()

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return other names a user had, the newest first; as TCPPeer.names_before."""
        former = sorted(self._former.get(user.key, ()), key=lambda one: -one.c)
        return tuple(one.name for one in former if one.name != user.name)

    def addresses(self) -> list[KnownAddress]:
        """Return where other peers are known to be, those reached last first."""
        known = sorted(self._addresses, key=lambda address: (-address.verified_at, address.endpoint))
        return [
            KnownAddress(self.people.user(one.peer), one.endpoint, aware(one.verified_at) if one.verified_at else None)
            for one in known
        ]

    async def check(self) -> Checked:
        """Read the whole database and say whether it is damaged; about 10 s for each GiB and half a minute for each
        ten million messages, all of which are proven. Cancelling ends it.

        Raises:
            StorageError: It is too damaged to be read through. PeerClosed: Outside of `async with`.
        """
        storage = self._open_storage
        looking = asyncio.ensure_future(asyncio.to_thread(storage.faults, MOST_FAULTS))
        try:
            faults = await asyncio.shield(looking)
        except asyncio.CancelledError:
            while not looking.done():  # an interrupt that comes before the first step is lost
                storage.interrupt()
                await asyncio.wait([looking], timeout=INTERRUPTED_EVERY)
            looking.exception()  # that it was interrupted is no news
            raise
        return Checked(await asyncio.to_thread(storage.size_on_disk), tuple(faults))

    def conversations(self) -> list[Conversation]:
        """Return all conversations known here, the room first."""
        known = [self.conversation(key) for key, naming in self._talks.items() if not naming.group]
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the handle of a conversation."""
        found = self._conversations.get(key)
        if found is None:
            naming = self._talks.get(key)
            kind = Group if naming is not None and naming.talk else Conversation
            found = self._conversations[key] = kind(self, key, naming)
        return found

    def groups(self) -> list[Group]:
        """Return the groups known here, by name; as TCPPeer.groups."""
        known = [one for one in self.conversations() if isinstance(one, Group)]
        return sorted(known, key=lambda group: (group.name.casefold(), group.key))

    def find(self, text: str) -> Conversation:
        """Return the conversation an address names: `room`, a user, `#ops`. Raises UnknownName, AmbiguousName."""
        if text in ("room", "#room"):
            return self.room
        if text.strip().startswith("#"):
            return self.conversation(self._groups.find(text))
        key = id_of(text.strip())
        if key in self._talks:
            return self.conversation(key)
        try:
            return self.conversation(dm_id(self.people.me, self.people.find(text).key))
        except UnknownName:
            if not (hint := self._groups.hint(text)):
                raise
        raise UnknownName(text, hint)

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
        storage, key = self._open_storage, self._key(conversation)
        among = [*self._talks] if key is None and not self._access.is_all else key
        return await read_posts(
            self, storage, asyncio.to_thread, among, before=before, after=after, since=since, limit=limit,
            access=self._access,
        )  # fmt: skip

    async def search(
        self,
        words: str,
        conversation: Conversation | str | None = None,
        *,
        sender: User | str | None = None,
        before: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 50,
        progress: Progress | None = None,
    ) -> list[Message | Sent]:
        """Return messages with all of these words in them; as TCPPeer.search."""
        storage, key = self._open_storage, self._key(conversation)
        meant = search_request(
            words, key, self.people.find, sender=sender, before=before, since=since, limit=limit, access=self._access
        )
        return await search_posts(self, storage, asyncio.to_thread, meant, self._search_indexer, progress)

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id; as TCPPeer.message."""
        return await find_post(self, self._open_storage, asyncio.to_thread, self._talks, message_id, self._access)

    async def missing(self, post: Post) -> Gap | None:
        """Return what is missing before a message, and who had it; as TCPPeer.missing."""
        return await find_gap(self, self._open_storage, asyncio.to_thread, post)

    async def export(
        self,
        to: Place,
        conversation: Conversation | str | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write what is stored into a file that another peer of this network can import; as TCPPeer.export."""
        storage, only = self._open_storage, self._key(conversation)
        room = await asyncio.to_thread(self._room_id)
        return await write_file(storage, asyncio.to_thread, to, room=room, only=only, progress=progress)

    def _room_id(self) -> ConversationId:
        """Return the id of the network's room, also where nothing was written in it yet."""
        for key, naming in self._talks.items():
            if naming.room:
                return key
        from p2pchat.identity.network import FILE_NAME, load_network, login_network
        from p2pchat.identity.profile import home_directory

        return room_id((load_network(self._directory / FILE_NAME) or login_network(home_directory())).id)

    @property
    def _open_storage(self) -> SqlStorage:
        if self._storage is None:
            raise PeerClosed("this history is closed: use it inside `async with`")
        return self._storage

    def _key(self, conversation: Conversation | str | None) -> ConversationId | None:
        if isinstance(conversation, str):
            conversation = self.find(conversation)
        return None if conversation is None else conversation.key

    def ref(self, log: LogId, seq: int) -> str | None:
        return None

    def group_view(self, group: ConversationId) -> GroupView | None:
        return self._groups.view(group)

    def same_name(self, conversation: Conversation) -> bool:
        return self._groups.same_name(conversation.key)

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        raise PeerClosed("this history is only read: start a peer to write")

    async def leave_group(self, group: Conversation) -> None:
        raise PeerClosed("this history is only read: start a peer to write")

    def mark_read(self, post: ShownEntry) -> None:
        raise PeerClosed("this history is only read: start a peer to mark messages read")

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt:
        raise PeerClosed("this history is only read: start a peer to write")

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        raise PeerClosed("this history is only read: start a peer to write")

    async def edit(self, message: Post | str, text: str) -> Receipt:
        raise PeerClosed("this history is only read: start a peer to write")

    async def delete(self, message: Post | str) -> Receipt:
        raise PeerClosed("this history is only read: start a peer to write")

    async def react(self, message: Post | str, reaction: str) -> Receipt:
        raise PeerClosed("this history is only read: start a peer to write")

    def typing(self, to: Conversation, on: bool = True) -> None:
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


# ---- alone
#
# A peer that neither listens nor dials: to work on a profile while nobody else does.


def open_alone(data: PathLike | int, *, db: str | None = None) -> TCPPeer:
    """Return a peer of a profile that is there, not started: alone it can be read and changed, and meets nobody.

    Starting it raises DataLocked when the profile is in use.

    Args:
        data: The peer's data directory, or its port.
        db: Its database, when that is elsewhere.
    Raises:
        P2PChatError: There is no peer.
    """
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser()
    if not (directory / KEY_NAME).exists():
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    peer = TCPPeer(data=directory, db=db)
    peer._stay_offline()
    return peer


# ---- importing
#
# A file taken in by a profile that nobody runs.


async def import_into(
    data: PathLike | int, source: Place, *, db: str | None = None, progress: Callable[[int], None] | None = None
) -> Imported:
    """Take a file into a peer that does not run; as TCPPeer.import_from. Others get what is new when it runs again.

    Args:
        data: The peer's data directory, or its port.
        db: Its database, when that is elsewhere.
    Raises:
        DataLocked: The peer runs; `.pid` says where. P2PChatError: There is no peer.
        ImportRefused, StorageError: As TCPPeer.import_from.
    """
    async with open_alone(data, db=db) as peer:
        return await peer.import_from(source, progress=progress)
