"""HostedUser: a user that a peer speaks for beside its own, with a key, a name and messages of its own.

    zoe = await peer.host("zoe")
    zoe.set_presence("online")
    await zoe.send("room", "hello from the gateway")
    async for event in zoe.events():
        ...

It has the user's part of TCPPeer, under the same names. It sees the conversations it belongs to, and nothing of what
others of this peer have between them. What a thousand of them need is the peer's once: links, storage, names.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from p2pchat.core.context import HostedIdentity as CoreUser
from p2pchat.core.log import LogId
from p2pchat.core.node import Node
from p2pchat.core.records import Change, StoredUser
from p2pchat.errors import PeerClosed
from p2pchat.identity.keys import Identity
from p2pchat.messaging.access import AccessPolicy, AllUsersPolicy, Audience, audience_of
from p2pchat.messaging.events import Event, ReceiptEvent
from p2pchat.messaging.local_user import Messaging
from p2pchat.messaging.messages import (
    MESSAGE_CHANGES,
    Conversation,
    Deleted,
    Edited,
    Message,
    Post,
    Reaction,
    Sent,
    Viewer,
)
from p2pchat.messaging.receipts import ReceiptUpdate
from p2pchat.messaging.search import SearchIndexer
from p2pchat.messaging.subscription import AnyEvent, Source, Subscription
from p2pchat.messaging.users import User, ignored_of
from p2pchat.protocol import ConversationId, UserId
from p2pchat.runtime.driver import Driver

if TYPE_CHECKING:
    from p2pchat.peer import Hosting


T = TypeVar("T")


class HostedUser(Messaging):
    """One user of a gateway; made by TCPPeer.host. The same object for the same user as long as the peer runs."""

    __slots__ = (
        *("__weakref__", "_conversations", "_feed", "_groups", "_dispatcher", "_is_gone", "_kept", "_tracker"),
        *("_options", "_peer", "_access", "people"),
    )

    def __init__(self, peer: Hosting, kept: StoredUser) -> None:
        me = kept.id
        self._peer = peer
        self._kept = kept
        self._is_gone = False
        self._conversations: dict[ConversationId, Conversation] = {}
        self.people = peer.people.seen_by(me)
        self._access = AccessPolicy(lambda: peer._core, lambda: me)
        self._groups = peer._groups.seen_by(self._access.knows)
        self._tracker = peer._tracker.seen_by(self.people)
        self._feed, self._dispatcher, self._options = peer._feed, peer._dispatcher, peer._options

    @property
    def key(self) -> UserId:
        """The id as it is inside and on the wire, hex."""
        return self._kept.id

    @property
    def name(self) -> str:
        """What it is called."""
        return self._kept.name

    @property
    def secret(self) -> bytes:
        """The 32 bytes its key is made of: whoever has them is this user. For hosting it on another gateway too."""
        return self._kept.secret

    @property
    def is_hosted(self) -> bool:
        """Whether the peer speaks for it still; not after TCPPeer.unhost."""
        return not self._is_gone

    def post(self, event: T) -> T | Message | Sent:
        """Return an event of TCPPeer.everybody as this user sees it.

        A message of its own is Sent, another's a Message, with this user as desk. In other events users, conversations
        and messages are this user's: `is_me` and names of conversations are as they are for it.
        """
        if isinstance(event, Post):
            return event.seen_by(self)
        if not isinstance(event, Event):
            return event
        seen: dict[str, Any] = {one.name: self._seen(getattr(event, one.name)) for one in fields(event)}
        if isinstance(event, MESSAGE_CHANGES):
            seen["ref"] = self.ref(event.log, event.seq)
        return replace(event, **seen)

    def _seen(self, value: object) -> object:
        if isinstance(value, User):
            return self.people.user(value.key)
        if isinstance(value, Conversation):
            return self.conversation(value.key)
        if isinstance(value, Post):
            return value.seen_by(self)
        if isinstance(value, tuple) and value and isinstance(value[0], User):
            return tuple(map(self._seen, value))
        return value

    # ---- as UserPart asks

    @property
    def _viewer(self) -> Viewer:
        return self

    @property
    def _running(self) -> Driver:
        if self._is_gone:
            raise PeerClosed("this user is hosted here no more")
        return self._peer._running

    @property
    def _started_driver(self) -> Driver:
        return self._peer._started_driver

    @property
    def _core(self) -> Node | None:
        return self._peer._core

    @property
    def _is_closed(self) -> bool:
        return self._is_gone or self._peer._is_closed

    @property
    def _index(self) -> SearchIndexer | None:
        return self._peer._index

    def _started(self) -> object:
        return self._peer._started()

    @property
    def _names_lock(self) -> asyncio.Lock:
        return self._peer._hosting_lock

    def _check_name(self, name: str) -> None:
        self._peer._check_free(name, self.key)

    def _called(self, name: str, about: str | None) -> Change:
        former, self._kept = self._kept, replace(self._kept, name=name)
        self._peer._renamed(self, former.name)
        return Change(hosted=[self._kept])

    @property
    def _ignored_in(self) -> str:
        return ignored_of(self.key)

    def _consumer(self, name: str) -> str:
        return consumer_of(self.key, name)

    @property
    def _first_place(self) -> int:
        return self._feed.place_of(self._consumer(""))

    @property
    def _came_at(self) -> int:
        return self._first_place

    def _gone(self) -> None:
        """It is hosted no more."""
        self._is_gone = True

    def __repr__(self) -> str:
        return f"<HostedUser {self.name!a}>"


class AllUsersViewer(HostedUser):
    """All users of a gateway at once, and none of them: whose desk the events of TCPPeer.everybody have."""

    __slots__ = ()

    def __init__(self, peer: Hosting, access: AccessPolicy) -> None:
        super().__init__(peer, StoredUser("", b"", "", 0))
        self._access = access
        self._groups = peer._groups.seen_by(access.knows)


def consumer_of(user: UserId, name: str) -> str:
    """Return under which name the place of a consumer of a hosted user is kept; "": where it was hosted first."""
    return f"{user}:{name}"


def core_user(kept: StoredUser, about: str) -> CoreUser:
    """Return a kept user as the core speaks for it: offline, until it is said to be there."""
    return CoreUser(kept.id, kept.name, _signer(kept.secret), about=about, status="offline")


def _signer(secret: bytes) -> Callable[[bytes], bytes]:
    """Return what signs with this key, which is made when it is first needed: of ten thousand few write today."""
    identity: list[Identity] = []

    def sign(data: bytes) -> bytes:
        if not identity:
            identity.append(Identity.from_seed(secret))
        return identity[0].sign(data)

    return sign


# ---- everybody
#
# What concerns any user of a gateway, read once for all of them, and with each event for whom it is.


Users = tuple[UserId, ...] | None


@dataclass(frozen=True, slots=True)
class AddressedEvent(Event):
    """A live event, and whom it concerned when it happened."""

    inner: Event
    users: Users


class AllUsersSubscription(Subscription):
    """The cursor behind Everybody."""

    def __init__(
        self,
        source: Source,
        viewer: Viewer,
        types: tuple[type, ...],
        access: AllUsersPolicy,
        node: Callable[[], Node | None],
    ) -> None:
        self._everyone = access
        self._node = node
        super().__init__(source, viewer, types, None, "now", access)

    def tell(self, subject: Hashable, event: Event, audience: Audience = None) -> None:
        if not self.closed and self._wants(type(event)):
            self._push(subject, AddressedEvent(event, self._everyone.users_of(audience)))

    def push_receipts(self, rise: ReceiptUpdate) -> None:
        """Take receipts; of a message to the room, which a thousand of one gateway get, only that all have it."""
        if rise.having < rise.of and audience_of(self._node(), rise.log.conversation) is None:
            return
        super().push_receipts(rise)

    async def next_addressed(self) -> tuple[AnyEvent, Users]:
        """Return the next event and whom it concerns."""
        event: AnyEvent = await self.next()
        if isinstance(event, AddressedEvent):
            return event.inner, event.users
        if isinstance(event, ReceiptEvent):
            return event, (event.log.user,)
        assert isinstance(event, Post | Edited | Deleted | Reaction)
        return event, self._users_of(event.log)

    def _users_of(self, log: LogId) -> Users:
        audience = audience_of(self._node(), log.conversation)
        return self._everyone.users_of(None if audience is None else {*audience, log.user})


class AllUsersStream(AsyncIterator[tuple[AnyEvent, Users]]):
    """An iterator over `(event, users)`: see TCPPeer.everybody."""

    def __init__(self, reader: AllUsersSubscription) -> None:
        self._reader = reader

    def __aiter__(self) -> AllUsersStream:
        return self

    async def __anext__(self) -> tuple[AnyEvent, Users]:
        return await self._reader.next_addressed()

    def close(self) -> None:
        """Read no more."""
        self._reader.close()

    async def aclose(self) -> None:
        """As close."""
        self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._reader.close()
