"""What is unread, by the read marks a user has set."""

from __future__ import annotations

from p2pchat.testing import Mesh


async def test_what_others_wrote_is_unread_until_it_is_marked_and_stays_so_over_restarts(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    for text in ("one", "two", "three"):
        await ada.send("bob", text)
    await bob.send("ada", "my own is not")
    await net.settle()
    unread = await bob.unread("ada")
    assert [message.text for message in unread] == ["one", "two", "three"]
    unread[1].mark_read()
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three"]
    for peer in (ada, bob):
        await peer.aclose()
        await net.restart(peer)
    ada, bob, cyd = net.peers
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three"]
    await ada.send("bob", "four, in another run of its writer")
    await net.settle()
    assert [message.text for message in await bob.unread("ada")] == ["three", "four, in another run of its writer"]
    (await bob.unread("ada"))[-1].mark_read()
    await net.settle()
    assert await bob.unread("ada") == [] == await cyd.unread("room")


async def test_who_is_ignored_has_nothing_unread(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("noise")
    await net.settle()
    assert len(await bob.unread("room")) == 1
    await bob.ignore("ada")
    assert await bob.unread("room") == []


async def test_what_was_said_before_a_user_was_hosted_is_nobodys_news(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("before")
    await net.settle()
    zoe = await bob.host("zoe")
    await ada.broadcast("after")
    await net.settle()
    assert [message.text for message in await zoe.unread("room")] == ["after"]
