"""The library in a program whose event loop is not Python's own, as under many web servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pchat import Left, Message, Probed, TCPPeer, probe


def test_two_peers_in_uvloop_meet_talk_and_part(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")

    async def scenario() -> tuple[list[str], list[str], str]:
        async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
            left = asyncio.ensure_future(ada.wait_for(Left, timeout=20))
            by_name = f"localhost:{ada.port}"
            async with TCPPeer(0, by_name, data=tmp_path / "bob", name="bob") as bob:
                to = await bob.wait_user("ada", timeout=20)
                await (await bob.send(to, "hello")).delivered(timeout=20)
                texts = [f"{number}" for number in range(3000)]
                await (await bob.send_many(to, texts)).delivered(timeout=20)
                got = [event.text async for event in _first(ada, 3001)]
            return got, ["hello", *texts], (await left).reason

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        got, said, reason = runner.run(scenario())
    assert (got, reason) == (said, "left")


def test_what_a_probe_takes_is_told_to_less_than_a_millisecond_in_uvloop_too(tmp_path: Path) -> None:
    """The clock of that loop has whole milliseconds, and on one machine a connection takes less."""
    uvloop = pytest.importorskip("uvloop", reason="there is none for Windows")

    async def scenario() -> Probed:
        async with TCPPeer(data=tmp_path / "ada", name="ada") as ada:
            return await probe(f"127.0.0.1:{ada.port}", data=tmp_path / "ada")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(scenario())
    taken = [1000 * seconds for seconds in (found.connect_seconds, found.tls_seconds)]
    assert all(abs(each - round(each)) > 1e-4 for each in taken), taken


async def _first(peer: TCPPeer, count: int) -> AsyncIterator[Message]:
    async for event in peer.events(Message):
        yield event
        count -= 1
        if not count:
            return
