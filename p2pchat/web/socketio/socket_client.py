"""Registered Socket.IO clients of a gateway, and what they share: presence and message statuses.

A client is a session like those of `/chat` and `/lines` (account_session.py). While its user is active, messages are
read once it is proved that they have arrived (engine_connection.py); otherwise when the user becomes active again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from starlette.requests import HTTPConnection

from p2pchat import (
    Delivered,
    DurableEvent,
    FileArrived,
    FileProgress,
    FileReceipt,
    Hidden,
    Left,
    Message,
    MessageChange,
    PeerClosed,
    Presence,
    Read,
    Sent,
    StorageError,
    Typing,
    User,
)
from p2pchat.threads import spawn
from p2pchat.web.account_session import ClientSession, Frame, Newest, SessionEnded
from p2pchat.web.accounts import DELIVERY_CONSUMER, Account
from p2pchat.web.catch_up import QUEUED_KINDS, Post
from p2pchat.web.error_responses import WebError
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.message_form import CHAT_EVENTS, SOCKETIO, message_json
from p2pchat.web.session_hub import Ending, Envelope, QueueFull
from p2pchat.web.socketio.engine_connection import NEW_MESSAGE, EngineConnection, event_frame

STATUSES = {"online": "online", "idle": "idle"}  # presence; every other status is offline here
ROOM_READ_AFTER = 2.0  # seconds in which read marks in the room are gathered
ROOM_READERS = 64  # clients up to which reading in the room is reported: each report goes to every writer there


class SocketClient(ClientSession):
    """One registered client."""

    def __init__(
        self, registry: ClientRegistry, connection: EngineConnection, account: Account, *, active: bool
    ) -> None:
        """Open a session for a client. Raises as Hub.open."""
        super().__init__(HTTPConnection(connection.scope), account, connection.queue, connection.ping)
        self.registry: ClientRegistry = registry
        self.connection: EngineConnection = connection
        self._unread: dict[str, Post] = {}  # the newest message that arrived and was not read, by conversation
        self._room_post: Post | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self.open("socketio", tuple(self._HANDLERS), active=active)

    # ---- events

    def deliver(self, envelope: Envelope) -> None:
        handler = self._HANDLERS.get(type(envelope.event))
        if handler is not None:
            handler(self, envelope)

    def _on_message(self, envelope: Envelope) -> None:
        post = envelope.event
        if self.is_due(envelope) and not self.wrote(post):
            self._send(post, envelope.encoded("socketio message", lambda: self._frame(post)))

    def _on_receipt(self, envelope: Envelope) -> None:
        if self.was_told(envelope.event):
            return
        frame = envelope.encoded("socketio status", lambda: _status_frame(envelope.event, self.account))
        if frame is not None:  # not bounded: one mark of a reader can be a status of each message the user wrote
            self.queue.put(frame, bounded=False)

    def _on_presence(self, envelope: Envelope) -> None:
        if envelope.event.user.key != self.account.key:
            self._put(self.registry.presence_of(envelope))

    def _on_typing(self, envelope: Envelope) -> None:
        typing: Typing = envelope.event
        if typing.user.key != self.account.key:
            self._put(envelope.encoded("socketio typing", lambda: self._typing_frame(typing)))

    def _typing_frame(self, typing: Typing) -> Frame:
        who = self.gateway.shown_name(typing.user)
        content = {"userId": who, "isTyping": typing.typing, "conversationId": typing.conversation.id}
        return event_frame("typingIndicator", content)

    def _on_hidden(self, envelope: Envelope) -> None:
        event: Hidden = envelope.event
        who = self.gateway.shown_name(event.user)
        self._put(event_frame("userHidden", {"userId": who, "ignored": event.ignored, "blocked": event.blocked}))

    def _on_file(self, envelope: Envelope) -> None:
        self._put(envelope.encoded("socketio file", lambda: _file_frame(envelope.event)))

    def _on_file_receipt(self, envelope: Envelope) -> None:
        event: FileReceipt = envelope.event
        content = {
            "messageId": event.id, "name": event.name, "root": event.root,
            "user": self.gateway.shown_name(event.user), "has": event.has, "count": event.count, "of": event.of,
        }  # fmt: skip
        self._put(envelope.encoded("socketio file receipt", lambda: event_frame("fileReceipt", content)))

    def _on_change(self, envelope: Envelope) -> None:
        if self.is_due(envelope):
            self._put(envelope.encoded("socketio change", lambda: self._change_frame(envelope.for_user(self.user))))

    def _change_frame(self, event: MessageChange) -> Frame:
        line = event.to_dict()
        said = {name: line[field] for field, name in CHAT_EVENTS[event.event].items() if field in line}
        said |= {"entryId": said.pop("entry_id"), "by": self.gateway.shown_name(event.by)}
        return event_frame("messageChange", {**said, "change": event.event})

    _HANDLERS: ClassVar[dict[type, Callable[[SocketClient, Envelope], None]]] = {
        Message: _on_message, Sent: _on_message, Delivered: _on_receipt, Read: _on_receipt, Presence: _on_presence,
        Left: _on_presence, Hidden: _on_hidden, Typing: _on_typing, FileProgress: _on_file, FileArrived: _on_file,
        FileReceipt: _on_file_receipt, **dict.fromkeys(MessageChange.__subclasses__(), _on_change),
    }  # fmt: skip

    def _frame(self, post: Message | Sent) -> Frame | None:
        """Return a message as a frame; None if it was deleted."""
        if post.deleted:
            return None
        sender = self.gateway.shown_name(post.sender)
        return event_frame(NEW_MESSAGE, message_json(post, SOCKETIO, sender=sender))

    def _put(self, frame: Frame | None) -> None:
        if frame is not None:
            self.queue.put(frame)

    def _send(self, post: Post, frame: Frame | None, *, bounded: bool = True) -> None:
        if frame is not None:
            self.queue.put(frame, self.proof(post), bounded=bounded)

    def proof(self, post: Post) -> Callable[[], None] | None:
        if self._reports_room:
            return partial(self.cursor.on_sent, post)
        return super().proof(post)

    # ---- reading

    def set_active(self, active: bool) -> None:
        """Set whether the user is looking; one who is has read everything that has arrived."""
        self.hub_session.set_active(active)
        self._mark_read()

    def _mark_read(self) -> None:
        """Mark what has arrived as read if the user is active."""
        if not self.hub_session.active:
            return
        unread, self._unread = self._unread, {}
        for post in unread.values():
            if post.conversation.kind != "room":
                self.user.mark_read(post)
            elif self._reports_room:
                self._room_post = post
                if self._read_timer is None:
                    self._read_timer = asyncio.get_running_loop().call_later(ROOM_READ_AFTER, self._mark_room_read)

    @property
    def _reports_room(self) -> bool:
        """True while reading in the room is reported."""
        return self.gateway.hub.open_by_kind["socketio"] <= ROOM_READERS

    def _mark_room_read(self) -> None:
        self._read_timer = None
        post, self._room_post = self._room_post, None
        if post is not None:
            with suppress(PeerClosed):
                self.user.mark_read(post)

    # ---- catching up

    async def replay(self, since: object) -> None:
        """Send everything after `since`, or what waits for the account if there is none; then live events follow."""
        try:
            await self.send_all_missed(since)
            await self.send_kept_receipts()
        except (PeerClosed, SessionEnded):
            pass
        except (QueueFull, StorageError):
            self.gateway.hub.end(self.hub_session, "slow")  # it reconnects and tries again

    async def report(self, problem: WebError) -> None:
        self._put(event_frame("error", {"code": problem.code, "text": problem.text}))

    def on_named(self, post: DurableEvent) -> None:
        self.on_arrival({(post.log.conversation, post.log.user): post})

    def send_missed(self, post: Post) -> None:
        if self.connection.client is not self:
            return
        if isinstance(post, MessageChange):
            self.queue.put(self._change_frame(post), bounded=False)
        elif not self.wrote(post):
            self._send(post, self._frame(post), bounded=False)

    # ---- arrival and end

    def on_arrival(self, posts: Newest) -> None:
        """Store that these messages and all before them have arrived, and that an active user has read them."""
        for post in sorted(posts.values(), key=attrgetter("place")):
            if post.conversation.kind in QUEUED_KINDS:
                self.user.hand_on(post, DELIVERY_CONSUMER)
            if isinstance(post, Message | Sent) and post.log.user != self.account.key:
                self._unread[post.log.conversation] = post
        self._mark_read()

    def close(self) -> None:
        """Close the session of a client that is gone; what it has not proved to have comes again."""
        self.gateway.hub.close(self.hub_session)
        self.cursor.close()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._mark_room_read()

    def on_end(self, why: Ending) -> None:
        """Close the connection; only a client whose token is of no use is told why, and not to come back."""
        is_final = why in ("revoked", "deleted", "expelled")
        if is_final:
            with suppress(QueueFull):
                self._put(event_frame("error", {"code": why, "text": f"this account was {why}"}))
        self.registry.spawn(self.connection.end(away=is_final, flush=why not in ("slow", "signed_out")))


class ClientRegistry:
    """All clients of a gateway, and what they share: the presence of users, which is online, idle or offline here."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        gateway.hub.observers.update({Presence: self.presence_of, Left: self.presence_of})
        self._known: dict[str, str] = {}  # the status announced last, by user key
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task."""
        return spawn(self._tasks, work)

    def presence_of(self, envelope: Envelope) -> Frame | None:
        """Return `presenceUpdate`, made once for all clients; None if nothing changed.

        The hub calls it too, so that a change is noted even if no client receives it.
        """
        return envelope.encoded("socketio presence", lambda: self._change(envelope))

    def _change(self, envelope: Envelope) -> Frame | None:
        event: Presence | Left = envelope.event
        key = event.user.key
        status = STATUSES.get(event.status, "offline") if isinstance(event, Presence) else "offline"
        if envelope.users is None:  # else it is for one who blocks the user, or whom it blocks
            if self._known.get(key) == status:
                return None  # Left and Presence report the same change
            self._known[key] = status
        return self._frame(event.user, status)

    def _frame(self, user: User, status: str) -> Frame:
        return event_frame("presenceUpdate", {"userId": self.gateway.shown_name(user), "status": status})

    def snapshot(self, account: Account) -> list[Frame]:
        """Return the presence of the users a new client hears about; those missing are offline."""
        gateway = self.gateway
        users = gateway.peer.hosting.acquainted(account.user.me) if gateway.hub.is_crowd else gateway.peer.here()
        return [
            self._frame(user, status)
            for user in users
            if (status := STATUSES.get(account.user.directory.status(user.key)[0])) and user.key != account.key
        ]


# ---- message statuses


def _status_frame(event: Delivered | Read, writer: Account) -> Frame | None:
    """Return `messageStatus` for the writer of a message, one for each step: delivered, read; None if not yet.

    In a direct conversation these are steps of its receiver; in a group or the room they are sent when all have got
    there.
    """
    direct = writer.user.conversation(event.log.conversation).kind == "dm"
    if not direct and event.count < event.of:
        return None
    return event_frame("messageStatus", {"messageId": event.id, "status": event.event})


# ---- payloads


def _file_frame(event: FileProgress | FileArrived) -> Frame:
    stored = event.stored if isinstance(event, FileProgress) else event.size
    content = {"messageId": event.id, "name": event.name, "root": event.root, "size": event.size, "stored": stored}
    return event_frame("fileStatus", {**content, "here": isinstance(event, FileArrived)})
