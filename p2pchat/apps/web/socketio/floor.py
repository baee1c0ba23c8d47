"""What all Socket.IO clients of a gateway share: who is there, who hears of whose presence, statuses of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from p2pchat import Left, Presence, Typing, User
from p2pchat.apps.web.accounts import Account
from p2pchat.apps.web.gateway import Gateway
from p2pchat.apps.web.hub import Ending, Told
from p2pchat.apps.web.socketio.packets import EnginePacket, event
from p2pchat.apps.web.socketio.shapes import STATUSES, name_of
from p2pchat.apps.web.socketio.statuses import Statuses
from p2pchat.apps.web.socketio.wire import Post

if TYPE_CHECKING:
    from p2pchat.apps.web.socketio.client import Client

CROWD = 100  # clients, up to which everybody hears of everybody's presence: it is told n x n times


class Floor:
    """Everything the clients have in common."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.clients: dict[str, list[Client]] = {}  # by user key
        self.count = 0
        self.statuses = Statuses(self)
        self.presence = PresenceTold(self)
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
        self._known: dict[str, str] = {}  # by user key: what was told last

    def told(self, told: Told) -> tuple[EnginePacket | None, frozenset[str] | None]:
        """Return `presenceUpdate`, made once for all clients, and the users who hear of it.

        None for no packet: nothing changed; for no users: everybody.
        """
        return told.encoded("socketio presence", lambda: self._told(told.event, told.users))

    def _told(
        self, changed: Presence | Left, users: tuple[str, ...] | None
    ) -> tuple[EnginePacket | None, frozenset[str] | None]:
        key = changed.user.key
        status = STATUSES.get(changed.status, "offline") if isinstance(changed, Presence) else "offline"
        self._floor.statuses.came(key, status)
        if users is None and self._known.get(key, "offline") == status:
            return None, None  # Left and Presence tell the same
        self._known[key] = status
        if status == "offline":
            self._known.pop(key, None)
        return self._packet(changed.user, status), self._friends(key) if self._floor.count > CROWD else None

    def _packet(self, user: User, status: str) -> EnginePacket:
        return event("presenceUpdate", {"userId": name_of(self._floor.gateway.accounts, user), "status": status})

    def _friends(self, key: str) -> frozenset[str] | None:
        """Return the users that one of this gateway has to do with; None for one of elsewhere."""
        account = self._floor.gateway.accounts.of(key)
        return None if account is None else frozenset(friends_of(account))

    def snapshot(self, account: Account) -> list[EnginePacket]:
        """Return how those are whom a new client hears of: who is not named is offline."""
        users = friends_of(account).values() if self._floor.count > CROWD else self._floor.gateway.peer.users()
        found = []
        for user in users:
            status = STATUSES.get(user.status)
            if status and user.key != account.key:
                self._known[user.key] = status
                found.append(self._packet(user, status))
        return found


def friends_of(account: Account) -> dict[str, User]:
    """Return with whom an account has a direct conversation, and who is in its groups, by key."""
    found = {talk.user.key: talk.user for talk in account.user.conversations() if talk.user is not None}
    for group in account.user.groups():
        found.update((user.key, user) for user in group.members)
    return found
