"""Peers with directories and control sockets of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from p2pchat import TCPPeer
from p2pchat.cli import control_client
from p2pchat.cli.control_server import ControlServer
from tests.deadlines import WAIT

Served = tuple[TCPPeer, ControlServer]
Serve = Callable[..., Coroutine[Any, Any, Served]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    for timeout in ("CONNECT_TIMEOUT", "START_TIMEOUT"):  # 5 s each; tests of them set others
        monkeypatch.setattr(control_client, timeout, WAIT)
    return tmp_path / "home"


@pytest.fixture
async def serve(home: Path) -> AsyncIterator[Serve]:
    """Start a peer of this name, linked with these endpoints, and its control socket."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *endpoints: str) -> Served:
            peer = await stack.enter_async_context(TCPPeer(0, *endpoints, name=name, data=home / name))
            server = await ControlServer(peer).start()
            stack.push_async_callback(server.shut_down, "the test is over")
            return peer, server

        yield start
