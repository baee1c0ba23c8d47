"""The ledger: who has which of our messages, who waits for that, and what is told."""

from __future__ import annotations

import asyncio
import gc
from random import Random

import pytest

from p2pchat.core.log import LogId
from p2pchat.errors import DeliveryTimeout, PeerClosed
from p2pchat.messaging.receipts import AcceptedBatch, Receipt, Receipts, ReceiptTracker, ReceiptUpdate, _Waiter
from p2pchat.messaging.users import UserDirectory

ADA, BOB, CYD = "a1" * 32, "b0" * 32, "cd" * 32
ROOM = LogId("c0" * 32, ADA, "0123456789abcdef")


def tracker() -> ReceiptTracker:
    people = UserDirectory(ADA, lambda user: ("unknown", "", 0))
    people.learn([(ADA, "ada"), (BOB, "bob"), (CYD, "cyd")])
    return ReceiptTracker(people)


def test_each_member_raises_the_count_of_each_message() -> None:
    book = tracker()
    book.kept(ROOM, 1, 10, (BOB, CYD))
    assert book.delivered(ROOM, 1, 6, BOB) == [ReceiptUpdate(ROOM, 1, 6, BOB, 1, 2)]
    assert book.delivered(ROOM, 1, 8, CYD) == [
        ReceiptUpdate(ROOM, 1, 6, CYD, 2, 2),
        ReceiptUpdate(ROOM, 7, 8, CYD, 1, 2),
    ]
    assert book.delivered(ROOM, 7, 10, BOB) == [
        ReceiptUpdate(ROOM, 7, 8, BOB, 2, 2),
        ReceiptUpdate(ROOM, 9, 10, BOB, 1, 2),
    ]
    assert book.delivered(ROOM, 1, 6, BOB) == []  # levels only rise


def test_counts_that_are_kept_up_are_those_that_are_counted_anew() -> None:
    chance = Random(7)
    members = tuple(f"{n:02}" for n in range(12))
    book, had = tracker(), dict.fromkeys([*members, "later"], 0)
    for first in range(1, 40):
        of = members[: chance.choice((0, 6, 12))]
        book.kept(ROOM, first, 1, of)
        for _ in range(chance.randrange(8)):
            member = chance.choice(list(had))
            last = chance.randint(1, first)
            rises = book.read(ROOM, had[member] + 1, last, member) if last > had[member] else []
            had[member] = max(had[member], last)
            for rise in rises:
                for seq in range(rise.first, rise.last + 1):
                    counted = book.members(ROOM, seq) or tuple(had)
                    assert rise.having == sum(had[one] >= seq for one in counted)


def test_entries_that_are_no_messages_are_not_told() -> None:
    book = tracker()
    book.kept(ROOM, 2, 2, (BOB,))  # 1 was the profile
    book.kept(ROOM, 5, 1, (BOB,))  # 4 another
    assert book.delivered(ROOM, 1, 5, BOB) == [
        ReceiptUpdate(ROOM, 2, 3, BOB, 1, 1),
        ReceiptUpdate(ROOM, 5, 5, BOB, 1, 1),
    ]


def test_who_came_later_does_not_count_among_those_who_were_there() -> None:
    book = tracker()
    book.kept(ROOM, 1, 1, (BOB,))
    book.kept(ROOM, 2, 1, ())
    assert book.delivered(ROOM, 1, 2, CYD) == [
        ReceiptUpdate(ROOM, 1, 1, CYD, 0, 1),
        ReceiptUpdate(ROOM, 2, 2, CYD, 1, 1),
    ]
    assert Receipt(book, ROOM, 1).status == "accepted"
    assert Receipt(book, ROOM, 2).status == "delivered"


def test_of_an_earlier_run_only_who_has_it_is_known() -> None:
    book = tracker()
    assert book.delivered(ROOM, 1, 3, BOB) == [ReceiptUpdate(ROOM, 1, 3, BOB, 1, 1)]
    assert not book.wrote(ROOM)
    book.heard(ROOM, [(CYD, 2), (BOB, 1)], (BOB,), seq=2)
    assert sorted(book.holders(ROOM, 2)) == [BOB, CYD]
    assert book.members(ROOM, 2) == (BOB,)


async def test_who_is_gone_is_waited_for_no_more_but_for_what_they_have() -> None:
    book = tracker()
    book.kept(ROOM, 1, 3, (BOB, CYD))
    book.delivered(ROOM, 1, 1, BOB)
    book.delivered(ROOM, 1, 3, CYD)
    waiting = asyncio.create_task(Receipt(book, ROOM, 3).delivered())
    for_bob = asyncio.create_task(Receipt(book, ROOM, 3).delivered(by="bob"))
    await asyncio.sleep(0)
    book.gone(ROOM.conversation, BOB)
    await waiting
    assert [book.members(ROOM, seq) for seq in (1, 2, 3)] == [(BOB, CYD), (CYD,), (CYD,)]
    assert [Receipt(book, ROOM, seq).status for seq in (1, 2, 3)] == ["delivered"] * 3
    assert book.read(ROOM, 1, 3, CYD) == [
        ReceiptUpdate(ROOM, 1, 1, CYD, 1, 2, "read"),
        ReceiptUpdate(ROOM, 2, 3, CYD, 1, 1, "read"),
    ]
    assert not for_bob.done()
    book.delivered(ROOM, 2, 3, BOB)
    await for_bob


async def test_waiting_costs_a_future_only_when_there_is_something_to_wait_for() -> None:
    book = tracker()
    book.kept(ROOM, 1, 3, (BOB, CYD))
    book.delivered(ROOM, 1, 3, BOB)
    await Receipt(book, ROOM, 3).delivered(by="bob", timeout=0)
    waiting = [asyncio.create_task(Receipt(book, ROOM, seq).delivered()) for seq in (1, 2, 3)]
    await asyncio.sleep(0)
    book.delivered(ROOM, 1, 2, CYD)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, False]
    book.close()
    with pytest.raises(PeerClosed):
        await waiting[2]
    with pytest.raises(PeerClosed):
        await Receipt(book, ROOM, 3).delivered()


async def test_a_wait_that_is_given_up_leaves_the_others_waiting() -> None:
    book = tracker()
    book.kept(ROOM, 1, 1, (BOB,))
    receipt = Receipt(book, ROOM, 1)
    patient = asyncio.create_task(receipt.delivered())
    with pytest.raises(DeliveryTimeout) as caught:
        await receipt.delivered(timeout=0.001)
    assert (caught.value.missing, caught.value.message_id) == (["bob"], receipt.id)
    with pytest.raises(DeliveryTimeout):
        await receipt.delivered(count=1, timeout=0.001)
    book.delivered(ROOM, 1, 1, BOB)
    await patient


async def test_receipts_of_many_are_made_when_looked_at() -> None:
    book = tracker()
    book.kept(ROOM, 1, 5, (BOB,))
    receipts = Receipts(book, [AcceptedBatch(ROOM, 1, 3), AcceptedBatch(ROOM, 4, 2)])
    assert [receipt.seq for receipt in receipts] == [1, 2, 3, 4, 5]
    assert [receipt.seq for receipt in receipts[1:4]] == [2, 3, 4]
    assert (receipts[-1].seq, len(receipts)) == (5, 5)
    book.delivered(ROOM, 1, 4, BOB)
    with pytest.raises(DeliveryTimeout) as caught:
        await receipts.delivered(timeout=0.001)
    assert caught.value.message_id == receipts[4].id
    book.delivered(ROOM, 5, 5, BOB)
    await receipts.delivered(timeout=0)


async def test_asking_again_and_again_for_what_does_not_come_costs_no_memory() -> None:
    book = tracker()
    book.kept(ROOM, 1, 1, (BOB, CYD))
    receipt = Receipt(book, ROOM, 1)
    patient = [asyncio.create_task(receipt.delivered()) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(100):
        for asked in (receipt.delivered(timeout=0), receipt.delivered(count=2, timeout=0)):
            with pytest.raises(DeliveryTimeout):
                await asked
    gc.collect()
    assert sum(isinstance(thing, _Waiter) for thing in gc.get_objects()) < 20
    book.delivered(ROOM, 1, 1, CYD)
    book.delivered(ROOM, 1, 1, BOB)
    await asyncio.gather(*patient)


async def test_so_many_members_are_so_many_also_when_some_came_later() -> None:
    book = tracker()
    book.kept(ROOM, 1, 1, (BOB,))
    receipt = Receipt(book, ROOM, 1)
    waiting = asyncio.create_task(receipt.delivered(count=2))
    await asyncio.sleep(0)
    book.delivered(ROOM, 1, 1, BOB)
    book.delivered(ROOM, 1, 1, CYD)  # was not there when it was accepted
    assert len(receipt.delivered_to) == 2
    await asyncio.wait_for(waiting, 5)
    await receipt.delivered(count=2, timeout=0)
