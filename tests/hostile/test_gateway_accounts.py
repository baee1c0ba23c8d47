"""Accounts of a gateway against the others and its operator, with a real server."""

from __future__ import annotations

import asyncio

from p2pchat.web import Pace, WebSettings
from p2pchat.web.socketio.engineio import MAX_POSTED
from tests.deadlines import POLL_EVERY, WAIT, within
from tests.web.conftest import home, serving
from tests.web.test_socketio import emits, polling

_ = home  # an autouse fixture


async def test_a_post_beside_one_whose_packets_wait_ends_the_connection() -> None:
    """300 POSTs of 12,500 packets each took 475 MB for hours, also after the client had left."""
    async with serving(WebSettings(token_timeout=60.0, calls=Pace(2.0, 10))) as served:
        await served.register("eve")
        async with polling(served, "eve") as eve:
            first = asyncio.create_task(eve.post(emits(40)))
            async with within(WAIT, "a packet of the first POST"):
                while not await served.peer.history(limit=1):
                    await asyncio.sleep(POLL_EVERY)  # poll: written by another task
            assert await eve.post(emits(1)) == 400
            first.cancel()
            assert await eve.post(emits(1)) == 400


async def test_a_post_has_so_many_packets() -> None:
    async with serving() as served, polling(served) as stranger:
        assert await stranger.post("\x1e".join(["3"] * (MAX_POSTED + 1))) == 400
        assert '"malformed"' in await stranger.until('42["error"')
