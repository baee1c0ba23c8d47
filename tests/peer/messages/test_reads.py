"""Read: a program says so, and the writer's receipt does: of real peers, over pipes in memory."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat import Delivered, DeliveryTimeout, Left, PeerClosed, Read, TCPPeer, UnknownName
from p2pchat.testing import Mesh


async def read_all(peer: TCPPeer, to: str) -> None:
    """Have a peer's program mark the message that came last somewhere."""
    max(await peer.history(to), key=lambda post: post.place).mark_read()


async def gone(peer: TCPPeer, name: str) -> None:
    """Wait until the last link to somebody is gone: of each of several, for one event is told to all who wait."""
    await peer.wait_for(Left, where=lambda event: event.user.name == name)


async def test_a_message_is_read_when_the_program_of_the_other_says_so(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=5)
    with pytest.raises(DeliveryTimeout) as late:
        await receipt.read(timeout=0.05)
    assert (late.value.missing, receipt.status) == (["bob"], "delivered")
    await read_all(bob, "ada")
    await receipt.read(by="bob", timeout=5)
    assert (receipt.status, receipt.read_by) == ("read", [ada.user("bob")])


async def test_marking_one_marks_everything_before_it(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipts = await ada.send_many("bob", [f"line {n}" for n in range(300)])
    await receipts.delivered(timeout=5)
    tenth = (await bob.history("ada", limit=0))[9]
    tenth.mark_read()
    await receipts[9].read(timeout=5)
    await net.settle()
    assert [receipts[n].status for n in (0, 9, 10, 299)] == ["read", "read", "delivered", "delivered"]
    await read_all(bob, "ada")
    await receipts.read(timeout=5)


async def test_a_room_message_is_read_by_so_many_of_those_who_were_there(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    heard = ada.events(Delivered, Read, consumer=None)
    receipt = await ada.broadcast("hello")
    await receipt.delivered(timeout=5)
    await read_all(bob, "room")
    await receipt.read(count=1, timeout=5)
    assert {user.name: status for user, status in receipt.by_member.items()} == {"bob": "read", "cyd": "delivered"}
    assert receipt.status == "delivered"
    await read_all(cyd, "room")
    await receipt.read(timeout=5)
    await net.settle()
    told = [await anext(heard) for _ in range(4)]
    assert [(event.event, event.count, event.of) for event in told] == [
        ("delivered", 1, 2), ("delivered", 2, 2), ("read", 1, 2), ("read", 2, 2)]  # fmt: skip
    assert told[-1].to_json()["id"] == receipt.id


async def test_who_was_not_there_can_read_it_all_the_same(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada], [bob, cyd])
    await asyncio.gather(gone(ada, "bob"), gone(ada, "cyd"))
    receipt = await ada.broadcast("hello?")
    assert receipt.of == []
    net.heal()
    await net.settle()
    await read_all(bob, "room")
    await receipt.read(timeout=5)
    assert [user.name for user in receipt.read_by] == ["bob"]


async def test_receipts_of_reading_survive_everybodys_restart(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=5)
    await read_all(bob, "ada")
    await receipt.read(timeout=5)
    await ada.send("bob", "the next commit saves it")
    await net.settle()
    for peer in (ada, bob):
        await net.crash(peer)
        await net.restart(peer)
    await net.settle()
    ada = net.peers[0]
    again = await ada.receipt(receipt.id)
    assert (again.status, [user.name for user in again.read_by]) == ("read", ["bob"])
    unread = await ada.receipt((await ada.history("bob", limit=1))[0].id)
    assert unread.status == "delivered"


async def test_what_was_read_meanwhile_is_told_when_they_meet(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=5)
    net.partition([ada], [bob])
    await read_all(bob, "ada")
    await bob.aclose()
    await net.restart(bob)
    net.heal()
    await receipt.read(timeout=10)


async def test_off_means_neither_out_nor_in(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.set_receipts(False)
    assert not bob.receipts()
    mine, theirs = await ada.send("bob", "psst"), await bob.send("ada", "what?")
    await asyncio.gather(mine.delivered(timeout=5), theirs.delivered(timeout=5))
    await read_all(bob, "ada")
    await read_all(ada, "bob")
    await net.settle()
    assert (mine.status, theirs.status) == ("delivered", "delivered")
    await bob.set_receipts(True, "ada")
    assert (bob.receipts(bob.user("ada")), bob.receipts(bob.user("cyd"))) == (True, False)
    await read_all(bob, "ada")
    await mine.read(timeout=5)


async def test_off_with_one_user_says_nothing_about_the_others(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await bob.set_receipts(False, "ada")
    receipts = [await ada.broadcast("one"), await cyd.broadcast("two")]
    for receipt in receipts:
        await receipt.delivered(timeout=5)
    await net.settle()
    await read_all(bob, "room")
    await receipts[1].read(by="bob", timeout=5)
    await net.settle()
    assert receipts[0].read_by == []


async def test_it_is_for_members_only_and_counts_begin_at_one(net: Mesh) -> None:
    receipt = await net.peers[0].send("bob", "psst")
    with pytest.raises(UnknownName):
        await receipt.read(by="cyd")
    with pytest.raises(ValueError, match="count begins at 1"):
        await receipt.read(count=0)
    waiting = asyncio.create_task(receipt.read())
    await asyncio.sleep(0)
    await net.peers[0].aclose()
    with pytest.raises(PeerClosed):
        await waiting


# ---- groups


async def test_a_group_message_waits_for_the_members_of_its_time_after_a_restart_too(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    receipt = await ops.send("deploying")
    await receipt.delivered(timeout=5)
    await net.settle()
    await read_all(bob, "#ops")
    await receipt.read(by="bob", timeout=5)
    assert {user.name: status for user, status in receipt.by_member.items()} == {"bob": "read", "cyd": "delivered"}
    await ops.send("the next commit saves it")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    await net.settle()
    again = await ada.receipt(receipt.id)
    assert {user.name: status for user, status in again.by_member.items()} == {"bob": "read", "cyd": "delivered"}
    assert (len(again.of), again.status) == (2, "delivered")
    await read_all(cyd, "#ops")
    await again.read(timeout=5)


async def test_who_is_removed_without_having_a_message_is_waited_for_no_more(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    await net.settle()
    net.partition([ada, bob], [cyd])
    receipt = await ops.send("deploying")
    with pytest.raises(DeliveryTimeout):
        await receipt.delivered(timeout=0.2)
    waiting = asyncio.create_task(receipt.delivered(timeout=5))
    await ops.remove("cyd")
    await waiting
    assert ([user.name for user in receipt.of], receipt.status) == (["bob"], "delivered")
    await read_all(bob, "#ops")
    await receipt.read(timeout=5)


async def test_who_gives_up_waiting_for_a_choice_leaves_no_error_behind(net: Mesh) -> None:
    ada = net.peers[0]
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    choosing = asyncio.ensure_future(ada.set_receipts(False))
    await asyncio.sleep(0)  # it has begun
    choosing.cancel()
    await net.settle()
    assert errors == [] and not ada.receipts()
