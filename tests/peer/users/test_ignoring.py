"""Whom the own user does not want to hear of: kept by key, told to programs that ask, and nothing else is different."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pchat import Message, Presence, Settings, TCPPeer, UnknownName, open_history
from p2pchat.testing import Mesh


async def test_a_program_is_told_of_them_unless_it_asks_not_to_be(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.ignore("bob")
    async with ada.events(consumer=None) as all_, ada.events(consumer=None, ignored=False) as shown:
        receipt = await bob.broadcast("look at me")
        await bob.send("ada", "look at me!")
        bob.set_presence("idle", "sulking")
        await cyd.broadcast("hello")
        await receipt.delivered(timeout=20)  # kept, and acknowledged
        async with asyncio.timeout(20):
            while not isinstance(await anext(all_), Presence):
                pass
            first = await anext(shown)
    assert isinstance(first, Message) and (first.sender.name, first.text) == ("cyd", "hello")
    assert [(post.text, post.sender.ignored) for post in await ada.history("room")] == [
        ("look at me", True),
        ("hello", False),
    ]


async def test_it_goes_by_key_over_names_and_restarts_until_it_is_ended(tmp_path: Path) -> None:
    quick = Settings(start_timeout=0.0)
    async with TCPPeer(0, data=tmp_path / "bob", name="bob", settings=quick) as bob:
        stranger = bob.me.id
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=quick) as ada:
        assert (await ada.ignore(stranger)).id == stranger  # never met
        with pytest.raises(ValueError, match="own user"):
            await ada.ignore(ada.me)
        with pytest.raises(UnknownName):
            await ada.ignore("nobody")
    async with TCPPeer(0, data=tmp_path / "ada", settings=quick) as ada:
        async with TCPPeer(0, ada.endpoint, data=tmp_path / "bob", name="another", settings=quick) as bob:
            user = await ada.wait_user("another", timeout=20)
            assert user.ignored and ada.ignored() == [user] and ada.ignores(stranger) and not bob.ignores(ada.me.id)
        await ada.ignore(user)  # twice is once
        async with open_history(tmp_path / "ada") as history:
            assert history.ignores(stranger)
        await ada.unignore(user)
        assert not user.ignored and ada.ignored() == []
