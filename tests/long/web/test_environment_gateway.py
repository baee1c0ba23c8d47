"""`uvicorn p2pchat.cli.gateway:app`: a gateway with a peer of its own, whose options are variables.

And clients that a gateway refuses: whatever they speak, the message says what to do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.processes import WITHIN, Program, p2pchat, running
from tests.web.socketio_client import socket

pytestmark = pytest.mark.weekly
ADVICE = (
    'POST /accounts {"name": NAME} returns one; '
    "or start the gateway with --trust-loopback, and programs on this machine only give a name"
)


LATE = (
    "import uvicorn; from p2pchat.web import account_session; account_session.CONFIRMED_AFTER = 3600.0; uvicorn.main()"
)


@asynccontextmanager
async def uvicorn(home: Path, port: str, *options: str, code: str = "", **variables: str) -> AsyncIterator[Program]:
    """Run the command line that any ASGI application is run with, or code that does the same."""
    started = ("-c", code) if code else ("-m", "uvicorn")
    command = (sys.executable, *started, "p2pchat.cli.gateway:app", "--port", port, *options)
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"P2PCHAT_{name}", value)
            program = await stack.enter_async_context(running(*command, home=home))
        yield program


async def test_uvicorn_starts_a_gateway_with_a_peer_from_variables(tmp_path: Path) -> None:
    http, own = free_ports(2)
    variables = {"PORT": own, "NAME": "office", "DATA": str(tmp_path / "data"), "TRUST_LOOPBACK": "1"}
    async with uvicorn(tmp_path, http, **variables) as server:
        await server.until(f"office listens on 127.0.0.1:{own}, data in {tmp_path / 'data'}")
        await server.until("Uvicorn running on")
        async with connect(f"ws://localhost:{http}/chat") as ada:  # as the origin's client does
            await ada.send("ada")
            await ada.send("/dm bob see you")
            assert json.loads(await ada.recv())["status"] == "ok"
            await server.until("buffered for bob, who is offline: a message from ada")
        async with running(*p2pchat("web", "token", "bob", "--data", str(tmp_path / "data")), home=tmp_path) as token:
            assert await token.end() == 0
        peer = p2pchat("0", own, "--name", "tina", "--data", str(tmp_path / "tina"), "--plain")
        async with running(*peer, home=tmp_path) as tina:
            await tina.say("hello from the mesh")
            assert await tina.end() == 0
        server.terminate()
        await server.end()
        assert "INFO:     Application shutdown complete." in server.shown
    async with uvicorn(tmp_path, http, **variables) as server:
        await server.until("Uvicorn running on")
        headers = {"Authorization": f"Bearer {token.shown[0]}"}
        async with connect(f"ws://localhost:{http}/chat", additional_headers=headers) as bob:
            assert json.loads(await bob.recv())["content"] == "see you"
        async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False, verify=False) as client:
            room = await client.get(f"http://localhost:{http}/messages?conversation=room")
        assert [(row["from"], row["content"]) for row in room.json()] == [("tina", "hello from the mesh")]


async def test_uvicorn_with_our_websockets_proves_at_once_what_was_taken(tmp_path: Path) -> None:
    http, own = free_ports(2)
    ours = ("--ws", "p2pchat.cli.gateway:WebSocketProtocol")
    variables = {"PORT": own, "NAME": "office", "TRUST_LOOPBACK": "1"}
    async with uvicorn(tmp_path, http, *ours, code=LATE, **variables) as server:
        await server.until("Uvicorn running on")
        url = f"ws://localhost:{http}/chat"
        async with connect(f"{url}?user=ada&events=receipts") as ada:
            await ada.send("/dm bob see you")
            id = json.loads(await ada.recv())["id"]
            async with connect(f"{url}?user=bob") as bob, asyncio.timeout(WITHIN):  # no timer ends before
                await bob.recv()
                assert json.loads(await ada.recv()) == {"type": "delivered", "id": id, "by": "bob", "count": 1, "of": 1}


async def test_it_links_with_the_peers_that_a_variable_names(tmp_path: Path) -> None:
    http, own, far = free_ports(3)
    terminal = p2pchat(far, "--name", "tina", "--data", str(tmp_path / "tina"), "--json")
    async with running(*terminal, home=tmp_path) as tina:
        await tina.until('"event":"listening"')
        async with uvicorn(tmp_path, http, PORT=own, NAME="office", ENDPOINTS=f"localhost:1 {far}"):
            await tina.until('"user":"office"')


async def test_a_start_that_fails_is_one_line(tmp_path: Path) -> None:
    for name, value, told in (
        ("SIGN_UP", "all", "'all' is not one of 'open', 'token'"),
        ("NAME", "@da", "contain '@'"),
    ):
        async with uvicorn(tmp_path, free_ports(1)[0], **{name: value}) as server:
            assert told in await server.until("p2pchat: ")
            assert await server.end() == 3
        assert "Traceback" not in "".join(server.shown)


async def test_a_refused_client_is_told_what_to_do(tmp_path: Path) -> None:
    http, own = free_ports(2)
    gateway = p2pchat("web", http, "--port", own, "--data", str(tmp_path / "data"))
    url = f"ws://localhost:{http}/chat"
    async with running(*gateway, home=tmp_path) as server:
        await server.until("the page")
        async with running(*p2pchat("client", url, "-user=A", "-recipient=B"), home=tmp_path) as client:
            assert await client.end() == 1
        told = f'missing token: send {{"token": TOKEN}} first; {ADVICE}'
        flag = f"missing token: give it with --token FILE; {ADVICE}"
        assert client.shown == [f"p2pchat: the gateway at {url} refuses this client: {flag}"]
        async with connect(url) as plain:
            await plain.send("A")
            assert json.loads(await plain.recv())["text"] == told
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as curl:
            answer = await curl.get(f"http://localhost:{http}/messages?user1=A&user2=B")
        assert answer.json()["text"] == f"missing token: send Authorization: Bearer TOKEN; {ADVICE}"
        async with socket(f"http://localhost:{http}") as registered:
            refused = await registered.say("register", {"userId": "A"})
        assert refused["text"] == f"missing token: send register with userId and authToken; {ADVICE}"
        headers = {"Authorization": "Bearer wrong"}
        async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False, verify=False) as curl:
            answer = await curl.get(f"http://localhost:{http}/conversations")
        assert "`p2pchat web token NAME` makes another" in answer.json()["text"]


async def test_what_a_client_without_a_gateway_is_told_to_start_accepts_it(tmp_path: Path) -> None:
    http, own = free_ports(2)
    client = p2pchat("client", f"ws://localhost:{http}/chat", "-user=A", "-recipient=B")
    async with running(*client, home=tmp_path) as alone:
        assert await alone.end() == 1
    assert alone.shown[-1].endswith("; `p2pchat web PORT --trust-loopback` starts one")
    gateway = p2pchat("web", http, "--trust-loopback", "--port", own, "--data", str(tmp_path / "data"))
    async with running(*gateway, home=tmp_path) as server:
        await server.until("the page")
        async with running(*client, home=tmp_path) as accepted:
            await accepted.until("connected as A")
        async with httpx.AsyncClient(timeout=60, trust_env=False, verify=False) as curl:
            answer = await curl.get(f"http://localhost:{http}/conversations")
        assert answer.json()["text"].endswith("; or give a name: ?as=NAME in the address")


async def test_a_caller_who_cannot_register_or_be_trusted_is_sent_to_the_operator(tmp_path: Path) -> None:
    http, own = free_ports(2)
    gateway = p2pchat("web", http, "--port", own, "--data", str(tmp_path / "data"), "--sign-up", "token")
    async with running(*gateway, home=tmp_path) as server:
        await server.until("the page")
        async with httpx.AsyncClient(
            headers={"X-Forwarded-For": "203.0.113.7"}, timeout=60, trust_env=False, verify=False
        ) as remote:
            answer = await remote.get(f"http://localhost:{http}/conversations")
        assert answer.json()["text"] == (
            "missing token: send Authorization: Bearer TOKEN; the operator makes one with `p2pchat web token NAME`"
        )
