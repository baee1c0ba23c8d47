"""Conversations that somebody new began, as programs see them: what is told, what is new, and what has no place."""

from __future__ import annotations

from typing import Any, TypeVar

from p2pchat import Events, Message, NewConversation, Settings, UnansweredConversation
from p2pchat.testing import Mesh, mesh
from tests.deadlines import WAIT, until, within

T = TypeVar("T")


async def seen(events: Events[Any], kind: type[T]) -> T:
    """Return the next event of a kind."""
    async with within(WAIT, f"an event {kind.__name__}"):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError("the peer was closed")


async def test_a_first_message_is_told_and_shown_and_new_until_it_is_read() -> None:
    async with mesh("ada", "bob", "cyd", logins=True) as net:
        _, bob, cyd = net.peers
        events = bob.events()
        receipt = await cyd.send("bob", "hello")
        begun = await seen(events, NewConversation)
        assert (begun.user.name, begun.admitted_by and begun.admitted_by.name) == ("cyd", "ada")
        line = begun.to_dict()
        assert [line[name] for name in ("event", "conversation", "user", "admitted_by")] == [
            "begun", "cyd", "cyd", "ada"
        ]  # fmt: skip
        message = await seen(events, Message)
        assert message.text == "hello" and [one.text for one in await bob.unread("cyd")] == ["hello"]
        there = begun.conversation
        assert there in bob.conversations() and bob.is_new(there)
        assert bob.unanswered() == [UnansweredConversation(there, begun.user, begun.admitted_by, is_new=True)]
        await bob.mark_read_durably(message)
        await receipt.read(timeout=WAIT)  # who opens it says so
        assert not bob.is_new(there)
        assert [(one.user.name, one.is_new) for one in bob.unanswered()] == [("cyd", False)]
        await bob.send("cyd", "hi")
        assert bob.unanswered() == []


async def test_ignored_users_and_contacts_are_not_listed(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.add_contact("cyd")
    for peer in (bob, cyd):
        await (await peer.send("ada", "hello")).delivered(timeout=WAIT)
    assert [(one.user.name, one.admitted_by) for one in ada.unanswered()] == [("bob", None)]
    await ada.ignore("bob")
    assert ada.unanswered() == []


async def test_a_group_is_told_and_listed_with_its_owner(net: Mesh) -> None:
    ada, bob, _ = net.peers
    events = ada.events()
    await bob.create_group("ops", ["ada"])
    begun = await seen(events, NewConversation)
    assert (begun.user.name, begun.conversation.name, begun.conversation.kind) == ("bob", "ops", "group")
    assert [one.conversation for one in ada.unanswered()] == [begun.conversation] and ada.is_new(begun.conversation)
    await ada.send("#ops", "hello")
    assert ada.unanswered() == []


async def test_what_has_no_place_is_listed_and_comes_once_it_is_answered() -> None:
    async with mesh("ada", "bob", settings=Settings(max_unanswered=0, max_unanswered_groups=0)) as net:
        ada, bob = net.peers
        receipt = await bob.send("ada", "hello")
        await bob.create_group("ops", ["ada"])
        await until(lambda: len(ada.unanswered()) == 2, "both are listed")
        found = {one.group: one for one in ada.unanswered()}
        assert {(one.user.name, one.has_place) for one in found.values()} == {("bob", False)} and {*found} == {
            "",
            "ops",
        }
        assert [one.kind for one in ada.conversations()] == ["room"] and receipt.status == "accepted"
        await ada.send("bob", "who are you?")
        await receipt.delivered(timeout=WAIT)
        assert [one.text for one in await ada.history("bob")] == ["hello", "who are you?"]
        await until(lambda: [one.name for one in ada.groups()] == ["ops"] and not ada.unanswered(), "the group came")
