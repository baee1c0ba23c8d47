"""Profiles of peers that need not run: reading and checking what is stored, imports, and changes without a network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from p2pchat.core.durable_changes import META_NAME, Stored
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.members.statement import Statement, room_id
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.errors import P2PChatError, PeerClosed
from p2pchat.export_file import Exported, Imported, Place, StoredContent, write_file
from p2pchat.identity.network import Network
from p2pchat.identity.profile import KEY_NAME, data_directory, network_of
from p2pchat.messaging.access_policy import AccessPolicy, has_others
from p2pchat.messaging.conversations import Conversation, GroupDirectory
from p2pchat.messaging.events import aware
from p2pchat.messaging.search_indexer import SearchIndexer
from p2pchat.messaging.users import User, UserDirectory, UserFacts, machine_since
from p2pchat.messaging.viewer import To, Viewer
from p2pchat.peer import TCPPeer
from p2pchat.peer_resources import PathLike
from p2pchat.protocol import ConversationId, PeerId, UserId
from p2pchat.settings import Settings
from p2pchat.storage.content_store import CONTENT_NAME
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.threads import in_thread

if TYPE_CHECKING:
    from p2pchat.core.durable_changes import Address

T = TypeVar("T")

INTERRUPT_INTERVAL = 0.05  # seconds


@dataclass(frozen=True)
class KnownAddress:
    """An address of another peer.

    Attributes:
        user: The user whose key the peer has.
        endpoint: The address as "host:port".
        answered_at: When the peer last answered there; None if it never did.
    """

    user: User
    endpoint: str
    answered_at: datetime | None


@dataclass(frozen=True)
class Checked:
    """The result of History.check.

    Attributes:
        size_bytes: The size of the database.
        faults: The messages of SQLite; () for an undamaged database.
        lost: A sentence about messages that the disk lost before this start; "" if it lost none.
    """

    size_bytes: int
    faults: tuple[str, ...]
    lost: str = ""


class _OpenStorage(NamedTuple):
    """The storage of a History."""

    storage: SqlStorage
    indexer: SearchIndexer

    async def read(self, run: Callable[[], T]) -> T:
        return await in_thread(run)


class History(Viewer):
    """The history of a peer that need not run, read-only: `async with open_history(data) as history`.

    Methods that TCPPeer has, too, do the same here. Those that write raise PeerClosed.

    Attributes:
        directory: The users known to the peer; `directory.me` is the id (hex) of its own user.
    """

    def __init__(self, data: str | os.PathLike[str] | int, db: str | None = None) -> None:
        self._data = data
        self._db = db
        self._profile = Path()
        self._opened: _OpenStorage | None = None
        self._addresses: list[Address] = []
        self._node: Node
        self._conversations: Mapping[ConversationId, ConversationState] = {}
        self._views: Mapping[ConversationId, GroupView] = {}
        self._hosts_others = False
        access = AccessPolicy(lambda: self._conversations, lambda: self.directory.me, lambda: not self._hosts_others)
        super().__init__(
            UserDirectory("", UserFacts()),
            GroupDirectory(lambda: self._views),
            access,
        )

    async def __aenter__(self) -> Self:
        await in_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.indexer.aclose()
            await in_thread(opened.storage.close)

    def _open(self) -> None:
        from p2pchat.identity.profile import DATABASE_NAME, stored_keys
        from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
        from p2pchat.storage.sql_storage import SqlStorage

        self._profile = directory = data_directory(self._data)
        if not (directory / KEY_NAME).exists():
            raise P2PChatError(f"there is no history in {directory}: name the data directory of a peer")
        peer, me = stored_keys(directory)[0], stored_keys(directory)[-1]
        storage = SqlStorage(self._db or sqlite_url(directory / DATABASE_NAME), read_only=True)
        self._opened = _OpenStorage(storage, SearchIndexer(storage, Settings(), directory))
        stored, hosted = storage.load([me]), storage.hosted()
        self.directory.load(me, stored)
        if META_NAME in stored.meta:
            self.directory.learn([(me, stored.meta[META_NAME])])
        self._addresses = stored.addresses
        self._node = node = _node_of(directory, peer, [me, *(one.id for one in hosted)], stored)
        self._conversations, self._views = node.replicator.conversations, node.groups
        self._groups.load()
        self._hosts_others = bool(hosted) or has_others(self._conversations, me)
        self.directory.facts.follow_members(node.member_directory)
        self.directory.facts.joined_at = partial(machine_since, node.own, me, peer)
        self.directory.facts.former = lambda: node.replicator.people.former

    @property
    def _disk(self) -> _OpenStorage:
        if self._opened is None:
            raise PeerClosed("this history is closed: use it inside `async with`")
        return self._opened

    @property
    def _indexer(self) -> SearchIndexer:
        return self._disk.indexer

    def _keys(self) -> list[ConversationId]:
        return list(filter(self._access.knows, self._node.conversations_of(self.directory.me)))

    @property
    def room(self) -> Conversation:
        """The conversation of everyone, even if nothing was written there."""
        return self.conversation(self._node.room)

    # ---- users

    @property
    def expelled_by(self) -> User | None:
        """Who expelled the own user or its member, as far as is stored; None if nobody did."""
        members = self._node.member_directory
        against = [*members.removals(self.directory.me), *self._revocations()]
        return self.directory.user(members.speaker(against[-1].by)) if against else None

    @property
    def shut_out_at(self) -> datetime | None:
        """When the own person shut out this machine for good, as far as is stored; None if nobody did."""
        said = self._revocations()
        if not said:
            return None
        return aware(said[-1].at)

    def _revocations(self) -> list[Statement]:
        """Return what says that the key of this machine is no peer's any more."""
        members = self._node.member_directory
        return members.revocations(self._node.peer, *members.members_of(self.directory.me))

    def addresses(self) -> list[KnownAddress]:
        """Return the known addresses of other peers, those that answered last first."""
        known = sorted(self._addresses, key=lambda address: (-address.verified_at, address.endpoint))
        return [
            KnownAddress(
                self.directory.user(one.peer), one.endpoint, aware(one.verified_at) if one.verified_at else None
            )
            for one in known
        ]

    # ---- the database

    async def check(self) -> Checked:
        """Read the whole database and return whether it is damaged. Cancelling stops it.

        It takes about 10 s for each GiB, and half a minute for each ten million messages, whose signatures are checked.

        Raises:
            StorageError: It is too damaged to be read.
            PeerClosed: Outside of `async with`.
        """
        storage = self._disk.storage
        checking = asyncio.ensure_future(in_thread(storage.faults))
        try:
            faults = await asyncio.shield(checking)
        except asyncio.CancelledError:
            while not checking.done():  # an interrupt before the first step of the query is lost
                storage.interrupt()
                await asyncio.wait([checking], timeout=INTERRUPT_INTERVAL)
            checking.exception()  # retrieve it, so that asyncio does not log the interrupt
            raise
        size_bytes, lost = await in_thread(lambda: (storage.size_on_disk(), storage.lost()))
        return Checked(size_bytes, tuple(faults), lost)

    async def export(
        self,
        to: Place,
        conversation: To | None = None,
        *,
        files: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write what is stored into a file that another peer of this network can import; see TCPPeer.export."""
        disk, only = self._disk, None if conversation is None else self.find(conversation).key
        content = StoredContent(self._profile / CONTENT_NAME) if files else None
        return await write_file(
            disk.storage, disk.read, to, room=self.room.key, only=only, content=content, progress=progress
        )


def _node_of(directory: Path, peer: PeerId, users: Iterable[UserId], stored: Stored) -> Node:
    """Return a core with what is stored, which is never started. In a copy from elsewhere nobody is known to be out."""
    room = next((one.id for one in stored.conversations if one.naming.room), "")
    network = Network("", "", name="of others")
    try:
        here = network_of(directory)
        if room in ("", room_id(here.id)):
            network = here
    except P2PChatError:
        if not room:
            raise
    return Node(
        settings=Settings(),
        peer=peer,
        users=[HostedIdentity(user, "", bytes) for user in users],
        machine=HostedIdentity(peer, "", bytes, guest=network.guest(peer)),
        network=NetworkCredentials(network.id, network.key, network.founder, bool(network.name), room=room),
        draw=bytes,
        stored=stored,
    )


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
    directory = data_directory(data)
    if not (directory / KEY_NAME).exists():
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    peer = TCPPeer(data=directory, db=db)
    peer._lifecycle.is_offline = True
    return peer


async def import_into(
    data: PathLike | int,
    source: Place,
    *,
    db: str | None = None,
    files: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Import a file into a peer that is not running; see TCPPeer.import_from. Others get new entries when it runs.

    Args:
        data: The peer's data directory, or its port.
        db: The URL of its database, if that is elsewhere.
    Raises:
        DataLocked: The peer is running; `.pid` is its process.
        P2PChatError: There is no peer.
        ImportRefused, StorageError: As TCPPeer.import_from.
    """
    async with open_alone(data, db=db) as peer:
        return await peer.import_from(source, files=files, progress=progress)
