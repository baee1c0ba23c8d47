"""Delivery and read receipts: the tracker alone, and among real peers."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from p2pchat import Delivered, DeliveryTimeout, Left, PeerClosed, Read, TCPPeer, UnknownName
from p2pchat.core.log import Entry, LogId, encode_entry
from p2pchat.messaging.receipts import Receipt, Receipts, ReceiptTracker, ReceiptUpdate
from p2pchat.messaging.users import UserDirectory, UserFacts
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing import Mesh

ADA, BOB, CYD = "a1" * 32, "b0" * 32, "cd" * 32
ROOM = LogId("c0" * 32, ADA, "0123456789abcdef")


SHOWN = ReleasedEntry(ROOM, 2, encode_entry(Entry("text", 0, 1, b="hi")), 2, 0, False, False)
PEOPLE = UserDirectory(ADA, UserFacts())
PEOPLE.learn([(ADA, "ada"), (BOB, "bob"), (CYD, "cyd")])


def test_each_member_raises_the_count_of_each_message() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 10, (BOB, CYD))
    assert tracker.delivered(ROOM, 1, 6, BOB) == [ReceiptUpdate(ROOM, 1, 6, BOB, 1, 2)]
    assert tracker.delivered(ROOM, 1, 8, CYD) == [
        ReceiptUpdate(ROOM, 1, 6, CYD, 2, 2),
        ReceiptUpdate(ROOM, 7, 8, CYD, 1, 2),
    ]
    assert tracker.delivered(ROOM, 7, 10, BOB) == [
        ReceiptUpdate(ROOM, 7, 8, BOB, 2, 2),
        ReceiptUpdate(ROOM, 9, 10, BOB, 1, 2),
    ]
    assert tracker.delivered(ROOM, 1, 6, BOB) == []  # positions only advance


def test_a_user_who_comes_gets_what_waits_and_no_other_log_is_looked_at() -> None:
    """A gateway's users write in thousands of conversations, and hundreds of users may come at once."""
    tracker = ReceiptTracker()
    bobs, cyds, both = (ROOM._replace(conversation=letter * 64) for letter in "123")
    tracker.add(bobs, 1, 1, (BOB,))
    tracker.add(cyds, 1, 1, (CYD,))
    tracker.add(both, 1, 1, (ADA, BOB, CYD))
    tracker.hosted(CYD, None)
    assert [tracker.holders(log, 1) for log in (bobs, cyds, both)] == [[], [CYD], [CYD]]
    assert {*tracker._logs_for(CYD)} == {cyds, both}
    tracker.unhosted(BOB)
    assert [tracker.holders(log, 1) for log in (bobs, cyds, both)] == [[BOB], [CYD], [CYD, BOB]]


def test_cached_counts_equal_fresh_ones() -> None:
    chance = Random(7)
    members = tuple(f"{n:02}" for n in range(12))
    tracker, had = ReceiptTracker(), dict.fromkeys([*members, "later"], 0)
    for first in range(1, 40):
        of = members[: chance.choice((0, 6, 12))]
        tracker.add(ROOM, first, 1, of)
        for _ in range(chance.randrange(8)):
            member = chance.choice(list(had))
            last = chance.randint(1, first)
            rises = tracker.read(ROOM, had[member] + 1, last, member) if last > had[member] else []
            had[member] = max(had[member], last)
            for rise in rises:
                for seq in range(rise.first, rise.last + 1):
                    counted = tracker.members(ROOM, seq) or tuple(had)
                    assert rise.having == sum(had[one] >= seq for one in counted)


def test_entries_that_are_no_messages_cause_no_updates() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 2, 2, (BOB,))  # 1 is a profile
    tracker.add(ROOM, 5, 1, (BOB,))  # 4 is another
    assert tracker.delivered(ROOM, 1, 5, BOB) == [
        ReceiptUpdate(ROOM, 2, 3, BOB, 1, 1),
        ReceiptUpdate(ROOM, 5, 5, BOB, 1, 1),
    ]


def test_a_later_member_does_not_count_among_the_first() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 1, (BOB,))
    tracker.add(ROOM, 2, 1, ())
    assert tracker.delivered(ROOM, 1, 2, CYD) == [
        ReceiptUpdate(ROOM, 1, 1, CYD, 0, 1),
        ReceiptUpdate(ROOM, 2, 2, CYD, 1, 1),
    ]
    assert Receipt(tracker, PEOPLE, (ROOM, 1)).status == "accepted"
    assert Receipt(tracker, PEOPLE, (ROOM, 2)).status == "delivered"


def test_in_the_room_a_guest_has_what_came_to_its_host_and_what_it_read_elsewhere() -> None:
    """Bob and cyd were at ada's gateway when she wrote; bob moved, and reads at the other gateway."""
    tracker, log = ReceiptTracker(), ROOM._replace(conversation="")
    gate, other = "0a" * 32, "0b" * 32
    tracker.add(log, 1, 2, tuple(sorted((BOB, CYD, gate))), guests=(((gate,), tuple(sorted((BOB, CYD)))),))
    assert tracker.delivered(log, 1, 2, other) == [ReceiptUpdate(log, 1, 2, other, 0, 3)]
    assert tracker.take(log, 1, 1, BOB) == [ReceiptUpdate(log, 1, 1, BOB, 1, 3)]
    assert tracker.read(log, 1, 1, BOB) == [ReceiptUpdate(log, 1, 1, BOB, 1, 3, "read")]
    assert BOB in tracker.holders(log, 1) and BOB not in tracker.holders(log, 2)
    assert tracker.delivered(log, 1, 2, gate) == [
        ReceiptUpdate(log, 1, 1, gate, 3, 3),
        ReceiptUpdate(log, 2, 2, gate, 3, 3),
    ]
    assert tracker.take(log, 2, 2, CYD) == []
    assert tracker.read(log, 2, 2, CYD) == [ReceiptUpdate(log, 2, 2, CYD, 1, 3, "read")]
    assert tracker._logs[log].delivered.marks.keys() == {other, BOB, gate}


def test_what_a_reader_has_is_not_reported_again_by_the_mark_of_its_peer() -> None:
    """After a restart a mark of what was read came first, and the delivery of less of it was reported again."""
    tracker, log = ReceiptTracker(), ROOM._replace(conversation="")
    tracker.add(log, 1, 4, (BOB,))
    assert tracker.take(log, 1, 3, BOB) == [ReceiptUpdate(log, 1, 3, BOB, 1, 1)]
    assert tracker.delivered(log, 1, 2, BOB) == []
    assert tracker.delivered(log, 1, 4, BOB) == [ReceiptUpdate(log, 4, 4, BOB, 1, 1)]


def test_of_an_earlier_run_only_holders_are_known() -> None:
    tracker = ReceiptTracker()
    assert tracker.delivered(ROOM, 1, 3, BOB) == [ReceiptUpdate(ROOM, 1, 3, BOB, 1, 1)]
    assert not tracker.wrote(ROOM)
    tracker.load(ROOM, 2, (BOB,), [(CYD, 2), (BOB, 1)], [], SHOWN)
    assert sorted(tracker.holders(ROOM, 2)) == [BOB, CYD]
    assert tracker.members(ROOM, 2) == (BOB,)


async def test_a_former_member_is_not_waited_for() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 3, (BOB, CYD))
    tracker.delivered(ROOM, 1, 1, BOB)
    tracker.delivered(ROOM, 1, 3, CYD)
    waiting = asyncio.create_task(Receipt(tracker, PEOPLE, (ROOM, 3)).delivered())
    for_bob = asyncio.create_task(Receipt(tracker, PEOPLE, (ROOM, 3)).delivered(by="bob"))
    await asyncio.sleep(0)  # the tasks start
    tracker.remove_member(ROOM.conversation, BOB)
    await waiting
    assert [tracker.members(ROOM, seq) for seq in (1, 2, 3)] == [(BOB, CYD), (CYD,), (CYD,)]
    assert [Receipt(tracker, PEOPLE, (ROOM, seq)).status for seq in (1, 2, 3)] == ["delivered"] * 3
    assert tracker.read(ROOM, 1, 3, CYD) == [
        ReceiptUpdate(ROOM, 1, 1, CYD, 1, 2, "read"),
        ReceiptUpdate(ROOM, 2, 3, CYD, 1, 1, "read"),
    ]
    assert not for_bob.done()
    tracker.delivered(ROOM, 2, 3, BOB)
    await for_bob


async def test_waiting_costs_a_future_only_when_there_is_something_to_wait_for() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 3, (BOB, CYD))
    tracker.delivered(ROOM, 1, 3, BOB)
    await Receipt(tracker, PEOPLE, (ROOM, 3)).delivered(by="bob", timeout=0)
    waiting = [asyncio.create_task(Receipt(tracker, PEOPLE, (ROOM, seq)).delivered()) for seq in (1, 2, 3)]
    await asyncio.sleep(0)  # the tasks start
    tracker.delivered(ROOM, 1, 2, CYD)
    await asyncio.sleep(0)  # the future wakes its task, which ends in the next turn
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, False]
    tracker.close()
    with pytest.raises(PeerClosed):
        await waiting[2]
    with pytest.raises(PeerClosed):
        await Receipt(tracker, PEOPLE, (ROOM, 3)).delivered()


async def test_a_cancelled_wait_leaves_the_others_waiting() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 1, (BOB,))
    receipt = Receipt(tracker, PEOPLE, (ROOM, 1))
    patient = asyncio.create_task(receipt.delivered())
    with pytest.raises(DeliveryTimeout) as caught:
        await receipt.delivered(timeout=0.001)
    assert (caught.value.missing, caught.value.message_id) == (["bob"], receipt.id)
    with pytest.raises(DeliveryTimeout):
        await receipt.delivered(count=1, timeout=0.001)
    tracker.delivered(ROOM, 1, 1, BOB)
    await patient


async def test_receipts_of_many_wait_for_the_last_message() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 5, (BOB,))
    receipts = Receipts([Receipt(tracker, PEOPLE, (ROOM, seq)) for seq in range(1, 6)])
    assert [receipt.seq for receipt in receipts] == [1, 2, 3, 4, 5]
    assert [receipt.seq for receipt in receipts[1:4]] == [2, 3, 4]
    assert (receipts[-1].seq, len(receipts)) == (5, 5)
    tracker.delivered(ROOM, 1, 4, BOB)
    with pytest.raises(DeliveryTimeout) as caught:
        await receipts.delivered(timeout=0.001)
    assert caught.value.message_id == receipts[4].id
    tracker.delivered(ROOM, 5, 5, BOB)
    await receipts.delivered(timeout=0)


async def test_repeated_waits_that_time_out_cost_no_memory() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 1, (BOB, CYD))
    receipt = Receipt(tracker, PEOPLE, (ROOM, 1))
    patient = [asyncio.create_task(receipt.delivered()) for _ in range(3)]
    await asyncio.sleep(0)  # the tasks start
    for _ in range(100):
        for asked in (receipt.delivered(timeout=0), receipt.delivered(count=2, timeout=0)):
            with pytest.raises(DeliveryTimeout):
                await asked
    assert [*map(len, tracker._logs[ROOM].waiting.values())] == [3]
    tracker.delivered(ROOM, 1, 1, CYD)
    tracker.delivered(ROOM, 1, 1, BOB)
    await asyncio.gather(*patient)


async def test_each_wait_ends_at_its_own_time_and_nothing_of_it_is_kept() -> None:
    tracker, ended = ReceiptTracker(), list[float]()
    tracker.add(ROOM, 1, 1, (BOB,))
    receipt = Receipt(tracker, PEOPLE, (ROOM, 1))

    async def wait(timeout: float) -> None:
        with pytest.raises(DeliveryTimeout):
            await receipt.delivered(timeout=timeout)
        ended.append(timeout)

    patient = asyncio.create_task(receipt.delivered(timeout=60))
    await asyncio.gather(*map(wait, (0.2, 0.001, 0.1)))
    assert (ended, len(tracker._deadlines.ends)) == ([0.001, 0.1, 0.2], 1)
    tracker.delivered(ROOM, 1, 1, BOB)
    await patient
    assert not tracker._deadlines.ends


async def test_waiting_for_a_number_of_members_counts_later_ones() -> None:
    tracker = ReceiptTracker()
    tracker.add(ROOM, 1, 1, (BOB,))
    receipt = Receipt(tracker, PEOPLE, (ROOM, 1))
    waiting = asyncio.create_task(receipt.delivered(count=2))
    await asyncio.sleep(0)  # the task starts
    tracker.delivered(ROOM, 1, 1, BOB)
    tracker.delivered(ROOM, 1, 1, CYD)  # was not online when it was accepted
    assert len(receipt.delivered_to) == 2
    await asyncio.wait_for(waiting, 60)
    await receipt.delivered(count=2, timeout=0)


async def mark_newest_read(peer: TCPPeer, to: str) -> None:
    """Mark the newest message of a conversation as read."""
    max(await peer.history(to), key=lambda post: post.place).mark_read()


async def wait_left(peer: TCPPeer, name: str) -> None:
    """Wait until the last links to all of these users are gone."""
    await peer.wait_for(Left, where=lambda event: event.user.name == name)


async def test_a_message_is_read_when_the_other_program_marks_it(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=60)
    with pytest.raises(DeliveryTimeout) as late:
        await receipt.read(timeout=0.05)
    assert (late.value.missing, receipt.status) == (["bob"], "delivered")
    await mark_newest_read(bob, "ada")
    await receipt.read(by="bob", timeout=60)
    assert (receipt.status, receipt.read_by) == ("read", [ada.user("bob")])


async def test_marking_one_marks_everything_before_it(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipts = await ada.send_many("bob", [f"line {n}" for n in range(300)])
    await receipts.delivered(timeout=60)
    tenth = (await bob.history("ada", limit=0))[9]
    tenth.mark_read()
    await receipts[9].read(timeout=60)
    await net.settle()
    assert [receipts[n].status for n in (0, 9, 10, 299)] == ["read", "read", "delivered", "delivered"]
    await mark_newest_read(bob, "ada")
    await receipts.read(timeout=60)


async def test_a_room_message_counts_how_many_members_read_it(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    heard = ada.events(Delivered, Read, consumer=None)
    receipt = await ada.broadcast("hello")
    await receipt.delivered(timeout=60)
    await mark_newest_read(bob, "room")
    await receipt.read(count=1, timeout=60)
    assert ([user.name for user in receipt.read_by], len(receipt.delivered_to)) == (["bob"], 2)
    assert receipt.status == "delivered"
    await mark_newest_read(cyd, "room")
    await receipt.read(timeout=60)
    await net.settle()
    events = [await anext(heard) for _ in range(4)]
    assert [(event.event, event.count, event.of) for event in events] == [
        ("delivered", 1, 2), ("delivered", 2, 2), ("read", 1, 2), ("read", 2, 2)]  # fmt: skip
    assert events[-1].to_dict()["id"] == receipt.id


async def test_a_later_user_can_read_a_room_message(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    net.partition([ada], [bob, cyd])
    await asyncio.gather(wait_left(ada, "bob"), wait_left(ada, "cyd"))
    receipt = await ada.broadcast("hello?")
    assert receipt.of == []
    net.heal()
    await net.settle()
    await mark_newest_read(bob, "room")
    await receipt.read(timeout=60)
    assert [user.name for user in receipt.read_by] == ["bob"]


async def test_read_receipts_survive_restarts_of_all_peers(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=60)
    await mark_newest_read(bob, "ada")
    await receipt.read(timeout=60)
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


async def test_what_was_delivered_before_an_orderly_stop_is_not_reported_again(net: Mesh) -> None:
    ada = net.peers[0]
    for text in ("first", "in the next run"):
        await (await ada.send("bob", text)).delivered(timeout=60)
        await ada.aclose()
        ada = await net.restart(ada)
    news = ada.events(Delivered)
    await net.settle()
    third = await ada.send("bob", "third")
    await third.delivered(timeout=60)
    assert (await anext(news)).id == third.id


async def test_who_was_away_for_a_run_gets_only_what_is_new(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await (await ada.send("bob", "first")).delivered(timeout=60)
    await ada.aclose()
    ada = await net.restart(ada)
    net.partition([ada, cyd], [bob])
    second = await ada.send("bob", "while bob is away")
    await ada.aclose()
    ada = await net.restart(ada)
    news = ada.events(Delivered)
    net.heal()
    assert (await asyncio.wait_for(anext(news), 60)).id == second.id


async def test_reads_while_apart_are_reported_when_peers_meet(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("bob", "psst")
    await receipt.delivered(timeout=60)
    net.partition([ada], [bob])
    await mark_newest_read(bob, "ada")
    await bob.aclose()
    await net.restart(bob)
    net.heal()
    await receipt.read(timeout=60)


async def test_receipts_off_means_none_are_sent_or_received(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await bob.set_receipts(False)
    assert not bob.receipts()
    mine, theirs = await ada.send("bob", "psst"), await bob.send("ada", "what?")
    await asyncio.gather(mine.delivered(timeout=60), theirs.delivered(timeout=60))
    await mark_newest_read(bob, "ada")
    await mark_newest_read(ada, "bob")
    await net.settle()
    assert (mine.status, theirs.status) == ("delivered", "delivered")
    await bob.set_receipts(True, "ada")
    assert (bob.receipts(bob.user("ada")), bob.receipts(bob.user("cyd"))) == (True, False)
    await mark_newest_read(bob, "ada")
    await mine.read(timeout=60)


async def test_receipts_off_for_one_user_leaves_the_others_on(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await bob.set_receipts(False, "ada")
    receipts = [await ada.broadcast("one"), await cyd.broadcast("two")]
    for receipt in receipts:
        await receipt.delivered(timeout=60)
    await net.settle()
    await mark_newest_read(bob, "room")
    await receipts[1].read(by="bob", timeout=60)
    await net.settle()
    assert receipts[0].read_by == []


async def test_waiting_needs_a_member_and_counts_begin_at_one(net: Mesh) -> None:
    receipt = await net.peers[0].send("bob", "psst")
    with pytest.raises(UnknownName):
        await receipt.read(by="cyd")
    with pytest.raises(ValueError, match="count begins at 1"):
        await receipt.read(count=0)
    waiting = asyncio.create_task(receipt.read())
    await asyncio.sleep(0)  # the task starts
    await net.peers[0].aclose()
    with pytest.raises(PeerClosed):
        await waiting


# ---- groups


async def test_a_group_message_waits_for_the_members_of_its_time_after_a_restart_too(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    receipt = await ops.send("deploying")
    await receipt.delivered(timeout=60)
    await net.settle()
    await mark_newest_read(bob, "#ops")
    await receipt.read(by="bob", timeout=60)
    assert ([user.name for user in receipt.read_by], len(receipt.delivered_to)) == (["bob"], 2)
    await ops.send("the next commit saves it")
    await net.settle()
    await net.crash(ada)
    ada = await net.restart(ada)
    await net.settle()
    again = await ada.receipt(receipt.id)
    assert ([user.name for user in again.read_by], len(again.delivered_to)) == (["bob"], 2)
    assert (len(again.of), again.status) == (2, "delivered")
    await mark_newest_read(cyd, "#ops")
    await again.read(timeout=60)


async def test_a_removed_member_without_the_message_is_not_waited_for(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    ops = await ada.create_group("ops", ["bob", "cyd"])
    await net.settle()
    net.partition([ada, bob], [cyd])
    receipt = await ops.send("deploying")
    with pytest.raises(DeliveryTimeout):
        await receipt.delivered(timeout=0.2)
    waiting = asyncio.create_task(receipt.delivered(timeout=60))
    await ops.remove("cyd")
    await waiting
    assert ([user.name for user in receipt.of], receipt.status) == (["bob"], "delivered")
    await mark_newest_read(bob, "#ops")
    await receipt.read(timeout=60)


async def test_a_cancelled_set_receipts_logs_no_error(net: Mesh, ada: TCPPeer) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    choosing = asyncio.ensure_future(ada.set_receipts(False))
    await asyncio.sleep(0)  # it has begun
    choosing.cancel()
    await net.settle()
    assert errors == [] and not ada.receipts()


# ---- other peers of the writer


async def test_a_message_is_stored_by_a_second_host_once_that_has_said_so(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    zoe = await ada.host("zoe")
    await bob.host("zoe", secret=zoe.secret)
    await (await zoe.send("cyd", "hello")).stored_by(bob.me.id, timeout=60)
    await net.settle()
    net.partition([ada, cyd], [bob])
    receipt = await zoe.send("cyd", "hi")
    await receipt.delivered(timeout=60)
    with pytest.raises(DeliveryTimeout) as found:
        await receipt.stored_by(bob.me.id, timeout=0.1)
    assert found.value.missing == [bob.me.id]
    waiting = asyncio.create_task(receipt.stored_by(bob.me.id, timeout=60))
    net.heal()
    await waiting
    second = await zoe.send("cyd", "and again")
    await second.stored_by(bob.me.id, timeout=60)
    with pytest.raises(ValueError, match="not the id of a peer: 'ada'"):
        await second.stored_by("ada")


async def test_a_message_of_an_earlier_run_is_stored_by_whom_its_mark_names(net: Mesh) -> None:
    """Also where a later log of the writer covers it, so that no mark names its own."""
    ada, bob, cyd = net.peers
    zoe = await ada.host("zoe")
    await bob.host("zoe", secret=zoe.secret)
    receipt = await zoe.send("cyd", "hi")
    await receipt.stored_by(bob.me.id, timeout=60)
    ada = await net.restart(ada)
    [zoe] = ada.hosted
    again = await zoe.receipt(receipt.id)
    await again.stored_by(bob.me.id, timeout=60)
    later = await zoe.send("cyd", "in another run")
    await later.stored_by(bob.me.id, timeout=60)
    await again.stored_by(bob.me.id, timeout=60)
    net.partition([ada], [bob, cyd])
    with pytest.raises(DeliveryTimeout):
        await (await zoe.send("cyd", "alone")).stored_by(bob.me.id, timeout=0.1)


async def test_a_call_that_waits_for_a_second_host_ends_with_the_peer(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send("cyd", "hi")
    waiting = asyncio.create_task(receipt.stored_by(bob.me.id))
    await receipt.delivered(timeout=60)
    await ada.aclose()
    with pytest.raises(PeerClosed):
        await waiting
    with pytest.raises(PeerClosed):
        await receipt.stored_by(bob.me.id)


async def test_a_message_in_a_group_of_oneself_alone_is_delivered_to_nobody(net: Mesh) -> None:
    """It was shown as delivered to 1 of 1."""
    ada, bob, _ = net.peers
    ops = await ada.create_group("ops")
    receipt = await ada.send(ops, "notes")
    assert (receipt.status, receipt.of, receipt.delivered_to) == ("accepted", [], [])
    await ops.add(bob.me)
    await receipt.delivered(timeout=60)
    assert receipt.delivered_to == [bob.me]


async def test_no_receipt_is_of_a_profile_that_was_written_before_the_first_text(net: Mesh) -> None:
    """The id of one means nothing to the program: it never saw it."""
    ada, bob, cyd = net.peers
    events = ada.events(Delivered, Read)
    for about in map(str, range(8)):
        await ada.rename("ada", about)
    await net.settle()
    await cyd.broadcast("from somebody else")
    await net.settle()
    [message] = await bob.history()
    message.mark_read()
    await net.settle()
    first = await ada.broadcast("my first one")
    await first.delivered()
    (await bob.history())[-1].mark_read()
    await first.read(by="bob")
    await net.settle()
    await ada.aclose()
    assert {event.id async for event in events} == {first.id}
