"""Terminals of a test, with a home of their own and nothing left running; and peers for them to talk with.

All tests of a file share one loop. Where a file asks for the `fork_server` (usefixtures) its p2pchats are born quickly.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from p2pchat import Joined, Settings, TCPPeer
from tests.deadlines import WAIT
from tests.processes.fork_server import ForkServer
from tests.terminal.pty import Terminal, time_zone_of_the_morning

if sys.platform == "win32":  # no pseudo-terminals
    collect_ignore_glob = ["test_*.py"]


P2PCHAT = (sys.executable, "-m", "p2pchat")


class OpenTerminal(Protocol):
    """Run `python -m p2pchat WORDS..`, or another command, in a terminal of its own."""

    async def __call__(
        self,
        *words: str,
        command: tuple[str, ...] = ...,
        columns: int = ...,
        rows: int = ...,
        env: dict[str, str] | None = ...,
    ) -> Terminal: ...


class StartPeer(Protocol):
    """Start a peer in this process, linked with the terminals that run."""

    async def __call__(self, name: str, *endpoints: int) -> TCPPeer: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """P2PCHAT_HOME of everything in the test."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest_asyncio.fixture(loop_scope="module")
async def terminal(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[OpenTerminal]:
    fork_server: ForkServer | None = (
        request.getfixturevalue("fork_server") if "fork_server" in request.fixturenames else None
    )
    opened: list[Terminal] = []
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "SYSTEMROOT", "P2PCHAT_LOOP") if key in os.environ}
    path = [os.path.dirname(sys.executable), kept.get("PATH", os.defpath)]  # where `p2pchat` is a command
    kept["PATH"] = os.pathsep.join(path)
    home_of_user = {"P2PCHAT_HOME": str(home), "HOME": str(home)}
    usual = {**kept, **home_of_user, "LANG": "C.UTF-8", "TZ": time_zone_of_the_morning()}

    async def open_terminal(
        *words: str,
        command: tuple[str, ...] = P2PCHAT,
        columns: int = 80,
        rows: int = 24,
        env: dict[str, str] | None = None,
    ) -> Terminal:
        quick = fork_server if command == P2PCHAT else None
        found = Terminal([*(command if quick is None else ()), *words], {**usual, **(env or {})}, columns, rows, quick)
        opened.append(found)
        return await found.start()

    yield open_terminal
    for each in opened:
        await each.close()


@pytest_asyncio.fixture(loop_scope="module")
async def peer(home: Path) -> AsyncIterator[StartPeer]:
    started: list[TCPPeer] = []

    async def start_peer(name: str, *endpoints: int) -> TCPPeer:
        directory = home / "peers" / name
        peer = TCPPeer(0, *map(str, endpoints), name=name, data=directory, settings=Settings(start_timeout=0.0))
        started.append(peer)
        joined = peer.events(Joined, consumer=None)
        await peer.start()
        if endpoints:
            async with asyncio.timeout(WAIT):
                await anext(joined)  # users are known by name
        joined.close()
        return peer

    yield start_peer
    for each in started:
        await each.aclose()


async def port_of(shown: Terminal) -> int:
    """Return the port a terminal's peer listens on."""
    return int((await shown.shows_line(r"listens on \S+:(\d+),"))[1])


async def ada_and(
    name: str, terminal: OpenTerminal, peer: StartPeer, *words: str, **options: Any
) -> tuple[Terminal, TCPPeer]:
    """Return a terminal of ada, started with these words, and a peer of this name that has met her."""
    ada = await terminal("0", "--name", "ada", *words, **options)
    other = await peer(name, await port_of(ada))
    await arrives(ada, other)
    return ada, other


async def arrives(shown: Terminal, peer: TCPPeer) -> None:
    """Wait until a terminal has shown that the user of a peer is here: at once of who begins to type."""
    peer.room.typing()
    await shown.shows(f"{peer.me.name} is here")
    peer.room.typing(False)


async def ada_bob_and_cyd(terminal: OpenTerminal, peer: StartPeer) -> tuple[Terminal, TCPPeer, TCPPeer]:
    """Return a terminal of ada, and two peers that have met her and each other."""
    ada, bob = await ada_and("bob", terminal, peer)
    cyd = await peer("cyd", await port_of(ada))
    await arrives(ada, cyd)
    await bob.wait_user("cyd", timeout=60)
    return ada, bob, cyd
