"""WebSocket sessions: refusal, and requests in progress at their end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from p2pchat.web.accounts import Account
from p2pchat.web.chat_socket import ChatSession
from p2pchat.web.event_socket import EventSession
from p2pchat.web.hub import Ending, Kind
from p2pchat.web.session import WebSocketSession
from tests.web.conftest import Served


class FakeClient:
    """A client whose frames the server has already received."""

    def __init__(self, served: Served) -> None:
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.frames.put_nowait({"type": "websocket.connect"})
        self.sent: list[dict[str, Any]] = []
        self.answered = asyncio.Event()
        scope = {"type": "websocket", "app": served.app, "path": "/", "headers": [], "query_string": b""}
        self.websocket = WebSocket(scope, self.frames.get, self._send)

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        self.answered.set()

    def put(self, text: str) -> None:
        self.frames.put_nowait({"type": "websocket.receive", "text": text})

    async def until(self, *texts: str) -> None:
        """Wait for a frame that contains one of these texts."""
        async with asyncio.timeout(10):
            while not any(text in frame.get("text", "") for frame in self.sent for text in texts):
                self.answered.clear()
                await self.answered.wait()

    def leave(self) -> None:
        self.frames.put_nowait({"type": "websocket.disconnect", "code": 1000, "reason": ""})


async def account_of(served: Served, name: str) -> Account:
    await served.register(name)
    account = served.gateway.accounts.find(name)
    assert account is not None
    return account


CHAT = (lambda websocket, account: ChatSession(websocket, account, frozenset(), None), '{"text": "TEXT"}')
LINES = (lambda websocket, account: EventSession(websocket, account, None), '{"do": "send", "text": "TEXT"}')


@pytest.mark.parametrize(("why", "code"), [("revoked", 1008), ("stopping", 1012)])
@pytest.mark.parametrize(("kind", "interface"), [("chat", CHAT), ("lines", LINES)])
async def test_frames_received_after_the_end_of_a_session_are_not_carried_out(
    served: Served, kind: Kind, interface: tuple[Callable[..., WebSocketSession], str], why: Ending, code: int
) -> None:
    ada, client = await account_of(served, "ada"), FakeClient(served)
    await client.websocket.accept()
    make, command = interface
    running = asyncio.create_task(make(client.websocket, ada).run(kind))
    client.put(command.replace("TEXT", "in time"))
    await client.until('"ok"', '"sent"')
    served.gateway.hub.end_sessions_of(ada, why)
    client.put(command.replace("TEXT", "too late"))
    client.leave()
    await asyncio.wait_for(running, 10)
    assert [post.text for post in await ada.user.history()] == ["in time"]
    assert client.sent[-1]["code"] == code


async def test_a_session_that_finds_no_room_gets_the_error_and_is_closed(served: Served) -> None:
    ada = await account_of(served, "ada")
    for _ in range(served.gateway.settings.max_sessions_of_account):
        served.gateway.hub.open(ada, lambda envelope: None, "chat")
    client = FakeClient(served)
    await client.websocket.accept()
    await ChatSession(client.websocket, ada, frozenset(), None).run("chat")
    assert [json.loads(client.sent[1]["text"])["code"], client.sent[2]["code"]] == ["full", 1013]
