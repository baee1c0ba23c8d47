"""`uvicorn p2pchat.cli.gateway:app`: a gateway with a peer of its own, whose options are variables."""

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

pytestmark = pytest.mark.weekly
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
    http, own, far = free_ports(3)
    variables = {"PORT": own, "NAME": "office", "DATA": str(tmp_path / "data"), "TRUST_LOOPBACK": "1"}
    variables["ENDPOINTS"] = f"localhost:1 {far}"
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
        peer = p2pchat(far, "--name", "tina", "--data", str(tmp_path / "tina"), "--json")
        async with running(*peer, home=tmp_path) as tina:
            await tina.until('"user":"office"')  # it dials what the variable names
            await tina.say('{"do":"send","to":"room","text":"hello from the mesh"}')
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


async def test_a_start_that_fails_is_one_line(tmp_path: Path) -> None:
    for name, value, told in (
        ("SIGN_UP", "all", "'all' is not one of 'open', 'token'"),
        ("NAME", "@da", "contain '@'"),
    ):
        async with uvicorn(tmp_path, free_ports(1)[0], **{name: value}) as server:
            assert told in await server.until("p2pchat: ")
            assert await server.end() == 3
        assert "Traceback" not in "".join(server.shown)


async def test_a_refused_client_is_told_where_its_token_goes(tmp_path: Path) -> None:
    http, own = free_ports(2)
    gateway = p2pchat("web", http, "--port", own, "--data", str(tmp_path / "data"))
    async with running(*gateway, home=tmp_path) as server:
        await server.until("the page")
        url = f"ws://localhost:{http}/chat"
        async with running(*p2pchat("client", url, "-user=A", "-recipient=B"), home=tmp_path) as client:
            assert await client.end() == 1
        [told] = client.shown
        assert f"the gateway at {url} refuses this client: missing token: give it with --token FILE; " in told
