"""What all Socket.IO clients of a gateway share: who is there, presence as they hear it, statuses of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from p2pchat import Left, Presence, Typing, User
from p2pchat.apps.web.socketio.shapes import STATUSES, name_of
from p2pchat.apps.web.socketio.statuses import Statuses
from p2pchat.apps.web.socketio.wire import Post
from p2pchat.web.accounts import Account
from p2pchat.web.gateway import Gateway
from p2pchat.web.hub import Ending, Told
from p2pchat.web.socketio.messages import EnginePacket, event

if TYPE_CHECKING:
    from p2pchat.web.socketio.clients import Client


class Floor:
    """Everything the clients have in common."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clients: dict[str, list[Client]] = {}  # by user key
        self.count = 0
        self.statuses = Statuses(self)
        self.presence = PresenceTold(self)
        gateway.hub.watching.update({Presence: self.presence.watch, Left: self.presence.watch})
        self._refs = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, client: Client) -> None:
        self.clients.setdefault(client.account.key, []).append(client)
        self.count += 1

    def forget(self, client: Client) -> None:
        """A client is gone; nothing happens when it was gone already."""
        there = self.clients.get(client.account.key, [])
        if client in there:
            there.remove(client)
            self.count -= 1
            if not there:
                del self.clients[client.account.key]
        self.gateway.hub.close(client.session)

    def ended(self, client: Client, why: Ending) -> None:
        """The hub has ended a session: only who lost its token is sent away for good."""
        self.spawn(client.wire.end(away=why == "revoked", flush=why != "slow"))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- who wrote what

    def ref(self, client: Client) -> str:
        """Return a word to send a message with, by which its own socket knows it again."""
        self._refs += 1
        return f"{client.wire.sid}/{self._refs}"

    def wrote_here(self, client: Client, post: Post) -> bool:
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


class PresenceTold:
    """Who is online, idle or offline, as clients hear it."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._known: dict[str, str] = {}  # by user key: what was told last, of everybody who ever came or went

    def watch(self, told: Told) -> None:
        """Somebody comes, goes or is idle, whether or not a client hears of it."""
        self.packet_of(told)

    def packet_of(self, told: Told) -> EnginePacket | None:
        """Return `presenceUpdate`, made once for all clients; None when it tells nothing new."""
        return told.encoded("socketio presence", lambda: self._changed(told.event))

    def _changed(self, changed: Presence | Left) -> EnginePacket | None:
        key = changed.user.key
        status = STATUSES.get(changed.status, "offline") if isinstance(changed, Presence) else "offline"
        self._floor.statuses.came(key, status)
        if self._known.get(key) == status:
            return None  # Left and Presence tell the same
        self._known[key] = status
        return self._packet(changed.user, status)

    def _packet(self, user: User, status: str) -> EnginePacket:
        return event("presenceUpdate", {"userId": name_of(self._floor.gateway.accounts, user), "status": status})

    def snapshot(self, account: Account) -> list[EnginePacket]:
        """Return how those are whom a new client hears of: who is not named is offline."""
        gateway = self._floor.gateway
        users = gateway.peer.acquainted(account.user.me) if gateway.hub.is_crowd else gateway.peer.here()
        found = []
        for user in users:
            status = STATUSES.get(user.status)
            if status and user.key != account.key:
                found.append(self._packet(user, status))
        return found
