"""Socket.IO at `/socket.io`, for clients that speak that."""

from __future__ import annotations

from fastapi import FastAPI

from p2pchat.web.gateway import Gateway


def mount(app: FastAPI, gateway: Gateway) -> None:
    """Have an application answer Socket.IO clients."""
    from p2pchat.web.socketio.server import SocketIOServer

    app.mount("/socket.io", SocketIOServer(gateway).app)
