"""Client: one registered socket of an account. What happens goes to it in the words of Socket.IO, what it missed first.

What waits for an account, and how far it has taken it, is as everywhere in the gateway (catch_up.py). While a user
looks, what a socket is handed is read at once; otherwise when the user comes back to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from p2pchat import Delivered, Left, Message, PeerClosed, Presence, Read, Sent, StorageError, Typing
from p2pchat.apps.web.socketio import shapes
from p2pchat.apps.web.socketio.wire import Post, Wire
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import QUEUED, TAKEN, CatchingUp
from p2pchat.web.hub import Ending, Session, Slow, Told
from p2pchat.web.socketio.messages import NEW_MESSAGE, EnginePacket, event

if TYPE_CHECKING:
    from p2pchat.apps.web.socketio.floor import Floor

ROOM_READ_AFTER = 2.0  # seconds in which what is read in the room is gathered
ROOM_READERS = 64  # clients, up to which reading in the room is told: everybody's goes to every writer there


class Client:
    """One registered socket.

    Attributes:
        floor: What all clients of a gateway share.
        turn: Held while it is found out where a message goes: messages are written in the order they came.
    """

    __slots__ = (
        "_catching_up",
        "_reading",
        "_room_post",
        "_unread",
        "_waited",
        "account",
        "floor",
        "key",
        "session",
        "turn",
        "wire",
    )

    def __init__(self, floor: Floor, wire: Wire, account: Account) -> None:
        self.floor = floor
        self.wire = wire
        self.account = account
        self.key = account.key
        self._catching_up = CatchingUp(account.user, self._give, wire.room)
        self._unread: dict[str, Post] = {}  # the newest that was handed and not read, by conversation
        self._waited: list[Post] = []  # what was handed when it came, and not read
        self._room_post: Post | None = None
        self._reading: asyncio.TimerHandle | None = None
        self.turn = asyncio.Lock()
        self.session: Session = floor.gateway.hub.open(account, self.take, "socketio", self._ended, wants=self._TELLS)

    # ---- what happens

    def take(self, told: Told) -> None:
        """The hub's sink. Raises Slow."""
        tell = self._TELLS.get(type(told.event))
        if tell is not None:
            tell(self, told)

    def _message(self, told: Told) -> None:
        post = told.event
        if self._catching_up.takes(post) and not self._wrote_here(post):
            self._hand(post, told.encoded("socketio message", lambda: self._packet(post)))

    def _status(self, told: Told) -> None:
        self._put(self.floor.statuses.packet_of(told, self.account))

    def _presence(self, told: Told) -> None:
        if told.event.user.key != self.key:
            self._put(self.floor.presence.packet_of(told))

    def _typing(self, told: Told) -> None:
        typing: Typing = told.event
        if typing.user.key != self.key:
            self._put(told.encoded("socketio typing", lambda: self.floor.typing_packet(typing)))

    _TELLS: ClassVar[dict[type, Callable[[Client, Told], None]]] = {
        Message: _message, Sent: _message, Delivered: _status, Read: _status, Presence: _presence, Left: _presence,
        Typing: _typing,
    }  # fmt: skip

    def _is_mine(self, post: Post) -> bool:
        return post.log.user == self.key

    def _wrote_here(self, post: Post) -> bool:
        """Whether this very socket wrote it, which was answered and is told nothing else."""
        return self._is_mine(post) and self.floor.wrote_here(self, self.account.user.post(post))

    def _packet(self, post: Post) -> EnginePacket | None:
        """Return a message as it goes out; None for what this version cannot show, and what was taken back."""
        if post.unsupported is not None or post.deleted:
            return None
        return event(NEW_MESSAGE, shapes.message(self.floor.gateway.accounts, post))

    def _put(self, packet: EnginePacket | None) -> None:
        if packet is not None:
            self.wire.put(packet)

    def _hand(self, post: Post, packet: EnginePacket | None, *, bounded: bool = True) -> None:
        if packet is None:
            return
        self.wire.put(packet, post if post.conversation.kind in QUEUED else None, bounded=bounded)
        if self._is_mine(post):
            return
        if self.session.active:
            self._read(post)
        else:
            self._unread[post.log.conversation] = post

    # ---- reading

    def set_active(self, active: bool) -> None:
        """The user looks, or looks away; who looks has read what was handed meanwhile."""
        self.session.set_active(active)
        if active:
            unread, self._unread = self._unread, {}
            for post in unread.values():
                self._read(post)
            waited, self._waited = self._waited, []
            for post in waited:
                self.floor.statuses.waited(self.account, post, "read")

    def _read(self, post: Post) -> None:
        if post.conversation.kind != "room":
            self.account.user.mark_read(post)
            return
        if self.floor.count > ROOM_READERS:
            return
        self._room_post = post
        if self._reading is None:
            self._reading = asyncio.get_running_loop().call_later(ROOM_READ_AFTER, self._read_room)

    def _read_room(self) -> None:
        self._reading = None
        post, self._room_post = self._room_post, None
        if post is not None:
            with suppress(PeerClosed):
                self.account.user.mark_read(post)

    # ---- catching up

    async def catch_up(self, since: Post | None) -> None:
        """Hand over everything behind `since`, otherwise what waits for the account; then what happens."""
        try:
            if since is None:
                await self._catching_up.waiting()
            else:
                await self._catching_up.since(since)
        except PeerClosed:
            pass
        except (Slow, StorageError):
            self.floor.gateway.hub.end(self.session, "slow")  # it comes back, and tries again

    def _give(self, post: Post) -> None:
        if not self._wrote_here(post):
            self._hand(post, self._packet(post), bounded=False)
            self.floor.statuses.waited(self.account, post, "delivered")
            if self.session.active:
                self.floor.statuses.waited(self.account, post, "read")
            else:
                self._waited.append(post)

    # ---- the end

    def arrived(self, post: Post) -> None:
        """Everything up to this message is at the client."""
        with suppress(PeerClosed):
            self.account.user.hand_on(post, TAKEN)

    def acknowledged(self, post: Post) -> None:
        """The client says that a message is read: so are those before it in its conversation, and all of it arrived."""
        self.account.user.mark_read(post)
        newest = self.wire.newest
        if newest is not None and post.place <= newest.place:
            self.arrived(post)

    def close(self, *, orderly: bool) -> None:
        """The socket is gone; after an orderly goodbye what was written to it has arrived."""
        self.floor.forget(self)
        if self._reading is not None:
            self._reading.cancel()
            self._read_room()
        if orderly and self.wire.newest is not None:
            self.arrived(self.wire.newest)

    def _ended(self, why: Ending) -> None:
        """The hub has ended the session."""
        self.floor.ended(self, why)

    def put_or_end(self, packet: EnginePacket) -> None:
        """Have a packet written that is no answer to what the hub told."""
        try:
            self.wire.put(packet)
        except Slow:
            self.floor.gateway.hub.end(self.session, "slow")
