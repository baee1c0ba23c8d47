"""Work with the profile of a peer that need not run: read its history, import a file, change it without a network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from p2pchat.config import Settings
from p2pchat.core.groups.group import GroupReplica, GroupView
from p2pchat.core.log import LogId
from p2pchat.core.records import META_NAME
from p2pchat.core.sync.conversations import room_id
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.errors import P2PChatError, PeerClosed, UnknownName
from p2pchat.identity.profile import KEY_NAME, profile_directory
from p2pchat.messaging.access import AccessPolicy, has_others
from p2pchat.messaging.conversations import Conversation, ShownEntry
from p2pchat.messaging.events import Gap, aware
from p2pchat.messaging.groups import Group, load_groups
from p2pchat.messaging.history import StoredMessages
from p2pchat.messaging.messages import Message, Post, Sent
from p2pchat.messaging.name_resolution import ConversationDirectory, GroupDirectory, UserDirectory
from p2pchat.messaging.receipts import Receipt, Receipts
from p2pchat.messaging.search import Progress, SearchIndexer, open_indexer, search_messages, search_request
from p2pchat.messaging.users import User, load_ignored
from p2pchat.peer import TCPPeer
from p2pchat.protocol import ConversationId, Naming, UserId
from p2pchat.resources import PathLike
from p2pchat.transfer import Exported, Imported, Place, write_file

if TYPE_CHECKING:
    from p2pchat.core.records import Address, FormerName
    from p2pchat.storage.sql import SqlStorage

INTERRUPT_INTERVAL = 0.05  # seconds
MAX_FAULTS = 10  # reported of a damaged database: one bad page causes thousands


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """An address of another peer. `answered_at` is when the peer last answered there; None if it never did."""

    user: User
    endpoint: str
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of History.check. `faults` are the messages of SQLite; () for an undamaged database."""

    size_bytes: int
    faults: tuple[str, ...]


class History:
    """The history of a peer that need not run, read-only: `async with open_history(data) as history`.

    Methods that TCPPeer has, too, do the same here. Those that write raise PeerClosed.

    Attributes:
        people: The users known to the peer; `people.me` is the id (hex) of its own user.
    """

    def __init__(self, data: str | os.PathLike[str] | int, db: str | None = None) -> None:
        self._data = data
        self._db = db
        self._directory = Path()
        self._storage: SqlStorage | None = None
        self._indexer: SearchIndexer | None = None
        self._addresses: list[Address] = []
        self._former: dict[str, list[FormerName]] = {}  # by user
        self._stored: dict[ConversationId, ConversationState] = {}
        self._namings: dict[ConversationId, Naming] = {}  # of those that the user may see
        self._hosts_others = False
        self._access = AccessPolicy(lambda: self._stored, lambda: self.people.me, lambda: not self._hosts_others)
        self.people = UserDirectory("", lambda user: ("unknown", "", 0))
        self._use_groups(GroupDirectory(dict))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        storage, self._storage = self._storage, None
        if self._indexer is not None:
            await self._indexer.aclose()
        if storage is not None:
            await asyncio.to_thread(storage.close)

    def _open(self) -> None:
        from p2pchat.identity.keys import load_identity
        from p2pchat.identity.profile import DATABASE_NAME
        from p2pchat.storage.dialects.sqlite import sqlite_url
        from p2pchat.storage.sql import SqlStorage

        directory = profile_directory(self._data) if isinstance(self._data, int) else Path(self._data)
        self._directory = directory
        try:
            me = load_identity(directory / KEY_NAME).peer_id
        except FileNotFoundError:
            raise P2PChatError(f"there is no history in {directory}: name the data directory of a peer") from None
        self._storage = SqlStorage(self._db or sqlite_url(directory / DATABASE_NAME), read_only=True)
        self._indexer = open_indexer(self._storage, Settings(), directory)
        stored = self._storage.load([me])
        self.people.me = me
        self.people.learn((user.id, user.name) for user in stored.users)
        for user in stored.users:
            self.people.set_about(user.id, user.about)
        load_ignored(self.people, stored.meta)
        if META_NAME in stored.meta:
            self.people.learn([(me, stored.meta[META_NAME])])
        namings, groups = {one.id: one.naming for one in stored.conversations}, load_groups(stored.group_entries)
        directory_of_groups = GroupDirectory.of_stored(groups)
        namings |= {view.talk: Naming(talk=view.group) for view in directory_of_groups.all()}
        self._stored = {id: _conversation_state(id, naming, groups) for id, naming in namings.items()}
        self._hosts_others = bool(self._storage.hosted()) or has_others(self._stored, me)
        self._use_groups(directory_of_groups.seen_by(self._access.knows))
        self._namings = {key: naming for key, naming in namings.items() if self._access.knows(key)}
        self._addresses = stored.addresses
        for one in stored.former_names:
            self._former.setdefault(one.user, []).append(one)

    def _use_groups(self, groups: GroupDirectory) -> None:
        self._groups = groups
        self._conversations = ConversationDirectory(
            self, groups, lambda key: self._namings.get(key), self._find_room, lambda naming: None
        )

    @property
    def _open_storage(self) -> SqlStorage:
        if self._storage is None:
            raise PeerClosed("this history is closed: use it inside `async with`")
        return self._storage

    @property
    def _messages(self) -> StoredMessages:
        return StoredMessages(self, self._open_storage, asyncio.to_thread, self._access)

    # ---- users

    @property
    def me(self) -> User:
        """The peer's own user; it has no name if none was ever chosen or received."""
        return self.people.user(self.people.me)

    def users(self) -> list[User]:
        """Return all users with a name, sorted by label."""
        return self.people.all()

    def ignores(self, id: str) -> bool:
        """Return whether the user with this id, as in event lines, is ignored."""
        return self.people.ignores(id)

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return the former names of a user, the newest first."""
        former = sorted(self._former.get(user.key, ()), key=lambda one: -one.c)
        return tuple(one.name for one in former if one.name != user.name)

    def addresses(self) -> list[KnownAddress]:
        """Return the known addresses of other peers, those that answered last first."""
        known = sorted(self._addresses, key=lambda address: (-address.verified_at, address.endpoint))
        return [
            KnownAddress(self.people.user(one.peer), one.endpoint, aware(one.verified_at) if one.verified_at else None)
            for one in known
        ]

    # ---- conversations

    @property
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName if nothing was written there."""
        return self._find_room()

    def _find_room(self) -> Conversation:
        for key, naming in self._namings.items():
            if naming.room:
                return self.conversation(key)
        raise UnknownName("room", "nothing was written there yet")

    def conversations(self) -> list[Conversation]:
        """Return all known conversations, the room first, then sorted by name."""
        known = [self.conversation(key) for key, naming in self._namings.items() if not naming.group]
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its id in hex (`Conversation.key`)."""
        return self._conversations.get(key)

    def find(self, text: str) -> Conversation:
        """Return the conversation that an address names: `room`, a user, `#ops`; see TCPPeer.find.

        Raises UnknownName, AmbiguousName.
        """
        return self._conversations.find(text)

    def groups(self) -> list[Group]:
        """Return the known groups, sorted by name."""
        known = [one for one in self.conversations() if isinstance(one, Group)]
        return sorted(known, key=lambda group: (group.name.casefold(), group.key))

    def group_view(self, group: ConversationId) -> GroupView | None:
        """Return the state of a group, by the id of its operations; None while it is unknown."""
        return self._groups.view(group)

    def same_name(self, conversation: Conversation) -> bool:
        """Return whether another group has the same name, or one that looks like it."""
        return self._groups.same_name(conversation.key)

    # ---- messages

    async def history(
        self,
        conversation: Conversation | str | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages, oldest first; see TCPPeer.history."""
        messages, key = self._messages, self._key(conversation)
        keys = [*self._namings] if key is None and not self._access.is_all else key
        return await messages.history(keys, before=before, after=after, since=since, limit=limit)

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
        """Return messages that contain all of these words; see TCPPeer.search."""
        messages, key = self._messages, self._key(conversation)
        request = search_request(
            words, key, self.people.find, sender=sender, before=before, since=since, limit=limit, access=self._access
        )
        return await search_messages(messages, request, self._indexer, progress)

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id; see TCPPeer.message."""
        return await self._messages.find(self._namings, message_id)

    async def missing(self, post: Post) -> Gap | None:
        """Return which entries that a message follows are not here; see TCPPeer.missing."""
        return await self._messages.missing(post)

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return None: the `ref` of a message is kept by a running peer only."""
        return None

    def _key(self, conversation: Conversation | str | None) -> ConversationId | None:
        if isinstance(conversation, str):
            conversation = self.find(conversation)
        return None if conversation is None else conversation.key

    # ---- the database

    async def check(self) -> Checked:
        """Read the whole database and return whether it is damaged. Cancelling stops it.

        It takes about 10 s for each GiB, and half a minute for each ten million messages, whose signatures are checked.

        Raises:
            StorageError: It is too damaged to be read. PeerClosed: Outside of `async with`.
        """
        storage = self._open_storage
        checking = asyncio.ensure_future(asyncio.to_thread(storage.faults, MAX_FAULTS))
        try:
            faults = await asyncio.shield(checking)
        except asyncio.CancelledError:
            while not checking.done():  # an interrupt before the first step of the query is lost
                storage.interrupt()
                await asyncio.wait([checking], timeout=INTERRUPT_INTERVAL)
            checking.exception()  # retrieve it, so that asyncio does not log the interrupt
            raise
        return Checked(await asyncio.to_thread(storage.size_on_disk), tuple(faults))

    async def export(
        self,
        to: Place,
        conversation: Conversation | str | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write what is stored into a file that another peer of this network can import; see TCPPeer.export."""
        storage, only = self._open_storage, self._key(conversation)
        room = await asyncio.to_thread(self._room_id)
        return await write_file(storage, asyncio.to_thread, to, room=room, only=only, progress=progress)

    def _room_id(self) -> ConversationId:
        """Return the id of the network's room, even if nothing was written there."""
        for key, naming in self._namings.items():
            if naming.room:
                return key
        from p2pchat.identity.network import FILE_NAME, load_network, login_network
        from p2pchat.identity.profile import home_directory

        return room_id((load_network(self._directory / FILE_NAME) or login_network(home_directory())).id)

    # ---- what only a running peer does

    async def send(
        self, to: Conversation, text: str, reply_to: Post | str | None = None, *, action: bool = False
    ) -> Receipt:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    async def send_many(self, to: Conversation, texts: Sequence[str]) -> Receipts:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    async def edit(self, message: Post | str, text: str) -> Receipt:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    async def delete(self, message: Post | str) -> Receipt:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    async def react(self, message: Post | str, reaction: str) -> Receipt:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    def typing(self, to: Conversation, on: bool = True) -> None:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    def mark_read(self, post: ShownEntry) -> None:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only("mark messages read")

    async def change_group(
        self,
        group: Conversation,
        *,
        add: tuple[UserId, ...] = (),
        remove: tuple[UserId, ...] = (),
        name: str | None = None,
        owner: UserId | None = None,
    ) -> None:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()

    async def leave_group(self, group: Conversation) -> None:
        """Raise PeerClosed: a history is read-only."""
        raise _read_only()


def _conversation_state(
    id: ConversationId, naming: Naming, groups: Mapping[ConversationId, GroupReplica]
) -> ConversationState:
    group = naming.group[0] if naming.group else naming.talk
    state = ConversationState(id, naming, frozenset(naming.dm or ()) if naming.dm or group else None)
    if group is not None:
        state.group, state.is_talk = groups.get(group), naming.talk is not None
    return state


def _read_only(what: str = "write") -> PeerClosed:
    return PeerClosed(f"this history is read-only: start a peer to {what}")


def open_history(data: str | os.PathLike[str] | int, *, db: str | None = None) -> History:
    """Return the history of a peer, which may be running: `async with open_history(data) as history`.

    Args:
        data: The peer's data directory, or its port.
        db: The URL of its database, if that is elsewhere.
    Raises, from `async with`:
        P2PChatError: There is no peer, or its files cannot be read.
        StorageError: The database cannot be used.
    """
    return History(data, db)


def open_alone(data: PathLike | int, *, db: str | None = None) -> TCPPeer:
    """Return a peer for an existing profile that neither listens nor dials, to read and change the profile.

    Use it with `async with`; starting it raises DataLocked while the profile is in use.

    Args:
        data: The peer's data directory, or its port.
        db: The URL of its database, if that is elsewhere.
    Raises:
        P2PChatError: There is no peer.
    """
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser()
    if not (directory / KEY_NAME).exists():
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    peer = TCPPeer(data=directory, db=db)
    peer._lifecycle.stay_offline()
    return peer


async def import_into(
    data: PathLike | int, source: Place, *, db: str | None = None, progress: Callable[[int], None] | None = None
) -> Imported:
    """Import a file into a peer that is not running; see TCPPeer.import_from. Others get new entries when it runs.

    Args:
        data: The peer's data directory, or its port.
        db: The URL of its database, if that is elsewhere.
    Raises:
        DataLocked: The peer is running; `.pid` is its process. P2PChatError: There is no peer.
        ImportRefused, StorageError: As TCPPeer.import_from.
    """
    async with open_alone(data, db=db) as peer:
        return await peer.import_from(source, progress=progress)
