"""Profiles of peers that need not run: reading and checking what is stored, imports, and changes without a network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from p2pchat.core.durable_changes import META_NAME, Stored
from p2pchat.core.groups.group_replica import GroupReplica, GroupView
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import Statement, StatementId, parse_statement, room_id
from p2pchat.core.members.statement_exchange import FOUNDER, heard_in
from p2pchat.core.node_context import HostedIdentities
from p2pchat.core.own_state import OwnState
from p2pchat.core.sync.conversation_state import ConversationState, seq_of
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.errors import P2PChatError, PeerClosed
from p2pchat.export_file import Exported, Imported, Place, StoredContent, write_file
from p2pchat.identity.login_key import read_login_network
from p2pchat.identity.profile import KEY_NAME, data_directory, network_of, stored_identity
from p2pchat.messaging.access_policy import AccessPolicy, has_others
from p2pchat.messaging.conversations import Conversation, GroupDirectory
from p2pchat.messaging.events import aware
from p2pchat.messaging.search_indexer import SearchIndexer
from p2pchat.messaging.users import User, UserDirectory, UserFacts, machine_since
from p2pchat.messaging.viewer import To, Viewer
from p2pchat.peer import TCPPeer
from p2pchat.peer_resources import PathLike
from p2pchat.protocol import ConversationId, Naming, UserId
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
class _StoredStatements:
    """The statements of a stored history: all are durable."""

    members: MemberList
    heard: Mapping[StatementId, int]

    def durable(self, statements: Iterable[Statement]) -> list[Statement]:
        return [*statements]

    def is_named(self, user: UserId) -> bool:
        return self.members.is_named(user)


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
        self._members: MemberDirectory | None = None
        self._stored: dict[ConversationId, ConversationState] = {}
        self._views: dict[ConversationId, GroupView] = {}
        self._hosts_others = False
        access = AccessPolicy(lambda: self._stored, lambda: self.directory.me, lambda: not self._hosts_others)
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
        keys = stored_keys(directory)
        me = keys[-1]
        storage = SqlStorage(self._db or sqlite_url(directory / DATABASE_NAME), read_only=True)
        self._opened = _OpenStorage(storage, SearchIndexer(storage, Settings(), directory))
        stored = storage.load([me])
        own = OwnState(stored.meta)
        self.directory.load(me, stored)
        self.directory.facts.joined_at = partial(machine_since, own, me, keys[0])
        if META_NAME in stored.meta:
            self.directory.learn([(me, stored.meta[META_NAME])])
        namings = {one.id: one.naming for one in stored.conversations}
        rooms = (id for id, naming in namings.items() if naming.room)
        room = next(rooms, None) or room_id(network_of(self._profile).id)
        notes = dm_id(room, me, me)
        tips = sum(one.seq for one in stored.tips if one.log.conversation == notes)
        if tips + sum(map(seq_of, stored.covered.get(notes, ()))) == own.entries(me):
            namings.pop(notes, None)  # nothing is in it but own state
        groups: dict[ConversationId, GroupReplica] = {}
        for log, raw, chain, before in stored.group_entries:
            group = groups.setdefault(log.conversation, GroupReplica(log.conversation, room))
            if (fact := group.read(log, raw, chain, before)) is not None:
                group.add(fact)
        ours = {me, *(one.id for one in storage.hosted())}
        known = ((id, group.state) for id, group in groups.items() if not ours.isdisjoint(group.named))
        self._views = {id: state for id, state in known if state is not None}
        self._groups.load()
        namings |= {view.talk: Naming(talk=id) for id, view in self._views.items()}
        self._stored = {id: _conversation_state(id, naming, groups) for id, naming in namings.items()}
        self._hosts_others = bool(storage.hosted()) or has_others(self._stored, me)
        self._addresses = stored.addresses
        self._load_members(stored, me)
        former: dict[UserId, dict[str, int]] = {}
        for one in stored.former_names:
            former.setdefault(one.user, {})[one.name] = one.c
        self.directory.facts.former = lambda: former

    def _load_members(self, stored: Stored, me: UserId) -> None:
        """Take who was expelled, as far as is stored; nobody was where there is no file of the network to read."""
        network = None
        with suppress(P2PChatError):
            network = read_login_network(self._profile).network
        founder = "" if network is None else network.founder or stored.meta.get(FOUNDER, "")
        if network is None or network.name or not founder:
            return
        statements = _StoredStatements(MemberList(founder), heard_in(stored.meta))
        statements.members.add(parse_statement(network.id, *pair) for pair in stored.statements)
        guest, hosted = network.guest(me), HostedIdentities([])
        own = me if guest is None else guest.member
        names = dict.fromkeys(self.directory.known, "")
        self._members = known = MemberDirectory(network.id, me, own, hosted, {}, statements)
        known.load(stored.members, names)
        known.on_shown(me, own)
        known.refresh(names, lambda user: True)
        self.directory.facts.follow_members(known)

    @property
    def _disk(self) -> _OpenStorage:
        if self._opened is None:
            raise PeerClosed("this history is closed: use it inside `async with`")
        return self._opened

    @property
    def _indexer(self) -> SearchIndexer:
        return self._disk.indexer

    def _keys(self) -> list[ConversationId]:
        shown = (key for key, one in self._stored.items() if not one.naming.group)
        return [key for key in shown if self._access.knows(key)]

    @property
    def room(self) -> Conversation:
        """The conversation of everyone, even if nothing was written there."""
        for key, state in self._stored.items():
            if state.naming.room:
                return self.conversation(key)
        key = room_id(network_of(self._profile).id)
        self._stored[key] = ConversationState(key, Naming(room=True), None)
        return self.conversation(key)

    # ---- users

    @property
    def expelled_by(self) -> User | None:
        """Who expelled the own user or its member, as far as is stored; None if nobody did."""
        if self._members is None:
            return None
        against = [*self._members.removals(self.directory.me), *self._revocations()]
        return self.directory.user(self._members.speaker(against[-1].by)) if against else None

    @property
    def shut_out_at(self) -> datetime | None:
        """When the own person shut out this machine for good, as far as is stored; None if nobody did."""
        said = self._revocations()
        if not said:
            return None
        return aware(said[-1].at)

    def _revocations(self) -> list[Statement]:
        """Return what says that the key of this machine is no peer's any more."""
        if self._members is None:
            return []
        mine = self._members.members_of(self.directory.me)
        return self._members.revocations(stored_identity(self._profile).peer_id, *mine)

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


def _conversation_state(
    id: ConversationId, naming: Naming, groups: Mapping[ConversationId, GroupReplica]
) -> ConversationState:
    group = naming.group[0] if naming.group else naming.talk
    state = ConversationState(id, naming, frozenset(naming.dm or ()) if naming.dm or group else None)
    if group is not None:
        state.group, state.is_talk = groups.get(group), naming.talk is not None
    return state


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
