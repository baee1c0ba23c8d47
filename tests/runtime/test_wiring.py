"""Connections at the moment they come."""

from __future__ import annotations

import asyncio

from p2pchat.config import Settings
from p2pchat.identity.keys import Identity
from p2pchat.identity.tls import client_context, server_context
from p2pchat.runtime.wiring import Sockets, Wiring


async def test_who_comes_in_the_moment_of_the_end_is_not_left_open() -> None:
    wiring = Wiring(
        Sockets(), Settings(), server_context=server_context(Identity.generate()), client_context=client_context(),
        tell=lambda input: None,
    )  # fmt: skip
    came: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        wiring._accepted(reader, writer, "127.0.0.1")  # before its task has run a step everything ends
        await wiring.cut_all()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        try:
            await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            pass
        assert came and came[0].transport.is_closing()
        writer.close()
