"""Handlers of Socket.IO events: each payload is checked, then carried out as the user who registered the socket.

From `register` on a socket belongs to one account and acts for no other. A client that gives an acknowledgement
callback is answered {"status":"ok", ...} or {"status":"error","code","text"}; errors also come as the event `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection

from p2pchat import Conversation, Message, UnknownName
from p2pchat.commands.json_commands import is_unicode, without_nulls
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, Unauthorized, WebError
from p2pchat.web.hosted_commands import hold_answer
from p2pchat.web.rate_limits import site_of
from p2pchat.web.rest_commands import answer_call, read_call
from p2pchat.web.sign_in import identify
from p2pchat.web.socketio.engine_connection import EngineConnection
from p2pchat.web.socketio.socket_client import ClientRegistry, SocketClient

Payload = Mapping[str, Any]
Answer = dict[str, Any]
Handler = Callable[[SocketClient, Payload], Awaitable[Answer | asyncio.Task[Answer]]]

OK: Answer = {"status": "ok"}
ROOM = ("room", "#room")
CALLS_OF_REGISTER = 5  # calls that `register` counts as: sending what a new client gets takes about as long


class EventHandlers:
    """The handlers by event; they raise errors that errors.problem_of understands.

    They are called one after the other. A message is answered by a task, since several may be on their way to disk.
    """

    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry
        self._gateway = registry.gateway
        self.by_event: dict[str, Handler] = {
            "privateMessage": partial(self._on_message, resolve=self._resolve_user),
            "groupMessage": partial(self._on_message, resolve=self._resolve_group),
            "messageAck": self._on_ack, "typingStart": partial(self._on_typing, on=True),
            "typingStop": partial(self._on_typing, on=False), "activityChange": self._on_activity, "do": self._on_do,
        }  # fmt: skip

    # ---- registration

    async def register(self, connection: EngineConnection, payload: Payload) -> Answer:
        """Register a connection for the account of its token, or for the one it names where this machine is trusted."""
        name = word_field(payload, "userId", required=self._gateway.authenticate is None)
        active = flag_field(payload, missing=True)
        token, asked = word_field(payload, "authToken", required=False), HTTPConnection(connection.scope)
        names = [name]
        if token:
            names.clear()  # it is compared below
        account = await identify(
            asked, token or None, names, how="send register with userId and authToken",
            calls=CALLS_OF_REGISTER,
        )  # fmt: skip
        if token and not account.is_me(name):
            self._gateway.limits.strangers.take(site_of(connection.host))
            raise Unauthorized("this token belongs to another user")
        if isinstance(connection.client, SocketClient):  # no await from here on: of two concurrent calls one ends here
            if connection.client.account is account:
                if "isActive" in payload:
                    connection.client.set_active(active)
                return {**OK, "userId": self._gateway.shown_name(account.user.me)}
            raise Forbidden("this socket is registered for another user: open a new one", "registered")
        if connection.ended:
            raise Unauthorized("this connection is closed")
        # WebError: too many sessions
        client = connection.client = SocketClient(self._registry, connection, account, active=active)
        self._registry.spawn(self._start(client, payload.get("since")))
        return {**OK, "userId": self._gateway.shown_name(account.user.me), **client.catch_up.about()}

    async def _start(self, client: SocketClient, since: object) -> None:
        for frame in self._registry.snapshot(client.account):
            client.queue.put(frame, bounded=False)
            await client.queue.drained()
        await client.replay(since)

    # ---- messages

    async def _on_message(
        self, client: SocketClient, payload: Payload, *, resolve: Callable[[Account, str], Awaitable[Conversation]]
    ) -> asyncio.Task[Answer]:
        to, claimed_at, files = word_field(payload, "to"), timestamp_field(payload), files_field(payload)
        text, key = text_field(payload, required=not files), word_field(payload, "key", required=False)
        gateway, account = self._gateway, client.account
        gateway.limits.write(account.key, text)
        talk, ref = await resolve(account, to), client.next_ref()

        async def send() -> Answer:
            with gateway.metrics.accepting("socketio"):
                kept = gateway.uploads.find(account, files)
                sent = await client.user.send(talk, text, ref=ref, claimed_at=claimed_at, files=kept, key=key)
                id = sent.id
            return {**OK, "id": id, **gateway.receivers.reservation(account, talk), **await gateway.safety(account, id)}

        return asyncio.create_task(send())

    async def _resolve_user(self, account: Account, name: str) -> Conversation:
        """Return the conversation with a user of this gateway or of the mesh."""
        found = await self._gateway.receivers.resolve(account, name)
        if found.user is None:
            raise UnknownName(name, "groupMessage writes to the room and to groups")
        return found

    async def _resolve_group(self, account: Account, name: str) -> Conversation:
        """Return the room, or a group by its name or conversationId."""
        if name.lower() in ROOM:
            return account.user.room
        try:
            talk = account.user.find(name)
        except UnknownName:
            return account.user.group(name)
        return account.user.group(name) if talk.kind == "dm" else talk

    async def _on_ack(self, client: SocketClient, payload: Payload) -> Answer:
        message_id = word_field(payload, "messageId")
        self._gateway.limits.small.take(client.account.key)
        post = await client.user.message(message_id)
        if isinstance(post, Message):
            await client.user.mark_read_durably(post)
        return OK

    async def _on_do(self, client: SocketClient, payload: Payload) -> Answer:
        command = read_call(dict(payload))
        asked = HTTPConnection(client.connection.scope)
        async with hold_answer(self._gateway, client.account, command):
            return {**OK, **await answer_call(asked, client.account, self._gateway, command)}

    # ---- typing and activity

    async def _on_typing(self, client: SocketClient, payload: Payload, *, on: bool) -> Answer:
        name = word_field(payload, "conversationId")
        self._gateway.limits.small.take(client.account.key)
        account = self._gateway.accounts.find(name)  # a conversationId, `room`, `#ops` or a user
        client.user.typing(client.user.find(name if account is None else account.user.me), on)
        return OK

    async def _on_activity(self, client: SocketClient, payload: Payload) -> Answer:
        active = flag_field(payload)
        self._gateway.limits.small.take(client.account.key)
        client.set_active(active)
        return OK


# ---- payloads
#
# Unknown fields are ignored; a field of the wrong type is an error and is never converted.

_MAX_CHARACTERS = 256  # of a name, an id, a token or a key; each is shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MalformedPayload(WebError):
    """A payload has another shape than required."""

    def __init__(self, text: str) -> None:
        super().__init__(400, "malformed", text)


def payload_of(given: tuple[Any, ...]) -> Payload:
    """Return the one object of an event, without fields that are null. Raises MalformedPayload, as those below."""
    if not given or not isinstance(given[0], dict):
        raise MalformedPayload("an event must carry one object")
    return without_nulls(given[0])


def word_field(payload: Payload, name: str, *, required: bool = True) -> str:
    """Return a short string: a name, an id, a token, a key; "" if it is missing and not required."""
    value = payload.get(name)
    if value in (None, "") and not required:
        return ""
    if not isinstance(value, str) or not value or len(value) > _MAX_CHARACTERS or not is_unicode(value):
        raise MalformedPayload(f"{name} must be a string of 1 to {_MAX_CHARACTERS} characters")
    return value


def files_field(payload: Payload) -> list[str]:
    """Return the uploads that a message names, by id."""
    value = payload.get("files", [])
    if not isinstance(value, list) or not all(isinstance(id, str) for id in value):
        raise MalformedPayload("files must be a list of ids of uploads")
    return value


def text_field(payload: Payload, *, required: bool = True) -> str:
    """Return the content of a message, "" if it is missing and not required; the library checks its length."""
    value = payload.get("content", None if required else "")
    if not isinstance(value, str):
        raise MalformedPayload("content must be a string")
    return value


def flag_field(payload: Payload, *, missing: bool | None = None) -> bool:
    """Return whether the user is active; `missing` if that is missing, None: it is required."""
    value = payload.get("isActive", missing)
    if not isinstance(value, bool):
        raise MalformedPayload("isActive must be true or false")
    return value


def timestamp_field(payload: Payload) -> datetime | None:
    """Return when the client says it wrote a message: ISO 8601 or milliseconds; None if missing. No zone means UTC."""
    value = payload.get("timestamp")
    if value is None:
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = _EPOCH + timedelta(milliseconds=value)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise MalformedPayload("timestamp must be a time as 2026-11-20T08:30:00Z, or milliseconds since 1970") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
