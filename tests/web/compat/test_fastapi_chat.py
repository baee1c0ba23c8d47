"""A real-time chat server on FastAPI WebSockets (origin 001): each test is a feature of its page.

Its clients connect to ws://localhost:8000/chat, say their name first, and type lines: `/dm <username> <message>` is a
direct message, everything else is for all.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.web.conftest import Served
from tests.web.processes import p2pchat, running
from tests.web.websocket_client import connect

CLIENT = """
import asyncio, json, sys
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], proxy=None, open_timeout=60) as socket:
        await socket.send(sys.argv[2])

        async def listen():
            async for text in socket:
                said = json.loads(text)
                if said.get("type") == "message":
                    print(f"{said['timestamp']} {said['from']}: {said['content']}", flush=True)
                else:
                    print(said["status"], flush=True)

        listening = asyncio.create_task(listen())
        while line := await asyncio.to_thread(sys.stdin.readline):
            await socket.send(line.rstrip())
        listening.cancel()

asyncio.run(main())
"""  # `python client.py`


class User:
    """A user with a client, which sends its name first."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        await self._socket.send(text)
        assert (await self._frame("status"))["status"] == "ok"

    async def receive(self) -> dict[str, Any]:
        return await self._frame("type")

    async def _frame(self, word: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            frame: dict[str, Any] = json.loads(await self._socket.recv())
        assert word in frame, frame
        return frame


@asynccontextmanager
async def user(served: Served, name: str) -> AsyncIterator[User]:
    async with connect(f"ws://localhost:{served.port}/chat", proxy=None) as socket:
        await socket.send(name)
        while (found := served.gateway.accounts.find(name)) is None or not served.gateway.hub.sessions_of(found):
            await asyncio.sleep(0)  # poll: the server answers nothing to a name
        yield User(socket)


async def test_public_chat_messages_reach_all_connected_users(trusting: Served) -> None:
    async with user(trusting, "ada") as ada, user(trusting, "bob") as bob, user(trusting, "cyd") as cyd:
        await ada.send("hello, everybody")
        for one in (bob, cyd):
            heard = await one.receive()
            assert (heard["from"], heard["content"]) == ("ada", "hello, everybody")


async def test_a_dm_command_is_routed_to_one_user(trusting: Served) -> None:
    async with user(trusting, "ada") as ada, user(trusting, "bob") as bob, user(trusting, "cyd") as cyd:
        await ada.send("/dm bob for you alone")
        heard = await bob.receive()
        assert (heard["from"], heard["to"], heard["content"]) == ("ada", "bob", "for you alone")
        await ada.send("for all")
        assert (await cyd.receive())["content"] == "for all"


async def test_offline_messages_are_delivered_in_fifo_order_with_their_original_timestamps(trusting: Served) -> None:
    async with user(trusting, "bob"):
        pass
    async with user(trusting, "ada") as ada:
        for number in range(10):
            await ada.send(f"/dm bob {number}")
        await ada.send("/dm nobody_yet is anybody there?")
    queued_until = datetime.now(UTC)
    for name, texts in (("bob", [str(number) for number in range(10)]), ("nobody_yet", ["is anybody there?"])):
        async with user(trusting, name) as back:
            heard = [await back.receive() for _ in texts]
        assert [(one["from"], one["content"]) for one in heard] == [("ada", text) for text in texts]
        stamps = [datetime.fromisoformat(one["timestamp"]) for one in heard]
        assert stamps == sorted(stamps) and stamps[-1] < queued_until


async def test_timestamps_are_set_once_by_the_server_in_utc(trusting: Served) -> None:
    async with user(trusting, "ada") as ada, user(trusting, "bob") as bob, user(trusting, "cyd") as cyd:
        before = datetime.now(UTC)
        await ada.send("when?")
        stamps = {(await one.receive())["timestamp"] for one in (bob, cyd)}
        [stamp] = map(datetime.fromisoformat, stamps)
        assert stamp.utcoffset() == timedelta(0) and before <= stamp <= datetime.now(UTC)


async def test_many_concurrent_connections_do_not_wait_for_each_other(trusting: Served) -> None:
    async def talks(name: str) -> None:
        async with user(trusting, name) as one:
            for number in range(5):
                await one._socket.send(f"/dm {name} {number}")
            answers = [json.loads(await one._socket.recv()) for _ in range(5)]
            assert all(answer["status"] == "ok" for answer in answers)

    async with asyncio.timeout(60):
        await asyncio.gather(*(talks(f"user {number}".replace(" ", "-")) for number in range(25)))


async def test_multiple_terminals_and_its_former_limitations(home: Path, free_port: str) -> None:
    """Start the server, open terminals. "Messages are lost if the server restarts" no longer holds."""
    client = home.parent / "client.py"
    client.write_text(CLIENT, "utf-8")
    url = f"ws://localhost:{free_port}/chat"
    server = p2pchat("web", free_port, "--trust-loopback", "--port", "0", "--data", str(home.parent / "data"))
    async with running(*server, home=home) as running_server:
        await running_server.until(f":{free_port}")
        async with running(sys.executable, str(client), url, "ada", home=home) as ada:
            async with running(sys.executable, str(client), url, "bob", home=home) as bob:
                await ada.say("anybody here?")
                await ada.until("ok")  # so she is connected: room messages do not wait for later clients
                await bob.say("here I am")
                await bob.until("ok")
                await ada.until("bob: here I am")
                assert await bob.end() == 0
            await ada.say("/dm bob see you")
            await ada.until("ok")
            await ada.say("/dm carl welcome, whenever you come")
            await ada.until("ok")
        running_server.kill()
    async with running(*server, home=home) as running_server:
        await running_server.until(f":{free_port}")
        async with running(sys.executable, str(client), url, "bob", home=home) as bob:
            await bob.until("ada: see you")
        async with connect(url, proxy=None) as carl:
            await carl.send("carl")
            assert json.loads(await carl.recv())["content"] == "welcome, whenever you come"
