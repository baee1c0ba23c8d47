"""`ws /chat`: the room, direct messages and groups over a WebSocket, in a form that simple programs can use.

`GET /v1/events` streams the same frames as server-sent events, to programs that only speak HTTP.

In: a text, or an object (see below). Out: `{"type":"message","id","from","to"|"group"?,"content","timestamp"}` for each
message, and for each frame that came in `{"status":"ok","id","ref"?}` once the message is accepted, or
`{"status":"error","code","text","ref"?}`.

    hello, everybody                                      to the room
    /dm bob see you at ten                                to bob alone; also inside {"text"}
    {"text": "hello", "ref": "7"}                         to the room; `ref` comes back with the answer
    {"text": "hi", "to": "bob", "key": "4f1c"}            to bob; written once, however often it is sent with this key
    {"text": "hi", "group": "ops", "reply_to": ID}        to a group
    {"to": "bob", "files": [ID]}                          what was uploaded, with or without a text
    {"to": "bob", "text": "deploy?", "choices": ["yes", "no"]}    with answers to press
    {"type": "read", "id": ID}                            everything up to that message is read
    {"type": "typing", "to": "bob", "typing": true}       shown for 6 s

`content` is a synonym of `text`, `ack` of `read`; `from` may only name the account itself. A line that begins with any
other slash is never sent.

Frames are handled in order. Several messages may be on their way to disk at once; each is answered when it is accepted.
Answers come in the order of the frames, and before anything that follows from what they answer: a receipt, a reply.
Only answers have a `status`; `{"type":"error","code","text"}` is about the connection itself. A client that sends more
than it may is read more slowly, at no cost to others.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, WebSocket
from starlette.responses import Response
from starlette.types import Message as ASGIMessage
from starlette.types import Receive, Scope, Send

from p2pchat import (
    Conversation,
    Delivered,
    FileArrived,
    FileProgress,
    FileReceipt,
    GroupChanged,
    Hidden,
    MemberChange,
    Message,
    MessageChange,
    Presence,
    Read,
    Sent,
    Typing,
    User,
)
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.json_commands import is_unicode, looks_like_json, read_object
from p2pchat.commands.typed_commands import refuse_almost_a_command, split_name
from p2pchat.program_log import ProgramLog
from p2pchat.threads import stop_tasks
from p2pchat.web.account_session import (
    RECEIPTS,
    Frame,
    LightEvent,
    SessionEnded,
    WebSocketSession,
    as_frame,
)
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import Post
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.message_form import CHAT_EVENTS, chat_json
from p2pchat.web.rate_limits import written_bytes
from p2pchat.web.session_hub import Envelope, QueueFull
from p2pchat.web.sign_in import AUTHENTICATED, CurrentAccount, refuse, sign_in

MAX_UNACCEPTED = 256  # messages of one socket that are not accepted yet; reading pauses at this number
POSTS = (Message, Sent)
EVENTS = {
    "presence": (Presence, Hidden),
    "receipts": (Delivered, Read),
    "typing": (Typing,),
    "changes": (MessageChange, GroupChanged),
    "files": (FileProgress, FileArrived, FileReceipt),
    "members": (MemberChange,),
}
router: APIRouter = APIRouter()
_log = ProgramLog("p2pchat.web")


@router.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Serve one client. `?since=ID` replays what followed it, `?events=presence,receipts` adds events."""
    signed_in = await sign_in(websocket)
    if signed_in is None:
        return
    account, first = signed_in
    since = first.get("since", websocket.query_params.get("since"))
    try:
        wanted = wanted_events(first.get("events", websocket.query_params.get("events", "")))
    except WebError as error:
        await refuse(websocket, error)
        return
    session = ChatSocket(websocket, account, wanted, since)
    await session.run("chat", (*POSTS, *session.events))


@router.get(
    "/v1/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Each frame as the `data` of an event."}},
    tags=["messages"],
    dependencies=AUTHENTICATED,
)
async def events(
    account: CurrentAccount,
    since: Annotated[str, Query(description="The id of the last message or change the caller has.")] = "",
    events: Annotated[str, Query(max_length=64, description="More events: any words of `/chat`, or `all`.")] = "",
    last_id: Annotated[str, Header(alias="Last-Event-ID", description="`since`, as clients of events send it.")] = "",
) -> Response:
    """Stream the frames of `/chat` as they happen, messages with their ids; first what waits or followed `since`."""
    return EventStream(account, wanted_events(events), last_id or since)


def wanted_events(words: object) -> frozenset[str]:
    """Return the keys of EVENTS that a client names, separated by commas. Raises WebError for any other word."""
    named = frozenset(words.split(",") if words else ()) if isinstance(words, str) else None
    if named is None or not named <= EVENTS.keys() | {"all"}:
        raise WebError(400, "malformed", f"`events` takes {', '.join(EVENTS)} and all, separated by commas")
    return frozenset(EVENTS) if "all" in named else named


class EventStream(Response):
    """A session of `/chat` as an answer of server-sent events: an HTTP answer in the place of the WebSocket.

    Its client cannot answer, so nothing it was sent counts as taken until it names it as the last one it has.
    """

    def __init__(self, account: Account, events: frozenset[str], since: str) -> None:
        super().__init__()
        self._account = account
        self._events = events
        self._since = since

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connected = False

        async def receive_frame() -> ASGIMessage:
            nonlocal connected
            if not connected:
                connected = True
                return {"type": "websocket.connect"}
            while (await receive())["type"] != "http.disconnect":
                pass
            return {"type": "websocket.disconnect", "code": 1006}

        async def send_frame(message: ASGIMessage) -> None:
            if message["type"] == "websocket.accept":
                headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send(_chunk(COMMENT))
            elif message["type"] == "websocket.send":
                await send(_chunk(_server_sent(message["text"], session.catch_up.mark)))
            else:  # websocket.close; the next message received is http.disconnect
                alive.cancel()
                await send({**_chunk(""), "more_body": False})

        place = {**scope, "type": "websocket", "subprotocols": [], "extensions": {"p2pchat.ping": lambda proven: None}}
        websocket = WebSocket(place, receive_frame, send_frame)
        await websocket.accept()
        alive = asyncio.create_task(_keep_alive(send), name="p2pchat /v1/events")
        session = ChatSocket(websocket, self._account, self._events, self._since)
        try:
            await session.run("chat", (*POSTS, *session.events))
        finally:
            await stop_tasks([alive])


COMMENT = ":\n\n"
COMMENT_EVERY = 15.0  # seconds; WHATWG's HTML standard advises it, since proxies close a silent connection


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(COMMENT_EVERY)
        await send(_chunk(COMMENT))


def _chunk(text: str) -> ASGIMessage:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


def _server_sent(frame: str, mark: str) -> str:
    """Return a frame as an event, with the `since` by which a client continues."""
    found = json.loads(frame)
    last = found["id"] if found.get("type") == "message" else found.get("entry_id", found.get("last"))
    return (f"id: {last}{mark}\n" if last else "") + f"data: {frame}\n\n"


class ChatSocket(WebSocketSession):
    """One client of `/chat`.

    Args:
        events: Events it wants besides messages, keys of EVENTS.
        since: The id of the last message or change it has; None: it wants what waits for the account; "": that too,
            and the id of what was shown last, so that it can continue there later.
    """

    def __init__(self, websocket: WebSocket, account: Account, events: frozenset[str], since: object) -> None:
        super().__init__(websocket, account)
        self.events: tuple[type[Any], ...] = tuple(kind for word in events for kind in EVENTS[word])
        self._since = since
        self._unaccepted: set[asyncio.Task[None]] = set()
        self._has_room = LightEvent()  # fewer than MAX_UNACCEPTED messages are unaccepted

    async def finish(self) -> None:
        """Complete the writes under way: their messages are kept although nobody waits for the answers."""
        await asyncio.gather(*self._unaccepted, return_exceptions=True)

    # ---- out

    async def start(self) -> None:
        """Send the presence of others, then what the client missed."""
        if Presence in self.events:
            await self._send_presence()
        newest = await self.user.last_released() if self._since == "" else None
        count = await self.send_all_missed(self._since)
        if self._since is not None:
            here = {"last": newest.entry_id} if newest else {}
            self._put({"type": "resumed", "user": self.user.me.label, "count": count, **here, **self.catch_up.about()})
        if Delivered in self.events:
            await self.send_kept_receipts()

    async def _send_presence(self) -> None:
        gateway = self.gateway
        users = gateway.peer.hosting.acquainted(self.user.me) if gateway.hub.is_crowd else self.user.here()
        for user in users:
            if (status := self.user.directory.status(user.key)[0]) in ("online", "idle"):
                self.queue.put(as_frame(_presence(user, status)), bounded=False)
        await self.queue.drained()

    def send_missed(self, post: Post) -> None:
        frame = _frame_of(post)
        if frame is not None:
            self.queue.put(frame, self.proof(post), bounded=False)

    def deliver(self, envelope: Envelope) -> None:
        event = envelope.event
        if isinstance(event, POSTS):  # for a thousand sockets in the room, so there is little to do
            if self.is_due(envelope) and not self.wrote(event):
                frame = envelope.encoded("chat", lambda: _message_frame(envelope.for_user(self.user)))
                self.queue.put(frame, None if envelope.users is None else self.proof(event))
        elif isinstance(event, self.events) and not self.was_told(event):
            if isinstance(event, MessageChange) and not self.is_due(envelope):
                return
            event_frame = envelope.encoded(("chat", type(event)), lambda: _event_frame(envelope.for_user(self.user)))
            if event_frame is not None:
                self.queue.put(event_frame, bounded=not isinstance(event, RECEIPTS))

    def _put(self, content: dict[str, Any]) -> None:
        self.queue.put(as_frame(content))

    async def report(self, problem: WebError) -> None:
        self.queue.put(self.error_frame(problem))

    def error_frame(self, problem: WebError) -> Frame:
        return as_frame({"type": "error", "code": problem.code, "text": problem.text})

    # ---- in

    async def on_frame(self, text: str | None) -> None:
        """Carry out what a frame asks for, then wait while too many messages are unaccepted."""
        ref: Ref | None = None
        try:
            if text is None:
                raise BadFrame("frames must be text, not bytes")
            request = parse_request(text)
            ref = request.ref
            await self._handle(request)
        except (QueueFull, SessionEnded):
            raise
        except Exception as error:  # problem() raises unexpected errors again
            problem = self.gateway.metrics.problem(error)
            self._put(problem.to_json(error.ref if isinstance(error, BadFrame) else ref))
        if len(self._unaccepted) >= MAX_UNACCEPTED:
            self._has_room.clear()
            await self._has_room.wait()

    async def _handle(self, request: ChatRequest) -> None:
        limits = self.gateway.limits
        if isinstance(request, SendRequest):
            if request.by and not self.account.is_me(request.by):
                raise Forbidden("you can write only as yourself")
            limits.check()
            await self.pause(limits.messages)
            await self.pause(limits.written, count=written_bytes([request.text]))
            if request.group:
                to: Conversation = self.account.group(request.group)
            else:
                to = await self.gateway.receivers.resolve(self.account, request.to)
            self._start(request, to)
            return
        limits.small.take(self.account.key)
        if isinstance(request, ReadRequest):
            (await self.user.message(request.id)).mark_read()
        else:
            self._send_typing(request)

    def _send_typing(self, request: TypingRequest) -> None:
        if request.group:
            to: Conversation = self.account.group(request.group)
        else:
            to = self.gateway.receivers.find(self.account, request.to)
        self.user.typing(to, request.on)

    def _start(self, request: SendRequest, to: Conversation) -> None:
        """Write a message in a task, which takes its place among the account's messages before the loop goes on."""
        task = asyncio.create_task(self._send(request, to, self.queue.reserve()))
        self._unaccepted.add(task)
        task.add_done_callback(self._on_sending_done)

    def _on_sending_done(self, task: asyncio.Task[None]) -> None:
        self._unaccepted.discard(task)
        self._has_room.set()
        if not task.cancelled() and (error := task.exception()) is not None:  # a defect: no answer will come
            _log.error("a message of a chat session ended with an unexpected error", exc_info=error)
            self.gateway.hub.end(self.hub_session, "failed")

    async def _send(self, request: SendRequest, to: Conversation, answer: Frame) -> None:
        try:
            with self.gateway.metrics.accepting("chat"):
                files = self.gateway.uploads.find(self.account, request.files)
                sent = await self.user.send(
                    to, request.text, request.reply_to, action=request.action, ref=self.next_ref(), files=files,
                    choices=request.choices, key=request.key,
                )  # fmt: skip
            id = sent.id
            safety = await self.gateway.safety(self.account, id)
        except Exception as error:  # problem() raises unexpected errors again
            content = self.gateway.metrics.problem(error).to_json(request.ref)
        else:
            content = {"status": "ok", "id": id, **self.gateway.receivers.reservation(self.account, to), **safety}
            if request.ref is not None:
                content["ref"] = request.ref
        self.queue.fill(answer, as_frame(content))


def _presence(user: User, status: str) -> dict[str, Any]:
    return {"type": "presence", "user": user.label, "presence": status}


def _message_frame(post: Post) -> Frame:
    return as_frame({"type": "message", **chat_json(post)})


def _frame_of(post: Post) -> Frame | None:
    return _event_frame(post) if isinstance(post, MessageChange) else _message_frame(post)


def _event_frame(event: Any) -> Frame | None:
    """Return the frame of an event that is no message; the same for all it concerns."""
    content: dict[str, Any]
    match event:
        case Presence(user=user, status=status):
            content = _presence(user, status)
        case Typing(user=user, conversation=talk, typing=on):
            content = {"type": "typing", "user": user.label, "conversation": talk.kind, "typing": on}
            content |= {"group": talk.name} if talk.kind == "group" else {}
        case _ if form := CHAT_EVENTS.get(event.event):
            line = event.to_dict()
            content = {"type": event.event, **{name: line[field] for field, name in form.items() if field in line}}
        case _:
            return None
    return as_frame(content)


# ---- requests

Ref = str | int
ROOM = "room"
DIRECT = ("dm", "msg")
COMMANDS = (*DIRECT, "me")
MAX_KEY_CHARACTERS = 128
FIELDS = frozenset(  # `timestamp` and `id` are sent by clients of the origins, and ignored
    {
        "type",
        "text",
        "content",
        "to",
        "group",
        "from",
        "ref",
        "key",
        "reply_to",
        "action",
        "typing",
        "id",
        "timestamp",
        "files",
        "choices",
    }
)


class BadFrame(WebError):
    """A frame that is no valid request; `ref` is the client's own."""

    def __init__(self, text: str, ref: Ref | None = None, code: str = "malformed") -> None:
        super().__init__(400, code, text)
        self.ref = ref


@dataclass(frozen=True)
class SendRequest:
    """Write a message to a user or ROOM (`to`), or to a `group`.

    `by`: the name the client gives itself, or "". `files`: what it uploaded, by id.
    """

    text: str = field(repr=False)
    to: str = ROOM
    group: str = ""
    ref: Ref | None = None
    key: str = ""
    reply_to: str | None = None
    action: bool = False
    by: str = ""
    files: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadRequest:
    """Mark a conversation as read up to this message."""

    id: str
    ref: Ref | None = None


@dataclass(frozen=True)
class TypingRequest:
    """Announce that the user is typing, or has stopped."""

    to: str
    group: str
    on: bool
    ref: Ref | None = None


ChatRequest = SendRequest | ReadRequest | TypingRequest


def parse_request(frame: str) -> ChatRequest:
    """Return the request in a text frame. Raises BadFrame."""
    if not looks_like_json(frame):
        return _parse_line(frame, None)
    found = read_object(frame)
    if found is None:  # perhaps meant for one person: must not go to everyone
        raise BadFrame('this frame is no valid JSON object; to send it as a text, use {"text": ...}')
    return _parse_object(found)


def _parse_object(found: dict[str, Any]) -> ChatRequest:
    ref = found.get("ref")
    if not (ref is None or type(ref) is int or (type(ref) is str and is_unicode(ref))):
        raise BadFrame("`ref` must be a string or an integer")
    if unknown := sorted(found.keys() - FIELDS):
        raise BadFrame(f"unknown field {unknown[0][:32]!r}: it could have named the receiver", ref)
    kind = found.get("type", "message")
    if kind in ("read", "ack"):
        return ReadRequest(_text_field(found, "id", ref), ref)
    to, group = _text_field(found, "to", ref, ROOM), _text_field(found, "group", ref, "")
    if not to or (not group and "group" in found):
        raise BadFrame("`to` or `group` is empty; a message without either goes to everyone", ref)
    if kind == "typing":
        return TypingRequest(to, group, found.get("typing") is not False, ref)
    if kind != "message":
        raise BadFrame("`type` must be message, read, ack or typing", ref)
    return _parse_message(found, to, group, ref)


def _parse_message(found: dict[str, Any], to: str, group: str, ref: Ref | None) -> SendRequest:
    files = _list_field(found, "files", "ids of uploads", ref)
    choices = _list_field(found, "choices", "texts", ref)
    name = "content" if "content" in found and "text" not in found else "text"
    text = _text_field(found, name, ref, "" if files else None)
    key, reply_to = _text_field(found, "key", ref, ""), _text_field(found, "reply_to", ref, "") or None
    by = _text_field(found, "from", ref, "")
    if not is_unicode(key):
        raise BadFrame("`key` is not valid Unicode", ref)
    if len(key) > MAX_KEY_CHARACTERS:
        raise BadFrame(f"`key` has at most {MAX_KEY_CHARACTERS} characters", ref)
    if "to" in found and "group" in found:
        raise BadFrame("a message goes to a user or a group, not both", ref)
    action = found.get("action") is True
    if "to" in found or "group" in found or action:
        return SendRequest(text, to, group, ref, key, reply_to, action, by, files, choices)
    return replace(_parse_line(text, ref), key=key, reply_to=reply_to, by=by, files=files, choices=choices)


def _list_field(found: dict[str, Any], name: str, what: str, ref: Ref | None) -> tuple[str, ...]:
    """Return the strings in a field of an object, () without it."""
    said = found.get(name, [])
    if not isinstance(said, list) or not all(isinstance(one, str) for one in said):
        raise BadFrame(f"`{name}` must be a list of {what}", ref)
    return tuple(said)


def _text_field(found: dict[str, Any], name: str, ref: Ref | None, default: str | None = None) -> str:
    """Return a text field of an object, or `default` if it is missing; None means that it is required."""
    value = found.get(name, default)
    if not isinstance(value, str):
        raise BadFrame(f"`{name}` must be a string", ref)
    return value


def _parse_line(line: str, ref: Ref | None) -> SendRequest:
    """Return the message in a typed line."""
    if not line.startswith("/"):
        try:
            refuse_almost_a_command(line, COMMANDS)
        except UsageError as error:
            raise BadFrame(str(error), ref) from None
        return SendRequest(line, ref=ref)
    if line.startswith("//"):
        return SendRequest(line[1:], ref=ref)
    command, _, rest = line[1:].partition(" ")
    if command.lower() in DIRECT:
        try:
            name, text = split_name(rest.strip())
        except UsageError as error:
            raise BadFrame(str(error), ref) from None
        if not name or not text:
            raise BadFrame("missing name or text, for example: /dm bob see you at ten", ref)
        return SendRequest(text, name, ref=ref)
    if command.lower() == "me" and rest.strip():
        return SendRequest(rest.strip(), ref=ref, action=True)
    command = command[:32]
    near = get_close_matches(command.lower(), COMMANDS, n=1)
    hint = f"did you mean /{near[0]}?" if near else "there is /dm NAME TEXT; // begins a text that starts with a slash"
    shown = command.encode(errors="replace").decode()  # lone surrogates cannot be sent
    raise BadFrame(f"there is no command /{shown}: {hint}", ref, "unknown_command")
