"""A misspelt name at every door of a gateway: the answer says that nobody has it yet, and who may be meant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from p2pchat.web import WebSettings
from tests.web.chat_client import connect
from tests.web.conftest import Served, serving
from tests.web.socketio_client import socket

NEAR = "nobody is called bbo yet: the message waits until someone registers this name; did you mean bob?"
FAR = "nobody is called dave yet: the message waits until someone registers this name"


@asynccontextmanager
async def rest(data: Path | None = None) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    """Run a gateway that knows ada and bob; yield it, and a client of ada."""
    async with serving(WebSettings(trust_loopback=True), data=data) as served, served.client() as http:
        for name in ("ada", "bob"):
            await served.gateway.accounts.trusted(name)
        http.params = httpx.QueryParams({"as": "ada"})
        yield served, http


async def presence(http: httpx.AsyncClient, name: str) -> tuple[str, str | None]:
    [row] = [row for row in (await http.get("/presence")).json() if row["user"] == name]
    return row["status"], row.get("text")


async def sent(http: httpx.AsyncClient, to: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await http.post("/messages", json={"to": to, "content": "lunch?"})).json()
    assert answer["status"] == "ok"
    return answer


async def test_rest_chat_and_socketio_say_that_the_name_is_reserved_and_who_may_be_meant() -> None:
    async with rest() as (served, http):
        for _ in range(2):  # the one that reserves it, and the next
            told = await sent(http, "bbo")
            assert (told["reserved"], told["text"]) == (True, NEAR)
        assert (await sent(http, "dave"))["text"] == FAR
        assert "reserved" not in await sent(http, "bob") and "text" not in await sent(http, "room")
        async with connect(f"{served.ws_url}/chat?user=ada") as chat:
            for to, text in (("bbo", NEAR), ("dave", FAR), ("bob", None)):
                await chat.send(f"/dm {to} lunch?")
                answer = json.loads(await chat.recv())
                assert answer["status"] == "ok" and answer.get("reserved") == (text and True)
                assert answer.get("text") == text
        async with socket(served.url, "ada") as ada:
            answer = await ada.say("privateMessage", {"to": "bbo", "content": "lunch?"})
            assert (answer["status"], answer["reserved"], answer["text"]) == ("ok", True, NEAR)
            assert "reserved" not in await ada.say("privateMessage", {"to": "bob", "content": "lunch?"})


async def test_a_group_says_which_new_members_are_reserved() -> None:
    async with rest() as (_, http):
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


async def test_lines_suggests_no_reserved_name() -> None:
    async with rest() as (served, http):
        await sent(http, "bobb")
        async with connect(f"{served.ws_url}/lines?user=ada") as lines:
            await lines.send(json.dumps({"do": "find", "to": "boob", "ref": "1"}))
            while (line := json.loads(await lines.recv())).get("ref") != "1":
                pass
        assert line["text"] == "nobody here is called 'boob'; did you mean bob?"


async def test_registering_the_name_ends_the_reservation() -> None:
    async with rest() as (_, http):
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
    async with rest(tmp_path) as (_, http):
        await sent(http, "bbo")
    async with rest(tmp_path) as (_, http):
        assert await presence(http, "bbo") == ("offline", "nobody has registered this name yet")
        assert (await sent(http, "bbo"))["text"] == NEAR
