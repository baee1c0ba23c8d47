"""The door: what every request and upgrade has to pass before anything else looks at it (ASGI, outermost).

Refused is what no honest client sends: a path that means different things to different programs, two of a header that
there is one of, a Host that is not ours (origins.py), an Origin of another site, more than fits, a body that does not
come. A body is taken in here, whole and in time, so that nothing behind waits for a slow one.
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
    "X-Frame-Options": "DENY",  # what frame-ancestors says, for browsers that do not know it
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_log = logging.getLogger("p2pchat.web")
_ONE_OF = (b"host", b"origin", b"authorization", b"content-length", b"content-type", b"transfer-encoding")
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# `//`, `.`, `..`, a backslash, and whatever stands for one of these, for a slash or for a control character.
_TRICK = re.compile(rb"//|/\.\.?(?:/|$)|[\\\x00-\x20\x7f-\xff;]|%(?:2e|2f|5c|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})", re.I)
_TOO_BIG = 1009  # RFC 6455: a message too big to process
_TRY_AGAIN = 1013


class SecurityMiddleware:
    """Lets in what is meant for this gateway, and puts the security headers on everything that goes out."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._settings = gateway.settings
        self._places = AllowedOrigins(gateway.settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answering = _RecordedSend(scope, send, self._gateway)
        if scope["type"] == "http":
            send = answering
        try:
            self._look_at(scope)
            if not self._gateway.begun:
                await self._gateway.begin()
            if scope["type"] == "http":
                receive = await self._body(scope, receive)
            else:
                receive = self._frames(receive)
        except (WebError, P2PChatError) as error:
            await _refuse(scope, receive, send, self._gateway.metrics.problem(error))
            return
        except _ClientGone:
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # a defect is answered like everything else, while that is possible
            if scope["type"] != "http" or answering.begun:
                raise
            _log.exception("a request to %s ended with an error that is not its own", route_of(scope))
            await _refuse(scope, receive, send, Problem(500, "failed", "this failed inside: it is logged"))

    # What a request says of itself

    def _look_at(self, scope: Scope) -> None:
        connection = HTTPConnection(scope)
        check_path(scope)
        check_headers(scope, self._settings.max_header_bytes)
        scheme = _SCHEMES[scope.get("scheme", "http")]
        asked = self._places.asked(connection.headers.get("host", ""), scheme, scope.get("server"))
        if asked is None:
            raise WebError(
                421, "host", "no such host here: ask by the address itself, or start the gateway with --origin"
            )
        origin = connection.headers.get("origin")
        if origin is not None and not self._places.comes_from_here(origin, asked, scheme):
            raise WebError(403, "origin", "a page of another site may not ask here")
        if origin is None and _is_of_another_site(connection):
            raise WebError(403, "origin", "a page of another site may not ask here")
        if not is_on_loopback(connection):
            self._gateway.limits.addresses.take(site_of(address_of(connection)))

    # What comes with it

    async def _body(self, scope: Scope, receive: Receive) -> Receive:
        """Take in the body, and return what gives it to the application as one piece."""
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
        return _given(bytes(body), receive)

    def _frames(self, receive: Receive) -> Receive:
        """Return what ends a WebSocket at a frame above the limit, whatever server runs us."""
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
    """Whoever asked has gone before all of it was here."""


def check_path(scope: MutableMapping[str, Any]) -> None:
    """Refuse a path that not everybody reads the same way. Raises WebError."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    if not raw.startswith(b"/") or _TRICK.search(raw):  # "http://other/", "*", "/a/../b", "/a%2fb"
        raise WebError(400, "path", "no path that could be meant")


def check_headers(scope: MutableMapping[str, Any], max_bytes: int) -> None:
    """Refuse two of a header there is one of, and more than fits. Raises WebError."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if sum(len(name) + len(value) + 4 for name, value in headers) > max_bytes:
        raise WebError(431, "headers", f"all headers together have more than {max_bytes} bytes")
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _ONE_OF):
        raise WebError(400, "headers", "two of a header there is one of")
    if b"host" not in names:
        raise WebError(400, "host", "a request names its host")


def _is_of_another_site(connection: HTTPConnection) -> bool:
    """Whether a browser says that another site's page asks, other than by a link somebody followed."""
    headers = connection.headers
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return False
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not (follows and connection.scope.get("method") in ("GET", "HEAD"))


def _too_large(most: int) -> WebError:
    return WebError(413, "too_large", f"more than {most} bytes", {"Connection": "close"})


def _given(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives this body first."""
    given = False

    async def receive_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body


class _RecordedSend:
    """A `send` that adds the security headers, has nothing stored that does not say it may be, counts and logs."""

    def __init__(self, scope: Scope, send: Send, gateway: Gateway) -> None:
        self._scope = scope
        self._send = send
        self._gateway = gateway
        self._since = monotonic()
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            self._note(message["status"])
        await self._send(message)

    def _note(self, status: int) -> None:
        scope, gateway, seconds = self._scope, self._gateway, monotonic() - self._since
        gateway.metrics.answered(scope["method"], route_of(scope), status, seconds)
        if gateway.audit_log.write is not None:
            account = scope.get(CALLER)
            who = {} if account is None else {"user": account.name, "user_id": account.id}
            client = scope.get("client")
            gateway.audit_log.tell(
                "request", method=scope["method"], route=route_of(scope), status=status,
                ms=round(1000 * seconds, 3), address=client[0] if client else "", **who,
            )  # fmt: skip


def route_of(scope: Scope) -> str:
    """Return the pattern of the path a request was for, as in the code; "other" for what has none."""
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
