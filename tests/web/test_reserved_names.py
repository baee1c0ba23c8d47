"""Names that nobody has: an error at every door, and where the programs of a machine are trusted, reserved."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat import Settings, TCPPeer, UnknownName
from p2pchat.web import WebSettings
from tests.deadlines import until, within
from tests.web.chat_client import connect
from tests.web.conftest import Served, serving
from tests.web.socketio_client import socket
from tests.web.test_event_socket import calling

AT_ONCE = Settings(start_timeout=0.0)  # no name is waited for
UNKNOWN = ("unknown_name", "nobody here is called 'bbo'; did you mean bob?")
NEAR = "nobody is called bbo yet: the message waits until someone signs in under this name; did you mean bob?"
FAR = "nobody is called dave yet: the message waits until someone signs in under this name"


def names(peer: TCPPeer) -> set[str]:
    return {user.name for user in peer.users()}


async def answers_at_all_doors(served: Served, to: str) -> list[dict[str, Any]]:
    """Return what ada is answered who writes to a name at every door of a gateway where she has an account."""
    found = []
    async with served.client("ada") as http:
        found.append((await http.post("/messages", json={"to": to, "content": "lunch?"})).json())
        for members in ([to], ["bob", to]):
            found.append((await http.post("/groups", json={"name": "lunch", "members": members})).json())
        await http.post("/groups", json={"name": "tea"})
        found.append((await http.post("/groups/tea/members", json={"members": [to]})).json())
        found.append((await http.patch("/groups/tea", json={"owner": to})).json())
        assert [group["name"] for group in (await http.get("/groups")).json()] == ["tea"]
    async with connect(f"{served.ws_url}/chat") as chat:
        await chat.send(json.dumps({"token": served.tokens["ada"]}))
        for frame in (f"/dm {to} lunch?", json.dumps({"to": to, "text": "lunch?"})):
            await chat.send(frame)
            found.append(json.loads(await chat.recv()))
    async with socket(served.url, "ada", served.tokens["ada"]) as ada:
        found.append(await ada.say("privateMessage", {"to": to, "content": "lunch?"}))
    async with calling(served, "ada") as lines:
        for order in ({"do": "send", "to": to, "text": "lunch?"}, {"do": "group", "name": "l", "members": [to]}):
            await lines.say(**order, ref="1")
            found.append(await lines.next("error", ref="1"))
    return found


async def test_a_name_that_nobody_has_is_an_error_at_every_door() -> None:
    """A typo became a person: others listed it, it was shown as delivered, and whoever registered it read it."""
    async with (
        serving(peer_settings=AT_ONCE) as served,
        TCPPeer(0, served.peer.port, db="memory://", name="eve", settings=AT_ONCE) as eve,
    ):
        await served.register("ada", "bob")
        await until(lambda: names(eve) == {"gate", "eve", "ada", "bob"}, "the accounts of the gateway")
        for answer in await answers_at_all_doors(served, "bbo"):
            assert (answer["code"], answer["text"]) == UNKNOWN
        for peer in (served.peer, eve):
            with pytest.raises(UnknownName, match=r"did you mean bob\?"):
                await peer.send("bbo", "lunch?")
            assert names(peer) == {"gate", "eve", "ada", "bob"}


async def test_a_former_name_is_an_error_that_says_the_new_one_at_every_door() -> None:
    async with (
        serving(peer_settings=AT_ONCE) as served,
        TCPPeer(0, served.peer.port, db="memory://", name="eve", settings=AT_ONCE) as eve,
    ):
        await served.register("ada", "bob")
        await until(lambda: "bob" in names(eve), "the former name")
        await served.account("bob").user.rename("robert")
        await until(lambda: "robert" in names(eve), "the new name")
        for answer in await answers_at_all_doors(served, "bob"):
            assert (answer["code"], answer["text"]) == (
                "unknown_name", "nobody here is called 'bob'; bob is now called robert",
            )  # fmt: skip
        with pytest.raises(UnknownName, match="bob is now called robert"):
            await eve.send("bob", "lunch?")


# ---- where the programs of the machine are trusted


@asynccontextmanager
async def rest(data: Path | None = None, *, trust: bool = True) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    """Run a gateway that knows ada and bob; yield it, and a client of ada."""
    async with (
        serving(WebSettings(trust_loopback=trust), data=data, peer_settings=AT_ONCE) as served,
        served.client() as http,
    ):
        for name in ("ada", "bob") if trust else ():
            await served.gateway.accounts.trusted(name)
        http.params = httpx.QueryParams({"as": "ada"})
        yield served, http


async def sent(http: httpx.AsyncClient, to: str) -> dict[str, Any]:
    answer: dict[str, Any] = (await http.post("/messages", json={"to": to, "content": "lunch?"})).json()
    assert answer["status"] == "ok", answer
    return answer


async def receipt(http: httpx.AsyncClient, id: str) -> str:
    return str((await http.get(f"/messages/{id}/receipt")).json()["status"])


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
        for to in ("no/name", "bob#AAAAAAAA"):
            assert (await http.post("/messages", json={"to": to, "content": "x"})).json()["code"] == "unknown_name"


async def test_no_other_peer_hears_of_a_reserved_name_until_somebody_signs_in_under_it() -> None:
    async with rest() as (served, http), TCPPeer(0, served.peer.port, db="memory://", name="eve") as eve:
        id = (await sent(http, "bbo"))["id"]
        async with within(60, "a message that was written later"):
            later = await served.account("ada").user.broadcast("hello")
            await later.delivered(by="eve")
        assert names(eve) == {"eve", "gate", "ada", "bob"}
        assert [user.name for user in served.peer.hosted] == ["ada", "bob"]
        assert await receipt(http, id) == "accepted"
        url = f"{served.ws_url}/chat?user="
        async with within(60, "the message that waits"), connect(f"{url}ada&events=receipts") as ada:
            await served.gateway.accounts.trusted("bbo")
            assert await receipt(http, id) == "accepted", "no client of bbo has taken it"
            async with connect(f"{url}bbo") as bbo:
                assert json.loads(await bbo.recv())["id"] == id
                told = json.loads(await ada.recv())
                assert (told["type"], told["id"]) == ("delivered", id)
            assert await receipt(http, id) == "delivered"
        await until(lambda: "bbo" in names(eve), "the user who has come")
        assert "reserved" not in await sent(http, "bbo")


@pytest.mark.parametrize("trust", [True, False])
async def test_who_registers_a_reserved_name_after_a_restart_gets_what_waits(tmp_path: Path, trust: bool) -> None:
    async with rest(tmp_path) as (served, http):
        id = (await sent(http, "bbo"))["id"]
    async with rest(tmp_path, trust=trust) as (served, http):
        if trust:
            assert (await sent(http, "bbo"))["text"] == NEAR
            with_ada = (await http.get("/messages", params={"user1": "ada", "user2": "bbo"})).json()
            assert [row["to"] for row in with_ada] == ["bbo", "bbo"]
        await served.gateway.accounts.load()
        ada = served.account("ada").user
        assert (await ada.receipt(id)).status == "accepted"
        await served.register("bbo")
        assert (await ada.receipt(id)).status == "accepted"
        bbo = served.account("bbo").user
        waiting = await bbo.released(consumer="web")
        assert waiting[0].id == id and waiting == await bbo.unread("ada") and len(waiting) == 1 + trust
    async with rest(tmp_path, trust=trust) as (served, http):
        await served.gateway.accounts.load()
        assert [account.name for account in served.gateway.accounts.list()] == ["ada", "bbo", "bob"]
        assert not served.gateway.accounts.is_reserved(served.account("bbo").user.me)


async def test_a_former_name_is_not_reserved_and_nobody_signs_in_under_it_by_chance() -> None:
    """A page that still said `?user=bob` made another bob, who got what was written to the first one."""
    async with rest() as (served, http):
        await served.account("bob").user.rename("robert")
        answer = (await http.post("/messages", json={"to": "bob", "content": "lunch?"})).json()
        assert answer["text"] == "nobody here is called 'bob'; bob is now called robert"
        answer = (await http.get("/users", params={"as": "bob"})).json()
        assert (answer["code"], answer["text"]) == (
            "unknown_name", "nobody here is called 'bob'; bob is now called robert",
        )  # fmt: skip
        assert [account.name for account in served.gateway.accounts.list()] == ["ada", "robert"]
