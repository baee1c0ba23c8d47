"""One client of `/chat`: what it says is done, what concerns its account it is told.

Frames are dealt with in order, and several messages may be on their way to the disk at once; the answer to each comes
when it is accepted. A client that says more than it may is read more slowly, and costs nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import count
from typing import Any

from fastapi import APIRouter, WebSocket

from p2pchat import (
    Conversation,
    Deleted,
    Delivered,
    Edited,
    GroupChanged,
    Message,
    PeerClosed,
    Presence,
    Reaction,
    Read,
    Receipt,
    Sent,
    StorageError,
    Typing,
    UnknownName,
)
from p2pchat.commands.json_commands import is_unicode
from p2pchat.web.accounts import Account
from p2pchat.web.auth import sign_in
from p2pchat.web.catch_up import CatchUp, DeliveryCursor, Post
from p2pchat.web.errors import Forbidden, WebError
from p2pchat.web.gateway import Gateway, gateway_of
from p2pchat.web.hub import CLOSE_CODES, Ending, Envelope, LightEvent, QueueFull
from p2pchat.web.rate_limit import RateLimiter
from p2pchat.web.schemas import find_conversation, group_of, is_me, iso, message_json, resolve_conversation
from p2pchat.web.send_queue import Frame, SendQueue, as_frame, read_object

MOST_UNDERWAY = 256  # messages of one socket that are not accepted yet; then it is read on when some are
POSTS = (Message, Sent)
EVENTS = {
    "presence": (Presence,),
    "receipts": (Delivered, Read),
    "typing": (Typing,),
    "changes": (Edited, Deleted, Reaction, GroupChanged),
}
_COUNTER = count(1)
IN_GOOD_ORDER = (1000, 1001, 1005)  # RFC 6455: done; going away; closed without saying why


class SessionEnded(Exception):
    """The hub has ended this session: nothing more is read."""


class ChatSession:
    """One open socket of an account.

    Args:
        events: What it wants to hear of beside messages, words of EVENTS.
    """

    __slots__ = (
        "_account",
        "_catching_up",
        "_free",
        "_gateway",
        "_mark",
        "_outbox",
        "_over",
        "_said",
        "_taken",
        "_underway",
        "_user",
        "_wanted",
        "_websocket",
    )

    def __init__(self, websocket: WebSocket, gateway: Gateway, account: Account, events: frozenset[str]) -> None:
        self._websocket = websocket
        self._gateway = gateway
        self._account = account
        self._user = account.user
        self._wanted = tuple(kind for word in events for kind in EVENTS[word])
        self._taken = DeliveryCursor(account.user)
        self._outbox = SendQueue(websocket, gateway.settings, self._taken.gave)
        self._catching_up = CatchUp(account.user, self._give, self._outbox.drained)
        self._underway: set[asyncio.Task[None]] = set()
        self._free = LightEvent()  # fewer than MOST_UNDERWAY are
        self._over = LightEvent()  # the hub has ended it
        self._said = 0
        self._mark = f"chat-{next(_COUNTER)}."  # what the library gives back of messages said here

    async def run(self, since: str | None) -> None:
        """Serve it until it is gone.

        Args:
            since: The id of the last message it has; None: it wants what waits for the account; "": that too, and to
                be told where it stands, so that it can come back behind it.
        """
        hub = self._gateway.hub
        try:
            session = hub.open(self._account, self._hear, "chat", self._ended, wants=(*POSTS, *self._wanted))
        except WebError as error:
            self._tell(self._gateway.metrics.problem(error).to_json())
            self._outbox.close(CLOSE_CODES["slow"], error.code)
            await self._outbox.run()
            return
        writing = asyncio.create_task(self._outbox.run(), name="p2pchat /chat")
        in_good_order = False
        try:
            await self._begin(since)
            in_good_order = await self._read()
        except QueueFull:
            self._ended("slow")
        except SessionEnded:
            pass
        except PeerClosed:
            self._ended("stopping")
        except StorageError as error:  # what was missed cannot be read: it comes back and asks again
            self._tell(self._gateway.metrics.problem(error).to_json())
            self._outbox.close(CLOSE_CODES["slow"], "storage")
        finally:
            hub.close(session)
            self._taken.close(in_good_order=in_good_order)
            await self._end(writing)

    async def _end(self, writing: asyncio.Task[None]) -> None:
        """What was said is kept although nobody waits for the answers any more."""
        if not self._outbox.gone:
            self._outbox.close(1000, "")
        await asyncio.gather(writing, *self._underway, return_exceptions=True)

    # ---- out

    async def _begin(self, since: str | None) -> None:
        if Presence in self._wanted:
            await self._tell_who_is_here()
        newest = await self._user.history(limit=1) if since == "" else []
        last = await self._last(since) if since else None
        if last is None:
            count = await self._catching_up.waiting()
            self._gateway.audit_handed_over(self._account, "chat", count)
        else:
            count = await self._catching_up.since(last)
        if since is not None:
            here = {"last": newest[0].id} if newest else {}
            self._tell({"type": "resumed", "user": self._user.me.label, "count": count, **here})

    async def _tell_who_is_here(self) -> None:
        peer = self._gateway.peer
        users = peer.acquainted(self._user.me) if self._gateway.hub.is_crowd else self._user.here()
        for user in users:
            if user.status in ("online", "idle"):
                self._outbox.put(
                    as_frame({"type": "presence", "user": user.label, "status": user.status}), bounded=False
                )
        await self._outbox.drained()

    async def _last(self, since: str) -> Post | None:
        try:
            return await self._user.message(since)
        except (UnknownName, ValueError) as error:
            self._tell(self._gateway.metrics.problem(error).to_json())
            return None

    def _give(self, post: Post) -> None:
        self._outbox.put(_message(post), post, bounded=False)

    def _hear(self, told: Envelope) -> None:
        """What the hub calls with everything that concerns the account."""
        event = told.event
        if isinstance(event, POSTS):
            self._hear_post(told, event)
        elif isinstance(event, self._wanted):
            frame = told.encoded(("chat", type(event)), lambda: _event(told.for_user(self._user)))
            if frame is not None:
                self._outbox.put(frame)

    def _hear_post(self, told: Envelope, post: Post) -> None:
        """A message: for a thousand sockets in one room there is little to be done here, so it is little."""
        catching_up = self._catching_up
        if not catching_up.takes(post if catching_up.is_live else told.for_user(self._user)):
            return
        if post.log.user == self._account.key and self._is_own(told.for_user(self._user)):
            return
        frame = told.encoded("chat", lambda: _message(told.for_user(self._user)))
        self._outbox.put(frame, post if told.users is not None else None)  # who is away is kept nothing of the room

    def _is_own(self, post: Post) -> bool:
        """Whether it was said on this very socket, which is answered and told nothing else."""
        return (post.ref or "").startswith(self._mark) if isinstance(post, Sent) else False

    def _tell(self, said: dict[str, Any]) -> None:
        self._outbox.put(as_frame(said))

    def _ended(self, why: Ending) -> None:
        self._over.set()
        self._outbox.close(CLOSE_CODES[why], why, at_once=why == "slow")

    # ---- in

    async def _read(self) -> bool:
        """Take frames until the client is gone; returns whether it closed in good order."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return _said_goodbye(message)
            await self._pause(self._gateway.limits.calls)
            await self._take(message.get("text"))
            if len(self._underway) >= MOST_UNDERWAY:
                self._free.clear()
                await self._free.wait()

    async def _pause(self, buckets: RateLimiter) -> None:
        """Wait until this account may go on: what it sends meanwhile waits in its own connection.

        Raises:
            Over: The session was ended meanwhile.
        """
        while wait := buckets.wait(self._account.key):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait)
            if self._over.is_set():
                raise SessionEnded

    async def _take(self, text: str | None) -> None:
        ref: Ref | None = None
        try:
            order = parse_request(text) if text is not None else None
            if order is None:
                raise BadFrame("frames are text, not bytes")
            ref = order.ref
            await self._do(order)
        except (QueueFull, SessionEnded):
            raise
        except Exception as error:  # what is none of ours is raised again by _refuse()
            self._refuse(error, error.ref if isinstance(error, BadFrame) else ref)

    def _refuse(self, error: Exception, ref: Ref | None) -> None:
        self._tell(self._gateway.metrics.problem(error).to_json(ref))

    async def _do(self, order: ChatRequest) -> None:
        if isinstance(order, SendRequest):
            if order.by and not is_me(self._account, order.by):
                raise Forbidden("nobody writes for another")
            await self._pause(self._gateway.limits.messages)
            to = await self._place(order.to, order.group)
            self._start(self._say(order, to))
        elif isinstance(order, ReadRequest):
            self._gateway.limits.small.take(self._account.key)
            (await self._user.message(order.id)).mark_read()
        else:
            self._gateway.limits.small.take(self._account.key)
            self._type(order)

    def _type(self, order: TypingRequest) -> None:
        if order.group:
            to: Conversation | None = group_of(self._account, order.group)
        else:
            to = find_conversation(self._gateway, self._account, order.to)
        if to is None:
            raise UnknownName(order.to)
        self._user.typing(to, order.on)

    async def _place(self, to: str, group: str) -> Conversation:
        if group:
            return group_of(self._account, group)
        return await resolve_conversation(self._gateway, self._account, to)

    def _start(self, saying: Coroutine[Any, Any, None]) -> None:
        """Let it go on by itself: it takes its place among what the account writes before this returns to the loop."""
        task = asyncio.create_task(saying)
        self._underway.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._underway.discard(task)
        self._free.set()

    async def _say(self, order: SendRequest, to: Conversation) -> None:
        self._said += 1
        mark = f"{self._mark}{self._said}"

        def send() -> Coroutine[Any, Any, Receipt]:
            return self._user.send(to, order.text, order.reply_to, action=order.action, ref=mark)

        try:
            what = (order.text, to.key, order.reply_to, order.action)
            with self._gateway.metrics.accepting("chat"):
                receipt = await self._gateway.idempotency.run(self._account.key, order.key, what, send)
        except Exception as error:  # what is none of ours is raised again
            answer = self._gateway.metrics.problem(error).to_json(order.ref)
        else:
            answer = {"status": "ok", "id": receipt.id}
            self._gateway.audit_pending(to, receipt.id)
            if order.ref is not None:
                answer["ref"] = order.ref
        try:
            self._tell(answer)
        except QueueFull:
            self._ended("slow")


def _said_goodbye(message: Mapping[str, Any]) -> bool:
    """Whether a client closed its socket; for one that broke uvicorn knows no reason, not even an empty one."""
    return message.get("code") in IN_GOOD_ORDER and message.get("reason") is not None


def _message(post: Post) -> Frame:
    return as_frame({"type": "message", **message_json(post)})


def _event(event: Any) -> Frame | None:
    """Return what is told of something that is no message; the same for all whom it concerns."""
    said: dict[str, Any]
    match event:
        case Presence(user=user, status=status):
            said = {"type": "presence", "user": user.label, "status": status}
        case Delivered() | Read():
            said = {"type": "status", "id": event.id, "status": event.event, "by": event.user.label}
        case Typing(user=user, conversation=talk, typing=on):
            said = {"type": "typing", "user": user.label, "conversation": talk.kind, "typing": on}
            said |= {"group": talk.name} if talk.kind == "group" else {}
        case GroupChanged(group=group):
            members = [user.label for user in event.members]
            said = {"type": "group", "group": event.name, "id": group.id, "change": event.change, "members": members}
        case Edited() | Deleted() | Reaction():
            said = _mending(event)
        case _:
            return None
    return as_frame(said)


def _mending(event: Any) -> dict[str, Any]:
    said = {"type": event.event, "id": event.message.id, "by": event.by.label, "timestamp": iso(event.at)}
    if isinstance(event, Edited):
        said["content"] = event.text
    elif isinstance(event, Reaction):
        said["reaction"] = event.reaction
    return said


# ---- orders
#
# What a client of `/chat` says, frame by frame, made something that can be done. Nothing is done here.
#
#     hello, everybody                                      to the room
#     /dm bob see you at ten                                to bob alone; also inside {"text"}
#     {"text": "hello", "ref": "7"}                         to the room; `ref` comes back with the answer
#     {"text": "hi", "to": "bob", "key": "4f1c"}            to bob; said again with the same key it is written once
#     {"text": "hi", "group": "ops", "reply_to": ID}        to a group
#     {"type": "read", "id": ID}                            everything up to that message is read
#     {"type": "typing", "to": "bob", "typing": true}       shown for 6 s
#
# `content` is another word for `text`, `ack` for `read`; a `from` may only be oneself.
# A line that begins with another slash is never sent.


Ref = str | int
ROOM = "room"
DIRECT = ("dm", "msg")
COMMANDS = (*DIRECT, "me")
MOST_KEY_CHARACTERS = 128


class BadFrame(WebError):
    """A frame that cannot be meant; `ref` is its own word."""

    def __init__(self, text: str, ref: Ref | None = None, code: str = "malformed") -> None:
        super().__init__(400, code, text)
        self.ref = ref


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Write something: to a user or ROOM (`to`), or to a `group`. `by`: who the client says to be, "" when it does
    not."""

    text: str = field(repr=False)
    to: str = ROOM
    group: str = ""
    ref: Ref | None = None
    key: str = ""
    reply_to: str | None = None
    action: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Everything in the conversation of this message, up to it, is read."""

    id: str
    ref: Ref | None = None


@dataclass(frozen=True, slots=True)
class TypingRequest:
    """The user writes there just now, or has stopped."""

    to: str
    group: str
    on: bool
    ref: Ref | None = None


ChatRequest = SendRequest | ReadRequest | TypingRequest


def parse_request(frame: str) -> ChatRequest:
    """Return what a text frame asks for. Raises BadFrame."""
    said = read_object(frame)
    if said is None and frame.lstrip().startswith("{"):  # perhaps meant for one person: it must not go to everybody
        raise BadFrame('what begins with { is a JSON object, and this is none: a text goes as {"text": ...}')
    return _typed(frame, None) if said is None else _object(said)


def _object(said: dict[str, Any]) -> ChatRequest:
    ref = said.get("ref")
    if not (ref is None or type(ref) is int or (type(ref) is str and is_unicode(ref))):
        raise BadFrame("`ref` is a text or a number")
    kind = said.get("type", "message")
    if kind in ("read", "ack"):
        return ReadRequest(_text(said, "id", ref), ref)
    to, group = _text(said, "to", ref, ROOM) or ROOM, _text(said, "group", ref, "")
    if kind == "typing":
        return TypingRequest(to, group, said.get("typing") is not False, ref)
    if kind != "message":
        raise BadFrame("`type` is message, read, ack or typing", ref)
    return _send_request(said, to, group, ref)


def _send_request(said: dict[str, Any], to: str, group: str, ref: Ref | None) -> SendRequest:
    text = _text(said, "content" if "content" in said and "text" not in said else "text", ref)
    key, reply_to = _text(said, "key", ref, ""), _text(said, "reply_to", ref, "") or None
    by = _text(said, "from", ref, "")
    if len(key) > MOST_KEY_CHARACTERS:
        raise BadFrame(f"`key` has at most {MOST_KEY_CHARACTERS} characters", ref)
    if "to" in said and "group" in said:
        raise BadFrame("a message goes to a user or a group, not both", ref)
    action = said.get("action") is True
    if "to" in said or "group" in said or action:
        return SendRequest(text, to, group, ref, key, reply_to, action, by)
    typed = _typed(text, ref)
    return SendRequest(typed.text, typed.to, "", ref, key, reply_to, typed.action, by)


def _text(said: dict[str, Any], word: str, ref: Ref | None, usual: str | None = None) -> str:
    """Return a text of the object; `usual` where it is not there, None where it has to be."""
    found = said.get(word, usual)
    if not isinstance(found, str):
        raise BadFrame(f"`{word}` has to be a text", ref)
    return found


def _typed(line: str, ref: Ref | None) -> SendRequest:
    """Return what a line says as somebody types it."""
    if not line.startswith("/"):
        return SendRequest(line, ref=ref)
    if line.startswith("//"):
        return SendRequest(line[1:], ref=ref)
    command, _, rest = line[1:].partition(" ")
    if command.lower() in DIRECT:
        name, text = _name_and_text(rest.strip())
        if not name or not text:
            raise BadFrame("who, and what? /dm bob see you at ten", ref)
        return SendRequest(text, name, ref=ref)
    if command.lower() == "me" and rest.strip():
        return SendRequest(rest.strip(), ref=ref, action=True)
    near = get_close_matches(command.lower(), COMMANDS, n=1)
    hint = f"did you mean /{near[0]}?" if near else "there is /dm NAME TEXT; // begins a text that starts with a slash"
    raise BadFrame(f"there is no command /{command[:32]}: {hint}", ref, "unknown_command")


def _name_and_text(rest: str) -> tuple[str, str]:
    """Split `bob hi`, and `"Anna Maria" hi`."""
    if rest.startswith('"') and (end := rest.find('"', 1)) > 0:
        return rest[1:end].strip(), rest[end + 1 :].strip()
    name, _, text = rest.partition(" ")
    return name, text.strip()


# ---- chat
#
# `ws /chat`: the public chat, direct messages and groups over a WebSocket, for programs as simple as may be.
#
# In: a text, or an object (chat_socket.py). Out: `{"type":"message","id","from","to"|"group"?,"content","timestamp"}`,
# and `{"status":"ok","id","ref"?}` once what was said is accepted, or `{"status":"error","code","text","ref"?}`.


router = APIRouter()


@router.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Serve one client; `?since=ID` goes on behind a message, `?events=presence,receipts` tells more than messages."""
    signed = await sign_in(websocket)
    if signed is None:
        return
    since = signed.first.get("since", websocket.query_params.get("since"))
    wanted = signed.first.get("events", websocket.query_params.get("events", ""))
    words = frozenset(wanted.split(",")) if isinstance(wanted, str) else frozenset()
    events = frozenset(EVENTS) if "all" in words else words & EVENTS.keys()
    session = ChatSession(websocket, gateway_of(websocket), signed.account, events)
    await session.run(since if isinstance(since, str) else None)
