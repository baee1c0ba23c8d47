"""Dials from the port of another connection, over real sockets."""

from __future__ import annotations

import sys

import pytest

from p2pchat.core.inputs import DialFailed, LinkAccepted, LinkDialled
from tests.deadlines import WAIT, until, within
from tests.runtime.test_connection_manager import Connecting


@pytest.mark.skipif(sys.platform == "win32", reason="tried on Linux and macOS alone")
async def test_a_connection_begins_at_the_port_of_another_one_and_at_nothing_else() -> None:
    two, third = Connecting(), Connecting()
    _, port = await two.ada.listen("127.0.0.1", 0)
    _, other = await third.ada.listen("127.0.0.1", 0)
    try:
        async with within(WAIT, "both connections"):
            two.bob.dial(1, f"127.0.0.1:{port}")
            await two.until_up_or_failed()
            [link] = [one.link for one in two.inputs["bob"] if isinstance(one, LinkDialled)]
            two.bob.dial_beside(2, link, f"127.0.0.1:{other}", serve=False)
            await until(lambda: third.inputs["ada"], "the second one")
        [first], [second] = two.inputs["ada"], third.inputs["ada"]
        assert isinstance(first, LinkAccepted) and isinstance(second, LinkAccepted)
        assert (first.host, first.port) == (second.host, second.port)
        two.inputs["bob"].clear()
        two.bob.dial_beside(3, 999, f"127.0.0.1:{other}", serve=True)
        await until(lambda: two.inputs["bob"], "the failure")
        [failed] = two.inputs["bob"]
        assert isinstance(failed, DialFailed) and failed.dial == 3
    finally:
        for manager in (two.ada, two.bob, third.ada):
            await manager.cut_all()
