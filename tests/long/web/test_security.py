"""Clients that do not read."""

from __future__ import annotations

import asyncio
import socket

import pytest

from p2pchat.cli.http_server import WriteTimeout
from tests.web.raw_http import UPGRADE, request
from tests.web.test_security import by_the_command


async def test_a_client_that_does_not_read_its_answer_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriteTimeout, "drain_timeout", 0.2)
    async with by_the_command() as port:
        for upgrade, flood in (
            ((), request("/style.css", host=f"127.0.0.1:{port}") * 2000),
            (UPGRADE, (b"\x89\xfd\0\0\0\0" + b"x" * 125) * 2000),
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if upgrade:
                writer.write(request("/chat?user=eve", *upgrade, host=f"127.0.0.1:{port}"))
            async with asyncio.timeout(60):
                with pytest.raises(ConnectionError):
                    await write_on(writer, flood)
            writer.close()


async def write_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    while True:
        writer.write(data)
        await writer.drain()
