"""A realtime chat with REST history and a command line client (origin 004): each test is a line of its page."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.web.conftest import Served
from tests.web.processes import p2pchat, running
from tests.web.socketio_client import socket as socketio_user
from tests.web.websocket_client import connect


def client(served: Served, user: str, recipient: str) -> list[str]:
    """`./dist/client -user=A -recipient=B`"""
    return p2pchat("client", f"ws://localhost:{served.port}/chat", f"-user={user}", f"-recipient={recipient}")


async def test_two_command_line_clients_write_and_curl_reads_their_history(trusting: Served, home: Path) -> None:
    async with (
        running(*client(trusting, "A", "B"), home=home) as a,
        running(*client(trusting, "B", "A"), home=home) as b,
    ):
        for one in (a, b):
            await one.until("connected as")
        await a.say("Hello, B!")
        assert await a.until("📨") == "📨 Sent message to B: Hello, B!"
        assert await a.until("✅") == "✅ Acknowledgment: ok"
        assert await b.until("Hello, B!") == "💬 A: Hello, B!"
        await b.say("Hey A!")
        assert await b.until("✅") == "✅ Acknowledgment: ok"
        await a.until("B: Hey A!")
        assert await a.end() == 0
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    url = f"http://localhost:{trusting.port}/messages?user1=A&user2=B"
    async with running("curl", "-s", url, home=home) as curl:
        assert await curl.end() == 0
    history = json.loads("".join(curl.shown))
    assert [(one["from"], one["to"], one["content"]) for one in history] == [
        ("A", "B", "Hello, B!"),
        ("B", "A", "Hey A!"),
    ]
    assert all(one["timestamp"].endswith("Z") for one in history)


async def test_user_a_can_send_a_message_to_user_b_via_websocket_and_vice_versa(trusting: Served) -> None:
    async with socket(trusting, "A") as a, socket(trusting, "B") as b:
        for sender, other, name in ((a, b, "B"), (b, a, "A")):
            await sender.send(json.dumps({"to": name, "content": "hi"}))
            assert json.loads(await sender.recv())["status"] == "ok"
            assert json.loads(await other.recv())["content"] == "hi"


async def test_messages_to_an_offline_recipient_are_buffered_and_delivered_in_order_on_reconnection(
    trusting: Served,
) -> None:
    async with socket(trusting, "A") as a:
        for number in range(50):
            await a.send(json.dumps({"to": "B", "content": str(number)}))
        for _ in range(50):
            assert json.loads(await a.recv())["status"] == "ok"
    async with socket(trusting, "B") as b:
        assert [json.loads(await b.recv())["content"] for _ in range(50)] == [str(number) for number in range(50)]


async def test_key_events_connect_disconnect_buffer_delivery_are_logged(trusting: Served) -> None:
    logged: list[dict[str, Any]] = []
    trusting.gateway.audit_log.write = logged.append
    async with socket(trusting, "A") as a:
        await a.send(json.dumps({"to": "B", "content": "secret"}))
        id = json.loads(await a.recv())["id"]
    async with socket(trusting, "B") as b:
        assert json.loads(await b.recv())["id"] == id
        while not any(line.get("state") == "closed" for line in logged):
            await asyncio.sleep(0)  # poll: nothing reports the end of a session
        told = [(line["event"], line["user"], line.get("state")) for line in logged if "user" in line]
        assert told[:2] == [("account", "A", None), ("session", "A", "open")]
        assert ("session", "A", "closed") in told and ("session", "B", "open") in told
        await b.send(json.dumps({"to": "B", "content": "secret"}))  # to oneself: neither waits nor is sent
        assert json.loads(await b.recv())["status"] == "ok"
    [waiting] = [line for line in logged if line["event"] == "waiting"]
    [handed] = [line for line in logged if line["event"] == "handed"]
    assert (waiting["user"], waiting["from"], waiting["id"]) == ("B", "A", id)
    assert (handed["user"], handed["count"]) == ("B", 1)
    assert "secret" not in json.dumps(logged)


async def test_the_console_of_the_gateway_shows_connect_disconnect_buffer_and_delivery(
    home: Path, free_port: str
) -> None:
    server = p2pchat("web", free_port, "--trust-loopback", "--port", "0", "--data", str(home.parent / "data"))
    url = f"ws://localhost:{free_port}/chat"
    async with running(*server, home=home) as console:
        await console.until(f"Chat service started on :{free_port}")
        async with connect(f"{url}?user=A&events=receipts") as a:
            await console.until("A connected (chat)")
            await a.send(json.dumps({"to": "B", "content": "secret"}))
            line = await console.until("buffered for B, who is offline: a message from A")
            assert datetime.strptime(line[:19], "%Y/%m/%d %H:%M:%S")
            async with connect(f"{url}?user=B"):
                await console.until("B connected (chat)")
                await console.until("sent to B: 1 buffered message")
                await a.send(json.dumps({"to": "B", "content": "secret"}))
                await console.until("sent to B: a message from A")
                for _ in range(2):
                    while json.loads(await a.recv()).get("type") != "delivered":
                        pass
            await console.until("B disconnected (chat: left)")
            for _ in range(2):
                await a.send(json.dumps({"to": "B", "content": "secret"}))
                await console.until("buffered for B")
            async with socketio_user(f"http://localhost:{free_port}", "B"):
                await console.until("B connected (socketio)")
                await console.until("sent to B: 2 buffered messages")
        console.terminate()
        assert await console.end() == 0
        assert "secret" not in "".join(console.shown)


async def test_every_sent_message_receives_an_acknowledgment(trusting: Served) -> None:
    async with socket(trusting, "A") as a:
        for ref in range(20):
            await a.send(json.dumps({"to": "B", "content": "hi", "ref": ref}))
        answers = [json.loads(await a.recv()) for _ in range(20)]
        assert [(answer["status"], answer["ref"]) for answer in answers] == [("ok", ref) for ref in range(20)]


async def test_messages_keep_their_order_under_concurrent_reads_and_writes(trusting: Served) -> None:
    async def write(name: str) -> None:
        async with socket(trusting, name) as one:
            for number in range(20):
                await one.send(json.dumps({"to": "B", "content": f"{number}"}))
            for _ in range(20):
                assert json.loads(await one.recv())["status"] == "ok"

    async with socket(trusting, "B") as b:
        writers = [f"A{number}" for number in range(10)]
        writing = [asyncio.create_task(write(name)) for name in writers]
        heard = [json.loads(await b.recv()) for _ in range(200)]
        await asyncio.gather(*writing)
    for name in writers:
        assert [one["content"] for one in heard if one["from"] == name] == [str(number) for number in range(20)]
    async with trusting.client() as http:
        for name in writers:
            asked = (await http.get("/messages", params={"user1": name, "user2": "B"})).json()
            assert [one["id"] for one in asked] == [one["id"] for one in heard if one["from"] == name]


def socket(served: Served, name: str) -> AbstractAsyncContextManager[ClientConnection]:
    return connect(f"ws://localhost:{served.port}/chat?user={name}")
