"""Deleting accounts, and how many names and accounts one caller can take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from p2pchat.testing import mesh
from p2pchat.web import WebSettings, create_app
from tests.web.chat_client import WITHIN, connect
from tests.web.conftest import Served, listening
from tests.web.socketio_client import talking
from tests.web.test_event_socket import calling


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read a WebSocket to its end; return the code and the reason of its close."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(WITHIN):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


async def test_nothing_that_a_deleted_account_chose_stays_on_the_disk(served: Served) -> None:
    await served.register("yan", "xia", "zoe")
    users = {name: served.account(name).user for name in ("yan", "xia", "zoe")}
    for one in (users["xia"], users["zoe"]):
        await one.block("yan")
        await one.ignore("yan")
        await one.set_receipts(False)
        await one.set_receipts(True, "yan")
        await (await one.send("gate", "hello")).delivered()
    resources = served.peer._lifecycle.resources
    assert resources is not None

    def kept(name: str) -> list[tuple[str, str]]:
        key = users[name].key
        return [line for line in resources.storage.load([]).meta.items() if key in line[0] or key in line[1]]

    before = kept("xia")
    assert len(before) >= 3
    async with served.client("zoe") as http:
        assert (await http.delete("/v1/accounts/me")).status_code == 200
    assert kept("zoe") == []
    await users["xia"].set_receipts(False, "yan")  # which stores all choices of the kind again
    assert kept("zoe") == [] and len(kept("xia")) == len(before)


async def test_a_deleted_account_ends_everywhere_and_keeps_its_name(served: Served) -> None:
    async with AsyncExitStack() as stack:
        await served.register("yan")
        header = {"Authorization": f"Bearer {await served.register('zoe')}"}
        sockets = [
            await stack.enter_async_context(connect(served.ws_url + path, additional_headers=header))
            for path in ("/chat?since=", "/lines")
        ]
        for one in sockets:
            await one.recv()  # it is open
        sio = await stack.enter_async_context(talking(served, "zoe"))
        http = await stack.enter_async_context(served.client("zoe"))
        assert (await http.post("/messages", json={"to": "yan", "content": "psst"})).status_code == 201
        stream = await stack.enter_async_context(http.stream("GET", "/v1/events"))
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("data"):
            pass
        answer = await http.delete("/v1/accounts/me")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        async with asyncio.timeout(WITHIN):
            for one in sockets:
                assert await closed(one) == (1008, "deleted")
            assert [line async for line in lines if line.startswith("data")] == []  # it ends
            await sio.gone.wait()
        assert sio.said("error") == [{"code": "deleted", "text": "this account was deleted"}]
        assert (await http.get("/v1/users")).status_code == 401
        assert (await http.delete("/v1/accounts/me")).status_code == 401
    async with served.client("yan") as http, calling(served, "yan") as yan:
        for name in ("zoe", "ZOE"):
            again = await http.post("/v1/accounts", json={"name": name})
            assert (again.status_code, again.json()["code"]) == (409, "name_taken")
        told = await http.post("/messages", json={"to": "zoe", "content": "are you there?"})
        assert (told.status_code, told.json()["code"]) == (404, "unknown_name") and "deleted" in told.json()["text"]
        await yan.say(do="send", to="zoe", text="are you there?", ref="1")
        line = await yan.next("error", ref="1")
        assert (line["code"], line["text"]) == ("unknown_name", told.json()["text"])
        kept = await http.get("/messages", params={"conversation": "zoe"})
        assert [row["content"] for row in kept.json()] == ["psst"]


async def test_others_in_the_mesh_hear_that_a_deleted_user_has_left() -> None:
    async with mesh("gate", "bob") as net, listening(app := create_app(net.peers[0])) as port:
        served, bob = Served(net.peers[0], app, port), net.peers[1]
        await served.register("zoe")
        async with served.client("zoe") as http:
            await http.post("/messages", json={"to": "room", "content": "hello"})
            while "zoe" not in {user.name for user in bob.users() if user.status == "offline"}:
                await net.settle()
            zoe = bob.user("zoe")
            assert [host.id for host in (await bob.whois(zoe)).hosts]
            assert (await http.delete("/accounts/me")).status_code == 200
        await net.settle()
        assert not (await bob.whois(zoe)).hosts
        assert [post.text for post in await bob.history("room")] == ["hello"]
        await app.state.gateway.aclose()


async def test_open_sign_up_is_bounded_in_all(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(sign_up="open", sign_ups_a_day=2))
    async with served.client() as http:
        for name, address, status in (
            ("ada", "203.0.113.1", 201), ("ADA", "203.0.113.2", 409), ("bob", "203.0.114.1", 201),
            ("cyd", "198.51.100.1", 429),
        ):  # fmt: skip
            answer = await http.post("/accounts", json={"name": name}, headers={"X-Forwarded-For": address})
            assert answer.status_code == status, answer.text
        assert answer.json()["code"] == "too_many" and 0 < int(answer.headers["Retry-After"]) <= 86_401
        assert (await http.post("/accounts", json={"name": "cyd"})).status_code == 201  # on this machine
