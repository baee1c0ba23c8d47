"""Deleting accounts, and what one caller can use up: over HTTP and on the command line of a gateway in a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from p2pchat.testing import mesh
from p2pchat.web import WebSettings, create_app
from tests.ports import free_ports
from tests.web.conftest import Served, listening
from tests.web.processes import WITHIN, p2pchat, running
from tests.web.socketio_client import socket
from tests.web.websocket_client import connect

Run = Callable[..., Any]


@asynccontextmanager
async def gateway(home: Path, *options: str) -> AsyncIterator[tuple[str, Run]]:
    """Run a gateway; yield its address, and a function that runs a command beside it: exit code and output."""
    port, own = free_ports(2)
    async with running(*p2pchat("web", port, "--port", own, *options, *which(home)), home=home) as gate:
        await gate.until("the page")
        yield f"http://127.0.0.1:{port}", lambda *words: command(home, *words)
        gate.terminate()
        await gate.end()


def which(home: Path) -> tuple[str, str]:
    return ("--data", str(home / "gate"))


async def command(home: Path, *words: str) -> tuple[int, list[str]]:
    """Run `p2pchat web` with these words to its end."""
    async with running(*p2pchat("web", *words, *which(home)), home=home) as process:
        return await process.end(), process.shown


def caller(url: str, token: str = "", **headers: str) -> httpx.AsyncClient:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False)


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Read a WebSocket to its end; return the code and the reason of its close."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(WITHIN):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


async def signed_up(url: str, name: str) -> str:
    async with caller(url) as http:
        answer = await http.post("/v1/accounts", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def test_a_deleted_account_ends_everywhere_and_keeps_its_name(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (url, run), AsyncExitStack() as stack:
        token, other = await signed_up(url, "zoe"), await signed_up(url, "yan")
        header = {"Authorization": f"Bearer {token}"}
        sockets = [
            await stack.enter_async_context(connect(url.replace("http", "ws") + path, additional_headers=header))
            for path in ("/chat?since=", "/lines", "/chat?since=")
        ]
        for one in sockets:
            await one.recv()  # it is open
        sio = await stack.enter_async_context(socket(url, "zoe", token))
        http = await stack.enter_async_context(caller(url, token))
        assert (await http.post("/messages", json={"to": "yan", "content": "psst"})).status_code == 201
        stream = await stack.enter_async_context(http.stream("GET", "/v1/events"))
        lines = stream.aiter_lines()
        while not (await anext(lines)).startswith("data"):
            pass

        answer = await http.delete("/v1/accounts/me")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        async with asyncio.timeout(60):
            for one in sockets:
                assert await closed(one) == (1008, "deleted")
            assert [line async for line in lines if line.startswith("data")] == []  # it ends
            await sio.gone.wait()
        assert sio.said("error") == [{"code": "deleted", "text": "this account was deleted"}]
        assert (await http.get("/v1/users")).status_code == 401
        assert (await http.delete("/v1/accounts/me")).status_code == 401
        async with caller(url, other) as http:
            for name in ("zoe", "ZOE"):
                again = await http.post("/v1/accounts", json={"name": name})
                assert (again.status_code, again.json()["code"]) == (409, "name_taken")
            told = await http.post("/messages", json={"to": "zoe", "content": "are you there?"})
            assert (told.status_code, told.json()["code"]) == (404, "unknown_name") and "deleted" in told.json()["text"]
            async with connect(
                f"{url.replace('http', 'ws')}/lines", additional_headers={"Authorization": f"Bearer {other}"}
            ) as lines_of_yan:
                await lines_of_yan.send('{"do":"send","to":"zoe","text":"are you there?","ref":"1"}')
                while (line := json.loads(await lines_of_yan.recv())).get("ref") != "1":
                    pass
                assert (line["event"], line["code"], line["text"]) == ("error", "unknown_name", told.json()["text"])
            kept = await http.get("/messages", params={"conversation": "zoe"})
            assert [row["content"] for row in kept.json()] == ["psst"]
        assert await run("users") == (0, ["yan  registered"])


async def test_accounts_are_listed_deleted_and_purged_beside_a_gateway_and_without_one(tmp_path: Path) -> None:
    days = {datetime.now(UTC).date()}
    async with gateway(tmp_path) as (url, run):
        tokens = {name: await signed_up(url, name) for name in ("ada", "bob", "cyd")}
        async with caller(url, tokens["ada"]) as http:
            assert (await http.post("/messages", json={"to": "dora", "content": "hi"})).json()["reserved"] is True
        code, shown = await run("accounts", "list", "--json")
        rows = [json.loads(line) for line in shown]
        assert code == 0 and [(row["user"], row["state"]) for row in rows] == [
            ("ada", "registered"), ("bob", "registered"), ("cyd", "registered"), ("dora", "reserved"),
        ]  # fmt: skip
        days.add(datetime.now(UTC).date())  # unless it is midnight, the same
        assert {row["used"] for row in rows} <= {str(day) for day in days}
        async with connect(
            f"{url.replace('http', 'ws')}/lines", additional_headers={"Authorization": f"Bearer {tokens['bob']}"}
        ) as bob:
            await bob.recv()
            assert await run("accounts", "delete", "Bob") == (
                0, ["-- bob is deleted; nobody gets the name for 90 days"],
            )  # fmt: skip
            assert await closed(bob) == (1008, "deleted")
        code, shown = await run("accounts", "delete", "bob")
        assert code == 4 and "there is no account 'bob'" in shown[0]
        assert await run("accounts", "purge", "--idle", "1") == (0, ["-- nothing here is idle for 1 days"])
        assert (await run("accounts", "purge", "--idle", "0"))[0] == (await run("accounts", "purge"))[0] == 2
        assert await run("accounts", "delete", "dora") == (0, ["-- dora is no longer reserved"])
    code, shown = await command(tmp_path, "accounts", "delete", "cyd", "--json")
    assert code == 0 and json.loads(shown[0])["user"] == "cyd"
    code, shown = await command(tmp_path, "accounts", "list")
    assert code == 0 and [line.partition(",")[0] for line in shown] == ["ada  registered"]
    async with gateway(tmp_path) as (url, _), caller(url) as http:
        statuses = [(await http.post("/accounts", json={"name": name})).status_code for name in tokens]
        assert statuses == [409, 409, 409]
        assert (await http.post("/accounts", json={"name": "dora"})).status_code == 201


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


async def test_one_account_reserves_eight_names_and_the_oldest_goes(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (url, run), caller(url, await signed_up(url, "ada")) as http:

        async def write(name: str) -> None:
            told = (await http.post("/messages", json={"to": name, "content": "hi"})).json()
            assert (told["status"], told["reserved"]) == ("ok", True), told

        names = [f"nobody{number}" for number in "abcdefghi"]
        for name in names:
            await write(name)
        expected = [f"{name}  reserved" for name in names[1:]]
        assert (await run("users"))[1] == ["ada  registered", *expected]
        await write(names[0])
        assert (await run("users"))[1] == ["ada  registered", f"{names[0]}  reserved", *expected[1:]]
        made = await http.post("/groups", json={"name": "many", "members": [f"else{number}" for number in range(9)]})
        assert (made.status_code, made.json()["code"]) == (403, "reserved")
        assert (await http.get("/groups")).json() == []
        made = await http.post("/groups", json={"name": "few", "members": [f"other{number}" for number in range(8)]})
        assert made.status_code == 201 and len(made.json()["members"]) == 9


async def test_open_sign_up_is_bounded_for_an_address_and_a_network(tmp_path: Path) -> None:
    options = ("--sign-up", "open", "--trusted-proxy", "127.0.0.1")
    async with gateway(tmp_path, *options) as (url, _), caller(url) as http:
        count = 0

        async def sign_up(address: str) -> httpx.Response:
            nonlocal count
            count += 1
            return await http.post(
                "/accounts", json={"name": f"user {count:03}x"}, headers={"X-Forwarded-For": address}
            )

        for last in (1, 2, 3):
            for _ in range(20):
                assert (await sign_up(f"203.0.113.{last}")).status_code == 201
            refused = await sign_up(f"203.0.113.{last}")
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many")
            assert 0 < int(refused.headers["Retry-After"]) <= 86_401
        assert refused.json()["text"].startswith("20 accounts were made from your address within a day: try again in ")
        assert "from your network" in (await sign_up("203.0.113.4")).json()["text"]
        for number in range(20):  # one /64
            assert (await sign_up(f"2001:db8:7:1::{number + 1:x}")).status_code == 201
        assert "from your address" in (await sign_up("2001:db8:7:1:ffff::1")).json()["text"]
        assert (await sign_up("2001:db8:7:2::1")).status_code == 201
        assert (await sign_up("198.51.100.1")).status_code == 201


async def test_open_sign_up_is_bounded_in_all(serve: Callable[..., Any]) -> None:
    served = await serve(WebSettings(sign_up="open", sign_ups_a_day=2))
    async with served.client() as http:
        for name, address, status in (
            ("ada", "203.0.113.1", 201), ("ADA", "203.0.113.2", 409), ("bob", "203.0.114.1", 201),
            ("cyd", "198.51.100.1", 429),
        ):  # fmt: skip
            answer = await http.post("/accounts", json={"name": name}, headers={"X-Forwarded-For": address})
            assert answer.status_code == status, answer.text
        assert (await http.post("/accounts", json={"name": "cyd"})).status_code == 201  # on this machine
