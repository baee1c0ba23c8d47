"""What clients say: each event of Socket.IO, checked, and done as the user whose socket it came by.

Nobody is believed: a socket is one account from its `register` on, and acts as that and no other. Whoever gives an
acknowledgement callback is answered {"status":"ok", ...} or {"status":"error","code","text"}; errors also come as the
event `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from p2pchat import Conversation, Message, UnknownName
from p2pchat.web.accounts import Account
from p2pchat.web.auth import account_of_token, may_name_itself
from p2pchat.web.errors import Forbidden, Unauthorized
from p2pchat.web.rate_limit import site_of
from p2pchat.web.socketio import messages
from p2pchat.web.socketio.clients import EngineConnection, Post, SocketClient

if TYPE_CHECKING:
    from p2pchat.web.socketio.clients import ClientRegistry

Payload = Mapping[str, Any]
Answer = dict[str, Any]
Act = Callable[[SocketClient, Payload], Awaitable[Answer]]

OK: Answer = {"status": "ok"}
ROOM = ("room", "#room")
CALLS_OF_REGISTER = 5  # what a client that comes is handed takes about so long


class EventHandlers:
    """What each event does; raises what errors.problem_of understands."""

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._gateway = registry.gateway
        self.acts: dict[str, Act] = {
            "privateMessage": self._private_message, "groupMessage": self._group_message, "messageAck": self._ack,
            "typingStart": self._typing_start, "typingStop": self._typing_stop, "activityChange": self._activity,
        }  # fmt: skip

    # ---- who it is

    async def register(self, wire: EngineConnection, payload: Payload) -> Answer:
        """Make the socket that of an account: of its token, or where this machine is trusted, the one it names."""
        name = messages.word(payload, "userId")
        account = await self._account(wire, name, messages.word(payload, "authToken", required=False))
        self._gateway.limits.calls.take(account.key, CALLS_OF_REGISTER)
        since = await self._since(account, messages.word(payload, "since", required=False))
        if wire.client is not None:  # nothing is waited for from here on: of two that come at once one is the second
            if wire.client.account is account:
                return {**OK, "userId": account.name}
            raise Forbidden("this socket is another user's: connect anew", "registered")
        if wire.ended:
            raise Unauthorized("this connection is closed")
        client = wire.client = SocketClient(self._registry, wire, account)  # WebError: too many sessions
        self._registry.add(client)
        self._registry.spawn(self._begin(client, since))
        return {**OK, "userId": account.name}

    async def _account(self, wire: EngineConnection, name: str, token: str) -> Account:
        caller = HTTPConnection(wire.scope)
        if token:
            account = await account_of_token(self._gateway, token, wire.host)
            if account.name.casefold() != name.casefold():
                self._gateway.limits.strangers.take(site_of(wire.host))
                raise Unauthorized("this token is not that user's")
            return account
        if may_name_itself(caller):
            return await self._gateway.accounts.trusted(name)
        self._gateway.limits.strangers.take(site_of(wire.host))
        raise Unauthorized("who is it? Send register with userId and authToken")

    async def _since(self, account: Account, message_id: str) -> Post | None:
        """Return the last message a client says it has; None for what is not here, so that it gets what waits."""
        try:
            return await account.user.message(message_id) if message_id else None
        except UnknownName:
            return None

    async def _begin(self, client: SocketClient, since: Post | None) -> None:
        for packet in self._registry.presence.snapshot(client.account):
            client.wire.put(packet, bounded=False)  # of as many as are here
            await client.wire.room()
        await client.catch_up(since)
        await self._registry.statuses.tell_again(client)

    # ---- messages

    async def _private_message(self, client: SocketClient, payload: Payload) -> Answer:
        to, text, claimed = messages.word(payload, "to"), messages.content(payload), messages.claim(payload)
        self._gateway.limits.messages.take(client.account.key)
        async with client.turn:  # in the order they came, also where finding out who is meant takes a while
            talk = await self._direct(client.account, to)
            sending = self._send(client, talk, text, claimed)
        return await sending

    async def _group_message(self, client: SocketClient, payload: Payload) -> Answer:
        to, text, claimed = messages.word(payload, "to"), messages.content(payload), messages.claim(payload)
        self._gateway.limits.messages.take(client.account.key)
        async with client.turn:
            sending = self._send(client, self._group(client.account, to), text, claimed)
        return await sending

    def _send(self, client: SocketClient, talk: Conversation, text: str, claimed: Any) -> asyncio.Task[Answer]:
        async def send() -> Answer:
            ref = self._registry.ref(client)
            with self._gateway.metrics.accepting("socketio"):
                receipt = await client.account.user.send(talk, text, ref=ref, claimed_at=claimed)
            return {**OK, "id": receipt.id}

        return asyncio.get_running_loop().create_task(send())

    async def _direct(self, account: Account, name: str) -> Conversation:
        """Return the conversation with a user: of this gateway, of the mesh, or of a name that waits for its owner."""
        there = self._gateway.accounts.find(name)
        if there is None:
            try:
                return account.user.find(account.user.user(name))
            except UnknownName:
                there = await self._gateway.accounts.reserve(name, account)
        return account.user.find(there.user.me)

    def _group(self, account: Account, name: str) -> Conversation:
        """Return the room, or a group by its name or conversationId."""
        if name.lower() in ROOM:
            return account.user.room
        try:
            talk = account.user.find(name)
        except UnknownName:
            return account.user.group(name)
        return account.user.group(name) if talk.kind == "dm" else talk

    async def _ack(self, client: SocketClient, payload: Payload) -> Answer:
        message_id = messages.word(payload, "messageId")
        self._gateway.limits.small.take(client.account.key)
        post = await client.account.user.message(message_id)
        if isinstance(post, Message):
            client.acknowledged(post)
        return OK

    # ---- what is not kept

    async def _typing_start(self, client: SocketClient, payload: Payload) -> Answer:
        return self._typing(client, payload, on=True)

    async def _typing_stop(self, client: SocketClient, payload: Payload) -> Answer:
        return self._typing(client, payload, on=False)

    def _typing(self, client: SocketClient, payload: Payload, *, on: bool) -> Answer:
        where = messages.word(payload, "conversationId")
        self._gateway.limits.small.take(client.account.key)
        client.account.user.typing(self._conversation(client.account, where), on)
        return OK

    def _conversation(self, account: Account, name: str) -> Conversation:
        """Return what a conversationId means: one that a message brought, `room`, `#ops`, or a user."""
        there = self._gateway.accounts.find(name)
        return account.user.find(name if there is None else there.user.me)

    async def _activity(self, client: SocketClient, payload: Payload) -> Answer:
        active = messages.flag(payload, "isActive")
        self._gateway.limits.small.take(client.account.key)
        client.set_active(active)
        return OK
