"""Sessions: refusal, where they begin (`since`), and requests in progress at their end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from starlette.websockets import WebSocket

from p2pchat.web import WebSettings
from p2pchat.web.account_session import SendQueue, WebSocketSession, as_frame
from p2pchat.web.accounts import Account
from p2pchat.web.chat_socket import ChatSocket
from p2pchat.web.error_responses import EXAMPLE_ID
from p2pchat.web.event_socket import EventSocket
from p2pchat.web.session_hub import Ending, Kind, QueueFull
from tests.web.chat_client import chatting
from tests.web.conftest import Served
from tests.web.socketio_client import socket
from tests.web.test_event_socket import calling
from tests.web.test_event_stream import streaming


class FakeClient:
    """A client whose frames the server has already received."""

    def __init__(self, served: Served) -> None:
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.frames.put_nowait({"type": "websocket.connect"})
        self.sent: list[dict[str, Any]] = []
        self.answered = asyncio.Event()
        self.fails = ""  # a frame with this text cannot be sent
        scope = {"type": "websocket", "app": served.app, "path": "/", "headers": [], "query_string": b""}
        self.websocket = WebSocket(scope, self.next_frame, self._send)

    async def next_frame(self) -> dict[str, Any]:
        return await self.frames.get()

    async def _send(self, message: Any) -> None:
        if self.fails and self.fails in message.get("text", ""):
            raise KeyError(self.fails)
        self.sent.append(message)
        self.answered.set()

    def put(self, text: str) -> None:
        self.frames.put_nowait({"type": "websocket.receive", "text": text})

    async def until(self, *texts: str) -> None:
        """Wait for a frame that contains one of these texts."""
        async with asyncio.timeout(60):
            while not any(text in frame.get("text", "") for frame in self.sent for text in texts):
                self.answered.clear()
                await self.answered.wait()

    async def until_closed(self) -> None:
        async with asyncio.timeout(60):
            while self.sent[-1]["type"] != "websocket.close":
                self.answered.clear()
                await self.answered.wait()

    def leave(self) -> None:
        self.frames.put_nowait({"type": "websocket.disconnect", "code": 1000, "reason": ""})


async def account_of(served: Served, name: str) -> Account:
    await served.register(name)
    return served.account(name)


CHAT = (lambda websocket, account: ChatSocket(websocket, account, frozenset(), None), '{"text": "TEXT"}')
LINES = (lambda websocket, account: EventSocket(websocket, account, None), '{"do": "send", "text": "TEXT"}')


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
    await asyncio.wait_for(running, 60)
    assert [post.text for post in await ada.user.history()] == ["in time"]
    assert client.sent[-1]["code"] == code


async def test_others_have_their_turn_between_the_frames_of_a_flood(served: Served) -> None:
    """Twenty accounts that sent 100 frames a second each delayed a message between two others by 24 s."""
    turns, seen = 0, list[int]()

    class FloodingClient(FakeClient):
        async def next_frame(self) -> dict[str, Any]:
            if len(seen) == 50:
                self.leave()
            else:
                self.put('{"do":"active","on":true}')
            seen.append(turns)
            return await super().next_frame()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    zoe, client = await account_of(served, "zoe"), FloodingClient(served)
    await client.websocket.accept()
    others = asyncio.create_task(take_turns())
    await EventSocket(client.websocket, zoe, None).run("lines")
    others.cancel()
    between = [later - earlier for earlier, later in pairwise(seen[1:])]
    assert len(between) == 50 and min(between) > 0


async def test_a_session_that_finds_no_room_gets_the_error_and_is_closed(served: Served) -> None:
    ada = await account_of(served, "ada")
    for _ in range(served.gateway.settings.max_sessions_of_account):
        served.gateway.hub.open(ada, lambda envelope: None, "chat")
    client = FakeClient(served)
    await client.websocket.accept()
    await ChatSocket(client.websocket, ada, frozenset(), None).run("chat")
    assert [json.loads(client.sent[1]["text"])["code"], client.sent[2]["code"]] == ["full", 1013]


async def test_a_defect_while_a_frame_is_sent_ends_the_session(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    ada, client = await account_of(served, "ada"), FakeClient(served)
    client.fails = '"ok"'
    await client.websocket.accept()
    running = asyncio.create_task(ChatSocket(client.websocket, ada, frozenset(), None).run("chat"))
    client.put('{"text": "hello"}')
    await client.until_closed()
    client.leave()
    await asyncio.wait_for(running, 60)
    assert client.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": "failed"}
    assert [record.message for record in caplog.records if record.exc_info] == [
        "frames of a session could not be sent because of an unexpected error"
    ]


async def by_chat(served: Served, since: str) -> tuple[str, str, str]:
    async with chatting(served, "bob", f"?since={since}") as bob:
        error = await bob.next("error")
        return error["code"], error["text"], (await bob.message())["content"]


async def by_stream(served: Served, since: str) -> tuple[str, str, str]:
    async with streaming(served, "bob", Last_Event_ID=since) as events:
        error = await events.next("error")
        return error["code"], error["text"], (await events.next("message"))["content"]


async def by_lines(served: Served, since: str) -> tuple[str, str, str]:
    async with calling(served, "bob", since) as lines:
        error = await lines.next("error")
        return error["code"], error["text"], (await lines.next("message"))["text"]


async def by_socketio(served: Served, since: str) -> tuple[str, str, str]:
    async with socket(served.url) as bob:
        user = {"userId": "bob", "authToken": served.tokens["bob"], "since": since}
        assert (await bob.say("register", user))["status"] == "ok"
        error = await bob.hear("error")
        return error["code"], error["text"], (await bob.hear("newMessage"))["content"]


@pytest.mark.parametrize("come", [by_chat, by_stream, by_lines, by_socketio])
@pytest.mark.parametrize("since", ["junk", "x" * 300, EXAMPLE_ID])
async def test_a_since_that_names_no_message_is_told_alike_everywhere(
    served: Served, come: Callable[[Served, str], Awaitable[tuple[str, str, str]]], since: str
) -> None:
    """And then everything goes on as without it: what waits comes."""
    await served.register("ada", "bob")
    ada, bob = served.peer.hosted
    await ada.send(bob.me, "waits")
    text = "`since` names no message here: you get what waits, as without it"
    assert await come(served, since) == ("since", text, "waits")


async def test_a_queue_counts_the_memory_of_its_frames(served: Served) -> None:
    """One wide character in a text makes Python keep four bytes for each: a queue of 4 MiB took 16."""
    settings = WebSettings(outbox_bytes=300_000)
    queue = SendQueue(FakeClient(served).websocket, settings)
    for _ in range(3):
        queue.put(as_frame({"text": "\U0001f600" + "x" * 30_000}))
    with pytest.raises(QueueFull):
        queue.put(as_frame({}))
