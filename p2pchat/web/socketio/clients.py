"""Registered Socket.IO clients of a gateway, and what they share: presence and message statuses.

A client is a session like those of `/chat` and `/lines` (session.py). While its user is active, messages are read
when they are sent to it; otherwise when the user becomes active again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar

from engineio.packet import Packet as EnginePacket

from p2pchat import Delivered, Left, Message, PeerClosed, Presence, Read, Sent, StorageError, Typing, UnknownName, User
from p2pchat.web.accounts import Account, Accounts
from p2pchat.web.gateway import Gateway
from p2pchat.web.hub import Ending, Envelope, QueueFull
from p2pchat.web.schemas import iso
from p2pchat.web.session import CONSUMER as DELIVERY_CONSUMER
from p2pchat.web.session import QUEUED_KINDS, ClientSession, Post
from p2pchat.web.socketio.engine import NEW_MESSAGE, EngineConnection, event_packet

STATUSES = {"online": "online", "idle": "idle"}  # presence; every other status is offline here
ROOM_READ_AFTER = 2.0  # seconds in which read marks in the room are gathered
ROOM_READERS = 64  # clients up to which reading in the room is reported: each report goes to every writer there


class SocketClient(ClientSession):
    """One registered client.

    Attributes:
        send_lock: Held while the receiver of a message is resolved: messages are written in the order they came.
    """

    __slots__ = (
        "_read_timer", "_replayed", "_room_post", "_unread", "_waiting", "connection", "registry", "send_lock",
    )  # fmt: skip

    def __init__(self, registry: ClientRegistry, connection: EngineConnection, account: Account) -> None:
        """Open a session for a client. Raises as Hub.open."""
        super().__init__(registry.gateway, account, connection.drained)
        self.registry = registry
        self.connection = connection
        self._unread: dict[str, Post] = {}  # the newest message sent and not read, by conversation
        self._replayed: list[Post] = []  # messages from storage that were sent and not read
        self._room_post: Post | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self.send_lock = asyncio.Lock()
        self._waiting: list[str | EnginePacket] = []  # refs of messages not answered yet, and statuses behind them
        self.open("socketio", self._HANDLERS)

    # ---- events

    def deliver(self, envelope: Envelope) -> None:
        handler = self._HANDLERS.get(type(envelope.event))
        if handler is not None:
            handler(self, envelope)

    def _on_message(self, envelope: Envelope) -> None:
        post = envelope.event
        if self.is_due(envelope) and not self.wrote(post):
            self._send(post, envelope.encoded("socketio message", lambda: self._packet(post)))

    def _on_receipt(self, envelope: Envelope) -> None:
        packet = self.registry.statuses.packet_of(envelope, self.account)
        if packet is not None and self._waiting:
            self._waiting.append(packet)
        else:
            self._put(packet)

    def _on_presence(self, envelope: Envelope) -> None:
        if envelope.event.user.key != self.account.key:
            self._put(self.registry.presence.packet_of(envelope))

    def _on_typing(self, envelope: Envelope) -> None:
        typing: Typing = envelope.event
        if typing.user.key != self.account.key:
            self._put(envelope.encoded("socketio typing", lambda: self._typing_packet(typing)))

    def _typing_packet(self, typing: Typing) -> EnginePacket:
        who = name_of(self.gateway.accounts, typing.user)
        content = {"userId": who, "isTyping": typing.typing, "conversationId": typing.conversation.id}
        return event_packet("typingIndicator", content)

    _HANDLERS: ClassVar[dict[type, Callable[[SocketClient, Envelope], None]]] = {
        Message: _on_message, Sent: _on_message, Delivered: _on_receipt, Read: _on_receipt, Presence: _on_presence,
        Left: _on_presence, Typing: _on_typing,
    }  # fmt: skip

    def _packet(self, post: Post) -> EnginePacket | None:
        """Return a message as a packet; None if it was deleted or this version cannot show it."""
        if post.unsupported is not None or post.deleted:
            return None
        return event_packet(NEW_MESSAGE, message_json(self.gateway.accounts, post))

    def _put(self, packet: EnginePacket | None) -> None:
        if packet is not None:
            self.connection.put(packet)

    def put_or_end(self, packet: EnginePacket) -> None:
        """Send a packet outside of deliver(); end the session if its queue is full."""
        try:
            self.connection.put(packet)
        except QueueFull:
            self.gateway.hub.end(self.hub_session, "slow")

    def _send(self, post: Post, packet: EnginePacket | None, *, bounded: bool = True) -> None:
        if packet is None:
            return
        self.connection.put(packet, post if post.conversation.kind in QUEUED_KINDS else None, bounded=bounded)
        if post.log.user == self.account.key:
            return
        if self.hub_session.active:
            self._mark_read(post)
        else:
            self._unread[post.log.conversation] = post

    # ---- writing

    def begin_message(self) -> str:
        """Return the ref of a message to be written. Statuses wait until end_message() is called with it."""
        ref = self.next_ref()
        self._waiting.append(ref)
        return ref

    def end_message(self, ref: str) -> None:
        """Send the statuses that waited for the answer to this message and for none before it."""
        self._waiting.remove(ref)
        while self._waiting and isinstance(self._waiting[0], EnginePacket):
            self.put_or_end(self._waiting.pop(0))

    # ---- reading

    def set_active(self, active: bool) -> None:
        """Set whether the user is looking; one who is has read everything sent so far."""
        self.hub_session.set_active(active)
        if active:
            unread, self._unread = self._unread, {}
            for post in unread.values():
                self._mark_read(post)
            replayed, self._replayed = self._replayed, []
            for post in replayed:
                self.registry.statuses.on_replayed(self.account, post, "read")

    def _mark_read(self, post: Post) -> None:
        if post.conversation.kind != "room":
            self.user.mark_read(post)
            return
        if self.gateway.hub.open_by_kind["socketio"] > ROOM_READERS:
            return
        self._room_post = post
        if self._read_timer is None:
            self._read_timer = asyncio.get_running_loop().call_later(ROOM_READ_AFTER, self._mark_room_read)

    def _mark_room_read(self) -> None:
        self._read_timer = None
        post, self._room_post = self._room_post, None
        if post is not None:
            with suppress(PeerClosed):
                self.user.mark_read(post)

    # ---- catching up

    async def replay(self, since: Post | None) -> None:
        """Send everything after `since`, or what waits for the account if it is None; then live events follow."""
        try:
            if since is None:
                self.gateway.audit_handed_over(self.account, "socketio", await self.catch_up.waiting())
            else:
                await self.catch_up.since(since)
        except PeerClosed:
            pass
        except (QueueFull, StorageError):
            self.gateway.hub.end(self.hub_session, "slow")  # it reconnects and tries again

    def send_missed(self, post: Post) -> None:
        if not self.wrote(post):
            self._send(post, self._packet(post), bounded=False)
            self.registry.statuses.on_replayed(self.account, post, "delivered")
            if self.hub_session.active:
                self.registry.statuses.on_replayed(self.account, post, "read")
            else:
                self._replayed.append(post)

    # ---- arrival and end

    def on_arrival(self, post: Post) -> None:
        """Store that everything up to this message has arrived."""
        with suppress(PeerClosed):
            self.user.hand_on(post, DELIVERY_CONSUMER)

    def on_ack(self, post: Post) -> None:
        """Mark a message and all before it in its conversation as read, as the client says; so it has arrived."""
        self.user.mark_read(post)
        newest = self.connection.newest
        if newest is not None and post.place <= newest.place:
            self.on_arrival(post)

    def close(self, *, orderly: bool) -> None:
        """Close the session of a client that is gone. `orderly`: everything written to it has arrived."""
        self.registry.remove(self)
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._mark_room_read()
        if orderly and self.connection.newest is not None:
            self.on_arrival(self.connection.newest)

    def on_end(self, why: Ending) -> None:
        """Close the connection; only a client whose token was revoked is told not to come back."""
        self.registry.spawn(self.connection.end(away=why == "revoked", flush=why != "slow"))


class ClientRegistry:
    """All clients of a gateway, and what they share."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clients: dict[str, list[SocketClient]] = {}  # by user key
        self.statuses = MessageStatuses(self)
        self.presence = PresenceBroadcaster(self)
        gateway.hub.observers.update({Presence: self.presence.packet_of, Left: self.presence.packet_of})
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, client: SocketClient) -> None:
        self.clients.setdefault(client.account.key, []).append(client)

    def remove(self, client: SocketClient) -> None:
        """Remove a client and close its session; does nothing if it was removed."""
        clients = self.clients.get(client.account.key, [])
        if client in clients:
            clients.remove(client)
            if not clients:
                del self.clients[client.account.key]
        self.gateway.hub.close(client.hub_session)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class PresenceBroadcaster:
    """Presence of users as Socket.IO clients receive it: online, idle or offline."""

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._known: dict[str, str] = {}  # the status announced last, by user key

    def packet_of(self, envelope: Envelope) -> EnginePacket | None:
        """Return `presenceUpdate`, made once for all clients; None if nothing changed.

        The hub calls it too, so that a change is noted even if no client receives it.
        """
        return envelope.encoded("socketio presence", lambda: self._change(envelope.event))

    def _change(self, event: Presence | Left) -> EnginePacket | None:
        key = event.user.key
        status = STATUSES.get(event.status, "offline") if isinstance(event, Presence) else "offline"
        self._registry.statuses.on_presence(key, status)
        if self._known.get(key) == status:
            return None  # Left and Presence report the same change
        self._known[key] = status
        return self._packet(event.user, status)

    def _packet(self, user: User, status: str) -> EnginePacket:
        return event_packet(
            "presenceUpdate", {"userId": name_of(self._registry.gateway.accounts, user), "status": status}
        )

    def snapshot(self, account: Account) -> list[EnginePacket]:
        """Return the presence of the users a new client hears about; those missing are offline."""
        gateway = self._registry.gateway
        users = gateway.peer.acquainted(account.user.me) if gateway.hub.is_crowd else gateway.peer.here()
        return [
            self._packet(user, status)
            for user in users
            if (status := STATUSES.get(user.status)) and user.key != account.key
        ]


# ---- message statuses

CONSUMER = "socketio status"  # consumer whose position says up to where everything an account wrote was read
MAX_HELD = 10_000  # messages whose receiver is away, in all; the writer of a dropped one hears when it reconnects
MAX_RECENT = 4096  # statuses that are not sent twice
MAX_STATUSES_AGAIN = 200  # newest direct messages of an account whose status is sent to a client that comes back


class MessageStatuses:
    """`messageStatus` events for writers, sent once for each step: delivered, read.

    In a direct conversation these are steps of its receiver; in a group or the room they are sent when all have got
    there. The mesh counts a message to a user of this gateway as delivered once it is accepted, since it is on the
    disk of that user's peer. Writers on Socket.IO hear `delivered` only once a client of the receiver got the
    message, because the receiver may be away and have nothing but this gateway.
    """

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._held: dict[str, dict[str, str]] = {}  # writer by message id, by receiver
        self._held_count = 0
        self._recent: dict[tuple[str, str], None] = {}

    # ---- live

    def packet_of(self, envelope: Envelope, writer: Account) -> EnginePacket | None:
        """Return the status for the writer's clients, made once for all of them; None for nothing, or not yet."""
        return envelope.encoded("socketio status", lambda: self._packet(envelope.event, writer))

    def _packet(self, event: Delivered | Read, writer: Account) -> EnginePacket | None:
        if isinstance(event, Read):
            self._drop(event.user.key, event.id)
        direct = writer.user.conversation(event.log.conversation).kind == "dm"
        if not direct and event.count < event.of:
            return None
        if direct and isinstance(event, Delivered) and self._is_away(event.user.key):
            self._hold(event.user.key, event.id, writer.key)
            return None
        return _status_packet(event.id, event.event) if self._is_new(event.id, event.event) else None

    def _is_away(self, key: str) -> bool:
        """Return whether this is a user of this gateway without a session."""
        gateway = self._registry.gateway
        receiver = gateway.accounts.of(key)
        return receiver is not None and not gateway.hub.sessions_of(receiver)

    def _hold(self, receiver: str, message_id: str, writer: str) -> None:
        if self._held_count < MAX_HELD:
            self._held.setdefault(receiver, {})[message_id] = writer
            self._held_count += 1

    def _drop(self, receiver: str, message_id: str) -> None:
        held = self._held.get(receiver, {})
        if held.pop(message_id, None) is not None:
            self._held_count -= 1
            if not held:
                del self._held[receiver]

    # ---- when the receiver comes

    def on_replayed(self, receiver: Account, post: Post, status: str) -> None:
        """Report that a waiting message was sent to a client of the receiver, or read.

        The library reports only on messages written since this peer started; waiting ones may be older.
        """
        if post.conversation.kind == "dm" and post.log.user != receiver.key:
            self._drop(receiver.key, post.id)
            self._send(post.log.user, post.id, status)

    def on_presence(self, key: str, status: str) -> None:
        """Report held messages as delivered when the receiver comes by an interface other than Socket.IO."""
        if status == "offline" or key not in self._held:
            return
        receiver = self._registry.gateway.accounts.of(key)
        sessions = [] if receiver is None else self._registry.gateway.hub.sessions_of(receiver)
        if any(session.kind != "socketio" for session in sessions):
            held = self._held.pop(key)
            self._held_count -= len(held)
            for message_id, writer in held.items():
                self._send(writer, message_id, "delivered")

    def _is_new(self, message_id: str, status: str) -> bool:
        """Return whether a status was not sent recently by the other way, and remember it."""
        if (message_id, status) in self._recent:
            return False
        self._recent[message_id, status] = None
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]
        return True

    def _send(self, writer: str, message_id: str, status: str) -> None:
        clients = self._registry.clients.get(writer, ())
        if clients and self._is_new(message_id, status):
            packet = _status_packet(message_id, status)
            for client in clients:
                client.put_or_end(packet)

    # ---- when the writer comes back

    async def send_again(self, client: SocketClient) -> None:
        """Send a new client the statuses of its user's newest direct messages."""
        try:
            for post, status in await self._statuses_of(client.account):
                client.put_or_end(_status_packet(post.id, status))
        except (PeerClosed, StorageError):
            pass  # sent with the next step, or the next time

    async def _statuses_of(self, account: Account) -> list[tuple[Sent, str]]:
        user = account.user
        written: deque[Sent] = deque()
        last: Post | None = None
        while page := await user.released(last, consumer=CONSUMER, kinds=("dm",)):
            written += [post for post in page if isinstance(post, Sent)]
            last, older = page[-1], None
            while len(written) > MAX_STATUSES_AGAIN:
                older = written.popleft()
            if older is not None:  # never sent again, so the next time need not read them either
                user.hand_on(older, CONSUMER)
        found, all_read = [], True
        for post in written:
            status = await self._status_of(account, post)
            all_read = all_read and status == "read"
            if all_read:
                user.hand_on(post, CONSUMER)
            if status != "accepted":
                found.append((post, status))
        return found

    async def _status_of(self, account: Account, post: Sent) -> str:
        gateway = self._registry.gateway
        try:
            status = (await account.user.receipt(post.id)).status
        except UnknownName:
            return "accepted"
        other = post.conversation.user
        receiver = None if other is None else gateway.accounts.of(other.key)
        if status != "delivered" or receiver is None or gateway.hub.sessions_of(receiver):
            return status
        return status if await self._was_received(receiver, post) else "accepted"

    async def _was_received(self, receiver: Account, post: Post) -> bool:
        """Return whether a client of a user who is away now has received a message."""
        waiting = await receiver.user.released(consumer=DELIVERY_CONSUMER, kinds=("dm",), limit=1)
        return not waiting or waiting[0].place > post.place


# ---- payloads


def name_of(accounts: Accounts, user: User) -> str:
    """Return the name of a user here: that of its account, or its label in the mesh."""
    account = accounts.of(user.key)
    return user.label if account is None else account.name


def _status_packet(message_id: str, status: str) -> EnginePacket:
    return event_packet("messageStatus", {"messageId": message_id, "status": status})


def message_json(accounts: Accounts, post: Message | Sent) -> dict[str, Any]:
    """Return the payload of `newMessage`."""
    talk = post.conversation
    found: dict[str, Any] = {
        "id": post.id, "from": name_of(accounts, post.sender), "content": post.text, "timestamp": iso(post.sent_at),
        "conversationId": talk.id, "kind": talk.kind,
    }  # fmt: skip
    if talk.kind == "group":
        found["group"] = talk.name
    if post.action:
        found["action"] = True
    if post.claimed_at is not None:
        found["clientTimestamp"] = iso(post.claimed_at)
    return found
