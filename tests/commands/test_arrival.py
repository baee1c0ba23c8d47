"""What one is told of the network one has come to by an invite."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import Link, TCPPeer
from p2pchat.commands.notifications import JoinSummary


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


async def arrive(peer: TCPPeer, arrival: JoinSummary) -> None:
    """Start a peer and tell of what happens until it has arrived."""
    events = peer.events(consumer=None)
    await peer.start()
    arrival.begin(peer)
    async with asyncio.timeout(10):
        while not arrival.finished:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.wait({waiting}, timeout=0.1)
            if waiting.done():
                arrival.on_event(waiting.result())
            else:
                waiting.cancel()
    arrival.close()
    await peer.aclose()


async def test_whose_network_it_is_and_how_many_are_there(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(data=home / "ada", name="Ada L") as ada:
        async with TCPPeer(0, ada.port, data=home / "cyd", name="cyd") as cyd:
            await ada.wait_user("cyd", timeout=5)
            await (await cyd.broadcast("I was here")).delivered(timeout=5)
        arrival = JoinSummary(ada.invite, dials=True, notify=told.append)
        await arrive(TCPPeer(temporary=True, name="bob", invite=ada.invite), arrival)
        assert told == [f'-- joined the network of "Ada L" at {ada.endpoint}: 3 people, 2 of them online']


async def test_who_came_without_an_invite_is_told_nothing(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(temporary=True, name="ada") as ada:
        await arrive(TCPPeer(0, ada.port, temporary=True), JoinSummary("", dials=True, notify=told.append))
    assert told == []


async def test_who_calls_nobody_has_not_come_anywhere() -> None:
    assert JoinSummary("", dials=False).finished


async def test_who_calls_us_meanwhile_does_come() -> None:
    arrival = JoinSummary("", dials=True)
    arrival.on_event(Link(endpoint="", state="up", reason=""))
    assert not arrival.in_progress and not arrival.finished
    arrival.on_event(Link(endpoint="127.0.0.1:8080", state="up", reason=""))
    assert arrival.in_progress
    arrival.close()
    assert arrival.finished and not arrival.in_progress
