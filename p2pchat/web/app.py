"""The web application of a running peer, assembled from its interfaces."""

from __future__ import annotations

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from p2pchat import TCPPeer, __version__
from p2pchat.web import auth, chat_socket, event_socket, page, rest
from p2pchat.web.gateway import Gateway
from p2pchat.web.middleware import SecurityMiddleware
from p2pchat.web.settings import WebSettings
from p2pchat.web.socketio.server import SocketIOServer


def create_app(peer: TCPPeer, settings: WebSettings | None = None) -> FastAPI:
    """Return the web application of a peer, to be run or mounted in another one.

    Args:
        peer: A started peer, in the loop that will run the application. The application does not close it.
        settings: Access rules and limits.
    Returns:
        An application that needs no lifespan; `app.state.gateway` is its Gateway.
    Raises:
        PeerClosed: The peer is not running.
    """
    settings = settings or WebSettings()
    peer.me  # noqa: B018 (raises if it has not started)
    app = FastAPI(
        title="p2pchat",
        version=__version__,
        summary="A peer of p2pchat, for browsers and scripts",
        docs_url=None,
        redoc_url=None,
        root_path=settings.root_path,
    )
    app.state.gateway = gateway = Gateway(peer, settings)
    auth.install(app)
    for interface in (rest, chat_socket, event_socket):
        app.include_router(interface.router)
    app.mount("/socket.io", SocketIOServer(gateway).app)
    app.include_router(page.router)  # last: it answers at "/"
    app.add_middleware(SecurityMiddleware, gateway=gateway)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies))
    return app
