"""Where consumers stand over restarts, what readers are told of entries of earlier runs, and what when nobody can be
asked any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import Delivered, Sent, TCPPeer
from p2pchat.core.log import LogId


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


async def told(peer: TCPPeer, log: LogId, *seqs: int) -> list[int]:
    """Return of which of these entries a receipt is told."""
    events = [Delivered(log=log, seq=seq, user=peer.me, count=1, of=1) for seq in seqs]
    return [event.seq for event in await peer._feed.complete(events) if event is not None]


async def test_of_an_earlier_run_only_messages_are_told_as_delivered_also_while_the_peer_closes(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        receipt = await ada.broadcast("hello")
        assert receipt.seq == 2  # entry 1 says who writes
        assert await told(ada, receipt.log, 2) == [2]
    async with TCPPeer(data=home / "ada") as ada:
        assert await told(ada, receipt.log, 1, 2) == [2]
    assert await told(ada, receipt.log, 1, 2) == []  # storage is closed: nobody knows which is a message


async def test_receipts_of_an_earlier_run_that_wait_while_the_peer_leaves_are_still_told(home: Path) -> None:
    async with TCPPeer(data=home / "bob", name="bob") as bob, TCPPeer(0, bob.port, data=home / "ada") as ada:
        await ada.wait_user("bob", timeout=5)
    async with TCPPeer(data=home / "ada") as ada:
        ids = [(await ada.send("bob", text)).id for text in ("one", "two")]
    ada = TCPPeer(data=home / "ada")
    receipts = ada.events(Delivered)
    async with ada, TCPPeer(0, ada.port, data=home / "bob"):
        await (await ada.receipt(ids[-1])).delivered(timeout=5)  # heard, and its reader has not looked
    async with asyncio.timeout(5):
        assert [event.id async for event in receipts] == ids


async def first_sent(peer: TCPPeer, text: str = "") -> str:
    """Open the events of a peer before it starts, and return the first text in them."""
    events = peer.events(Sent)
    await peer.start()
    if text:
        await peer.broadcast(text)
    async with asyncio.timeout(5):
        return (await anext(events)).text


async def test_a_new_consumer_that_crashes_over_its_first_message_gets_it_again(home: Path) -> None:
    peer = TCPPeer(data=home / "ada")
    assert await first_sent(peer, "hello") == "hello"
    await peer._kill()
    peer = TCPPeer(data=home / "ada")
    try:
        assert await first_sent(peer) == "hello"
    finally:
        await peer.aclose()
