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
from tests.web.chat_client import Chatter, chatting, connect
from tests.web.conftest import Served, serving


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


async def test_000_acknowledgements_groups_and_presence(served: Served) -> None:
    await served.register("Alice", "Bob", "Carol", "Dan")
    async with chatting(served, "Alice", "?events=receipts,presence") as alice:
        async with chatting(served, "Bob") as bob:
            while (told := await alice.next("presence"))["user"] != "Bob":
                pass
            assert told["presence"] == "online"
            id = await alice.accepted({"to": "Bob", "text": "hi Bob"})  # 1. Alice sends a message
            heard = await bob.message()  # 2. the server delivers it, 3. Bob receives it
            assert (heard["id"], heard["from"], heard["content"]) == (id, "Alice", "hi Bob")
            await bob.say({"type": "ack", "id": id})  # 4. Bob's client acknowledges it
            for kind in ("delivered", "read"):  # 5. the server forwards it, 6. Alice receives it
                told = await alice.next(kind)
                assert (told["id"], told["by"]) == (id, "Bob")
            async with served.client("Alice") as http, chatting(served, "Carol") as carol:
                made = await http.post("/groups", json={"name": "friends", "members": ["Bob", "Carol", "Dan"]})
                assert made.json()["members"] == ["Alice", "Bob", "Carol", "Dan"]
                id = await alice.accepted({"group": "friends", "text": "hi all"})
                for one in (bob, carol):  # the online members, except the sender
                    heard = await one.message()
                    assert (heard["id"], heard["from"], heard["group"]) == (id, "Alice", "friends")
                    await one.say({"type": "ack", "id": id})
                assert {(await alice.next("read"))["by"] for _ in range(2)} == {"Bob", "Carol"}
                online = {one["user"] for one in (await http.get("/presence?status=online")).json()}
                assert {"Alice", "Bob", "Carol"} <= online and "Dan" not in online
        while (told := await alice.next("presence"))["user"] != "Bob" or told["presence"] != "offline":
            pass
        assert not alice.waiting("message")
    async with chatting(served, "Dan") as dan:  # an offline member gets it when coming online
        assert (await dan.message())["id"] == id


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


async def test_004_concurrent_writers_are_answered_and_their_order_is_that_of_the_history(trusting: Served) -> None:
    async def write(name: str) -> None:
        async with connect(f"{trusting.ws_url}/chat?user={name}") as socket:
            for number in range(10):
                await socket.send(json.dumps({"to": "B", "content": f"{number}", "ref": number}))
            answers = [json.loads(await socket.recv()) for _ in range(10)]
            assert [(answer["status"], answer["ref"]) for answer in answers] == [("ok", ref) for ref in range(10)]

    writers = [f"A{number}" for number in range(4)]
    async with connect(f"{trusting.ws_url}/chat?user=B") as socket, trusting.client() as http:
        writing = [asyncio.create_task(write(name)) for name in writers]
        heard = [json.loads(await socket.recv()) for _ in range(40)]
        await asyncio.gather(*writing)
        for name in writers:
            assert [one["content"] for one in heard if one["from"] == name] == [str(number) for number in range(10)]
            asked = (await http.get("/messages", params={"user1": name, "user2": "B"})).json()
            assert [one["id"] for one in asked] == [one["id"] for one in heard if one["from"] == name]


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
