"""The Socket.IO server: python-engineio, with checks before and behind it.

Before it, around its ASGI application: a frame that can be no packet ends the connection before it is parsed. Behind
it, at its handlers: a client that does not register in time is sent away, and one that sends too much is read more
slowly, at no cost to others. Nothing is dropped in silence: what is not taken is refused, or ends the connection.

Events that come before `register` wait for it. Clients send what was emitted while they had no connection before their
`connect` handler runs, in which programs register; and a client that is told to leave does not come back by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import engineio
from engineio.exceptions import EngineIOError
from socketio.packet import CONNECT, CONNECT_ERROR, DISCONNECT, EVENT
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pchat.web.account_session import Frame
from p2pchat.web.error_responses import Unauthorized, WebError, problem_of
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.rate_limits import site_of
from p2pchat.web.security import CALLER, address_of, is_on_loopback, refuse
from p2pchat.web.session_hub import QueueFull
from p2pchat.web.sign_in import identify
from p2pchat.web.socketio.engine_connection import (
    CLOSE,
    NO_NAMESPACE,
    EngineConnection,
    StrictPacket,
    ack_frame,
    event_frame,
    may_come_in,
    packet_frame,
    posted_packets,
)
from p2pchat.web.socketio.event_handlers import Answer, EventHandlers, payload_of
from p2pchat.web.socketio.socket_client import ClientRegistry, SocketClient

MAX_UNREGISTERED = 1024  # connections that have not registered yet; further ones are told to try again
MAX_UNREGISTERED_OF_ADDRESS = 256  # of them from one address, so that none takes the places of all others
MAX_BEFORE_REGISTER = 1024  # packets of one of them, each counted as one more for each KiB; a guess
MAX_HELD = 64  # events of one of them that wait for `register`; a guess
MAX_HELD_CHARACTERS = 64 * 1024  # in these events: two of the longest texts
HELD_FOR = 0.5  # of the time to register: how long they wait
UPGRADE_TIMEOUT = 10.0  # seconds in which a polling client changes to its WebSocket; a guess
REGISTER = "register"
CONNECTION = "p2pchat.connection"  # key in the scope of a request or WebSocket that opens one
_logger = logging.getLogger("p2pchat.web.socketio")
_silent = logging.getLogger("p2pchat.web.socketio.library")  # the library logs remote values unescaped
_silent.setLevel(logging.CRITICAL + 1)


class SocketIOServer:
    """Socket.IO of one gateway; `app` is the ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = ClientRegistry(gateway)
        self._handlers = EventHandlers(self._registry)
        self._connections: dict[str, EngineConnection] = {}  # by Engine.IO id
        gateway.on_refused = self._on_refused
        self._engine = engine = engineio.AsyncServer(
            async_mode="asgi", logger=_silent, async_handlers=False,
            cors_allowed_origins=[],  # SecurityMiddleware has compared Host and Origin before
            max_http_buffer_size=gateway.settings.max_body_bytes, http_compression=False,
        )  # fmt: skip
        self._inner: ASGIApp = engineio.ASGIApp(engine, engineio_path=None)
        engine.on("connect", self._on_open)
        engine.on("message", self._on_packet)
        engine.on("disconnect", self._on_close)

    # ---- ASGI

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a WebSocket below the mount path."""
        try:
            await self._check_caller(scope)
        except Exception as error:  # _problem() logs unexpected errors
            await refuse(scope, receive, send, self._problem(error))
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http":
            if path.strip("/"):
                await PlainTextResponse("Not Found", 404)(scope, receive, send)
            else:
                await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _check_caller(self, scope: Scope) -> None:
        """Raise Unauthorized if a program with users of its own knows no caller, or another one than at the start."""
        connection = self._connections.get(_engine_id(scope))
        if self._gateway.authenticate is not None:
            account = await identify(HTTPConnection(scope), None, calls=0)
            if connection is not None and connection.scope[CALLER] is not account:
                raise Unauthorized("this connection belongs to another user")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._connections.get(_engine_id(scope))
        if scope["method"] == "POST":
            await (await self._on_post(connection, Request(scope, receive)))(scope, receive, send)
            return
        if connection is None or scope["method"] != "GET":
            await self._inner(scope, receive, send)
            return
        with suppress(ClientDisconnect):
            await Request(scope, receive).body()  # from now on only the end of the request comes in

        async def receive_nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        watching = self._registry.spawn(self._watch_poll(connection, receive, asyncio.current_task()))
        try:
            await self._inner(scope, receive_nothing, send)
        finally:
            watching.cancel()

    @staticmethod
    async def _watch_poll(connection: EngineConnection, receive: Receive, poller: asyncio.Task[Any] | None) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if poller is not None:
            connection.drop_poll(poller)

    async def _on_post(self, connection: EngineConnection | None, request: Request) -> PlainTextResponse:
        """Take every packet that a polling client posts; what can be no packet ends its connection.

        The library would answer 200 to what it drops: more than 16 packets, a body sent in chunks, a malformed packet.
        A second POST beside one whose packets wait ends the connection: they would wait without a bound.
        """
        text = ""
        if connection is None:
            return PlainTextResponse("this connection is closed", 400)
        body = b"".join([part async for part in request.stream()])  # not kept beside its packets
        if connection.is_posting:
            self._send_away(connection, WebError(400, "malformed", "a client has one POST at a time"), again=True)
            return PlainTextResponse("this connection is closed", 400)
        connection.is_posting = True
        try:
            packets, body = posted_packets(body), b""  # SecurityMiddleware has checked its size
            for text in packets:
                await connection.receive(text)
        except EngineIOError:
            return PlainTextResponse("this connection does not poll any more", 400)
        except ValueError as error:
            self._send_away(connection, self._problem(error), again=True)
        finally:
            connection.is_posting = False
        if connection.sent_away or (connection.ended and text != CLOSE):
            return PlainTextResponse("this connection is closed", 400)
        return PlainTextResponse("OK")

    def _on_refused(self, scope: Scope, problem: WebError) -> None:
        """End the connection whose packets were in a body that was too large, or came too fast."""
        connection = self._connections.get(_engine_id(scope)) if scope.get("method") == "POST" else None
        if connection is not None:
            self._send_away(connection, problem, again=True)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket. One to which a polling client changes is the only one, and has to be used in time: the
        library waits for its packets for ever.
        """
        polling = self._connections.get(_engine_id(scope))
        if polling is not None and not polling.begin_upgrade():
            await send({"type": "websocket.close"})
            return
        deadline = asyncio.get_running_loop().time() + UPGRADE_TIMEOUT

        async def receive_in_time() -> Message:
            if polling is None or polling.is_upgraded:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    return await receive()
            except TimeoutError:
                return {"type": "websocket.disconnect", "code": 1008}

        async def receive_checked() -> Message:
            message = await receive_in_time()
            connection: EngineConnection | None = scope.get(CONNECTION, polling)
            if message["type"] == "websocket.receive":
                text = message.get("text")
                if (connection is not None and connection.ended) or not may_come_in(text):
                    return {"type": "websocket.disconnect", "code": 1003}
                if connection is not None:
                    connection.on_packet(text or "")
            return message

        try:
            await self._inner(scope, receive_checked, send)
        finally:
            if polling is not None:
                polling.end_upgrade()

    # ---- Engine.IO

    async def _on_open(self, engine_id: str, environ: MutableMapping[str, Any]) -> bool | None:
        scope = environ["asgi.scope"]
        if not self._has_room_for(HTTPConnection(scope)):
            return False
        host = (scope.get("client") or ("",))[0]
        connection = EngineConnection(self._engine.sockets[engine_id], scope, host, self._gateway.settings)
        self._connections[engine_id] = connection
        self._registry.spawn(connection.queue.run())
        scope[CONNECTION] = connection
        self._set_deadline(connection)
        return None

    def _has_room_for(self, caller: HTTPConnection) -> bool:
        """Return whether one more unregistered connection is allowed, in all and from its address."""
        if len(self._connections) < MAX_UNREGISTERED_OF_ADDRESS:
            return True
        strangers = [connection.host for connection in self._connections.values() if connection.client is None]
        if len(strangers) < MAX_UNREGISTERED_OF_ADDRESS or is_on_loopback(caller):
            return len(strangers) < MAX_UNREGISTERED
        site = site_of(address_of(caller))
        of_address = sum(site_of(host) == site for host in strangers)
        return len(strangers) < MAX_UNREGISTERED and of_address < MAX_UNREGISTERED_OF_ADDRESS

    def _set_deadline(self, connection: EngineConnection) -> None:
        """Give a connection `token_timeout` seconds to register."""
        seconds = self._gateway.settings.token_timeout
        connection.deadline = asyncio.get_running_loop().call_later(seconds, self._on_deadline, connection, seconds)

    def _on_deadline(self, connection: EngineConnection, seconds: float) -> None:
        self._registry.spawn(self._end_unregistered(connection, seconds))

    async def _end_unregistered(self, connection: EngineConnection, seconds: float) -> None:
        await connection.wait_handled()  # it may be about to be registered
        if connection.client is None:
            self._send_away(connection, problem_of(Unauthorized(f"register was not sent within {seconds:g} s")))

    async def _on_packet(self, engine_id: str, data: str | bytes) -> None:
        """Pass a packet on, within the limits that hold for both transports."""
        connection = self._connections.get(engine_id)
        if connection is None:
            return
        if connection.client is None:
            await connection.wait_handled()  # an earlier packet may register it
        if connection.ended or connection.sent_away:
            return
        if connection.client is None:
            connection.taken += 1 + len(data) // 1024
            if connection.taken > MAX_BEFORE_REGISTER:
                self._send_away(connection, Unauthorized("too much was sent before register"), again=True)
                return
        else:
            key = connection.client.account.key
            while not connection.ended and (wait := self._gateway.limits.calls.wait(key)):
                await asyncio.sleep(wait)  # further packets stay in the client's own connection
        try:
            packet = StrictPacket(encoded_packet=data)
            if packet.packet_type == CONNECT:
                self._on_connect(connection, packet.namespace or "/")
            elif packet.packet_type == DISCONNECT:
                self._on_disconnect(connection)
            elif packet.packet_type == EVENT and not connection.is_joined:
                raise WebError(400, "malformed", "an event came before the namespace / was connected")
            elif packet.packet_type == EVENT and connection.client is None and packet.data[0] != REGISTER:
                self._hold(connection, str(data))
            elif packet.packet_type == EVENT:
                self._begin(connection, packet)
        except Exception as error:  # the library drops what is malformed; _problem() logs unexpected errors
            self._send_away(connection, self._problem(error), again=True)

    def _hold(self, connection: EngineConnection, event: str) -> None:
        """Let an event wait for `register`, or refuse it if too much waits."""
        held = connection.held
        if len(held) == MAX_HELD or sum(map(len, held)) + len(event) > MAX_HELD_CHARACTERS:
            self._refuse(connection, [event])
            return
        if not held:
            self._registry.spawn(self._refuse_held(connection, held))
        held.append(event)

    async def _refuse_held(self, connection: EngineConnection, held: list[str]) -> None:
        await asyncio.sleep(HELD_FOR * self._gateway.settings.token_timeout)
        await connection.wait_handled()
        self._refuse(connection, held)

    def _refuse(self, connection: EngineConnection, events: list[str]) -> None:
        """Answer events that came without `register`, and forget them."""
        problem = Unauthorized("register comes first: this event was not handled")
        for event in events:
            id = StrictPacket(encoded_packet=event).id
            if id is not None:
                connection.queue.put(ack_frame(id, problem.to_json()), bounded=False)
            self._send_error(connection, problem)
        events.clear()

    async def _on_close(self, engine_id: str, reason: str) -> None:
        connection = self._connections.pop(engine_id, None)
        if connection is not None:
            self._close_client(connection)
            connection.release()

    # ---- Socket.IO

    def _on_connect(self, connection: EngineConnection, namespace: str) -> None:
        if namespace == "/":
            connection.is_joined = True
            answer = packet_frame(CONNECT, {"sid": self._engine.generate_id()})
        else:  # clients look for a `message` in a refusal
            answer = packet_frame(CONNECT_ERROR, {"message": NO_NAMESPACE}, namespace=namespace)
        connection.queue.put(answer, bounded=False)

    def _on_disconnect(self, connection: EngineConnection) -> None:
        """Close the client; its connection may stay open and register another user."""
        had_client = connection.client is not None
        connection.is_joined = False
        connection.held.clear()
        self._close_client(connection)
        if had_client and not connection.ended:
            connection.taken = 0
            self._set_deadline(connection)

    def _close_client(self, connection: EngineConnection) -> None:
        client, connection.client = connection.client, None
        if isinstance(client, SocketClient):
            client.close()

    def _begin(self, connection: EngineConnection, event: StrictPacket) -> None:
        """Begin with a request; its answer comes after those to earlier requests of the connection."""
        place = None
        if event.id is not None:
            place = connection.queue.reserve(bounded=False)
        self._registry.spawn(self._carry_out(connection, event, place))

    async def _carry_out(self, connection: EngineConnection, event: StrictPacket, place: Frame | None) -> None:
        name, problem = event.data[0], None
        try:
            async with connection.lock:
                answer = await self._handle(connection, name, tuple(event.data[1:]))
            if isinstance(answer, asyncio.Task):  # a message on its way to disk
                answer = await answer
        except Exception as error:  # _problem() logs unexpected errors
            problem = self._problem(error)
            answer = problem.to_json()
        if place is not None and event.id is not None:
            connection.queue.fill(place, ack_frame(event.id, answer))
        if problem is not None and name == REGISTER:
            self._send_away(connection, problem)
        elif problem is not None:
            self._send_error(connection, problem)

    async def _handle(
        self, connection: EngineConnection, name: str, given: tuple[Any, ...]
    ) -> Answer | asyncio.Task[Answer]:
        if connection.ended or connection.sent_away:
            raise Unauthorized("this connection is closed")
        if name == REGISTER:
            answer = await self._handlers.register(connection, payload_of(given))
            if connection.deadline is not None:
                connection.deadline.cancel()
            held, connection.held = connection.held, []
            for event in held:  # they are answered after this one, and before those that come from now on
                self._begin(connection, StrictPacket(encoded_packet=event))
            held.clear()
            return answer
        client = connection.client
        if not isinstance(client, SocketClient):
            raise Unauthorized("register comes first")
        handler = self._handlers.by_event.get(name)
        if handler is None:
            raise WebError(404, "unknown_event", f"there is no event {name[:40]!r}")
        return await handler(client, payload_of(given))

    def _problem(self, error: Exception) -> WebError:
        try:
            return self._gateway.metrics.problem(error)
        except Exception:  # a defect ends this event, not the gateway
            _logger.exception("an event could not be handled")
            return WebError(500, "failed", "internal error; it was logged")

    def _send_error(self, connection: EngineConnection, problem: WebError) -> None:
        try:
            connection.queue.put(event_frame("error", {"code": problem.code, "text": problem.text}))
        except QueueFull:
            if connection.client is not None:
                self._gateway.hub.end(connection.client.hub_session, "slow")

    def _send_away(self, connection: EngineConnection, problem: WebError, *, again: bool = False) -> None:
        """Send an error and close, once; the client reconnects by itself where trying again may help, or if `again`."""
        if not connection.sent_away:
            connection.sent_away = True
            self._refuse(connection, connection.held)
            self._send_error(connection, problem)
            self._registry.spawn(connection.end(away=not again and problem.status != 429 and problem.status < 500))


def _engine_id(scope: Scope) -> str:
    """Return the Engine.IO id in a request, "" for none."""
    found: list[str] = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("sid", [""])
    return found[0]
