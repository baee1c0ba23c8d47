"""`messageStatus`: what the writer hears of a message, once for each step: delivered, read.

In a direct conversation those are steps of its one receiver; in a group or the room they are told when everybody has
it. For the mesh a message to a user of this same gateway is delivered when it is accepted, for it is on the disk of
that user's peer. Its writer's client is told `delivered` only when a client of the receiver was handed it: the
receiver may be away, and have nothing but this gateway.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from p2pchat import Delivered, PeerClosed, Read, Sent, StorageError, UnknownName
from p2pchat.apps.web.socketio.wire import Post
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import TAKEN
from p2pchat.web.hub import Told
from p2pchat.web.socketio.messages import EnginePacket

if TYPE_CHECKING:
    from p2pchat.apps.web.socketio.floor import Floor
    from p2pchat.web.socketio.clients import Client

CONSUMER = "socketio status"  # cursor of an account: of what it wrote up to there everything is read
MOST_HELD = 10_000  # messages whose receiver is away, in all; the writer of a forgotten one hears when it comes back
MOST_LATELY = 4096  # steps that are not told twice
MOST_AGAIN = 200  # of an account's newest direct messages: whose status a client that comes back is told


class Statuses:
    """What became of messages, on its way to their writers."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._held: dict[str, dict[str, str]] = {}  # by receiver, message id -> its writer
        self._count = 0
        self._lately: dict[tuple[str, str], None] = {}

    # ---- live

    def packet_of(self, told: Told, writer: Account) -> EnginePacket | None:
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
        return self._floor.status_packet(risen.id, risen.event) if self._is_news(risen.id, risen.event) else None

    def _is_away(self, key: str) -> bool:
        """Whether this is a user of this gateway who has no client here now."""
        gateway = self._floor.gateway
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
        receiver = self._floor.gateway.accounts.of(key)
        sessions = [] if receiver is None else self._floor.gateway.hub.sessions_of(receiver)
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
        clients = self._floor.clients.get(writer, ())
        if clients and self._is_news(message_id, status):
            packet = self._floor.status_packet(message_id, status)
            for client in clients:
                client.put_or_end(packet)

    # ---- the writer comes back

    async def tell_again(self, client: Client) -> None:
        """Tell a client that registers what became meanwhile of its user's newest direct messages."""
        try:
            for post, status in await self._risen(client.account):
                client.put_or_end(self._floor.status_packet(post.id, status))
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
        receiver = None if other is None else self._floor.gateway.accounts.of(other.key)
        if status != "delivered" or receiver is None or self._floor.gateway.hub.sessions_of(receiver):
            return status
        return status if await self._was_handed(receiver, post) else "accepted"

    async def _was_handed(self, receiver: Account, post: Post) -> bool:
        """Whether a client of somebody who is away now was handed a message."""
        waiting = await receiver.user.released(consumer=TAKEN, kinds=("dm",), limit=1)
        return not waiting or waiting[0].place > post.place
