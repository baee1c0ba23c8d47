"""The input of a chat: lines of a user or a program, executed by a running peer without links.

Each line is executed or answered with one error, and the output consists of JSON lines that are safe to show.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from functools import cache

from p2pchat import TCPPeer
from p2pchat.commands.display import Display
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.testing import mesh
from tests.deadlines import WAIT
from tests.fuzz.choices import Supply
from tests.fuzz.target import Target, hold
from tests.fuzz.texts import ODD_WORDS, ORDER_WORDS, acts, order_seeds, typed_seeds

MOST_LINES = 8
FRESH_AFTER = 500  # inputs; growing history makes reads slower
ELSEWHERE = (b"connect", b"invite")  # commands about addresses would dial other machines


class SessionPeer:
    """Two peers in memory and their loop, for one input after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._open = AsyncExitStack()
        self._played = 0
        self._peer: TCPPeer | None = None
        self._faults: list[str] = []
        self._loop.set_exception_handler(lambda loop, context: self._faults.append(str(context["message"])))

    def play(self, lines: list[bytes | None], as_json: bool) -> str:
        """Let a session take these lines; return its output."""
        self._played += 1
        shown = self._loop.run_until_complete(asyncio.wait_for(self._one(lines, as_json), WAIT))
        hold(not self._faults, f"unhandled: {self._faults}")
        return shown

    async def _one(self, lines: list[bytes | None], as_json: bool) -> str:
        peer = await self._fresh_peer()
        with tempfile.TemporaryFile(buffering=0) as kept:
            show = Display(StdoutWriter(kept), None, as_json=True, echo=True)
            show.me = peer.me.label
            session = Session(peer, show, interactive=False, as_json=as_json)
            await session.execute(lines)
            kept.seek(0)
            return kept.read().decode()

    async def _fresh_peer(self) -> TCPPeer:
        if self._peer is None or self._played % FRESH_AFTER == 0:
            await self._open.aclose()
            net = await self._open.enter_async_context(mesh("ada", "bob"))
            self._peer = net.peers[0]
        return self._peer

    def close(self) -> None:
        self._loop.run_until_complete(self._open.aclose())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@cache
def session_peer() -> SessionPeer:
    return SessionPeer()


def end() -> None:
    """Close the peer, if there is one; the next input makes another."""
    if session_peer.cache_info().currsize:
        session_peer().close()
        session_peer.cache_clear()


def run(data: bytes) -> None:
    """Execute lines; the first byte of the input chooses if lines that begin with a brace are command objects."""
    supply = Supply(data)
    as_json = not (supply.take(1) or b"\0")[0] & 1
    lines: list[bytes | None] = []
    for line in supply.rest().split(b"\n")[:MOST_LINES]:
        if not any(word in line.lower() for word in ELSEWHERE) and b"\\u" not in line:
            lines.append(line)
    for shown in session_peer().play(lines, as_json).splitlines():
        said = json.loads(shown)
        hold(isinstance(said, dict) and said.get("event"), "a line that is no event")
        hold(not any(map(acts, shown)), "a line that acts on a terminal")


def seeds() -> list[bytes]:
    lines = [line for line in (*typed_seeds(), *order_seeds()) if len(line) < 300]
    return [b"\0" + b"\n".join(lines[at : at + 3]) for at in range(0, len(lines), 3)]


@cache
def targets() -> tuple[Target, ...]:
    words = [*ORDER_WORDS, *ODD_WORDS, b"/history ", b"/receipts ", b"/go ", b"/set ", b"/reply ", b"\n", b"bob"]
    return (Target("session", "lines into a running chat", run, seeds, words, 1500, 40, 2, end),)
