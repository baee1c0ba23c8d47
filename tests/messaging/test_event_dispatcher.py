"""Events of users and links, and the places of consumers over restarts."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from p2pchat import Delivered, Joined, Link, Message, Sent, TCPPeer
from p2pchat.core.log import LogId
from p2pchat.runtime.connection_manager import dial_failure
from tests.deadlines import until
from tests.ports import free_ports


async def test_a_joining_user_is_new_once_and_has_an_address(home: Path) -> None:
    ada = TCPPeer(data=home / "ada", name="ada")
    joined, links = ada.events(Joined), ada.events(Link, consumer="links")
    async with ada:
        for first in (True, False):
            async with TCPPeer(0, ada.port, data=home / "bob", name="bob") as bob:
                came = await anext(joined)
                assert (came.user.name, came.first, came.address) == ("bob", first, "127.0.0.1")
                up = await anext(links)
                assert (up.state, up.endpoint, up.address, up.code) == ("up", "", "127.0.0.1", "")
            assert (await anext(links)).state == "down"
    for turn in range(2):
        async with TCPPeer(data=home / "ada") as ada:
            joined = ada.events(Joined)
            async with TCPPeer(0, ada.port, data=home / "bob") as bob:
                assert not (await anext(joined)).first, turn  # not after a restart either, though bob only read
                if turn == 0:
                    await (await bob.broadcast("hello")).delivered(timeout=60)


async def test_a_reader_without_an_address_is_new_once(home: Path) -> None:
    for turn in range(2):
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            joined = ada.events(Joined)
            async with TCPPeer(data=home / "gate", name="gate", listen=False) as gate:
                (await gate.host("bob")).set_presence("online")
                assert await gate.connect(ada.port)
                came = {(event := await anext(joined)).user.name: event.first for _ in range(2)}
                assert came == {"gate": turn == 0, "bob": turn == 0}
                people = ada._driver.node.replicator.people
                await until(lambda: all(people.has_profile(user.key) for user in ada.here()), "all have names")  # noqa: B023
                await (await ada.broadcast("hello")).delivered(timeout=60)


async def test_connect_succeeds_when_the_peer_has_dialled_first(home: Path) -> None:
    async with TCPPeer(temporary=True) as ada, TCPPeer(0, ada.port, temporary=True) as bob:
        assert await ada.connect(bob.endpoint, timeout=60)  # the other peer has dialled


async def test_a_failed_link_has_a_stable_code(home: Path) -> None:
    peer = TCPPeer(0, free_ports(1)[0], temporary=True)
    events = peer.events(Link)
    async with peer:
        assert (await anext(events)).code == "nobody"
        await peer.connect(peer.port)
        link = await anext(events)
        assert (link.state, link.code) == ("refused", "self")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError(), "no_answer"),
        (socket.gaierror(-2, "Name or service not known"), "no_name"),
        (ConnectionRefusedError(111, "Connection refused"), "nobody"),
        (OSError(113, "No route to host"), "no_way"),
        (OSError(5, "Input/output error"), "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_errors_of_a_dial_have_codes(error: Exception, code: str) -> None:
    reason, word = dial_failure(error)
    assert word == code and reason


async def with_receipt(peer: TCPPeer, log: LogId, *seqs: int) -> list[int]:
    """Return those of these entries that have a receipt event."""
    events = [Delivered(log=log, seq=seq, user=peer.me, count=1, of=1) for seq in seqs]
    return [event.seq for event in events if await peer._lifecycle.feed.complete(event) is not None]


async def test_receipts_of_an_earlier_run_are_for_messages_only(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        receipt = await ada.broadcast("hello")
        assert receipt.seq == 2  # entry 1 is the profile
        assert await with_receipt(ada, receipt.log, 2) == [2]
    async with TCPPeer(data=home / "ada") as ada:
        assert await with_receipt(ada, receipt.log, 1, 2) == [2]
    assert await with_receipt(ada, receipt.log, 1, 2) == []  # storage is closed: it is unknown which is a message


async def first_sent(peer: TCPPeer, text: str = "") -> str:
    """Open the events of a peer before it starts, and return the first text in them."""
    events = peer.events(Sent)
    await peer.start()
    if text:
        await peer.broadcast(text)
    async with asyncio.timeout(60):
        return (await anext(events)).text


async def test_a_program_killed_before_its_first_events_gets_what_was_delivered(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        bob = TCPPeer(0, ada.port, data=home / "bob", name="bob")
        await bob.start()
        await ada.wait_user("bob", timeout=60)
        await (await ada.send("bob", "the first")).delivered(timeout=60)
        await bob._lifecycle.kill()
        async with TCPPeer(0, ada.port, data=home / "bob") as bob, asyncio.timeout(60):
            await ada.send("bob", "the second")
            events = bob.events(Message)
            assert [(await anext(events)).text for _ in range(2)] == ["the first", "the second"]


async def test_a_new_consumer_that_crashes_gets_its_first_message_again(home: Path) -> None:
    peer = TCPPeer(data=home / "ada")
    assert await first_sent(peer, "hello") == "hello"
    await peer._lifecycle.kill()
    peer = TCPPeer(data=home / "ada")
    try:
        assert await first_sent(peer) == "hello"
    finally:
        await peer.aclose()


async def test_receipts_of_an_earlier_run_are_reported_while_the_peer_closes(home: Path) -> None:
    async with TCPPeer(data=home / "bob", name="bob") as bob, TCPPeer(0, bob.port, data=home / "ada") as ada:
        await ada.wait_user("bob", timeout=60)
    async with TCPPeer(data=home / "ada") as ada:
        ids = [(await ada.send("bob", text)).id for text in ("one", "two")]
    ada = TCPPeer(data=home / "ada")
    receipts = ada.events(Delivered)
    async with ada, TCPPeer(0, ada.port, data=home / "bob"):
        await (await ada.receipt(ids[-1])).delivered(timeout=60)  # it arrived, and its reader has not read it
    async with asyncio.timeout(60):
        assert [event.id async for event in receipts] == ids
