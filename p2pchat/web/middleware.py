"""Security middleware: checks that every request and upgrade has to pass first (ASGI, outermost).

It refuses requests that no honest client sends: a path that programs read differently, a repeated header that may occur
once, a foreign Host or Origin (origins.py), and headers or bodies that are too large or too slow. A body is read here
completely, so that nothing behind waits for a slow client.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import MutableMapping
from time import monotonic
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from p2pchat import P2PChatError
from p2pchat.web.auth import CALLER, address_of, answer, is_on_loopback
from p2pchat.web.errors import Problem, WebError
from p2pchat.web.gateway import Gateway
from p2pchat.web.origins import AllowedOrigins
from p2pchat.web.rate_limit import site_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_log = logging.getLogger("p2pchat.web")
_SINGLE_HEADERS = (b"host", b"origin", b"authorization", b"content-length", b"content-type", b"transfer-encoding")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# `//`, `.`, `..`, a backslash, and encodings of these, of a slash or of a control character.
_UNCLEAR = re.compile(rb"//|/\.\.?(?:/|$)|[\\\x00-\x20\x7f-\xff;]|%(?:2e|2f|5c|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})", re.I)
_TOO_BIG = 1009  # RFC 6455: a message too big to process
_TRY_AGAIN = 1013


class SecurityMiddleware:
    """Admit requests meant for this gateway, and add the security headers to all answers."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._settings = gateway.settings
        self._origins = AllowedOrigins(gateway.settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        recorded = _RecordedSend(scope, send, self._gateway)
        if scope["type"] == "http":
            send = recorded
        try:
            self._check(scope)
            if not self._gateway.started:
                await self._gateway.start()
            if scope["type"] == "http":
                receive = await self._read_body(scope, receive)
            else:
                receive = self._limit_frames(receive)
        except (WebError, P2PChatError) as error:
            await _refuse(scope, receive, send, self._gateway.metrics.problem(error))
            return
        except _ClientGone:
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # a defect is answered if no answer has started
            if scope["type"] != "http" or recorded.started:
                raise
            _log.exception("a request to %s failed with an unexpected error", route_of(scope))
            await _refuse(scope, receive, send, Problem(500, "failed", "internal error; it was logged"))

    def _check(self, scope: Scope) -> None:
        connection = HTTPConnection(scope)
        check_path(scope)
        check_headers(scope, self._settings.max_header_bytes)
        scheme = _SCHEMES[scope.get("scheme", "http")]
        host = self._origins.resolve_host(connection.headers.get("host", ""), scheme, scope.get("server"))
        if host is None:
            raise WebError(421, "host", "unknown host: use the address itself, or start the gateway with --origin")
        origin = connection.headers.get("origin")
        if origin is not None and not self._origins.allows(origin, host, scheme):
            raise WebError(403, "origin", "requests from pages of other sites are not allowed")
        if origin is None and _is_cross_site(connection):
            raise WebError(403, "origin", "requests from pages of other sites are not allowed")
        if not is_on_loopback(connection):
            self._gateway.limits.addresses.take(site_of(address_of(connection)))

    async def _read_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body; return a `receive` that passes it to the application in one piece."""
        headers = dict(scope["headers"])
        announced, most = headers.get(b"content-length"), self._settings.max_body_bytes
        if announced is None and b"transfer-encoding" not in headers:
            return receive
        if announced is not None and (not announced.isdigit() or int(announced) > most):
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _ClientGone
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > most:
                        raise _too_large(most)
        except TimeoutError:
            raise WebError(408, "slow", "the body took too long", {"Connection": "close"}) from None
        return _receive_body(bytes(body), receive)

    def _limit_frames(self, receive: Receive) -> Receive:
        """Return a `receive` that ends a WebSocket at a frame above the limit, whatever the server does."""
        most = self._settings.max_body_bytes

        async def receive_limited() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                text, data = message.get("text"), message.get("bytes")
                size = len(data or b"") if text is None else len(text)
                if size > most or (text is not None and 4 * size > most and len(text.encode()) > most):
                    return {"type": "websocket.disconnect", "code": _TOO_BIG, "reason": "too big"}
            return message

        return receive_limited


class _ClientGone(Exception):
    """The client left before its request was complete."""


def check_path(scope: MutableMapping[str, Any]) -> None:
    """Refuse a path that programs may read differently. Raises WebError."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/") or _UNCLEAR.search(raw):  # "http://other/", "*", "/a/../b", "/a%2fb"
        raise WebError(400, "path", "ambiguous path")


def check_headers(scope: MutableMapping[str, Any], max_bytes: int) -> None:
    """Refuse repeated headers that may occur once, and headers that are too long. Raises WebError."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if sum(len(name) + len(value) + 4 for name, value in headers) > max_bytes:
        raise WebError(431, "headers", f"the headers have more than {max_bytes} bytes")
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _SINGLE_HEADERS):
        raise WebError(400, "headers", "a header is repeated that may occur once")
    if b"host" not in names:
        raise WebError(400, "host", "the Host header is missing")


def _is_cross_site(connection: HTTPConnection) -> bool:
    """Return whether a browser reports a request from another site that is not a followed link."""
    headers = connection.headers
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (follows and connection.scope.get("method") in ("GET", "HEAD"))


def _too_large(most: int) -> WebError:
    return WebError(413, "too_large", f"more than {most} bytes", {"Connection": "close"})


def _receive_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns this body first."""
    given = False

    async def receive_once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_once


class _RecordedSend:
    """A `send` that adds the security headers, forbids storing unless the answer allows it, counts and logs."""

    def __init__(self, scope: Scope, send: Send, gateway: Gateway) -> None:
        self._scope = scope
        self._send = send
        self._gateway = gateway
        self._started_at = monotonic()
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            self._record(message["status"])
        await self._send(message)

    def _record(self, status: int) -> None:
        scope, gateway, seconds = self._scope, self._gateway, monotonic() - self._started_at
        gateway.metrics.answered(scope["method"], route_of(scope), status, seconds)
        if gateway.audit_log.write is not None:
            account = scope.get(CALLER)
            who = {} if account is None else {"user": account.name, "user_id": account.id}
            client = scope.get("client")
            gateway.audit_log.record(
                "request", method=scope["method"], route=route_of(scope), status=status,
                ms=round(1000 * seconds, 3), address=client[0] if client else "", **who,
            )  # fmt: skip


def route_of(scope: Scope) -> str:
    """Return the path pattern of a request's route; "other" if it has none."""
    return str(getattr(scope.get("route"), "path", "other"))


async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    if scope["type"] == "http":
        await answer(problem)(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        response = answer(problem)
        response.headers.update(SECURITY_HEADERS)
        await response(scope, receive, send)
    else:
        code = _TRY_AGAIN if problem.status in (429, 503) else 1008  # RFC 6455: against the policy
        await WebSocketClose(code, problem.code)(scope, receive, send)
