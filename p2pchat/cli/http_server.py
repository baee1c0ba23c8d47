"""The HTTP server of a gateway: uvicorn; its WebSockets are in web_socket_protocol.py.

web/security.py limits what a complete request may be. What connections cost before and after that, as slow heads and
answers that nobody reads, is for a proxy to limit (docs/operations.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from p2pchat.cli.web_socket_protocol import WebSocketProtocol
from p2pchat.commands.exit_codes import CommandError
from p2pchat.web import WebSettings

BACKLOG = 2048  # of waiting connections: after a restart all users reconnect at once
STOP_TIMEOUT = 5  # seconds for requests in progress to end
# Lines of uvicorn, by their beginnings, that a client causes as often as it likes: gigabytes a day.
LINES_OF_CLIENTS = (
    "Invalid HTTP request received", "Unsupported upgrade request", "Invalid UTF-8 sequence received",
    "ASGI callable returned without completing handshake",
)  # fmt: skip
PING_INTERVAL = 20.0  # seconds: keeps connections open through proxies, and detects browsers that are gone


class PageServer(uvicorn.Server):
    """uvicorn without its signal handlers: Shutdown handles the signals of the whole program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that will listen there once a server has it; "::" is for IPv4 too, where the system can.

    Until then connections are refused: a balancer gives them to another gateway, and they need not wait for this one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # unnamed, asyncio sets no TCP_NODELAY
    try:
        if os.name == "posix":  # as socket.create_server does: on Windows it would take another's port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            is_dual = host == "::" and socket.has_dualstack_ipv6()
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        made.bind((host, port))
        return made
    except OSError as error:
        made.close()
        why = f"the page cannot have port {port} on {host}: {error.strerror or error}; choose another HTTP_PORT"
        raise CommandError(why) from None


def make_server(app: FastAPI, settings: WebSettings) -> PageServer:
    """Return a server for an application, not yet started."""
    logging.getLogger("uvicorn.error").addFilter(_is_of_gateway)  # a second time does nothing
    config = uvicorn.Config(
        app,
        http="h11",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # create_app handles those of named proxies only
        server_header=False,
        ws=WebSocketProtocol,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_INTERVAL,
        ws_ping_timeout=PING_INTERVAL,
        ws_per_message_deflate=False,  # its windows take more memory for each user than everything else
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=STOP_TIMEOUT,
        backlog=BACKLOG,
    )
    return PageServer(config)


def _is_of_gateway(record: logging.LogRecord) -> bool:
    """Return whether a line of the log is about the gateway, and not about what a client sent."""
    return not str(record.msg).startswith(LINES_OF_CLIENTS)


async def wait_until_started(server: PageServer, task: asyncio.Task[None]) -> None:
    """Wait until a server accepts connections, or its task has ended."""
    while not server.started and not task.done():
        await asyncio.sleep(0.01)  # uvicorn has no event for it


def url_of(host: str, port: int, root_path: str = "") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}{root_path}/"
