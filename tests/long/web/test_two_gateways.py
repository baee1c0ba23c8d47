"""A client that moves between two gateways."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.web.chat_client import WITHIN, chatting, drop, opened
from tests.web.test_two_gateways import Gateways, both

__all__ = ["both"]  # a fixture


async def test_a_client_that_moves_between_gateways_under_writing_misses_nothing(both: Gateways) -> None:
    """Its connection breaks without a goodbye while bob writes in the room and to it, and others write in the east."""
    east, west = both
    await east.register("cyd")
    writers = [served.gateway.accounts.find(name) for served, name in ((west, "bob"), (east, "cyd"))]
    written: dict[str, str] = {}
    got: dict[str, str] = {}
    since = ""

    async def write() -> None:
        for number in range(40):
            for account in filter(None, writers):
                for to in ("room", "zoe"):
                    text = f"{account.name} {to} {number}"
                    written[(await account.user.send(to, text)).id] = text
            await asyncio.sleep(0.01)  # the client moves meanwhile

    for served, name in ((east, "cyd"), (west, "bob")):
        async with chatting(served, name):  # so that the other gateway knows of the account
            for other in both:
                await other.peer.wait_user(name, timeout=WITHIN)
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        moves = 0
        while not writing.done() or not written.keys() <= got.keys():
            moves += 1
            zoe = await opened((west, east)[moves % 2], "zoe", f"?since={since}")
            since = await taken(zoe, got, since, 17, writing, written)
            await drop(zoe)
    assert moves > 3
    assert {id: text for id, text in got.items() if id in written} == written


async def taken(
    zoe: Any, got: dict[str, str], since: str, most: int, writing: asyncio.Task[None], written: dict[str, str]
) -> str:
    """Take some frames that bring something new, or all there will be; return the id of the last message."""
    fresh = 0
    while fresh < most and not (writing.done() and written.keys() <= got.keys()):
        frame = json.loads(await zoe.socket.recv())
        if frame.get("type") == "message":
            since = frame["id"]
            fresh += since not in got
            assert got.setdefault(since, frame["content"]) == frame["content"]
    return since
