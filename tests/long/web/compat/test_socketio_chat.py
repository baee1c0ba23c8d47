"""The real-time chat that uses Socket.IO and MySQL (003): its events, with the official JavaScript client.

The gateway is a process of its own and keeps everything in a real MariaDB.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import platformdirs
import pytest
from filelock import FileLock

from p2pchat.storage.sql_storage import SqlStorage
from tests.databases.fixtures import ServerOf
from tests.docs.pages import ROOT, blocks
from tests.ports import free_ports
from tests.web.processes import Program, p2pchat, running

CLIENT = "socket.io-client@4.8"  # the version most users have
LONG_AGO = "2001-02-03T04:05:06.789Z"  # as JSON has a Date


def client_directory() -> Path:
    """Return a directory with the client in its node_modules; skip the test if it cannot be installed."""
    if shutil.which("node") is None or (npm := shutil.which("npm")) is None:
        pytest.skip("node and npm are not installed")
    place = Path(platformdirs.user_cache_dir("p2pchat-tests")) / CLIENT
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        if not (place / "node_modules" / "socket.io-client" / "package.json").exists():
            words = [npm, "install", "--prefix", str(place), "--no-audit", "--no-fund", "--silent"]
            words += ["--fetch-retries=0", CLIENT]  # npm would try for a minute where there is no network
            if subprocess.run(words, capture_output=True, timeout=120).returncode:
                pytest.skip(f"npm could not get {CLIENT}")
    return place


class JavaScript:
    """Sockets of the official client, all in one process."""

    def __init__(self, program: Program, port: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._program = program
        self._told: list[dict[str, Any]] = []

    async def order(self, do: str, name: str = "", **words: Any) -> None:
        await self._program.say(json.dumps({"do": do, "as": name, **words}))

    async def hear(self, name: str, event: str, where: Callable[[Any], bool] = lambda data: True) -> Any:
        """Wait for an event of one socket, remove it and return its payload; earlier events count too."""
        while True:
            for told in self._told:
                if (told["as"], told["event"]) == (name, event) and where(told.get("data")):
                    self._told.remove(told)
                    return told.get("data")
            self._told.append(json.loads(await self._program.until("")))

    async def register(self, name: str) -> str:
        """Register a name and return its token."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as http:
            token: str = (await http.post("/accounts", json={"name": name})).json()["token"]
        return token

    async def come(self, name: str, token: str, **options: Any) -> None:
        """Open the page: connect and register."""
        await self.order("connect", name, url=self.url, me={"userId": name, "authToken": token}, options=options)
        assert await self.hear(name, "registered") == {"status": "ok", "userId": name}

    async def emit(self, name: str, event: str, **payload: Any) -> Any:
        """Emit an event and return the payload of its acknowledgement."""
        await self.order("emit", name, event=event, payload=payload)
        return await self.hear(name, "answer")

    async def hears_status(self, name: str, id: str, *statuses: str) -> None:
        for status in statuses:
            wanted = {"messageId": id, "status": status}
            heard = await self.hear(name, "messageStatus", lambda told: told["messageId"] == id)
            assert heard == wanted

    async def sees(self, name: str, other: str, status: str) -> None:
        await self.hear(name, "presenceUpdate", lambda told: told == {"userId": other, "status": status})


@pytest.fixture
def database(server_of: ServerOf) -> str:
    return server_of("mariadb").create(f"socketio_{os.environ.get('PYTEST_XDIST_WORKER', 'one')}")


@asynccontextmanager
async def gateway(home: Path, port: str, database: str) -> AsyncIterator[Program]:
    words = ("web", port, "--port", "0", "--data", str(home / "gateway"), "--db", database)
    async with running(*p2pchat(*words), home=home) as running_gateway:
        await running_gateway.until("the page")
        yield running_gateway


@asynccontextmanager
async def javascript(home: Path, port: str) -> AsyncIterator[JavaScript]:
    driver = str(Path(__file__).with_name("client.mjs"))
    async with running("node", driver, str(client_directory()), home=home) as program:
        yield JavaScript(program, port)


async def test_every_event_of_the_page_by_both_transports(tmp_path: Path, database: str) -> None:
    [port] = free_ports(1)
    async with gateway(tmp_path, port, database), javascript(tmp_path, port) as js:
        tokens = {name: await js.register(name) for name in ("ada", "bob")}
        for transport in ("polling", "websocket"):
            slow = {"transports": [transport], "reconnectionDelay": 1000, "reconnectionDelayMax": 1000}
            await js.come("ada", tokens["ada"], **slow)
            await js.come("bob", tokens["bob"], transports=[transport])
            await js.sees("ada", "bob", "online")
            said = await js.emit("ada", "privateMessage", to="bob", content="<b>hello</b>", timestamp=LONG_AGO)
            message = await js.hear("bob", "newMessage", lambda told: told["content"] == "<b>hello</b>")
            assert said == {"status": "ok", "id": message["id"]} and message["from"] == "ada"
            assert datetime.fromisoformat(message["clientTimestamp"]) == datetime.fromisoformat(LONG_AGO)
            await js.hears_status("ada", said["id"], "delivered", "read")  # online and active
            for event, is_typing in (("typingStart", True), ("typingStop", False)):
                await js.emit("bob", event, conversationId=message["conversationId"])
                told = await js.hear("ada", "typingIndicator")
                assert (told["userId"], told["isTyping"]) == ("bob", is_typing)
            await js.emit("bob", "activityChange", isActive=False)  # online but inactive
            await js.sees("ada", "bob", "idle")
            id = (await js.emit("ada", "groupMessage", to="room", content="hi"))["id"]
            assert (await js.hear("bob", "newMessage", lambda told: told["kind"] == "room"))["id"] == id
            assert await js.emit("bob", "messageAck", messageId=id) == {"status": "ok"}
            answer = await js.emit("ada", "privateMessage", to="x" * 100, content="to nobody")
            assert (answer["status"], (await js.hear("ada", "error"))["code"]) == ("error", answer["code"])

            await js.order("drop", "ada")  # what is emitted without a connection is sent before `register`
            await js.hear("ada", "disconnect")
            await js.order("emit", "ada", event="privateMessage", payload={"to": "bob", "content": "I am away"})
            assert (await js.hear("ada", "registered"))["status"] == "ok"
            assert (await js.hear("ada", "answer"))["status"] == "ok"
            await js.hear("bob", "newMessage", lambda told: told["content"] == "I am away")
            await js.order("disconnect", "ada")
            await js.sees("bob", "ada", "offline")
            await js.order("disconnect", "bob")
            js._told.clear()


async def test_the_documented_example_and_what_waits_survive_a_killed_gateway(tmp_path: Path, database: str) -> None:
    [example] = [one.text for one in blocks((ROOT / "docs/gateway-socketio.md").read_text()) if one.language == "js"]
    (program := tmp_path / "example.mjs").write_text(example.replace("8000", port := free_ports(1)[0]), "utf-8")
    (tmp_path / "node_modules").symlink_to(client_directory() / "node_modules")
    async with javascript(tmp_path, port) as js:
        async with gateway(tmp_path, port, database) as killed:
            tokens = {name: await js.register(name) for name in ("ada", "bob", "cyd")}
            await js.come("bob", tokens["bob"])
            await js.order("run", "ada", file=program.as_uri(), token=tokens["ada"])
            assert await js.hear("ada", "log") == ["ok"], "it is registered"
            message = await js.hear("bob", "newMessage")
            assert (message["from"], message["content"]) == ("ada", "hi")
            assert await js.hear("ada", "remember") == [message["id"]]
            await js.hear("ada", "tick", lambda told: told == [message["id"], "delivered"])
            await js.order("hide")
            await js.sees("bob", "ada", "idle")
            waits = (await js.emit("bob", "privateMessage", to="cyd", content="kept in MariaDB"))["id"]
            killed.kill()
            await js.hear("bob", "disconnect")
        async with gateway(tmp_path, port, database) as killed:
            assert await js.hear("ada", "log") == ["ok"], "it has come back by itself and is registered again"
            assert (await js.hear("bob", "registered"))["status"] == "ok"
            welcome = (await js.emit("bob", "privateMessage", to="ada", content="welcome back"))["id"]
            assert (await js.hear("ada", "show"))[:2] == ["bob", "welcome back"]
            await js.hears_status("bob", welcome, "delivered")
            await js.come("cyd", tokens["cyd"])
            assert (await js.hear("cyd", "newMessage"))["id"] == waits
            await js.hears_status("bob", waits, "delivered", "read")
            assert not [told for told in js._told if told["event"] in ("warn", "failed")]
            killed.kill()
    storage = SqlStorage(database, read_only=True)
    try:
        assert any("kept in MariaDB" in str(shown.raw[1]) for shown in storage.places(0, 10_000))
        assert {"ada", "bob", "cyd"} <= {user.name for user in storage.hosted()}
    finally:
        storage.close()
