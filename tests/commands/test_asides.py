"""What people are told beside the chat: who has what, who is away, how much is older, each once and calmly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from p2pchat import Conversation, Delivered, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.notifications import Notifier
from p2pchat.testing import mesh


class Told:
    """What `aside` tells, line by line as it comes."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.aside = Notifier(self.lines.put_nowait)

    async def next(self) -> str:
        return await asyncio.wait_for(self.lines.get(), 20)


@pytest.fixture
async def told() -> Told:
    return Told()


async def sent(aside: Notifier, peer: TCPPeer, to: Conversation, texts: Iterable[str]) -> Receipt:
    """Send these texts as a session does."""
    for text in texts:
        receipt = await to.send(text)
        aside.on_accepted(to, receipt)
        [post] = await peer.history(to, limit=1)
        assert isinstance(post, Sent)
        aside.on_sent(post.to_json())
    return receipt


async def test_who_is_away_is_said_once_until_they_have_been_here_again(told: Told) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        aside = told.aside
        to = ada.find("bob")
        await bob.aclose()
        await net.settle()
        await sent(aside, ada, to, ["one", "two"])
        assert await told.next() == "-- bob is offline; saved, and delivered when they are back"
        await sent(aside, ada, to, ["three"])
        aside.count_older()  # what comes a moment later proves that nothing was said of the third
        assert await told.next() == "-- 1 older message: /history shows it"
        aside.on_joined(bob.me.id)
        await sent(aside, ada, to, ["four"])
        assert await told.next() == "-- bob is offline; saved, and delivered when they are back"


async def test_of_a_room_without_anybody_it_is_said_too(told: Told) -> None:
    async with mesh("ada") as net:
        [ada] = net.peers
        aside = told.aside
        await sent(aside, ada, ada.room, ["anybody?"])
        assert await told.next() == "-- nobody is here yet; saved, and delivered when someone joins"


async def test_nothing_is_said_of_those_who_are_here_nor_when_we_leave(told: Told) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        aside = told.aside
        for to in (ada.room, ada.find("bob")):
            receipt = await sent(aside, ada, to, ["hello"])
            await receipt.delivered(timeout=20)
        await bob.aclose()
        await net.settle()
        aside.count_older()
        assert await told.next() == "-- 1 older message: /history shows it"  # and nothing before it
        await sent(aside, ada, ada.find("bob"), ["too late"])
        aside.on_shutdown()
        aside.close()
        assert told.lines.empty()


@pytest.mark.parametrize(
    ("sends", "arrives", "line"),
    [
        (1, 1, "-- delivered to bob: your message"),
        (3, 3, "-- delivered to bob: all 3 messages"),
        (3, 2, "-- delivered to bob: 2 of 3 messages"),
        (0, 50, "-- delivered to bob: 50 waiting messages"),  # of an earlier run
    ],
)
async def test_a_receipt_says_which_messages(told: Told, sends: int, arrives: int, line: str) -> None:
    aside = told.aside
    for _ in range(sends):
        aside.on_sent({"kind": "dm", "conversation_id": "C"})
    for _ in range(arrives):
        aside.on_delivered({"user": "bob", "conversation_id": "C"})
    assert await told.next() == line


async def test_receipts_in_the_room_are_too_many_to_tell(told: Told) -> None:
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        aside = told.aside
        aside.rooms.add(ada.room.id)
        events = ada.events(Delivered, Message, consumer="test")
        await ada.room.send("hello")
        aside.on_delivered((await anext(events)).to_json())
        aside.close()
        assert told.lines.empty()


async def test_older_messages_are_counted_until_no_more_come(told: Told) -> None:
    aside = told.aside
    aside.history_command = "p2pchat history --port 8080"
    for _ in range(1043):
        aside.count_older()
    assert await told.next() == "-- 1,043 older messages: p2pchat history --port 8080 shows them"
    aside.count_older()
    aside.close()  # nothing is left out because we leave
    assert await told.next() == "-- 1 older message: p2pchat history --port 8080 shows it"
    assert told.lines.empty()
