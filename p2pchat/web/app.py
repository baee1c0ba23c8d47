"""The web application of a running peer, assembled from its interfaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from p2pchat import P2PChatError, TCPPeer, __version__
from p2pchat.web import chat_socket, event_socket, page_files, rest, rest_commands, rest_files
from p2pchat.web.callers import PROXIED, Authenticate, by_header
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.error_responses import WebError, http_error, malformed_request
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.metrics import Metrics
from p2pchat.web.security import SecurityMiddleware, answer
from p2pchat.web.socketio.socketio_server import SocketIOServer
from p2pchat.web.web_settings import WebSettings


def _included(*routers: APIRouter) -> list[BaseRoute]:
    """Return the routes of routers, for any number of applications.

    FastAPI analyses the functions of a router again for each inclusion, 0.2 s for these. So they are included once.
    """
    all_of_them = APIRouter()
    for router in routers:
        all_of_them.include_router(router)
    return all_of_them.routes


_INTERFACES = _included(rest.router, rest_commands.router, rest_files.router, chat_socket.router, event_socket.router)
_PAGE = _included(page_files.router)
MAPPED = "::ffff:"  # before the address of an IPv4 proxy, on a socket for both kinds (RFC 4291, section 2.5.5.2)
UNIX_SOCKET = "unix:"  # stands for an address, which nobody has who connects through one


def create_app(
    peer: TCPPeer,
    settings: WebSettings | None = None,
    cluster: Cluster | None = None,
    *,
    authenticate: Authenticate | None = None,
) -> FastAPI:
    """Return the web application of a peer, to be run or mounted in another one.

    Args:
        peer: A started peer, in the loop that will run the application. The application does not close it.
        settings: Access rules and limits.
        cluster: The cluster that this gateway belongs to; None: it is alone.
        authenticate: Says who a caller is, for a program that has users of its own: a Caller, or None for nobody. It
            gets each request, and may be async. With it nobody signs up, and no token, name or header counts.
    Returns:
        An application that needs no lifespan; `app.state.gateway` is its Gateway.
    Raises:
        PeerClosed: The peer is not running.
        ValueError: Settings that exclude each other.
    """
    settings = settings or WebSettings()
    peer.me  # noqa: B018 (raises if it has not started)
    if settings.auth_header and authenticate is None:
        authenticate = by_header(settings.auth_header)
    if authenticate is not None:
        if cluster is not None:
            raise ValueError("gateways of a cluster know users by their tokens only: leave authenticate or cluster out")
        settings = replace(settings, sign_up="token", trust_loopback=False)
    app = _Application(
        title="p2pchat",
        version=__version__,
        summary="A peer of p2pchat, for browsers and scripts",
        docs_url=None,
        redoc_url=None,
    )
    app.proxy_path = settings.root_path
    app.state.gateway = gateway = Gateway(peer, settings, cluster, authenticate)
    _answer_errors(app, gateway.metrics)
    app.routes.extend(_INTERFACES)
    app.mount("/socket.io", SocketIOServer(gateway).app)
    app.routes.extend(_PAGE)  # last: it answers at "/"
    app.add_middleware(SecurityMiddleware, gateway=gateway)
    if settings.trusted_proxies:
        trusted = [*settings.trusted_proxies]
        if "*" not in trusted:
            trusted.append(UNIX_SOCKET)
        app.add_middleware(_ProxyHeaders, trusted_hosts=trusted)
    return app


class _ProxyHeaders(ProxyHeadersMiddleware):
    """Take the address of a caller from a trusted proxy, as everything is that connects through a Unix socket."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        server = scope.get("server")
        if server is not None and server[1] is None:  # the path of a socket, which has no port
            scope["client"] = (UNIX_SOCKET, 0)
        client, port = scope.get("client") or ("", 0)
        if client not in self.trusted_hosts:
            client = client.removeprefix(MAPPED)
            scope["client"] = (client, port)
        scope[PROXIED] = client in self.trusted_hosts
        await super().__call__(scope, receive, send)


class _Application(FastAPI):
    """A FastAPI application below a path.

    Attributes:
        proxy_path: The path that a proxy puts in front. One that takes it away again makes no difference.
    """

    proxy_path: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (root := self.proxy_path) and scope["type"] != "lifespan":
            path, raw = scope["path"], scope.get("raw_path") or b""
            is_interface = scope["type"] == "websocket" and path == root  # /chat below /chat, and not the page
            if is_interface or not f"{path}/".startswith(f"{root}/"):
                path, raw = root + path, root.encode() + raw if raw.startswith(b"/") else raw
            scope = {**scope, "root_path": root, "path": path, "raw_path": raw}
        await super().__call__(scope, receive, send)


# ---- errors


def _answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error of an application in the form of error_responses.py, FastAPI's own included."""

    async def respond(request: Request, error: Exception) -> JSONResponse:
        return answer(metrics.problem(_translate(error)))

    for kind in (WebError, P2PChatError, ValueError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, respond)


def _translate(error: Exception) -> Exception:
    """Return an error of FastAPI as a WebError, any other as it is."""
    if isinstance(error, HTTPException):
        return http_error(error.status_code, str(error.detail), error.headers)
    if isinstance(error, RequestValidationError):
        return malformed_request(error.errors(), error.body)
    return error
