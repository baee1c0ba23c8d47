"""A misspelt name at every door of a gateway: the answer says that nobody has it yet, and who may be meant.

A real gateway with independent clients: httpx, a WebSocket, python-socketio, `p2pchat client`, and a peer elsewhere in
the mesh.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_ports
from tests.web.processes import Program, p2pchat, running
from tests.web.socketio_client import socket
from tests.web.websocket_client import connect

NEAR = "nobody is called bbo yet: the message waits until someone registers this name; did you mean bob?"
FAR = "nobody is called dave yet: the message waits until someone registers this name"


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[tuple[str, str, Program]]:
    """Run a gateway that knows ada and bob; yield its port, that of its peer, and its process."""
    http, own = free_ports(2)
    words = ("web", http, "--port", own, "--trust-loopback", "--data", str(home / "gate"))
    async with running(*p2pchat(*words), home=home) as office:
        await office.until("the page")
        for name in ("ada", "bob"):
            async with connect(f"ws://localhost:{http}/chat?user={name}&since=") as one:
                assert json.loads(await one.recv())["type"] == "resumed"
        yield http, own, office


def rest(port: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://localhost:{port}", params={"as": "ada"}, timeout=60, trust_env=False, verify=False
    )


async def presence(http: httpx.AsyncClient, name: str) -> tuple[str, str | None]:
    [row] = [row for row in (await http.get("/presence")).json() if row["user"] == name]
    return row["status"], row.get("text")


async def sent(http: httpx.AsyncClient, to: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await http.post("/messages", json={"to": to, "content": "lunch?"})).json()
    assert answer["status"] == "ok"
    return answer


async def test_rest_chat_and_socketio_say_that_the_name_is_reserved_and_who_may_be_meant(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _):
        async with rest(port) as http:
            for _ in range(2):  # the one that reserves it, and the next
                told = await sent(http, "bbo")
                assert (told["reserved"], told["text"]) == (True, NEAR)
            assert (await sent(http, "dave"))["text"] == FAR
            assert "reserved" not in await sent(http, "bob") and "text" not in await sent(http, "room")
        async with connect(f"ws://localhost:{port}/chat?user=ada") as chat:
            for to, text in (("bbo", NEAR), ("dave", FAR), ("bob", None)):
                await chat.send(f"/dm {to} lunch?")
                answer = json.loads(await chat.recv())
                assert answer["status"] == "ok" and answer.get("reserved") == (text and True)
                assert answer.get("text") == text
        async with socket(f"http://localhost:{port}", "ada") as ada:
            answer = await ada.say("privateMessage", {"to": "bbo", "content": "lunch?"})
            assert (answer["status"], answer["reserved"], answer["text"]) == ("ok", True, NEAR)
            assert "reserved" not in await ada.say("privateMessage", {"to": "bob", "content": "lunch?"})


async def test_a_group_says_which_new_members_are_reserved(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        made = await http.post("/groups", json={"name": "lunch", "members": ["bbo", "bob", "dave"]})
        assert made.status_code == 201 and made.json() | {"id": ""} == {
            "id": "", "name": "lunch", "owner": "ada", "members": ["ada", "bbo", "bob", "dave"], "reserved": True,
            "text": "nobody is called bbo yet: a member as soon as someone registers this name; did you mean bob?\n"
            "nobody is called dave yet: a member as soon as someone registers this name",
        }  # fmt: skip
        added = (await http.post("/groups/lunch/members", json={"members": ["erin"]})).json()
        assert added["text"] == "nobody is called erin yet: a member as soon as someone registers this name"
        made = await http.post("/groups", json={"name": "tea", "members": ["bob"]})
        assert set(made.json()) == set((await http.get("/groups/tea")).json()) == {"id", "name", "owner", "members"}


async def test_lines_suggests_no_reserved_name(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        await sent(http, "bobb")
        async with connect(f"ws://localhost:{port}/lines?user=ada") as lines:
            await lines.send(json.dumps({"do": "find", "to": "boob", "ref": "1"}))
            while (line := json.loads(await lines.recv())).get("ref") != "1":
                pass
        assert line["text"] == "nobody here is called 'boob'; did you mean bob?"


async def test_a_reserved_name_is_suggested_once_it_is_registered(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        await sent(http, "bboo")
        assert (await sent(http, "bbo"))["text"] == NEAR
        assert (await http.post("/accounts", json={"name": "bboo"})).status_code == 201
        assert (await sent(http, "bbo"))["text"].endswith("did you mean bboo or bob?")


async def test_registering_the_name_ends_the_reservation(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        assert (await sent(http, "bbo"))["reserved"]
        assert await presence(http, "bbo") == ("offline", "nobody has registered this name yet")
        assert (await http.get("/users/bbo")).json()["text"] == "nobody has registered this name yet"
        assert [row.get("text") for row in (await http.get("/users")).json() if row["user"] in ("ada", "bbo")] == [
            None, "nobody has registered this name yet"]  # fmt: skip
        assert (await http.post("/accounts", json={"name": "bboo"})).status_code == 201
        assert (await sent(http, "bbo"))["text"].endswith("did you mean bboo or bob?")
        assert (await http.post("/accounts", json={"name": "bbo"})).status_code == 201
        assert "reserved" not in await sent(http, "bbo")
        assert await presence(http, "bbo") == ("offline", None)


async def test_a_restarted_gateway_still_says_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        await sent(http, "bbo")
    async with gateway(tmp_path) as (port, _, _), rest(port) as http:
        assert await presence(http, "bbo") == ("offline", "nobody has registered this name yet")
        assert (await sent(http, "bbo"))["text"] == NEAR


async def test_the_terminals_say_it_in_words(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, own, _):
        client = p2pchat("client", f"ws://localhost:{port}/chat", "--user", "ada", "--recipient", "bbo")
        async with running(*client, home=tmp_path) as ada:
            await ada.until("connected as")
            await ada.say("lunch?")
            await ada.until("Acknowledgment: ok")
            assert await ada.until("did you mean") == f"-- {NEAR}"
            assert await ada.end() == 0
        peer = p2pchat("0", own, "--name", "tina", "--data", str(tmp_path / "tina"), "--plain", "--drain", "0")
        async with running(*peer, home=tmp_path) as tina:
            await tina.say("/msg bbo lunch?")
            await tina.until_all(  # the second comes when it is on the gateway's disk
                '-- bbo is offline: "nobody has registered this name yet"',
                "-- delivered to a gateway, kept for bbo, seen or not: your message",
            )
            await tina.say("/msg boo lunch?")  # one letter away from bob and from bbo, which is reserved
            await tina.until("nobody here is called 'boo'; did you mean bob?")
            await tina.say("/msg adda lunch?")
            await tina.until("nobody here is called 'adda'; did you mean ada?")


async def test_a_command_of_a_peer_suggests_the_name(tmp_path: Path) -> None:
    async with gateway(tmp_path):
        words = ("send", "boob", "lunch?", "--data", str(tmp_path / "gate"))
        async with running(*p2pchat(*words), home=tmp_path) as send:
            assert await send.end() == 4
        assert send.shown == ["p2pchat: nobody here is called 'boob'; did you mean bob?"]
