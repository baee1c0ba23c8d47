"""Users: names over time, presence, ignored and blocked users."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import (
    Left,
    Message,
    Renamed,
    Settings,
    TCPPeer,
    UnknownName,
    Warned,
    open_history,
)
from p2pchat.core import own_state
from p2pchat.core.contacts import CONTACT
from p2pchat.core.names import base32
from p2pchat.testing import Mesh
from tests.messaging.texts import texts


async def test_user_begins_no_conversation(net: Mesh) -> None:
    ada, bob, _ = net.peers
    for typed in ("@bob", "bob", f"bob#{bob.me.id[:8]}", bob.me.id):
        assert ada.user(typed) == bob.me
    assert [conversation.name for conversation in ada.conversations()] == ["room"]
    with pytest.raises(UnknownName):
        ada.user("room")


async def test_a_new_name_is_known_everywhere_and_stored(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.broadcast("hello")
    async with ada.events(Renamed, consumer=None) as events:
        await bob.rename("robert")
        robert = await ada.wait_user("robert", timeout=60)
        told = await anext(events)
    assert robert == bob.me == told.user
    assert (told.name, told.before, told.former) == ("robert", "bob", "bob")
    await net.settle()
    assert [m.sender.label for m in await ada.history("room")] == ["robert"]
    with pytest.raises(ValueError):
        await bob.rename("no#good")


async def test_a_user_who_left_is_known_and_can_be_written_to(net: Mesh) -> None:
    """A known user need not be online."""
    ada, bob, cyd = net.peers
    key = bob.me.id
    dm = ada.find("bob")
    await net.crash(bob)
    await ada.wait_for(Left, timeout=60)
    assert [user.label for user in ada.users()] == ["ada", "bob", "cyd"]
    assert ada.find("bob") == dm
    assert [(user.id, user.status) for user in ada.users() if user.name == "bob"] == [(key, "offline")]
    receipt = await ada.send("bob", "when you are back")
    again = await net.restart(bob)
    await receipt.delivered(timeout=60)
    assert await texts(again, "ada") == ["when you are back"]
    assert [user.label for user in cyd.users()] == ["ada", "bob", "cyd"]


async def test_writing_to_oneself_is_a_conversation_too(ada: TCPPeer) -> None:
    await ada.send(ada.me, "a note")
    assert await texts(ada, "ada") == ["a note"]


async def test_wait_user_waits_until_the_user_is_online(net: Mesh, ada: TCPPeer) -> None:
    waiting = asyncio.create_task(ada.wait_user("dan", timeout=60))
    dan = await net.add("dan")
    assert await waiting == dan.me
    with pytest.raises(TimeoutError):
        await ada.wait_user("eve", timeout=0.02)


async def test_a_renamed_user_has_the_new_name_everywhere_and_former_names(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await bob.broadcast("hello")
    await bob.rename("robert", about="on call")
    await net.settle()
    bob = await restarted(net, bob)  # a start that repeats its name renames nobody
    await bob.rename("rob")  # before the first message of this run
    await net.settle()
    await bob.aclose()
    dan = await net.add("dan")  # comes after the writer left
    await net.settle()
    for peer in (ada, cyd, dan):
        assert [post.sender.label for post in await peer.history("room")] == ["rob"]
        user = peer.user("rob")
        known = await peer.whois("rob")
        assert (user.about, known.user.names_before) == ("on call", ("robert", "bob"))
        assert known.known_since is not None
    assert [(host.linked, bool(host.endpoints)) for host in (await ada.whois("rob")).hosts] == [(False, True)]
    await dan.rename("daniel")  # without a message in any run
    await net.settle()
    assert ada.user("daniel").names_before == ("dan",)
    cyd = await restarted(net, cyd)
    assert cyd.user("daniel").names_before == ("dan",)
    assert cyd.user("rob").names_before == ("robert", "bob")
    assert cyd.user("rob").about == "on call"


async def test_taking_the_former_name_of_another_user_causes_a_warning(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await bob.broadcast("hello")
    await bob.rename("robert")
    await net.settle()
    ada = await restarted(net, ada)
    async with ada.events(Warned, consumer=None) as warnings:
        await cyd.rename("bob")
        async with asyncio.timeout(60):
            told = await anext(warnings)
    assert (told.code, told.about) == ("name", cyd.me.id)


async def test_whois_of_oneself_and_of_a_user_never_met(net: Mesh) -> None:
    ada, bob, _ = net.peers
    me = await ada.whois(ada.me)
    assert (me.user.names_before, me.hosts[0].id) == ((), ada.me.id)
    there = (await ada.whois("bob")).hosts
    assert [(host.id, host.linked) for host in there] == [(bob.me.id, True)]
    nobody = await ada.whois("A" * 51 + "Q")
    assert (nobody.user.name, nobody.hosts, nobody.known_since) == ("", (), None)
    with pytest.raises(UnknownName):
        await ada.whois("nobody")
    with pytest.raises(ValueError, match="512"):
        await ada.rename("ada", about="x" * 513)


async def restarted(net: Mesh, peer: TCPPeer) -> TCPPeer:
    await peer.aclose()
    peer = await net.restart(peer)
    await net.settle()
    return peer


async def test_a_user_is_ignored_by_key_over_renames_and_restarts(tmp_path: Path) -> None:
    quick = Settings(start_timeout=0.0)
    async with TCPPeer(0, data=tmp_path / "bob", name="bob", settings=quick) as bob:
        stranger = bob.me.id
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=quick) as ada:
        await ada.broadcast("so that the room is stored")
        assert (await ada.ignore(stranger)).id == stranger  # never met
        with pytest.raises(ValueError, match="own user"):
            await ada.ignore(ada.me)
        with pytest.raises(UnknownName):
            await ada.ignore("nobody")
    async with TCPPeer(0, data=tmp_path / "ada", settings=quick) as ada:
        async with TCPPeer(0, ada.endpoint, data=tmp_path / "bob", name="another", settings=quick) as bob:
            user = await ada.wait_user("another", timeout=60)
            assert user.ignored and ada.ignored() == [user] and ada.ignores(stranger) and not bob.ignores(ada.me.id)
        await ada.ignore(user)  # a second call changes nothing
        async with open_history(tmp_path / "ada") as history:
            assert history.ignores(stranger)
            assert [one.name for one in history.conversations()] == ["room"]  # own state is in none
        await ada.unignore(user)
        assert not user.ignored and ada.ignored() == []


async def test_a_user_is_blocked_by_key_over_restarts_and_is_hidden(tmp_path: Path) -> None:
    quick = Settings(start_timeout=0.0)
    async with TCPPeer(0, data=tmp_path / "bob", name="bob", settings=quick) as bob:
        stranger = bob.me.id
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=quick) as ada:
        assert (await ada.block(stranger)).id == stranger  # never met
        with pytest.raises(ValueError, match="cannot block yourself"):
            await ada.block(ada.me)
        with pytest.raises(UnknownName):
            await ada.block("nobody")
        await ada.host("zoe")
        with pytest.raises(ValueError, match="can be ignored, not blocked"):
            await ada.block("zoe")
    async with TCPPeer(0, data=tmp_path / "ada", settings=quick) as ada:
        async with TCPPeer(0, ada.endpoint, data=tmp_path / "bob", settings=quick) as bob:
            assert ada.links() == [] and [user.id for user in ada.blocked()] == [stranger]
            await bob.broadcast("hello")
        (user,) = ada.blocked()
        assert user.blocked and user.ignored and ada.ignored() == [] and ada.ignores(stranger)
        await ada.block(user)  # a second call changes nothing
        async with open_history(tmp_path / "ada") as history:
            assert history.ignores(stranger)
            assert history.conversations() == [history.room]  # own state is in none
        await ada.unblock(user)
        assert not (user.blocked or user.ignored) and ada.blocked() == []
        async with TCPPeer(0, ada.endpoint, data=tmp_path / "bob", settings=quick) as bob:
            await ada.wait_for(Message, where=lambda message: message.text == "hello", timeout=60)


async def test_of_too_many_choices_the_oldest_gives_way(ada: TCPPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_state, "MAX_KEYS", 1)
    await ada.block("bob")
    await ada.ignore("bob")
    for number in range(8):
        await ada.block(base32(f"{number:064x}"))
    await ada.block("cyd")
    names = [user.name for user in ada.blocked()]
    assert "cyd" in names and "bob" not in names
    assert [user.name for user in ada.ignored()] == ["bob"]


async def test_messages_of_a_blocked_user_are_unread_when_the_block_ends(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await bob.broadcast("before")
    await net.settle()
    assert [post.text for post in await ada.unread("room")] == ["before"]
    async with ada.events(Left, consumer=None) as events:
        await ada.block("bob")
        assert (await anext(events)).user == bob.me
    assert await ada.unread("room") == []
    receipt = await bob.broadcast("meanwhile")
    await receipt.delivered(by="cyd", timeout=60)
    seen = await cyd.broadcast("and then")
    await seen.delivered(by="ada", timeout=60)
    assert [post.text for post in await ada.history("room") if post.sender == bob.me] == ["before"]
    assert ada.user("bob").status != "online"
    async with ada.events(Message, consumer=None) as messages:
        await ada.unblock("bob")
        async with asyncio.timeout(60):
            assert (await anext(messages)).text == "meanwhile"
    assert sorted(post.text for post in await ada.unread("room")) == ["and then", "before", "meanwhile"]


async def test_who_is_allowed_everything_is_a_contact_as_soon_as_that_is_stored(ada: TCPPeer) -> None:
    """A kill right behind it must not leave a person without limits who is still a stranger."""
    stranger = await ada.allow(base32("ab" * 32))
    assert f"{CONTACT}{stranger.key}" in ada._require_running().disk.storage.load([ada.me.key]).meta
