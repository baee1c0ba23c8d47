"""Hosted users: each is a user of its own, with conversations that the others do not see."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2pchat import (
    AmbiguousName,
    Delivered,
    GroupChanged,
    HostedUser,
    Joined,
    Left,
    Message,
    P2PChatError,
    PeerClosed,
    Presence,
    Read,
    Renamed,
    Sent,
    Settings,
    TCPPeer,
    Typing,
    UnknownName,
    open_history,
)
from p2pchat.testing import Log, Mesh, check, mesh
from p2pchat.testing.meshes import QUICK
from tests.deadlines import WAIT


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh("gate", "bob") as net:
        yield net


async def host_two(net: Mesh) -> tuple[TCPPeer, TCPPeer, HostedUser, HostedUser]:
    """Return the gateway and bob, and two users whom the gateway hosts."""
    gate, bob = net.peers
    return gate, bob, await gate.host("zoe"), await gate.host("yan")


async def test_a_hosted_user_is_a_user_of_its_own(net: Mesh) -> None:
    gate, bob = net.peers
    zoe = await gate.host("zoe")
    assert (zoe.me.name, zoe.me.status, zoe.me.is_me, gate.user("zoe").is_me) == ("zoe", "offline", True, False)
    assert zoe.key == zoe.me.key != gate.me.key and len(zoe.secret) == 32 and "secret" not in repr(zoe)
    assert gate.hosted == [zoe] and await gate.host("zoe") is zoe
    zoe.set_presence("online")
    seen = await bob.wait_user("zoe", timeout=WAIT)
    assert seen.key == zoe.key
    events = bob.events(Message)
    receipt = await zoe.send("bob", "psst")
    got = await anext(events)
    assert (got.text, got.sender.name) == ("psst", "zoe")
    await receipt.delivered(timeout=WAIT)
    back = zoe.events(Message)
    await got.reply("who is there?")
    answer = await asyncio.wait_for(anext(back), WAIT)
    assert (answer.text, answer.conversation.address) == ("who is there?", "@bob")


async def test_a_direct_conversation_is_hidden_from_other_hosted_users(net: Mesh) -> None:
    gate, _, zoe, yan = await host_two(net)
    mallory = await gate.host("mallory")
    receipt = await zoe.send("yan", "a secret word")
    await receipt.delivered(timeout=WAIT)  # on one disk: delivered at once
    assert [user.name for user in receipt.delivered_to] == ["yan"]
    await yan.send("bob", "another secret word")
    await zoe.broadcast("for all of you")
    await net.settle()
    assert [post.text for post in await yan.history()] == ["a secret word", "another secret word", "for all of you"]
    assert [type(post) for post in await yan.history()] == [Message, Sent, Message]
    for other in (gate, mallory):
        assert [post.text for post in await other.history()] == ["for all of you"]
        assert await other.search("secret") == []
        assert (
            [talk.kind for talk in other.conversations()]
            == ["room"]
            == [talk.kind for talk in other.recent_conversations()]
        )
        with pytest.raises(UnknownName):
            await other.message(receipt.id)
        with pytest.raises(UnknownName):
            other.find(zoe.find("yan").id)
        assert await other.history(zoe.find("yan")) == []
        assert [post.text for post in await other.released(limit=9)] == ["for all of you"]
    assert [post.text for post in await zoe.search("secret")] == ["a secret word"]


async def test_each_hosted_user_reads_its_own_events(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    own, hers, his = gate.events(consumer=None), zoe.events(Message, Sent), yan.events(Message, Sent)
    await zoe.send("yan", "psst")
    await bob.broadcast("hello")
    await net.settle()
    await gate.broadcast("welcome")
    assert [(type(one), one.text) for one in [await anext(hers) for _ in range(3)]] == [
        (Sent, "psst"), (Message, "hello"), (Message, "welcome"),
    ]  # fmt: skip
    assert [(type(one), one.text) for one in [await anext(his) for _ in range(3)]] == [
        (Message, "psst"), (Message, "hello"), (Message, "welcome"),
    ]  # fmt: skip
    while not isinstance(one := await asyncio.wait_for(anext(own), WAIT), Sent):
        assert getattr(one, "text", "hello") == "hello" and one.event != "delivered"


async def test_users_of_one_peer_see_presence_typing_and_read_receipts(net: Mesh) -> None:
    _, _, zoe, yan = await host_two(net)
    seen = yan.events(Joined, Left, Presence, Typing, consumer=None)
    zoe.set_presence("online", "here")
    assert (await anext(seen)).to_dict()["user"] == "zoe"
    event = await anext(seen)
    assert isinstance(event, Presence) and (event.status, event.text) == ("online", "here")
    assert yan.user("zoe") in yan.here()
    zoe.typing("yan")
    typing = await asyncio.wait_for(anext(seen), WAIT)
    assert isinstance(typing, Typing) and typing.typing and typing.user == zoe.me
    assert typing.conversation == yan.find("zoe")
    messages = yan.events(Message, consumer=None)
    receipt = await zoe.send("yan", "psst")
    assert isinstance(stopped := await anext(seen), Typing) and not stopped.typing
    (await anext(messages)).mark_read()
    await receipt.read(by="yan", timeout=WAIT)
    zoe.set_presence("offline")
    assert isinstance(await anext(seen), Left)


async def test_a_gateway_reads_each_event_once_for_all_users(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    everybody = gate.hosting.everybody(Message, Sent)
    await net.settle()
    await bob.send("zoe", "hello zoe")
    await gate.send("bob", "nothing for them")
    await zoe.send("yan", "psst")
    await yan.broadcast("everybody!")
    found = {}
    for _ in range(3):
        event, users = await asyncio.wait_for(anext(everybody), WAIT)
        assert isinstance(event, Message | Sent)
        found[event.text] = (type(event), users)
        post = zoe.post(event)
        assert (type(post), post.viewer) == (Sent if event.text == "psst" else Message, zoe)
    assert found == {
        "hello zoe": (Message, (zoe.key,)),
        "psst": (Sent, tuple(sorted((zoe.key, yan.key)))),
        "everybody!": (Sent, None),
    }


async def test_a_message_to_the_room_is_delivered_to_whom_a_gateway_hosted_when_it_was_written(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    for guest in (zoe, yan):
        guest.set_presence("online")
    await bob.wait_user("yan", timeout=WAIT)
    await bob.wait_user("zoe", timeout=WAIT)
    updates = bob.events(Delivered, consumer=None)
    receipt = await bob.broadcast("hello, all of you")
    await receipt.delivered(by="zoe", timeout=WAIT)
    await receipt.delivered(timeout=WAIT)
    assert sorted(user.name for user in receipt.of) == ["gate", "yan", "zoe"]
    update = await asyncio.wait_for(anext(updates), WAIT)
    assert (update.user.name, update.count, update.of) == ("gate", 3, 3)
    await gate.unhost(yan)
    xi = await gate.host("xi")
    xi.set_presence("online")
    await bob.wait_user("xi", timeout=WAIT)
    await net.settle()
    assert {user.key for user in receipt.delivered_to} == {gate.me.key, zoe.key, yan.key, xi.key}
    assert receipt.status == "delivered" and bob.user("xi") in receipt.delivered_to
    await gate.unhost(xi)
    await net.settle()
    assert {user.key for user in receipt.delivered_to} == {gate.me.key, zoe.key, yan.key}
    assert receipt.status == "delivered"


async def test_a_delivery_says_whether_a_gateway_has_the_message_for_its_receiver(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    updates = bob.events(Delivered, consumer=None)
    await net.settle()
    for to in (gate, zoe):
        await bob.send(bob.user(to.me.id), "for you")
    told = [(await asyncio.wait_for(anext(updates), WAIT)).to_dict() for _ in range(2)]
    assert {line["user"]: line.get("at_gateway", False) for line in told} == {
        "gate": False,
        "zoe": True,
    }  # in any order
    updates = zoe.events(Delivered, consumer=None)
    await zoe.send(yan.me, "from the same gateway")
    assert not (await asyncio.wait_for(anext(updates), WAIT)).at_gateway


async def test_a_message_to_the_room_is_delivered_to_all_of_one_peer_at_once(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    xi = await gate.host("xi")
    for user in (zoe, yan, xi):
        user.set_presence("online")
    for user in (zoe, yan, xi):
        await bob.wait_user(user.name, timeout=WAIT)
    hers = zoe.events(Delivered, consumer=None)
    receipt = await zoe.broadcast("hello, everybody")
    await receipt.delivered(timeout=WAIT)
    assert sorted(user.name for user in receipt.of) == ["bob", "gate", "xi", "yan"]
    assert receipt.status == "delivered" and receipt.missing == []
    assert sorted(user.name for user in receipt.delivered_to) == ["bob", "gate", "xi", "yan"]
    counts = [(event.count, event.of) for event in [await asyncio.wait_for(anext(hers), WAIT) for _ in range(2)]]
    assert counts == [(3, 4), (4, 4)]  # the users of this peer together, and bob
    his = bob.events(Delivered, consumer=None)
    theirs = await bob.broadcast("hello, all of you")
    await theirs.delivered(timeout=WAIT)
    event = await asyncio.wait_for(anext(his), WAIT)
    assert (event.count, event.of) == (4, 4)  # they got it together
    note = await yan.send("yan", "to myself")
    await note.delivered(timeout=WAIT)
    assert [user.name for user in note.of] == ["yan"]


async def test_a_program_hosts_users_under_keys_of_its_own(net: Mesh) -> None:
    gate = net.peers[0]
    zoe = await gate.host("zoe")
    others = {key: await gate.host(key, name="zoe") for key in ("ZOE", "42", "zoe@example.org", "#/,@ \0", "é" * 64)}
    assert len({user.key for user in gate.hosted}) == 6 and {user.name for user in gate.hosted} == {"zoe"}
    for key, user in others.items():
        assert gate.hosted_user(key) is user is await gate.host(key) and user.hosted_as == key
    assert (zoe.hosted_as, gate.hosted_user("zoe"), gate.hosted_user("Zoe")) == ("zoe", zoe, None)
    for key in ("", "é" * 64 + "x", "\ud800"):
        with pytest.raises(ValueError):
            await gate.host(key, name="yan")
    with pytest.raises(ValueError, match="other meanings"):
        await gate.host("yan@example.org")  # the key is the name, too
    with pytest.raises(TypeError):
        await gate.host(42, name="yan")  # type: ignore[arg-type]
    assert len(gate.hosted) == 6


async def test_who_asks_for_a_name_that_two_users_have_is_asked_which(net: Mesh) -> None:
    gate, bob = net.peers
    one, other = await gate.host("1", name="Max Miller"), await gate.host("2", name="max miller")
    assert [user.me.label for user in (one, other)] == [f"{user.name}#{user.me.id[:8]}" for user in (one, other)]
    for user in (one, other):
        user.set_presence("online")
        await bob.wait_user(user.me.id, timeout=WAIT)
    for peer in (gate, bob):
        with pytest.raises(AmbiguousName) as asked:
            peer.find("Max Miller")
        assert asked.value.candidates == sorted(user.me.label for user in (one, other))
    events = one.events(Message)
    await (await bob.send(other.me.label, "to the other")).delivered(timeout=WAIT)
    await bob.send(one.me.label, "to the one")
    assert (await asyncio.wait_for(anext(events), WAIT)).text == "to the one"
    assert [post.text for post in await other.history("bob")] == ["to the other"]
    await other.rename("Max")
    assert (one.me.label, other.me.label, gate.hosted_user("2")) == ("Max Miller", "Max", other)
    await other.rename("gate")
    assert gate.me.label.startswith("gate#") and other.me.label.startswith("gate#")  # also of the peer's own user


async def test_a_key_stays_with_its_user_until_it_is_unhosted(net: Mesh) -> None:
    gate = net.peers[0]
    zoe, yan = await gate.host("1", name="zoe"), await gate.host("2", name="zoe")
    await zoe.rename("zora")
    await gate.hosting.set_tokens(yan, {b"2" * 32: ""})
    gate = await net.restart(gate)
    assert [(user.hosted_as, user.key, user.name) for user in gate.hosted] == [
        ("1", zoe.key, "zora"), ("2", yan.key, "zoe"),
    ]  # fmt: skip
    again = await gate.host("1", name="zoe")
    assert (again.key, again.name) == (zoe.key, "zora")
    await gate.unhost(again)
    assert gate.hosted_user("1") is None and await gate.hosting.tokens() == {yan.key: {b"2" * 32: ""}}
    assert (await gate.host("1", name="zoe")).key != zoe.key


async def test_two_users_of_one_name_are_two_in_an_export_and_to_the_checker(net: Mesh, tmp_path: Path) -> None:
    gate, bob = net.peers
    users = [await gate.host(key, name="Max Miller") for key in "12"]
    net.partition([gate], [bob])
    for user in users:
        await user.broadcast(f"of {user.hosted_as}")
    await gate.export(tmp_path / "exported")
    await bob.import_from(tmp_path / "exported")
    found = await bob.history()
    assert {post.sender.key: post.text for post in found} == {user.key: f"of {user.hosted_as}" for user in users}
    logs = [Log.parse("bob", "".join(f"{post.to_json()}\n" for post in found).encode())]
    for user in users:
        lines = [f"{post.to_json()}\n" for post in await user.history()]
        logs.append(Log.parse(user.hosted_as, "".join(lines).encode()))
    assert check(logs) == [] and len({log.user_id for log in logs}) == 3
    logs[1].lines[0]["sender_id"] = users[1].me.id  # as if the other one had written it
    assert check(logs) != []


async def test_a_user_has_one_key_and_one_secret(net: Mesh) -> None:
    gate = net.peers[0]
    zoe = await gate.host("1", name="zoe")
    assert await gate.host("1", secret=zoe.secret) is zoe
    with pytest.raises(P2PChatError, match="another secret"):
        await gate.host("1", secret=b"x" * 32)
    with pytest.raises(P2PChatError, match="another key"):
        await gate.host("2", secret=zoe.secret)
    assert gate.hosted == [zoe]


async def test_users_are_hosted_again_after_a_restart(net: Mesh) -> None:
    gate, _, zoe, yan = await host_two(net)
    zoe.set_presence("online")
    await yan.ignore("bob")
    receipt = await zoe.send("yan", "psst")
    await net.settle()
    await gate.aclose()
    gate = await net.restart(gate)
    zoe_again, yan_again = gate.hosted
    assert (zoe_again.key, zoe_again.secret, zoe_again.me.name) == (zoe.key, zoe.secret, "zoe")
    assert zoe_again.me.status == "offline"
    assert [post.text for post in await yan_again.history("zoe")] == ["psst"]
    assert [user.name for user in yan_again.ignored()] == ["bob"] and gate.ignored() == zoe_again.ignored() == []
    again = await zoe_again.receipt(receipt.id)
    assert [user.name for user in again.delivered_to] == ["yan"]
    assert [post.text for post in await yan_again.released(consumer="page")] == ["psst"]


async def test_a_hosted_user_blocks_for_itself_alone(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    zoe.set_presence("online")
    yan.set_presence("online")
    await bob.wait_user("zoe", timeout=WAIT)
    await bob.wait_user("yan", timeout=WAIT)
    await yan.block("bob")
    await (await bob.broadcast("to all")).delivered(timeout=WAIT)
    await (await bob.send("zoe", "to zoe")).delivered(timeout=WAIT)
    refused = await bob.send("yan", "to yan")
    await net.settle()
    assert refused.status == "accepted" and await yan.history("bob") == []
    assert [user.name for user in yan.blocked()] == ["bob"] and gate.blocked() == zoe.blocked() == []
    assert yan.user("bob").ignored and not zoe.user("bob").ignored and await yan.unread("room") == []
    await gate.aclose()
    gate = await net.restart(gate)
    yan = next(user for user in gate.hosted if user.me.name == "yan")
    assert [user.name for user in yan.blocked()] == ["bob"]
    await net.settle()
    assert refused.status == "accepted"
    await yan.unblock("bob")
    await refused.delivered(timeout=60)
    assert [post.text for post in await yan.history("bob")] == ["to yan"]


async def test_a_hosted_user_hides_another_one_that_it_blocks(net: Mesh) -> None:
    _, _, zoe, yan = await host_two(net)
    await yan.block("zoe")
    receipt = await zoe.send("yan", "psst")
    await net.settle()
    assert receipt.status == "delivered"  # one disk, which has it anyway
    assert yan.user("zoe").ignored and await yan.unread("zoe") == []


async def test_an_unhosted_user_is_closed(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    zoe.set_presence("online")
    await bob.wait_user("zoe", timeout=WAIT)
    await (await zoe.broadcast("goodbye")).delivered(timeout=WAIT)
    events = zoe.events(consumer=None)
    left = bob.events(Left)
    await gate.unhost(zoe)
    assert (await asyncio.wait_for(anext(left), WAIT)).user.key == zoe.key
    assert zoe not in gate.hosted and [one async for one in events] == []
    with pytest.raises(P2PChatError, match="no longer hosted"):
        await zoe.broadcast("is this on?")
    assert gate.hosted == [yan]
    assert [post.text for post in await yan.history("room")] == ["goodbye"]
    other = await gate.host("zoe")
    assert other.key != zoe.key


async def test_tokens_are_stored_with_a_user_and_deleted_with_it(net: Mesh) -> None:
    gate, _ = net.peers
    zoe = await gate.hosting.host("zoe", tokens={b"1" * 32: "first"})
    yan = await gate.host("yan")
    await gate.hosting.set_tokens(yan, {b"2" * 32: ""})
    assert await gate.hosting.tokens() == {zoe.key: {b"1" * 32: "first"}, yan.key: {b"2" * 32: ""}}
    await gate.hosting.set_tokens(zoe, {b"3" * 32: "second"})
    await gate.unhost(yan)
    assert await gate.hosting.tokens() == {zoe.key: {b"3" * 32: "second"}}
    with pytest.raises(ValueError, match="32 bytes"):
        await gate.hosting.host("mallory", tokens={b"short": ""})
    assert [user.name for user in gate.hosted] == ["zoe"]


async def test_of_two_concurrent_set_tokens_one_wins(net: Mesh) -> None:
    gate, _ = net.peers
    zoe = await gate.hosting.host("zoe", tokens={b"1" * 32: ""})
    await asyncio.gather(gate.hosting.set_tokens(zoe, {b"2" * 32: ""}), gate.hosting.set_tokens(zoe, {b"3" * 32: ""}))
    assert await gate.hosting.tokens() == {zoe.key: {b"3" * 32: ""}}
    await gate.unhost(zoe)
    with pytest.raises(P2PChatError, match="no longer hosted"):
        await gate.hosting.set_tokens(zoe, {b"4" * 32: ""})


async def test_users_hosted_at_once_have_the_keys_of_users_hosted_one_by_one(net: Mesh) -> None:
    gate, _ = net.peers
    secret = bytes(range(32))
    wanted = [*(gate.host(f"user{number}") for number in range(50)), gate.host("zoe", secret=secret)]
    others = [gate.host("yan"), gate.host("yan"), gate.host("YAN", name="yan"), gate.host("y4n", secret=secret)]
    found = await asyncio.gather(*wanted, *others, return_exceptions=True)
    hosted = [user for user in found if isinstance(user, HostedUser)]
    assert len(hosted) == 54 and len(set(hosted)) == 53 and found[51] is found[52]
    assert type(found[54]) is P2PChatError  # another key of zoe
    assert [user.name for user in found[51:54] if isinstance(user, HostedUser)] == ["yan", "yan", "yan"]
    assert {user.hosted_as for user in gate.hosted} == {user.hosted_as for user in hosted}


async def test_a_user_unhosted_during_a_rename_stays_unhosted(net: Mesh) -> None:
    gate, _ = net.peers
    zoe = await gate.host("zoe")
    await asyncio.gather(zoe.rename("zoey"), gate.unhost(zoe))
    gate = await net.restart(gate)
    assert gate.hosted == []


async def test_a_cancelled_call_stops_no_change_halfway(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path, name="gate") as gate:
        zoe = await gate.host("zoe")
        for doing in (gate.host("yan"), zoe.rename("zoey"), gate.unhost(await gate.host("xia"))):
            task = asyncio.ensure_future(doing)
            await asyncio.sleep(0)  # it has begun
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await gate.host("yan")  # waits until that is done
        assert [user.name for user in gate.hosted] == ["zoey", "yan"]
    async with TCPPeer(0, data=tmp_path) as gate:
        assert [user.name for user in gate.hosted] == ["zoey", "yan"]


async def test_conversations_of_former_hosted_users_stay_hidden_from_the_peer(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path, name="gate") as gate:
        zoe, yan = await gate.host("zoe"), await gate.host("yan")
        group = await zoe.create_group("ours", [yan.me])
        await zoe.send("yan", "a secret word")
        await group.send("another")
        await zoe.broadcast("for all of you")
        await gate.unhost(zoe)
        await gate.unhost(yan)
        assert [post.text for post in await gate.history()] == ["for all of you"]
    async with TCPPeer(0, data=tmp_path) as gate:
        assert [post.text for post in await gate.history()] == ["for all of you"]
        reader = gate.events(Message, consumer="bot", start="beginning")
        await gate.host("xia")
        await gate.hosted[0].broadcast("hello")
        assert [(await anext(reader)).text for _ in range(2)] == ["for all of you", "hello"]
        await gate.unhost(gate.hosted[0])
    async with open_history(tmp_path) as history:
        assert [post.text for post in await history.history()] == ["for all of you", "hello"]


async def test_an_unhosted_user_keeps_its_deliveries_and_gets_no_more(net: Mesh) -> None:
    gate, bob = net.peers
    zoe = await gate.host("zoe")
    zoe.set_presence("online")
    await net.settle()
    net.partition([gate], [bob])
    receipts = gate.events(Delivered, consumer=None)
    private, public = await gate.send("bob", "psst"), await gate.broadcast("hello")
    assert {user.name for user in public.of} == {"bob", "zoe"}
    await gate.unhost(zoe)
    assert (private.delivered_to, public.delivered_to) == ([], [zoe.me])
    with pytest.raises(TimeoutError):
        await private.delivered(count=1, timeout=0.05)
    net.heal()
    await public.delivered(timeout=WAIT)
    counts = [(one.user.name, one.count, one.of) for one in [await anext(receipts) for _ in range(3)]]
    assert sorted(counts) == [("bob", 1, 1), ("bob", 2, 2), ("zoe", 1, 2)]


async def taken(user: HostedUser, consumer: str = "phone") -> None:
    """Take everything that waits for a user."""
    for post in await user.released(consumer=consumer, kinds=("dm", "group")):
        user.hand_on(post, consumer)


async def test_messages_are_delivered_when_they_are_taken(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    xi = await gate.host("xi")
    for user in (zoe, yan, xi):
        user.set_presence("online")
        user.deliver_when_taken("phone")
    await bob.wait_user("xi", timeout=WAIT)
    hers = zoe.events(Delivered, Read, consumer=None)
    ops = await zoe.create_group("ops", ["yan", "xi", "bob"])
    said, psst = await zoe.send(ops, "deploying"), await zoe.send("yan", "psst")
    public = await zoe.broadcast("hello, everybody")
    await public.delivered(timeout=WAIT)  # nothing waits in the room: it is for those who are online
    await said.delivered(by="bob", timeout=WAIT)
    assert (sorted(user.name for user in said.missing), psst.status) == (["xi", "yan"], "accepted")
    theirs = await bob.send("yan", "and you")
    await theirs.delivered(timeout=WAIT)  # other peers hear that this one has it
    await taken(yan)
    await psst.delivered(timeout=WAIT)
    assert [user.name for user in said.missing] == ["xi"]
    await taken(xi)
    await said.delivered(timeout=WAIT)
    found = [await asyncio.wait_for(anext(hers), WAIT) for _ in range(6)]
    told = [(one.user.name, one.count, one.of) for one in found if one.id == said.id]
    assert told == [("bob", 1, 3), ("yan", 2, 3), ("xi", 3, 3)]
    assert [(one.user.name, one.count, one.of) for one in found if one.id == psst.id] == [("yan", 1, 1)]
    note = await zoe.send("yan", "read without taking it")
    yan.mark_read(await yan.message(note.id))
    found = [await asyncio.wait_for(anext(hers), WAIT) for _ in range(3)]  # the one before is read with it
    assert [(one.event, one.id) for one in found] == [("delivered", note.id), ("read", psst.id), ("read", note.id)]
    change = await zoe.edit(note.id, "changed")
    await change.delivered(timeout=WAIT)  # nobody takes an edit: it is looked at here
    waits = await zoe.send("yan", "never taken")
    await gate.unhost(yan)
    assert (psst.status, waits.status) == ("read", "accepted")


async def test_what_was_taken_is_known_after_a_restart(net: Mesh) -> None:
    gate, _, zoe, yan = await host_two(net)
    yan.deliver_when_taken("phone")
    ops = await zoe.create_group("ops", ["yan", "bob"])
    first, group = await zoe.send("yan", "one"), await zoe.send(ops, "two")
    await taken(yan)
    await first.delivered(timeout=WAIT)
    await group.delivered(timeout=WAIT)
    later = await zoe.send("yan", "three")
    await zoe.edit(later.id, "three!")
    await net.crash(gate)
    gate = await net.restart(gate)
    zoe, yan = gate.hosted
    yan.deliver_when_taken("phone")
    before, of_group, after = [await zoe.receipt(one.id) for one in (first, group, later)]
    assert [before.status, after.status] == ["delivered", "accepted"]
    await of_group.delivered(timeout=WAIT)  # bob's peer says so again
    hers = zoe.events(Delivered, consumer=None)
    await taken(yan)
    event = await asyncio.wait_for(anext(hers), WAIT)
    assert (event.id, event.user, event.count, event.of) == (later.id, yan.me, 1, 1)
    assert (await zoe.receipt(later.id)).status == "delivered"


async def test_nothing_is_kept_of_an_unhosted_user_who_took_messages(net: Mesh) -> None:
    """What a program gave deliver_when_taken() is freed, and a user hosted again begins anew."""
    gate, _, zoe, yan = await host_two(net)

    def hears(kind: object) -> bool:
        return True

    freed = weakref.ref(hears)
    yan.deliver_when_taken("phone", hears)
    del hears
    secret, psst = yan.secret, await zoe.send("yan", "psst")
    await taken(yan)
    await psst.delivered(timeout=WAIT)
    await gate.unhost(yan)
    gc.collect()
    assert freed() is None
    yan = await gate.host("yan", secret=secret)
    yan.deliver_when_taken("phone")
    later = await zoe.send("yan", "and again")
    assert later.status == "accepted"
    await taken(yan)
    await later.delivered(timeout=WAIT)


def take(user: HostedUser, post: Message | Sent) -> None:
    user.hand_on(post, "phone")


def read(user: HostedUser, post: Message | Sent) -> None:
    user.mark_read(post)


@pytest.mark.parametrize("turns", range(0, 30, 3))
@pytest.mark.parametrize("act", [take, read])
async def test_a_writer_whom_nobody_hears_is_owed_each_step_whenever_the_peer_is_killed(
    net: Mesh, act: Callable[[HostedUser, Message | Sent], None], turns: int
) -> None:
    """What is known of a message after the restart, and what its writer will be told, were stored together."""
    gate, _ = net.peers
    zoe, *readers = [await gate.host(name) for name in ("zoe", *(f"reader{number}" for number in range(20)))]
    notes = {}
    for user in (zoe, *readers):
        user.deliver_when_taken("phone", lambda kind: False)
    for user in readers:
        notes[user.name] = (await zoe.send(user.me, "psst")).id
    for user in readers:
        [post] = await user.released(consumer="phone", kinds=("dm",))
        act(user, post)
    writing = asyncio.ensure_future(zoe.broadcast("a commit of something else"))
    for _ in range(turns):
        await asyncio.sleep(0)  # one turn of the loop, behind each of which the peer is killed once
    await net.crash(gate)
    await asyncio.gather(writing, return_exceptions=True)
    gate = await net.restart(gate)
    zoe, *readers = gate.hosted
    for user in (zoe, *readers):
        user.deliver_when_taken("phone", lambda kind: False)
    owed = {(event.event, event.id) async for event in zoe.kept_receipts()}
    for id in notes.values():
        status = (await zoe.receipt(id)).status
        steps = {"accepted": [], "delivered": ["delivered"], "read": ["delivered", "read"]}[status]
        assert {step for step, about in owed if about == id} == {*steps}


async def test_a_client_that_goes_once_it_was_told_everything_is_not_told_it_again(net: Mesh) -> None:
    _, _, zoe, yan = await host_two(net)
    for user in (zoe, yan):
        user.deliver_when_taken("phone", lambda kind: False)
    await zoe.send(yan.me, "one")
    await zoe.send(yan.me, "two")
    for post in await yan.released(consumer="phone", kinds=("dm",)):
        take(yan, post)
    told, gone = list[str](), list[bool]()
    async with asyncio.timeout(WAIT):
        while len(told) < 2:  # they are kept with a commit to come
            await asyncio.sleep(0)  # poll: nobody is told of the commit
            told = [event.id async for event in zoe.kept_receipts(lambda: False)]
    told.clear()
    async for event in zoe.kept_receipts(lambda: not gone):
        told.append(event.id)
        if len(told) == 2:
            asyncio.get_running_loop().call_soon(gone.append, True)  # before anything more is read
    assert len(told) == 2
    assert [event.id async for event in zoe.kept_receipts()] == []


async def test_waiting_calls_of_an_unhosted_user_end(net: Mesh) -> None:
    gate, _, zoe, _ = await host_two(net)
    waiting = [asyncio.ensure_future(zoe.wait_user("yan")), asyncio.ensure_future(zoe.wait_for(Message))]
    await asyncio.sleep(0)  # they wait
    await gate.unhost(zoe)
    for each in waiting:
        with pytest.raises(PeerClosed, match="no longer hosted here"):
            await asyncio.wait_for(each, WAIT)
    with pytest.raises(PeerClosed, match="no longer hosted here"):
        zoe.events()


async def test_waiting_calls_of_hosted_users_end_with_the_peer(net: Mesh) -> None:
    gate, _ = net.peers
    await gate.aclose()
    with pytest.raises(PeerClosed):
        gate.hosting.everybody()


async def test_groups_of_hosted_users_are_hidden_from_others(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    mallory = await gate.host("mallory")
    everybody = gate.hosting.everybody(GroupChanged, Message, Sent)
    his, read = yan.events(GroupChanged, consumer=None), yan.events(Message)
    ops = await zoe.create_group("ops", ["yan"])
    made, users = await anext(everybody)
    assert isinstance(made, GroupChanged) and users == tuple(sorted((zoe.key, yan.key)))
    seen = yan.post(made)
    assert isinstance(seen, GroupChanged) and seen.group == yan.group("#ops") and seen.group.is_member
    assert (await anext(his)).to_dict()["group"] == "ops"
    receipt = await ops.send("for members")
    await receipt.delivered(timeout=WAIT)
    assert [user.name for user in receipt.of] == ["yan"]
    assert (await anext(read)).text == "for members"
    for other in (mallory, gate):
        with pytest.raises(UnknownName):
            other.group("#ops")
        assert other.groups() == [] and await other.history() == []
    await ops.remove("yan")
    assert (await anext(his)).change == "removed"
    await ops.send("without yan")
    await net.settle()
    assert [post.text for post in await yan.history("#ops")] == ["for members"]
    assert not yan.group("#ops").is_member
    assert bob.groups() == []


async def test_a_former_member_reads_what_was_written_before(net: Mesh) -> None:
    gate, _, zoe, yan = await host_two(net)
    ops = await zoe.create_group("ops", ["yan", "gate"])
    await ops.send("for the three of us")
    await yan.group("ops").leave()
    await ops.send("he has left")
    await net.settle()
    assert [post.text for post in await yan.history("#ops")] == ["for the three of us"]
    assert [post.text for post in await gate.history("#ops")] == ["for the three of us", "he has left"]
    assert [post.text for post in await yan.released(limit=9)] == ["for the three of us"]


async def test_a_rename_is_an_event_for_other_hosted_users(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    zoe.set_presence("online")
    await bob.wait_user("zoe", timeout=WAIT)
    his, theirs, hers = (user.events(Renamed, consumer=None) for user in (yan, bob, zoe))
    everybody = gate.hosting.everybody(Renamed)
    await zoe.rename("zoë", about="with dots")
    for events in (his, theirs):
        event = await asyncio.wait_for(anext(events), WAIT)
        assert (event.before, event.name, event.user.key) == ("zoe", "zoë", zoe.key)
    assert (await anext(everybody))[1] is None
    hers.close()
    assert [one async for one in hers] == []
    assert (zoe.name, gate.user("zoë").about) == ("zoë", "with dots")


async def test_an_offline_history_of_a_gateway_is_that_of_its_own_user(tmp_path: Path) -> None:
    async with TCPPeer(data=tmp_path / "gate", name="gate") as gate:
        zoe, yan = await gate.host("zoe"), await gate.host("yan")
        ops = await zoe.create_group("ops", ["yan"])
        await ops.send("a secret of the group")
        await zoe.send("yan", "a secret of theirs")
        await zoe.send("gate", "for the operator")
        await yan.broadcast("for everybody")
        receipt = await gate.send("zoe", "thank you")
        await receipt.delivered(timeout=WAIT)
    async with open_history(tmp_path / "gate") as history:
        said = ["for the operator", "for everybody", "thank you"]
        assert [post.text for post in await history.history()] == said
        assert [talk.address for talk in history.conversations()] == ["room", "@zoe"]
        assert history.groups() == [] and await history.search("secret") == []
        assert [post.text for post in await history.search("for")] == said[:2]


async def test_a_user_hosted_on_two_gateways_is_one_user() -> None:
    async with mesh("east", "west", "bob") as net:
        east, west, bob = net.peers
        here = await east.host("zoe")
        receipt = await here.send("bob", "from the east")
        there = await west.host("zoe", secret=here.secret)
        assert there.key == here.key and await west.host("zoe") is there
        await net.settle()
        mine, his = there.events(Sent, consumer=None, start="beginning"), bob.events(Message)
        assert (await asyncio.wait_for(anext(mine), WAIT)).text == "from the east"  # written on the other gateway
        await there.send("bob", "from the west")
        said = [(one.sender.key, one.text) for one in [await asyncio.wait_for(anext(his), WAIT) for _ in range(2)]]
        assert said == [(here.key, "from the east"), (here.key, "from the west")]
        assert {user.key for user in bob.users() if user.name == "zoe"} == {here.key}
        await receipt.delivered(by="bob", timeout=WAIT)
        marked = await bob.send("zoe", "are you there?")
        await marked.delivered(timeout=WAIT)
        await net.settle()
        [seen] = await there.history("bob", limit=1)
        assert isinstance(seen, Message)
        seen.mark_read()
        await marked.read(timeout=WAIT)
        await net.settle()
        await east.aclose()
        marks = net._hosts[0].storage.load_users([here.key]).reads
        assert [mark.reader for mark in marks if mark.log.user == bob.me.key] == [here.key]  # read on both gateways


async def test_room_receipts_of_messages_written_at_another_peer_come_while_their_writer_is_here() -> None:
    async with mesh("east", "west", "bob") as net:
        east, west, _ = net.peers
        here = await east.host("zoe")
        await net.settle()
        there = await west.host("zoe", secret=here.secret)
        await net.settle()
        ticks = west.hosting.everybody(Delivered)
        for status in ("offline", "online"):
            there.set_presence(status)
            receipt = await here.broadcast(f"hello, my other self is {status}")
            await receipt.delivered(timeout=WAIT)
            async with asyncio.timeout(WAIT):  # who wrote it says so last, when logs are compared
                while not west._driver.node.receipts.delivered.is_stored_by([east.me.key], receipt.log, receipt.seq):
                    await asyncio.sleep(0.01)
            await net.settle()
        event, users = await asyncio.wait_for(anext(ticks), WAIT)
        assert isinstance(event, Delivered) and (event.id, users) == (receipt.id, (here.key,))


async def test_a_user_who_comes_to_another_peer_waits_until_its_conversations_are_there() -> None:
    """Its messages, a direct conversation with somebody hosted there, and a group, which is compared in two steps."""
    async with mesh("east", "west", "bob") as net:
        east, west, bob = net.peers
        here = await east.host("zoe")
        await net.settle()
        ops = await here.create_group("ops", ["bob"])
        for number in range(40):
            await here.send("bob", f"to bob {number}")
            await ops.send(f"to ops {number}")
        await (await bob.send("zoe", "from bob")).delivered(timeout=WAIT)
        await net.settle()
        there = await west.host("zoe", secret=here.secret)
        assert await there.compared(WAIT)
        texts = [post.text for post in await there.history("bob", limit=0)]
        assert texts == [*(f"to bob {number}" for number in range(40)), "from bob"]
        assert [post.text for post in await there.history("#ops", limit=0)][-1] == "to ops 39"
        assert await there.compared(WAIT), "again, with nothing new"


async def test_nobody_is_compared_with_who_is_not_there() -> None:
    async with mesh("east", "west", "bob") as net:
        east, west, _ = net.peers
        here = await east.host("zoe")
        await net.settle()
        there = await west.host("zoe", secret=here.secret)
        net.partition([east], [west])
        await net.settle()
        assert not await there.compared(0.01), "no peer that hosts the user is linked"
        waiting = asyncio.create_task(there.compared(WAIT))
        await asyncio.sleep(0)
        net.heal()
        assert await waiting
        alone = await west.host("yan")
        waiting = asyncio.create_task(alone.compared(WAIT))
        await asyncio.sleep(0)
        await west.unhost(alone)
        assert not await waiting


async def test_a_certificate_says_which_peer_hosts_a_user(net: Mesh) -> None:
    gate, bob = net.peers
    zoe = await gate.host("zoe")
    zoe.set_presence("idle", "at lunch")
    seen = await bob.wait_user("zoe", timeout=WAIT)
    assert (seen.status, seen.status_text) == ("idle", "at lunch")
    about = await bob.whois("zoe")
    assert [host.id for host in about.hosts] == [gate.me.id] and about.hosts[0].linked
    net.partition([gate], [bob])
    await bob.wait_for(Left, where=lambda left: left.user == seen, timeout=WAIT)
    await zoe.send("bob", "while you were away")
    events = bob.events(Message)
    net.heal()
    assert (await asyncio.wait_for(anext(events), WAIT)).text == "while you were away"


async def test_receipts_of_a_group_are_reported_for_each_member(net: Mesh) -> None:
    """Members on one gateway get a message at one moment; writers there and on another peer get a receipt of each."""
    gate, bob = net.peers
    users = [await gate.host(name) for name in ("kim", "lee", "mia", "zoe")]
    for user in users:
        user.set_presence("online")
        await bob.wait_user(user.me.name, timeout=WAIT)
    group = await bob.create_group("ops", [user.me for user in users])
    zoe = users[-1]
    await zoe.wait_for(GroupChanged, timeout=WAIT)
    for writer, count in ((bob, 4), (zoe, 4)):
        receipts = writer.events(Delivered)
        receipt = await writer.send(group.id, "hello")
        found = [await asyncio.wait_for(anext(receipts), WAIT) for _ in range(count)]
        assert {event.user.key for event in found} == {user.key for user in receipt.of}
        assert [(event.id, event.count, event.of) for event in found] == [(receipt.id, n + 1, 4) for n in range(count)]


async def test_the_number_of_hosted_users_is_limited() -> None:
    async with mesh("gate", settings=Settings(max_hosted_users=2)) as net:
        [gate] = net.peers
        await gate.host("zoe")
        with pytest.raises(P2PChatError, match="at most 2 users"):
            await gate.host("yan")
        assert await gate.host("zoe") is gate.hosted[0]


async def test_acquainted_returns_partners_here_and_elsewhere(net: Mesh) -> None:
    gate, bob, zoe, yan = await host_two(net)
    mallory = await gate.host("mallory")
    zoe.set_presence("online")
    await bob.wait_user("zoe", timeout=WAIT)
    await gate.wait_user("bob", timeout=WAIT)
    await (await zoe.send("bob", "psst")).delivered(timeout=WAIT)
    group = await yan.create_group("ops", [zoe.me])
    assert {user.name for user in gate.hosting.acquainted(zoe.me)} == {"bob", "yan"}
    assert [user.name for user in gate.hosting.acquainted(gate.user("bob"))] == ["zoe"]
    assert gate.hosting.acquainted(mallory.me) == []
    await group.remove(zoe.me)
    assert {user.name for user in gate.hosting.acquainted(zoe.me)} == {"bob"}


async def test_only_the_peer_s_own_user_deletes_what_all_share(net: Mesh) -> None:
    _, bob, zoe, yan = await host_two(net)
    zoe.set_presence("online")
    events = zoe.events(Message)
    await bob.send(await bob.wait_user("zoe", timeout=WAIT), "psst")
    assert (await asyncio.wait_for(anext(events), WAIT)).text == "psst"
    with pytest.raises(P2PChatError, match="only its operator can delete"):
        await zoe.delete_history("bob")
    assert [post.text for post in await zoe.history("bob")] == ["psst"] and await yan.history() == []


async def test_users_who_come_at_once_are_stored_together_and_a_fault_of_one_is_its_own(net: Mesh) -> None:
    gate, bob = net.peers
    secret = b"s" * 32
    came = await asyncio.gather(
        *(gate.host(f"user{number}") for number in range(300)),
        gate.host("user7"),
        gate.host("USER7"),
        gate.host("u5er7", secret=secret),
        gate.host("again", secret=secret),
        gate.host("bad", secret=b"short"),
        gate.hosting.host("worse", tokens={b"short": ""}),
        return_exceptions=True,
    )
    users, others = [user for user in came[:300] if isinstance(user, HostedUser)], came[300:]
    assert [user.name for user in users] == [f"user{number}" for number in range(300)]
    assert others[0] is users[7] and others[1] is not users[7]
    assert [type(each) for each in others[1:]] == [HostedUser, HostedUser, P2PChatError, ValueError, ValueError]
    assert len({user.key for user in gate.hosted}) == len(gate.hosted) == 302
    users[299].set_presence("online")
    assert (await bob.wait_user("user299", timeout=WAIT)).key == users[299].key


async def test_of_users_who_come_at_once_no_more_are_hosted_than_a_peer_may_host() -> None:
    async with mesh("gate", settings=replace(QUICK, max_hosted_users=4)) as net:
        (gate,) = net.peers
        came = await asyncio.gather(*(gate.host(f"user{number}") for number in range(5)), return_exceptions=True)
        assert [type(each) for each in came] == [HostedUser] * 3 + [P2PChatError] * 2
