"""The WebSocket client of these tests. It waits as long as a busy machine needs; how long that takes is no result."""

from __future__ import annotations

from typing import Any

from websockets.asyncio import client

OPENS_WITHIN = 60.0  # seconds; the library's own 10 are too few for a busy machine


def connect(url: str, **options: Any) -> client.connect:
    """Return a connection as the library does, without its proxies and pings, and with a minute for the handshake."""
    return client.connect(url, **{"proxy": None, "open_timeout": OPENS_WITHIN, "ping_interval": None, **options})
