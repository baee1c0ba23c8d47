"""What users tell of themselves, as programs see it: online, away, typing."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat import Message, PeerClosed, Presence, Settings, TCPPeer, Typing, UnknownName
from p2pchat.testing import Mesh, mesh

WITHIN = 1.0  # seconds in which a change is told; docs/protocol.md, "Receipts and presence"


async def test_a_change_is_told_to_all_within_a_second_with_its_text_and_since_when(net: Mesh) -> None:
    ada, *others = net.peers
    heard = [other.events(Presence, consumer=None) for other in others]
    loop = asyncio.get_running_loop()
    began = loop.time()
    ada.set_presence("idle", "lunch")
    for other, events in zip(others, heard, strict=True):
        event = await anext(events)
        assert (event.user, event.status, event.text) == (ada.me, "idle", "lunch")
        assert (event.user.status, event.user.status_text, event.user.since) == ("idle", "lunch", event.since)
        assert other.me.status == "online"
    assert loop.time() - began < WITHIN
    assert ada.me.status == "idle"
    ada.set_presence("online")
    ada.set_presence("idle", "gone home")  # the newest counts, and comes as soon
    for events in heard:
        async with asyncio.timeout(2 * WITHIN):
            async for event in events:
                if event.text == "gone home":
                    break


async def test_everybody_is_online_since_they_started(net: Mesh) -> None:
    ada, bob, _ = net.peers
    assert bob.me.since is not None and ada.user("bob").since == bob.me.since
    assert abs((bob.me.since - bob.listening.at).total_seconds()) < 10


async def test_who_is_away_is_here_and_who_says_to_be_offline_is_not(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    assert {user.key for user in cyd.here()} == {peer.me.key for peer in net.peers}
    events = cyd.events(Presence, consumer=None)
    ada.set_presence("idle", "lunch")
    assert (await anext(events)).user == ada.me
    bob.set_presence("offline")
    assert (await anext(events)).user == bob.me
    assert set(cyd.here()) == {ada.me, cyd.me} and bob.me not in bob.here()


async def typing(events: object) -> tuple[str, str, bool]:
    async with asyncio.timeout(10):
        event = await anext(events)  # type: ignore[call-overload]
    return event.user.name, event.conversation.name, event.typing


async def test_who_types_is_told_to_those_who_can_read_it_and_ends_with_the_message(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    to_bob, to_cyd = bob.events(Typing, consumer=None), cyd.events(Typing, consumer=None)
    ada.typing("bob")
    assert await typing(to_bob) == ("ada", "ada", True)
    heard = bob.events(Message, consumer=None)
    await ada.send("bob", "psst")
    assert (await anext(heard)).text == "psst"
    assert await typing(to_bob) == ("ada", "ada", False)
    ada.room.typing()
    assert await typing(to_cyd) == ("ada", "room", True)  # and nothing before: a direct one is nobody else's


async def test_in_a_group_its_members_hear_who_types_and_who_was_removed_does_not(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    await (await ops.send("welcome")).delivered(timeout=20)
    to_bob, to_cyd = bob.events(Typing, consumer=None), cyd.events(Typing, consumer=None)
    ops.typing()
    assert await typing(to_bob) == await typing(to_cyd) == ("ada", "ops", True)
    await ops.remove(cyd.me)
    await (await ops.send("between us")).delivered(by="bob", timeout=20)
    assert await typing(to_bob) == ("ada", "ops", False)
    bob.find("#ops").typing()
    bob.typing("cyd")
    while (heard := await typing(to_cyd)) == ("ada", "ops", False):
        pass  # the end of what it heard as a member
    assert heard == ("bob", "bob", True)  # and nothing before


async def test_who_stops_is_told_to_have_stopped() -> None:
    async with mesh("ada", "bob", settings=Settings(typing_every=0.1)) as net:
        ada, bob = net.peers
        events = bob.events(Typing, consumer=None)
        ada.find("bob").typing()
        assert await typing(events) == ("ada", "ada", True)
        ada.typing("bob", on=False)
        assert await typing(events) == ("ada", "ada", False)


async def test_nobody_types_to_nobody_or_from_a_peer_that_is_closed(net: Mesh) -> None:
    ada: TCPPeer = net.peers[0]
    with pytest.raises(UnknownName):
        ada.typing("nobody")
    await ada.aclose()
    with pytest.raises(PeerClosed):
        ada.typing("bob")
