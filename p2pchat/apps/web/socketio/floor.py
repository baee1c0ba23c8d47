"""What all Socket.IO clients of a gateway share: who is there, who hears of whose presence, statuses of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from p2pchat import Left, Presence, Typing
from p2pchat.apps.web.accounts import Account
from p2pchat.apps.web.gateway import Gateway
from p2pchat.apps.web.hub import Ending, Told
from p2pchat.apps.web.socketio.packets import EnginePacket, event
from p2pchat.apps.web.socketio.shapes import STATUSES, name_of
from p2pchat.apps.web.socketio.statuses import Statuses
from p2pchat.apps.web.socketio.wire import Post

if TYPE_CHECKING:
    from p2pchat.apps.web.socketio.client import Client

CROWD = 256  # clients, up to which everybody hears of everybody's presence: it is told n x n times


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

    def packet_of(self, told: Told) -> EnginePacket | None:
        """Return `presenceUpdate`, made once for all clients; None where nothing changed."""
        return told.encoded("socketio presence", lambda: self._packet(told.event, told.users))

    def _packet(self, changed: Presence | Left, users: tuple[str, ...] | None) -> EnginePacket | None:
        key = changed.user.key
        status = STATUSES.get(changed.status, "offline") if isinstance(changed, Presence) else "offline"
        self._floor.statuses.came(key, status)
        if users is None and self._known.get(key, "offline") == status:
            return None  # Left and Presence tell the same
        self._known[key] = status
        if status == "offline":
            self._known.pop(key, None)
        return event(
            "presenceUpdate", {"userId": name_of(self._floor.gateway.accounts, changed.user), "status": status}
        )

    def is_for(self, told: Told, account: Account) -> bool:
        """Whether an account hears of it: everybody but oneself, in a crowd who has to do with that user."""
        key = told.event.user.key
        if key == account.key:
            return False
        if self._floor.count <= CROWD:
            return True
        friends: frozenset[str] | None = told.encoded("socketio friends", lambda: self._friends(key))
        return friends is None or account.key in friends

    def _friends(self, key: str) -> frozenset[str] | None:
        """Return the users that one of this gateway has a conversation or group with; None for one of elsewhere."""
        account = self._floor.gateway.accounts.of(key)
        return None if account is None else friends_of(account)

    def snapshot(self, account: Account) -> list[EnginePacket]:
        """Return how those are whom a new client hears of: who is not named is offline."""
        friends = friends_of(account) if self._floor.count > CROWD else None
        accounts, found = self._floor.gateway.accounts, []
        for user in account.user.users():
            status = STATUSES.get(user.status)
            if status and user.key != account.key and (friends is None or user.key in friends):
                self._known[user.key] = status
                found.append(event("presenceUpdate", {"userId": name_of(accounts, user), "status": status}))
        return found


def friends_of(account: Account) -> frozenset[str]:
    """Return with whom an account has a direct conversation, and who is in its groups."""
    found = {talk.user.key for talk in account.user.conversations() if talk.user is not None}
    for group in account.user.groups():
        found.update(user.key for user in group.members)
    return frozenset(found)
