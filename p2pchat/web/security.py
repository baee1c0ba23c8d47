"""Checks of every request and upgrade before anything else: path, headers, Host, Origin, sizes (ASGI, outermost).

It refuses requests that no honest client sends: a path that programs read differently, a repeated header that may occur
once, a foreign Host or Origin, and headers or bodies that are too large or too slow. A body is read here completely, so
that nothing behind waits for a slow client; only the body of a file is stored as it comes.

A page of another site can make a browser send any request here. With a name of its own that resolves to this address
(DNS rebinding) it can even read the answer. It cannot change the Host and Origin that the browser sends. So a request
is answered only under a configured name, or under the address its connection came to, which no other site has.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from time import monotonic
from typing import Any, NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from p2pchat import P2PChatError
from p2pchat.addresses import is_loopback
from p2pchat.program_log import ProgramLog
from p2pchat.web.error_responses import WebError
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.rate_limits import site_of

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
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
DENIAL = "websocket.http.response"  # ASGI's extension of servers that let an application answer before the upgrade
CALLER = "p2pchat.account"  # key in the scope of a request: its account, once known
_log = ProgramLog("p2pchat.web")
_SINGLE_HEADERS = (
    b"host",
    b"origin",
    b"authorization",
    b"content-length",
    b"content-type",
    b"content-encoding",
    b"transfer-encoding",
)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# `//`, `.`, `..`, a backslash, and encodings of these, of a slash or of a control character.
_UNCLEAR = re.compile(rb"//|/\.\.?(?:/|$)|[\\\x00-\x20\x7f-\xff;]|%(?:2e|2f|5c|[01][0-9a-f]|7f)|%(?![0-9a-f]{2})", re.I)
_TRY_AGAIN = 1013
UPLOAD_PATHS = ("/files", "/v1/files")
CALLS_OF_PAGE = {"/openapi.json": 5}  # that a page counts as. Measured: 3 to 5 ms, without an account


_BODY_AT_ONCE = 64 * 1024  # bytes of an answer, as many as asyncio buffers before it has its writer wait


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
        send = recorded if scope["type"] == "http" else _refuse_with_headers(scope, receive, send)
        try:
            self._check(scope)
            if not self._gateway.started:
                await self._gateway.start()
            if scope["type"] == "http":
                receive = recorded.body = await self._read_body(scope, receive)
        except (WebError, P2PChatError) as error:
            problem = self._gateway.metrics.problem(error)
            self._gateway.on_refused(scope, problem)
            await refuse(scope, receive, send, problem)
            return
        except _ClientGone:
            return
        try:
            await self._app(scope, receive, send)
        except Exception:  # a defect is answered if no answer has started
            if scope["type"] != "http" or recorded.started:
                raise
            _log.exception("a request to %s failed with an unexpected error", route_of(scope))
            await refuse(scope, receive, send, WebError(500, "failed", "internal error; it was logged"))

    def _check(self, scope: Scope) -> None:
        connection = HTTPConnection(scope)
        check_path(scope)
        check_headers(scope, self._settings.max_header_bytes)
        scheme = _SCHEMES[scope.get("scheme", "http")]
        host = self._origins.resolve_host(connection.headers.get("host", ""), scheme, scope.get("server"))
        if host is None:
            raise WebError(421, "host", "unknown host: use the address itself, or start the gateway with --origin")
        origin = connection.headers.get("origin")
        if _is_cross_site(connection) if origin is None else not self._origins.allows(origin, host, scheme):
            raise WebError(403, "origin", "requests from pages of other sites are not allowed")
        if not is_on_loopback(connection):
            calls = CALLS_OF_PAGE.get(_path_of(scope), 1)
            self._gateway.limits.addresses.take(site_of(address_of(connection)), calls)

    async def _read_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body; return a `receive` that passes it to the application in one piece."""
        headers = dict(scope["headers"])
        announced, most = headers.get(b"content-length"), self._settings.max_body_bytes
        if announced is None and b"transfer-encoding" not in headers:
            return receive
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            text = "bodies are stored and read as they come: send it without Content-Encoding"
            raise WebError(415, "malformed", text, {"Connection": "close"})
        is_file = is_upload(scope)
        if is_file:
            most = self._settings.max_file_bytes
        if announced is not None and (not announced.isdigit() or int(announced) > most):
            raise _too_large(most)
        if is_file:
            is_small = announced is not None and int(announced) <= self._settings.max_body_bytes
            return _FileBody(receive, self._settings.body_timeout, is_small)
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
            raise _too_slow() from None
        return _receive_body(bytes(body), receive)


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


def is_upload(scope: Scope) -> bool:
    """Return whether the body of a request is a file, which is stored as it comes."""
    return scope["method"] == "POST" and _path_of(scope) in UPLOAD_PATHS


def _path_of(scope: Scope) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path


def _too_slow() -> WebError:
    return WebError(408, "slow", "the body took too long", {"Connection": "close"})


def _too_large(most: int) -> WebError:
    return WebError(413, "too_large", f"more than {most} bytes", {"Connection": "close"})


def _receive_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns this body first."""
    given = False

    async def receive_once() -> Message:
        nonlocal given, body
        if given:
            return await receive()
        given, all, body = True, body, b""  # not kept while the application works
        return {"type": "http.request", "body": all, "more_body": False}

    return receive_once


class _FileBody:
    """A `receive` for the body of a file, that waits for each part as long as for another whole body.

    Attributes:
        is_complete: All of it was read.
    """

    def __init__(self, receive: Receive, timeout: float, is_small: bool) -> None:
        self._receive = receive
        self._timeout = timeout
        self._is_small = is_small
        self.is_complete = False

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        self.is_complete |= not message.get("more_body", False)
        return message

    async def discard(self) -> None:
        """Read the rest of a small body that was refused: who is still sending it may not get the answer."""
        with suppress(WebError):
            while self._is_small and not self.is_complete:
                await self()


class _RecordedSend:
    """A `send` that adds the security headers, forbids storing unless the answer allows it, counts and logs."""

    def __init__(self, scope: Scope, send: Send, gateway: Gateway) -> None:
        self._scope = scope
        self._send = send
        self._gateway = gateway
        self._started_at = monotonic()
        self.started = False
        self.body: Receive | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            _add_security_headers(message)
            if isinstance(self.body, _FileBody):
                await self.body.discard()
                if not self.body.is_complete:  # nobody would wait for the rest
                    MutableHeaders(scope=message)["Connection"] = "close"
            self._record(message["status"])
        body = message.get("body", b"")
        for start in range(0, len(body) - _BODY_AT_ONCE, _BODY_AT_ONCE):  # a server waits for its client between two
            await self._send({**message, "body": body[start : start + _BODY_AT_ONCE], "more_body": True})
        rest = len(body) % _BODY_AT_ONCE or _BODY_AT_ONCE
        await self._send(message if len(body) <= _BODY_AT_ONCE else {**message, "body": body[-rest:]})

    def _record(self, status: int) -> None:
        scope, gateway, seconds = self._scope, self._gateway, monotonic() - self._started_at
        gateway.metrics.answered(scope["method"], route_of(scope), status, seconds)
        if gateway.audit_log.write is not None:
            client = scope.get("client")
            gateway.audit_log.record(
                "request", scope.get(CALLER), method=scope["method"], route=route_of(scope), status=status,
                ms=round(1000 * seconds, 3), address=client[0] if client else "",
            )  # fmt: skip


def _add_security_headers(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    headers.update({name: value for name, value in SECURITY_HEADERS.items() if name != "Content-Security-Policy"})
    headers.setdefault("Content-Security-Policy", POLICY)
    headers.setdefault("Cache-Control", "no-store")


def _refuse_with_headers(scope: Scope, receive: Receive, send: Send) -> Send:
    """Return a `send` for a WebSocket that adds the security headers to an answer before the upgrade.

    A close before the upgrade, which the server would answer by itself, becomes such an answer.
    """
    accepted = DENIAL not in scope.get("extensions", {})

    async def send_secured(message: Message) -> None:
        nonlocal accepted
        if not accepted:
            accepted = message["type"] == "websocket.accept"
            if message["type"] == "websocket.http.response.start":
                _add_security_headers(message)
            elif message["type"] == "websocket.close":
                problem = WebError(403, "forbidden", "there is no WebSocket here: use /chat, /lines or Socket.IO")
                await answer(problem)(scope, receive, send_secured)
                return
        await send(message)

    return send_secured


def route_of(scope: Scope) -> str:
    """Return the path pattern of a request's route; "other" if it has none."""
    return str(getattr(scope.get("route"), "path", "other"))


async def refuse(scope: Scope, receive: Receive, send: Send, problem: WebError) -> None:
    """Answer a request or a WebSocket with an error."""
    if scope["type"] == "http" or DENIAL in scope.get("extensions", {}):
        await answer(problem)(scope, receive, send)
    else:
        code = _TRY_AGAIN if problem.status in (429, 503) else 1008  # RFC 6455: against the policy
        await WebSocketClose(code, problem.code)(scope, receive, send)


def answer(problem: WebError) -> JSONResponse:
    """Return an error as the answer to a request."""
    return JSONResponse(problem.to_json(), problem.status, dict(problem.headers))


# ---- hosts and origins, compared exactly

DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::([0-9]{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]+)", re.ASCII)


class Origin(NamedTuple):
    """An origin: scheme, host in canonical spelling, port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def parse_origin(text: str) -> Origin:
    """Parse an origin without a path: "https://chat.example.org", "http://[::1]:8000". Raises ValueError."""
    found = _ORIGIN.fullmatch(text.lower())
    parsed = found and parse_host(found[2], found[1])
    if not parsed:
        raise ValueError(f"{text!r} is no origin: use a form like https://chat.example.org or http://192.168.1.5:8000")
    return parsed


def parse_host(text: str, scheme: str) -> Origin | None:
    """Parse a Host header for a scheme; None if it is invalid."""
    found = _HOST.fullmatch(text.lower())
    if found is None:
        return None
    v6, name, port = found.groups()
    number = int(port) if port else DEFAULT_PORTS[scheme]
    if not 0 < number < 65536:
        return None
    try:
        host = str(IPv6Address(v6)) if v6 else name
    except ValueError:
        return None
    if host.replace(".", "").isdecimal():  # some programs accept 127.1 and 2130706433; one spelling is valid here
        try:
            host = str(ip_address(host))
        except ValueError:
            return None
    return Origin(scheme, host, number)


class AllowedOrigins:
    """The origins of one gateway: those of its settings, and the address each connection came to."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._configured = frozenset(parse_origin(origin) for origin in origins)

    def resolve_host(self, host: str, scheme: str, server: tuple[str, int | None] | None) -> Origin | None:
        """Return the origin a request was sent to by its Host header; None if it is not allowed.

        Args:
            scheme: "http" or "https", from the connection or a trusted proxy.
            server: The address and port the connection came to; None, or a port of None, if unknown.
        """
        for one in (scheme, *DEFAULT_PORTS):  # https looks like http behind a proxy that does not report it
            found = parse_host(host, one)
            if found is not None and found in self._configured:
                return found
        found = parse_host(host, scheme)
        return found if found is not None and found in _origins_of(scheme, server) else None

    def allows(self, origin: str, host: Origin, scheme: str) -> bool:
        """Return whether an Origin header names the gateway's own page, at the origin the request was sent to."""
        try:
            found = parse_origin(origin)
        except ValueError:
            return False
        if found.scheme != host.scheme and found in self._configured:  # a proxy in front speaks https
            return found.host == host.host
        return found == host


def _origins_of(scheme: str, server: tuple[str, int | None] | None) -> set[Origin]:
    if server is None or server[1] is None:
        return set()
    port = server[1]
    try:
        address = ip_address(server[0].partition("%")[0])
    except ValueError:
        return set()
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    origins = {Origin(scheme, str(address), port)}
    if address.is_loopback:
        origins.add(Origin(scheme, "localhost", port))
    return origins


# ---- callers

_FORWARDED = ("forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip")


def address_of(connection: HTTPConnection) -> str:
    """Return the address of a caller; "" if unknown."""
    return connection.client.host if connection.client else ""


def is_on_loopback(connection: HTTPConnection) -> bool:
    """Return whether a caller is on this machine, asked for it by a loopback address, and came through no proxy."""
    if any(name in _FORWARDED or name.startswith("x-forwarded-") for name in connection.headers):
        return False
    asked = parse_host(connection.headers.get("host", ""), "http")
    return asked is not None and is_loopback(asked.host) and is_loopback(address_of(connection))
