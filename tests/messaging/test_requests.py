"""Requests as programs see them: who waits, what an answer shows, and which conversations wait at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from p2pchat import Events, GroupChanged, Message, Requested
from p2pchat.testing import Mesh, mesh
from tests.deadlines import WAIT, within

T = TypeVar("T")


async def seen(events: Events[Any], kind: type[T], where: Callable[[T], object] = lambda _: True) -> T:
    """Return the next event of a kind."""
    async with within(WAIT, f"an event {kind.__name__}"):
        async for event in events:
            if isinstance(event, kind) and where(event):
                return event
    raise AssertionError("the peer was closed")


async def holds(events: Events[Any], condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true, looking again after each event."""
    async with within(WAIT, what):
        while not condition():
            await anext(events)


async def test_what_waits_is_shown_after_accept_and_counts_nowhere_before(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = ada.events()
    await ada.set_request_policy("known")
    await bob.send("ada", "hello")
    requested = await seen(events, Requested)
    assert (requested.user.name, requested.waits) == ("bob", True)
    [request] = ada.requests()
    assert (request.user.name, request.messages, request.group) == ("bob", 1, "")
    assert request.conversation not in ada.conversations()
    assert await ada.history("bob") == [] and await ada.search("hello") == []
    with pytest.raises(ValueError, match="ignore"):
        await ada.decline(request)
    assert (await ada.accept("bob")).name == "bob"
    message = await seen(events, Message)
    assert (message.text, message.conversation) == ("hello", request.conversation)
    assert ada.requests() == [] and [post.text for post in await ada.history("bob")] == ["hello"]
    await bob.send("ada", "again")
    assert (await seen(events, Message)).sender.name == "bob"


async def test_an_answer_accepts_too_and_ignored_users_are_not_listed(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    events = ada.events()
    await ada.set_request_policy("known")
    await bob.send("ada", "from bob")
    await cyd.send("ada", "from cyd")
    await holds(events, lambda: len(ada.requests()) == 2, "two requests")
    assert {request.user.name for request in ada.requests()} == {"bob", "cyd"}
    await ada.ignore("cyd")
    assert [request.user.name for request in ada.requests()] == ["bob"]
    await ada.send("bob", "yes?")
    assert (await seen(events, Message)).text == "from bob"
    assert ada.requests() == []


async def test_a_group_that_waits_comes_with_its_owner_and_never_after_decline(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    events = ada.events()
    await ada.set_request_policy("known")
    await bob.create_group("ops", ["ada"])
    await cyd.create_group("spam", ["ada"])
    await bob.broadcast("look")  # what comes before it has been handled
    await cyd.broadcast("look")
    await holds(events, lambda: len(ada.requests()) == 2, "two groups that wait")
    by_name = {request.group: request for request in ada.requests()}
    assert {name: one.user.name for name, one in by_name.items()} == {"ops": "bob", "spam": "cyd"}
    await ada.decline(by_name["spam"])
    assert [request.group for request in ada.requests()] == ["ops"]
    await ada.accept("cyd")
    await ada.accept("bob")
    added = await seen(events, GroupChanged, lambda one: one.group.name == "ops")
    assert added.group.is_member and ada.requests() == []
    assert [group.name for group in ada.groups()] == ["ops"]


async def test_the_policy_is_one_of_three_is_stored_and_all_shows_what_waits() -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        events = ada.events()
        assert ada.request_policy() == "few"
        with pytest.raises(ValueError, match="few, all, known"):
            await ada.set_request_policy("some")
        await ada.set_request_policy("known")
        await bob.send("ada", "hello")
        await seen(events, Requested)
        await net.crash(ada)
        ada = await net.restart(ada)
        events = ada.events()
        assert ada.request_policy() == "known" and [request.messages for request in ada.requests()] == [1]
        await ada.set_request_policy("all")
        assert (await seen(events, Message)).text == "hello" and ada.requests() == []


async def test_who_accepts_itself_is_told(net: Mesh) -> None:
    with pytest.raises(ValueError, match="own user"):
        await net.peers[0].accept("ada")
