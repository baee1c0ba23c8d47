"""A running gateway: a real peer, its application and a real server on loopback, all in the test's loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from p2pchat import Settings, TCPPeer
from p2pchat.cli.http_server import listen
from p2pchat.cli.web_socket_protocol import WebSocketProtocol
from p2pchat.web import Gateway, WebSettings, create_app
from p2pchat.web.accounts import Account
from p2pchat.web.callers import Authenticate


@dataclass
class Served:
    """A running gateway. `url` is "http://127.0.0.1:PORT", without a trailing slash."""

    peer: TCPPeer
    app: FastAPI
    port: int
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def gateway(self) -> Gateway:
        gateway: Gateway = self.app.state.gateway
        return gateway

    def account(self, name: str) -> Account:
        account = self.gateway.accounts.find(name)
        assert account is not None
        return account

    async def register(self, *names: str) -> str:
        """Register names over HTTP and return the token of the last."""
        async with self.client() as http:
            for name in names:
                answer = await http.post("/accounts", json={"name": name})
                assert answer.status_code == 201, answer.text
                self.tokens[name] = answer.json()["token"]
        return self.tokens[names[-1]]

    def client(self, name: str | None = None, **words: Any) -> httpx.AsyncClient:
        """Return an HTTP client, with the token of an account that `register` made.

        Without TLS it needs no authorities (`verify=False`), which httpx loads in 20 ms for each client.
        """
        headers = {} if name is None else {"Authorization": f"Bearer {self.tokens[name]}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False, verify=False, **words)


class _PromptServer(uvicorn.Server):
    """uvicorn that ends at once: it would look for its end every 0.1 s, wait another 0.1 s, and look again."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.end = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the headers of all answers
        await self.end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:
            await asyncio.sleep(0.002)  # poll: uvicorn has no event for the end of a connection
        for server in self.servers:
            await server.wait_closed()


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[int]:
    """Serve an application on a free loopback port; yield the port."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", proxy_headers=False, server_header=False, ws=WebSocketProtocol
        )
        server = _PromptServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                assert not task.done()
                await asyncio.sleep(0)  # poll: uvicorn has no event for its start
            yield listener.getsockname()[1]
        finally:
            server.end.set()
            await task


@asynccontextmanager
async def serving(
    settings: WebSettings | None = None,
    *endpoints: int,
    name: str = "gate",
    peer_settings: Settings | None = None,
    prepare: Callable[[FastAPI], object] = bool,
    data: Path | None = None,
    invite: str | None = None,
    authenticate: Authenticate | None = None,
) -> AsyncIterator[Served]:
    """Run a gateway, where clients have a minute to authenticate; `prepare` may add to it. Storage is in memory, unless
    there is a directory for it.
    """
    db = "memory://" if data is None else None
    async with TCPPeer(0, *endpoints, name=name, db=db, data=data, invite=invite, settings=peer_settings) as peer:
        app = create_app(peer, settings or WebSettings(token_timeout=60.0), authenticate=authenticate)
        prepare(app)
        try:
            async with listening(app) as port:
                yield Served(peer, app, port)
                await app.state.gateway.aclose()  # before the server stops, as the command does it
        finally:
            await app.state.gateway.aclose()


@pytest.fixture(autouse=True, scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home directory, shared by all tests of a file so that they can share a server."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("P2PCHAT_HOME", str(home))
        yield home


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that runs a gateway with other settings: `await serve(WebSettings(trust_loopback=True))`."""
    async with AsyncExitStack() as stack:

        async def run(settings: WebSettings | None = None, *endpoints: int, **options: Any) -> Served:
            return await stack.enter_async_context(serving(settings, *endpoints, **options))

        yield run
