"""Socket.IO itself: python-socketio's server, with a guard in front of it and one behind.

In front, around its ASGI application: frames that can be no packet end the connection before they are parsed, and
what is written is noticed, so that it is known what has arrived. Behind, at its handlers: who has not registered in
time is sent away, and whoever says too much is read more slowly, alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import socketio
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pchat.web.auth import address_of, is_on_loopback
from p2pchat.web.errors import Problem, Unauthorized, WebError, problem_of
from p2pchat.web.gateway import Gateway
from p2pchat.web.hub import QueueFull
from p2pchat.web.rate_limit import site_of
from p2pchat.web.socketio.clients import ClientRegistry, EngineConnection, Post
from p2pchat.web.socketio.handlers import Answer, EventHandlers
from p2pchat.web.socketio.messages import StrictPacket, event, may_come_in, payload_of

MOST_STRANGERS = 1024  # connections that have not registered yet; further ones are told to try again
MOST_STRANGERS_OF_ADDRESS = 256  # of them from one address, so that no one takes the places of all others
MOST_BEFORE_REGISTER = 8  # packets from one of them
SWEPT_EVERY = 5.0  # seconds between looks for clients that do not answer Engine.IO's ping
REGISTER = "register"
SEPARATOR = "\x1e"  # between the packets of one answer to a poll
_logger = logging.getLogger("p2pchat.web.socketio")
_silent = logging.getLogger("p2pchat.web.socketio.library")  # it writes remote values as they came
_silent.setLevel(logging.CRITICAL + 1)


class SocketIOServer:
    """Socket.IO of one gateway; `app` is the ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = ClientRegistry(gateway)
        self._events = EventHandlers(self._registry)
        self._wires: dict[str, EngineConnection] = {}  # by Engine.IO's id
        self._by_sid: dict[str, EngineConnection] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._server = server = socketio.AsyncServer(
            async_mode="asgi", serializer=StrictPacket, logger=_silent, engineio_logger=_silent,
            cors_allowed_origins=[],  # the gateway's own door has compared Host and Origin, before anything else
            max_http_buffer_size=gateway.settings.max_body_bytes, monitor_clients=False, http_compression=False,
        )  # fmt: skip
        self._inner: ASGIApp = socketio.ASGIApp(server, socketio_path=None)
        self._library: dict[str, Any] = dict(server.eio.handlers)
        server.eio.on("connect", self._opened)
        server.eio.on("message", self._said)
        server.eio.on("disconnect", self._closed)
        server.on("connect", self._connected)
        server.on("disconnect", self._disconnected)
        server.on("*", self._event)

    # ---- in front

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a WebSocket below the place this is mounted at."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http":
            if path.strip("/"):
                await PlainTextResponse("Not Found", 404)(scope, receive, send)
            else:
                await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = self._wires.get(_engine_id(scope))
        if wire is None or scope["method"] != "GET":
            await self._inner(scope, receive, send)
            return
        wire.polled()

        async def sent(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                for text in message.get("body", b"").decode().split(SEPARATOR):
                    wire.wrote(text)

        await self._inner(scope, receive, sent)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = _ConnectionSlot(self._wires.get(_engine_id(scope)))
        scope["p2pchat.wire"] = held

        async def received() -> Message:
            message = await receive()
            wire = held.wire
            if message["type"] == "websocket.receive":
                text = message.get("text")
                if (wire is not None and wire.ended) or not may_come_in(text):
                    return {"type": "websocket.disconnect", "code": 1003}
                if wire is not None:
                    wire.took(text or "")
            elif message["type"] == "websocket.disconnect" and wire is not None:
                wire.went_away(message.get("code", 1005))
            return message

        async def sent(message: Message) -> None:
            await send(message)
            if held.wire is not None and message["type"] == "websocket.send":
                held.wire.wrote(message.get("text") or "")

        if held.wire is not None:
            held.wire.closes_with(lambda: send({"type": "websocket.close", "code": 1000}))
        held.send = send
        await self._inner(scope, received, sent)

    # ---- Engine.IO

    async def _opened(self, engine_id: str, environ: MutableMapping[str, Any]) -> bool | None:
        """A connection begins."""
        scope = environ["asgi.scope"]
        if not self._has_room_for(HTTPConnection(scope)):
            return False
        settings = self._gateway.settings
        wire = EngineConnection(
            self._server.eio.sockets[engine_id], scope, (scope.get("client") or ("",))[0],
            max_frames=settings.outbox_frames, max_bytes=settings.outbox_bytes, proved=_proved,
        )  # fmt: skip
        self._wires[engine_id] = wire
        held: _ConnectionSlot | None = scope.get("p2pchat.wire")
        if held is not None and held.send is not None:
            held.wire, send = wire, held.send
            wire.closes_with(lambda: send({"type": "websocket.close", "code": 1000}))
        self._give_time(wire)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        await self._library["connect"](engine_id, environ)
        return None

    def _has_room_for(self, caller: HTTPConnection) -> bool:
        """Whether one more that has not registered may be here, in all and of its address."""
        if len(self._wires) < MOST_STRANGERS_OF_ADDRESS:
            return True
        strangers = [wire.host for wire in self._wires.values() if wire.client is None]
        if len(strangers) < MOST_STRANGERS_OF_ADDRESS or is_on_loopback(caller):
            return len(strangers) < MOST_STRANGERS
        site = site_of(address_of(caller))
        of_address = sum(site_of(host) == site for host in strangers)
        return len(strangers) < MOST_STRANGERS and of_address < MOST_STRANGERS_OF_ADDRESS

    def _give_time(self, wire: EngineConnection) -> None:
        """From now on it has some seconds to register."""
        seconds = self._gateway.settings.token_timeout
        wire.deadline = asyncio.get_running_loop().call_later(seconds, self._too_late, wire, seconds)

    def _too_late(self, wire: EngineConnection, seconds: float) -> None:
        if wire.client is None:
            self._send_away(wire, problem_of(Unauthorized(f"register was not sent within {seconds:g} s")))

    async def _said(self, engine_id: str, data: object) -> None:
        """A packet came in; how many are taken is here, for both transports."""
        wire = self._wires.get(engine_id)
        if wire is None or wire.ended:
            return
        if wire.client is None:
            wire.frames += 1
            if wire.frames > MOST_BEFORE_REGISTER:
                self._send_away(wire, problem_of(Unauthorized("too much was sent before register")))
                return
        else:
            key = wire.client.account.key
            while wait := self._gateway.limits.calls.wait(key):
                await asyncio.sleep(wait)  # it is read more slowly: what it sends next waits at its own end
        await self._library["message"](engine_id, data)

    async def _closed(self, engine_id: str, reason: str) -> None:
        await self._library["disconnect"](engine_id, reason)
        wire = self._wires.pop(engine_id, None)
        if wire is not None:
            self._let_go(wire, orderly=wire.leaving)
            wire.release()
            if wire.deadline is not None:
                wire.deadline.cancel()

    async def _sweep(self) -> None:
        """End clients that do not answer, as long as there are any."""
        engine = self._server.eio
        while self._wires:
            await asyncio.sleep(SWEPT_EVERY)
            for engine_id, socket in list(engine.sockets.items()):
                if socket.closed:
                    engine.sockets.pop(engine_id, None)
                elif not socket.closing:
                    with suppress(Exception):  # closed meanwhile
                        await socket.check_ping_timeout()
        self._sweeping = None

    # ---- Socket.IO

    async def _connected(self, sid: str, environ: MutableMapping[str, Any], auth: object = None) -> None:
        wire = self._wires[self._server.manager.eio_sid_from_sid(sid, "/")]
        wire.sid = sid
        self._by_sid[sid] = wire

    async def _disconnected(self, sid: str, reason: str) -> None:
        """A client has left; its connection may go on, and be used by another user."""
        wire = self._by_sid.pop(sid, None)
        if wire is not None and wire.sid == sid:
            orderly = wire.leaving or reason == self._server.reason.CLIENT_DISCONNECT
            had_client = wire.client is not None
            self._let_go(wire, orderly=orderly)
            if had_client and not wire.ended:
                wire.frames = 0
                self._give_time(wire)

    def _let_go(self, wire: EngineConnection, *, orderly: bool) -> None:
        client, wire.client = wire.client, None
        if client is not None:
            client.close(orderly=orderly)

    async def _event(self, name: str, sid: str, *given: Any) -> Answer:
        wire = self._by_sid.get(sid)
        if wire is None or wire.ended:
            return problem_of(Unauthorized("this connection is closed")).to_json()
        sign_in = name == REGISTER or wire.client is None
        try:
            return await self._do(wire, name, given)
        except Exception as error:  # what is none of ours is logged by _problem()
            problem = self._problem(error)
        if sign_in:
            self._send_away(wire, problem)
        else:
            self._tell(wire, problem)
        return problem.to_json()

    async def _do(self, wire: EngineConnection, name: str, given: tuple[Any, ...]) -> Answer:
        if name == REGISTER:
            answer = await self._events.register(wire, payload_of(given))
            if wire.deadline is not None:
                wire.deadline.cancel()
            return answer
        client = wire.client
        if client is None:
            raise Unauthorized("register comes first")
        act = self._events.acts.get(name)
        if act is None:
            raise WebError(404, "unknown_event", f"there is no event {name[:40]!a}")
        return await act(client, payload_of(given))

    def _problem(self, error: Exception) -> Problem:
        try:
            return self._gateway.metrics.problem(error)
        except Exception:  # a defect ends this event, not the gateway
            _logger.exception("an event could not be handled")
            return Problem(500, "failed", "this gateway has failed at it")

    def _tell(self, wire: EngineConnection, problem: Problem) -> None:
        with suppress(QueueFull):
            wire.put(event("error", {"code": problem.code, "text": problem.text}))

    def _send_away(self, wire: EngineConnection, problem: Problem) -> None:
        """Say why, and close: a client comes back by itself where trying again may help."""
        self._tell(wire, problem)
        self._registry.spawn(wire.end(away=problem.status != 429 and problem.status < 500))


class _ConnectionSlot:
    """The wire of a WebSocket, known once Engine.IO has opened it."""

    def __init__(self, wire: EngineConnection | None) -> None:
        self.wire = wire
        self.send: Send | None = None


def _engine_id(scope: Scope) -> str:
    """Return the connection a request names; "" for none."""
    found: list[str] = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("sid", [""])
    return found[0]


def _proved(wire: EngineConnection, post: Post) -> None:
    if wire.client is not None:
        wire.client.arrived(post)
