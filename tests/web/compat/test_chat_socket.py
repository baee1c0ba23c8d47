"""What clients of the former chats see at `/chat` and by REST; Socket.IO and command lines: tests/long/web/compat/."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from p2pchat.web import WebSettings
from tests.web.chat_client import Chatter
from tests.web.conftest import Served, serving
from tests.web.websocket_client import connect


@pytest.fixture
async def trusting() -> AsyncIterator[Served]:
    """A gateway for clients without accounts: callers on this machine give their names."""
    async with serving(WebSettings(trust_loopback=True)) as served:
        yield served


@asynccontextmanager
async def user(served: Served, name: str) -> AsyncIterator[Chatter]:
    """Connect a client of 001, which sends its name first."""
    async with connect(f"{served.ws_url}/chat") as socket:
        await socket.send(name)
        while (found := served.gateway.accounts.find(name)) is None or not served.gateway.hub.sessions_of(found):
            await asyncio.sleep(0)  # poll: the server answers nothing to a name
        yield Chatter(socket)


async def test_001_public_and_direct_messages_wait_in_order_with_the_servers_time(trusting: Served) -> None:
    before = datetime.now(UTC)
    async with user(trusting, "bob"):
        pass
    async with user(trusting, "ada") as ada:
        async with user(trusting, "cyd") as cyd, user(trusting, "dan") as dan:
            await ada.accepted("/dm cyd for you alone")
            await ada.accepted("hello, everybody")
            heard = [await cyd.message(), await cyd.message(), await dan.message()]
            assert [(one["from"], one.get("to"), one["content"]) for one in heard] == [
                ("ada", "cyd", "for you alone"), ("ada", None, "hello, everybody"), ("ada", None, "hello, everybody"),
            ]  # fmt: skip
            assert heard[1]["timestamp"] == heard[2]["timestamp"] and heard[1]["timestamp"].endswith("Z")
        for number in range(10):
            await ada.accepted(f"/dm bob {number}")
        await ada.accepted("/dm nobody_yet is anybody there?")
    until = datetime.now(UTC)
    for name, texts in (("bob", [str(number) for number in range(10)]), ("nobody_yet", ["is anybody there?"])):
        async with user(trusting, name) as back:
            heard = [await back.message() for _ in texts]
        assert [(one["from"], one["content"]) for one in heard] == [("ada", text) for text in texts]
        stamps = [datetime.fromisoformat(one["timestamp"]) for one in heard]
        assert stamps == sorted(stamps) and before <= stamps[0] and stamps[-1] < until


async def test_004_connect_disconnect_buffer_and_delivery_are_logged(trusting: Served) -> None:
    logged: list[dict[str, Any]] = []
    trusting.gateway.audit_log.write = logged.append
    async with connect(f"{trusting.ws_url}/chat?user=A") as socket:
        await socket.send(json.dumps({"to": "B", "content": "secret"}))
        id = json.loads(await socket.recv())["id"]
    async with connect(f"{trusting.ws_url}/chat?user=B") as socket:
        assert json.loads(await socket.recv())["id"] == id
        while not any(line.get("state") == "closed" for line in logged):
            await asyncio.sleep(0)  # poll: nothing reports the end of a session
        await socket.send(json.dumps({"to": "B", "content": "secret"}))  # to oneself: neither waits nor is sent
        assert json.loads(await socket.recv())["status"] == "ok"
    told = {(line["user"], line["state"]) for line in logged if line["event"] == "session"}
    assert {("A", "open"), ("A", "closed"), ("B", "open")} <= told
    [waiting] = [line for line in logged if line["event"] == "waiting"]
    [handed] = [line for line in logged if line["event"] == "handed"]
    assert (waiting["user"], waiting["from"], waiting["id"]) == ("B", "A", id)
    assert (handed["user"], handed["count"]) == ("B", 1)
    assert "secret" not in json.dumps(logged)
