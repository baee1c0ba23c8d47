"""The listening side on all addresses of this machine, where port 0 needs one that is free on each."""

from __future__ import annotations

import asyncio
import socket

import pytest

from p2pchat.discovery import ANY_V4, ANY_V6, addresses_of
from p2pchat.server import Server


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no IPv6")
async def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    server = Server(lambda reader, writer: writer.transport.abort())
    await server.listen("::", 0)
    try:
        for host in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(host, server.port)
            writer.transport.abort()
    finally:
        await server.close()
    assert await addresses_of("::") == (ANY_V4, ANY_V6)
