"""Client: one registered socket of an account. What happens goes to it in the words of Socket.IO, what it missed first.

What waits for an account, and how far it has taken it, is as everywhere in the gateway (catch_up.py). While a user
looks, what a socket is handed is read at once; otherwise when the user comes back to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ClassVar

from p2pchat import Delivered, Left, Message, PeerClosed, Presence, Read, Sent, StorageError, Typing, UnknownName, User
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import QUEUED, TAKEN, CatchUp
from p2pchat.web.gateway import Gateway
from p2pchat.web.hub import Ending, Envelope, HubSession, QueueFull
from p2pchat.web.socketio import messages
from p2pchat.web.socketio.messages import (
    MESSAGE_STARTS,
    NEW_MESSAGE,
    PING,
    PONG,
    STATUSES,
    EnginePacket,
    event,
    farewell,
    name_of,
    ping,
    size_of,
)

ROOM_READ_AFTER = 2.0  # seconds in which what is read in the room is gathered
ROOM_READERS = 64  # clients, up to which reading in the room is told: everybody's goes to every writer there


class SocketClient:
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
        "registry",
        "key",
        "session",
        "turn",
        "wire",
    )

    def __init__(self, registry: ClientRegistry, wire: EngineConnection, account: Account) -> None:
        self.registry = registry
        self.wire = wire
        self.account = account
        self.key = account.key
        self._catching_up = CatchUp(account.user, self._give, wire.room)
        self._unread: dict[str, Post] = {}  # the newest that was handed and not read, by conversation
        self._waited: list[Post] = []  # what was handed when it came, and not read
        self._room_post: Post | None = None
        self._reading: asyncio.TimerHandle | None = None
        self.turn = asyncio.Lock()
        self.session: HubSession = registry.gateway.hub.open(
            account, self.take, "socketio", self._ended, wants=self._TELLS
        )

    # ---- what happens

    def take(self, told: Envelope) -> None:
        """The hub's sink. Raises Slow."""
        tell = self._TELLS.get(type(told.event))
        if tell is not None:
            tell(self, told)

    def _message(self, told: Envelope) -> None:
        post = told.event
        if self._catching_up.takes(post) and not self._wrote_here(post):
            self._hand(post, told.encoded("socketio message", lambda: self._packet(post)))

    def _status(self, told: Envelope) -> None:
        self._put(self.registry.statuses.packet_of(told, self.account))

    def _presence(self, told: Envelope) -> None:
        if told.event.user.key != self.key:
            self._put(self.registry.presence.packet_of(told))

    def _typing(self, told: Envelope) -> None:
        typing: Typing = told.event
        if typing.user.key != self.key:
            self._put(told.encoded("socketio typing", lambda: self.registry.typing_packet(typing)))

    _TELLS: ClassVar[dict[type, Callable[[SocketClient, Envelope], None]]] = {
        Message: _message, Sent: _message, Delivered: _status, Read: _status, Presence: _presence, Left: _presence,
        Typing: _typing,
    }  # fmt: skip

    def _is_mine(self, post: Post) -> bool:
        return post.log.user == self.key

    def _wrote_here(self, post: Post) -> bool:
        """Whether this very socket wrote it, which was answered and is told nothing else."""
        return self._is_mine(post) and self.registry.wrote_here(self, self.account.user.post(post))

    def _packet(self, post: Post) -> EnginePacket | None:
        """Return a message as it goes out; None for what this version cannot show, and what was taken back."""
        if post.unsupported is not None or post.deleted:
            return None
        return event(NEW_MESSAGE, messages.message(self.registry.gateway.accounts, post))

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
                self.registry.statuses.waited(self.account, post, "read")

    def _read(self, post: Post) -> None:
        if post.conversation.kind != "room":
            self.account.user.mark_read(post)
            return
        if self.registry.count > ROOM_READERS:
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
        except (QueueFull, StorageError):
            self.registry.gateway.hub.end(self.session, "slow")  # it comes back, and tries again

    def _give(self, post: Post) -> None:
        if not self._wrote_here(post):
            self._hand(post, self._packet(post), bounded=False)
            self.registry.statuses.waited(self.account, post, "delivered")
            if self.session.active:
                self.registry.statuses.waited(self.account, post, "read")
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
        self.registry.forget(self)
        if self._reading is not None:
            self._reading.cancel()
            self._read_room()
        if orderly and self.wire.newest is not None:
            self.arrived(self.wire.newest)

    def _ended(self, why: Ending) -> None:
        """The hub has ended the session."""
        self.registry.ended(self, why)

    def put_or_end(self, packet: EnginePacket) -> None:
        """Have a packet written that is no answer to what the hub told."""
        try:
            self.wire.put(packet)
        except QueueFull:
            self.registry.gateway.hub.end(self.session, "slow")


# ---- wire
#
# Wire: one Engine.IO connection, by WebSocket or polling: what waits for it, what went out, and what surely arrived.
#
# That something was written to a connection does not say that anybody has it. So a wire remembers which messages went
# out before Engine.IO's ping: its pong says that they arrived, and so does the next poll of a client that polls. What
# was not proved when a connection broke is delivered again when the client comes back; an orderly goodbye counts for
# everything that was written.


PROBE_AFTER = 5.0  # seconds after a message in which a ping asks whether it has arrived; Engine.IO's own come each 25 s
PROVED_WITHIN = 1.0  # seconds that the proof gets when a connection is closed from here
FLUSHED_WITHIN = 2.0  # seconds that a client which is sent away gets to take what was written
GOING_AWAY = (1000, 1001)  # close codes of RFC 6455 that a browser sends when a page is left, or a program says goodbye

Post = Message | Sent


class EngineConnection:
    """One connection.

    Attributes:
        id: Engine.IO's name of it, which only the client knows.
        host: The address it came from.
        client: Whose it is, once registered.
    """

    __slots__ = (
        "_arrival", "_bytes", "_close", "_drained", "_max_bytes", "_max_frames", "_out", "_pinged", "_probe", "_proved",
        "_socket", "_went", "client", "deadline", "ended", "frames", "host", "id", "leaving", "scope", "sid",
    )  # fmt: skip

    def __init__(
        self, socket: Any, scope: Any, host: str, *, max_frames: int, max_bytes: int,
        proved: Callable[[EngineConnection, Post], None],
    ) -> None:  # fmt: skip
        self._socket = socket
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._proved = proved
        self._out: deque[tuple[Post, int]] | None = None  # messages that wait to be written; made when there are any
        self._bytes = 0
        self._went: Post | None = None  # the newest that was written
        self._pinged: Post | None = None  # the newest that was written before the last ping
        self._probe: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Future[None] | None = None  # somebody waits for what was written to have arrived
        self._drained: asyncio.Future[None] | None = None  # somebody waits for less to be on its way
        self._close: Callable[[], Any] | None = None
        self.id: str = socket.sid
        self.sid = ""  # Socket.IO's name of it
        self.scope = scope
        self.host = host
        self.client: SocketClient | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.frames = 0  # taken before it was registered
        self.leaving = False  # said goodbye in good order
        self.ended = False

    @property
    def newest(self) -> Post | None:
        """The newest message that was written to it, of those of which it is to be known."""
        return self._went

    # ---- out

    def put(self, packet: EnginePacket, post: Post | None = None, *, bounded: bool = True) -> None:
        """Have a packet written. Raises Slow when too much waits already.

        Args:
            post: The message it is, when it is to be known whether that arrived.
            bounded: False where who puts it waits for room() after some.
        """
        socket = self._socket
        if self.ended or socket.closed:
            return
        size = 0 if post is None else size_of(packet)
        if bounded and (socket.queue.qsize() >= self._max_frames or self._bytes + size > self._max_bytes):
            raise QueueFull
        if post is not None:
            if self._out is None:
                self._out = deque()
            self._out.append((post, size))
            self._bytes += size
            if self._probe is None:
                self._probe = asyncio.get_running_loop().call_later(PROBE_AFTER, self._ask)
        socket.queue.put_nowait(packet)

    async def room(self) -> None:
        """Wait until not much is on its way: for who could write more than is taken."""
        queue = self._socket.queue
        while not self.ended and (queue.qsize() > self._max_frames // 4 or self._bytes > self._max_bytes // 4):
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def _ask(self) -> None:
        """Ask whether everything has arrived."""
        self._probe = None
        if not self.ended and not self._socket.closed:
            self._socket.queue.put_nowait(ping())

    def wrote(self, text: str) -> None:
        """A packet was written to the connection."""
        if text.startswith(MESSAGE_STARTS):
            if self._out:
                self._went, size = self._out.popleft()
                self._bytes -= size
        elif text == PING:
            self._pinged = self._went
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # ---- in

    def took(self, text: str) -> None:
        """A packet came in."""
        if text == PONG and self._pinged is not None:
            self._arrived(self._pinged)

    def polled(self) -> None:
        """The client asks for more: it has what the last answer brought."""
        if self._went is not None:
            self._arrived(self._went)

    def _arrived(self, post: Post) -> None:
        self._pinged = None
        self._proved(self, post)
        if self._arrival is not None and not self._arrival.done() and not self._out and post is self._went:
            self._arrival.set_result(None)

    async def arrival(self) -> None:
        """Wait a moment for the proof that everything written has arrived."""
        if self._went is None or self.ended or self._socket.closed:
            return
        self._arrival = asyncio.get_running_loop().create_future()
        self._ask()
        with suppress(TimeoutError):
            async with asyncio.timeout(PROVED_WITHIN):
                await self._arrival

    # ---- the end

    def closes_with(self, close: Callable[[], Any]) -> None:
        """Take what closes the WebSocket below."""
        self._close = close

    def went_away(self, code: int) -> None:
        """The WebSocket was closed from the other side."""
        self.leaving = self.leaving or code in GOING_AWAY

    def release(self) -> None:
        """The connection is gone: nobody waits for it any more, a poll that was waiting for news included."""
        self.ended = True
        if self._probe is not None:
            self._probe.cancel()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._socket.queue.put_nowait(None)

    async def end(self, *, away: bool, flush: bool = True) -> None:
        """Close it from here.

        Args:
            away: The client is sent away for good; otherwise it comes back by itself.
            flush: What was put before is written first.
        """
        socket = self._socket
        if self.ended:
            return
        if self._probe is not None:
            self._probe.cancel()
        if flush:
            await self.arrival()
        if away and not socket.closed:
            socket.queue.put_nowait(farewell())
        self.ended = True
        if flush and not socket.closed:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSHED_WITHIN):
                    await socket.queue.join()
        while not socket.queue.empty():
            socket.queue.get_nowait()
            socket.queue.task_done()
        socket.queue.put_nowait(None)  # its writer ends, and closes the connection
        await socket.close(wait=False, abort=True)
        if self._close is not None:
            with suppress(Exception):  # closed already
                await self._close()


# ---- floor
#
# What all Socket.IO clients of a gateway share: who is there, presence as they hear it, statuses of messages.


class ClientRegistry:
    """Everything the clients have in common."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clients: dict[str, list[SocketClient]] = {}  # by user key
        self.count = 0
        self.statuses = MessageStatuses(self)
        self.presence = PresenceBroadcaster(self)
        gateway.hub.watching.update({Presence: self.presence.watch, Left: self.presence.watch})
        self._refs = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, client: SocketClient) -> None:
        self.clients.setdefault(client.account.key, []).append(client)
        self.count += 1

    def forget(self, client: SocketClient) -> None:
        """A client is gone; nothing happens when it was gone already."""
        there = self.clients.get(client.account.key, [])
        if client in there:
            there.remove(client)
            self.count -= 1
            if not there:
                del self.clients[client.account.key]
        self.gateway.hub.close(client.session)

    def ended(self, client: SocketClient, why: Ending) -> None:
        """The hub has ended a session: only who lost its token is sent away for good."""
        self.spawn(client.wire.end(away=why == "revoked", flush=why != "slow"))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- who wrote what

    def ref(self, client: SocketClient) -> str:
        """Return a word to send a message with, by which its own socket knows it again."""
        self._refs += 1
        return f"{client.wire.sid}/{self._refs}"

    def wrote_here(self, client: SocketClient, post: Post) -> bool:
        """Whether this socket wrote it."""
        ref: str | None = getattr(post, "ref", None)
        return ref is not None and ref.startswith(f"{client.wire.sid}/")

    # ---- packets

    def typing_packet(self, typing: Typing) -> EnginePacket:
        told = {
            "userId": name_of(self.gateway.accounts, typing.user), "isTyping": typing.typing,
            "conversationId": typing.conversation.id,
        }  # fmt: skip
        return event("typingIndicator", told)

    def status_packet(self, message_id: str, status: str) -> EnginePacket:
        return event("messageStatus", {"messageId": message_id, "status": status})


class PresenceBroadcaster:
    """Who is online, idle or offline, as clients hear it."""

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._known: dict[str, str] = {}  # by user key: what was told last, of everybody who ever came or went

    def watch(self, told: Envelope) -> None:
        """Somebody comes, goes or is idle, whether or not a client hears of it."""
        self.packet_of(told)

    def packet_of(self, told: Envelope) -> EnginePacket | None:
        """Return `presenceUpdate`, made once for all clients; None when it tells nothing new."""
        return told.encoded("socketio presence", lambda: self._changed(told.event))

    def _changed(self, changed: Presence | Left) -> EnginePacket | None:
        key = changed.user.key
        status = STATUSES.get(changed.status, "offline") if isinstance(changed, Presence) else "offline"
        self._registry.statuses.came(key, status)
        if self._known.get(key) == status:
            return None  # Left and Presence tell the same
        self._known[key] = status
        return self._packet(changed.user, status)

    def _packet(self, user: User, status: str) -> EnginePacket:
        return event("presenceUpdate", {"userId": name_of(self._registry.gateway.accounts, user), "status": status})

    def snapshot(self, account: Account) -> list[EnginePacket]:
        """Return how those are whom a new client hears of: who is not named is offline."""
        gateway = self._registry.gateway
        users = gateway.peer.acquainted(account.user.me) if gateway.hub.is_crowd else gateway.peer.here()
        found = []
        for user in users:
            status = STATUSES.get(user.status)
            if status and user.key != account.key:
                found.append(self._packet(user, status))
        return found


# ---- statuses
#
# `messageStatus`: what the writer hears of a message, once for each step: delivered, read.
#
# In a direct conversation those are steps of its one receiver; in a group or the room they are told when everybody has
# it. For the mesh a message to a user of this same gateway is delivered when it is accepted, for it is on the disk of
# that user's peer. Its writer's client is told `delivered` only when a client of the receiver was handed it: the
# receiver may be away, and have nothing but this gateway.


CONSUMER = "socketio status"  # cursor of an account: of what it wrote up to there everything is read
MOST_HELD = 10_000  # messages whose receiver is away, in all; the writer of a forgotten one hears when it comes back
MOST_LATELY = 4096  # steps that are not told twice
MOST_AGAIN = 200  # of an account's newest direct messages: whose status a client that comes back is told


class MessageStatuses:
    """What became of messages, on its way to their writers."""

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._held: dict[str, dict[str, str]] = {}  # by receiver, message id -> its writer
        self._count = 0
        self._lately: dict[tuple[str, str], None] = {}

    # ---- live

    def packet_of(self, told: Envelope, writer: Account) -> EnginePacket | None:
        """Return what the writer's clients are told of it, made once for them; None for nothing, or not yet."""
        return told.encoded("socketio status", lambda: self._packet(told.event, writer))

    def _packet(self, risen: Delivered | Read, writer: Account) -> EnginePacket | None:
        if isinstance(risen, Read):
            self._drop(risen.user.key, risen.id)
        direct = writer.user.conversation(risen.log.conversation).kind == "dm"
        if not direct and risen.count < risen.of:
            return None
        if direct and isinstance(risen, Delivered) and self._is_away(risen.user.key):
            self._hold(risen.user.key, risen.id, writer.key)
            return None
        return self._registry.status_packet(risen.id, risen.event) if self._is_news(risen.id, risen.event) else None

    def _is_away(self, key: str) -> bool:
        """Whether this is a user of this gateway who has no client here now."""
        gateway = self._registry.gateway
        receiver = gateway.accounts.of(key)
        return receiver is not None and not gateway.hub.sessions_of(receiver)

    def _hold(self, receiver: str, message_id: str, writer: str) -> None:
        if self._count < MOST_HELD:
            self._held.setdefault(receiver, {})[message_id] = writer
            self._count += 1

    def _drop(self, receiver: str, message_id: str) -> str | None:
        held = self._held.get(receiver, {})
        writer = held.pop(message_id, None)
        if writer is not None:
            self._count -= 1
            if not held:
                del self._held[receiver]
        return writer

    # ---- the receiver is there

    def waited(self, receiver: Account, post: Post, status: str) -> None:
        """A client of the receiver was handed what waited for it, or that was read.

        The library tells of what was written since this peer started; what waits may be older.
        """
        if post.conversation.kind == "dm" and post.log.user != receiver.key:
            self._drop(receiver.key, post.id)
            self._tell(post.log.user, post.id, status)

    def came(self, key: str, status: str) -> None:
        """A user is there, or not any more: who comes by other ways than Socket.IO is handed everything by these."""
        if status == "offline" or key not in self._held:
            return
        receiver = self._registry.gateway.accounts.of(key)
        sessions = [] if receiver is None else self._registry.gateway.hub.sessions_of(receiver)
        if any(session.kind != "socketio" for session in sessions):
            held = self._held.pop(key)
            self._count -= len(held)
            for message_id, writer in held.items():
                self._tell(writer, message_id, "delivered")

    def _is_news(self, message_id: str, status: str) -> bool:
        """Whether this was not told just now, by the other way there is."""
        if (message_id, status) in self._lately:
            return False
        self._lately[message_id, status] = None
        if len(self._lately) > MOST_LATELY:
            del self._lately[next(iter(self._lately))]
        return True

    def _tell(self, writer: str, message_id: str, status: str) -> None:
        clients = self._registry.clients.get(writer, ())
        if clients and self._is_news(message_id, status):
            packet = self._registry.status_packet(message_id, status)
            for client in clients:
                client.put_or_end(packet)

    # ---- the writer comes back

    async def tell_again(self, client: SocketClient) -> None:
        """Tell a client that registers what became meanwhile of its user's newest direct messages."""
        try:
            for post, status in await self._risen(client.account):
                client.put_or_end(self._registry.status_packet(post.id, status))
        except (PeerClosed, StorageError):
            pass  # it is told with the next step, or the next time

    async def _risen(self, account: Account) -> list[tuple[Sent, str]]:
        user = account.user
        written: deque[Sent] = deque()
        last: Post | None = None
        while page := await user.released(last, consumer=CONSUMER, kinds=("dm",)):
            written += [post for post in page if isinstance(post, Sent)]
            last, older = page[-1], None
            while len(written) > MOST_AGAIN:
                older = written.popleft()
            if older is not None:  # never told again: nor are they read again the next time
                user.hand_on(older, CONSUMER)
        found, all_read = [], True
        for post in written:
            status = await self._status(account, post)
            all_read = all_read and status == "read"
            if all_read:
                user.hand_on(post, CONSUMER)
            if status != "accepted":
                found.append((post, status))
        return found

    async def _status(self, account: Account, post: Sent) -> str:
        try:
            status = (await account.user.receipt(post.id)).status
        except UnknownName:
            return "accepted"
        other = post.conversation.user
        receiver = None if other is None else self._registry.gateway.accounts.of(other.key)
        if status != "delivered" or receiver is None or self._registry.gateway.hub.sessions_of(receiver):
            return status
        return status if await self._was_handed(receiver, post) else "accepted"

    async def _was_handed(self, receiver: Account, post: Post) -> bool:
        """Whether a client of somebody who is away now was handed a message."""
        waiting = await receiver.user.released(consumer=TAKEN, kinds=("dm",), limit=1)
        return not waiting or waiting[0].place > post.place
