"""Status notices: deliveries, offline recipients, older messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

import pytest

from p2pchat import Conversation, Delivered, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.event_text import excerpt, find_obstacle
from p2pchat.commands.notifier import Notifier
from p2pchat.testing import mesh
from tests.deadlines import WAIT, until


class NoticeRecorder:
    """The lines of a notifier, as they come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.notifier = Notifier()
        monkeypatch.setattr("p2pchat.commands.notifier.print_notice", self.lines.put_nowait)

    async def next(self) -> str:
        return await asyncio.wait_for(self.lines.get(), 60)


@pytest.fixture
async def recorder(monkeypatch: pytest.MonkeyPatch) -> NoticeRecorder:
    return NoticeRecorder(monkeypatch)


async def sent(notifier: Notifier, peer: TCPPeer, to: Conversation, texts: Iterable[str]) -> Receipt:
    """Send these texts as a session does."""
    for text in texts:
        receipt = await to.send(text)
        notifier.on_accepted(to, receipt, [excerpt(text)])
        [post] = await peer.history(to, limit=1)
        assert isinstance(post, Sent)
        notifier.on_sent(post.to_dict())
    return receipt


async def test_an_offline_recipient_is_announced_once_per_absence(recorder: NoticeRecorder) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        notifier = recorder.notifier
        to = ada.find("bob")
        await bob.aclose()
        await net.settle()
        await sent(notifier, ada, to, ["one", "two"])
        fate = "saved, and delivered when they are back"
        assert await recorder.next() == f'-- bob is offline: "one" and 1 more are {fate}'
        await sent(notifier, ada, to, ["three"])
        notifier.count_older(OLDER)  # a later notice proves that there was none about the third
        assert await recorder.next() == "-- 1 older message: /history shows it"
        notifier.on_joined(bob.me.id)
        await sent(notifier, ada, to, ["four"])
        assert await recorder.next() == f'-- bob is offline: "four" is {fate}'


async def test_who_was_expelled_is_announced_as_that_also_after_as_offline(recorder: NoticeRecorder) -> None:
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        notifier = recorder.notifier
        notifier.obstacle = partial(find_obstacle, ada)
        to = ada.find("bob")
        await bob.aclose()
        await net.settle()
        await sent(notifier, ada, to, ["one"])
        assert await recorder.next() == '-- bob is offline: "one" is saved, and delivered when they are back'
        await ada.people.expel("bob")
        await sent(notifier, ada, to, ["two"])
        assert await recorder.next() == '-- "two" is saved; bob can get it after a pardon: expelled by ada'


async def test_of_a_machine_without_a_network_nobody_else_is_called_offline(
    recorder: NoticeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TCPPeer(0, name="ada", host="0.0.0.0", db="memory://") as ada:
        async with TCPPeer(0, ada.port, name="bob", db="memory://") as bob:
            await bob.wait_user("ada", timeout=WAIT)
            await ada.wait_user("bob", timeout=WAIT)
            to = ada.find("bob")
        await until(lambda: ada.user("bob").status == "offline", "bob has left")
        recorder.notifier.obstacle = partial(find_obstacle, ada)
        monkeypatch.setattr("p2pchat.commands.event_text.own_addresses", list)
        await sent(recorder.notifier, ada, to, ["one"])
        assert await recorder.next() == '-- "one" is saved; this machine has no network'


async def test_no_notice_about_online_recipients_or_at_shutdown(recorder: NoticeRecorder) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        notifier = recorder.notifier
        for to in (ada.room, ada.find("bob")):
            receipt = await sent(notifier, ada, to, ["hello"])
            await receipt.delivered(timeout=60)
        await bob.aclose()
        await net.settle()
        notifier.count_older(OLDER)
        assert await recorder.next() == "-- 1 older message: /history shows it"  # and nothing before it
        await sent(notifier, ada, ada.find("bob"), ["too late"])
        notifier.on_shutdown()
        notifier.close()
        assert recorder.lines.empty()


OLDER = {"kind": "room", "conversation": "room", "conversation_id": "R"}


@pytest.mark.parametrize(
    ("sends", "arrives", "line"),
    [
        (1, 1, "-- delivered to bob: your message"),
        (3, 3, "-- delivered to bob: all 3 messages"),
        (3, 2, "-- delivered to bob: 2 of 3 messages"),
        (0, 50, "-- delivered to bob: 50 earlier messages"),  # of an earlier run: perhaps delivered and told then
    ],
)
async def test_a_delivery_notice_counts_messages(recorder: NoticeRecorder, sends: int, arrives: int, line: str) -> None:
    notifier = recorder.notifier
    for _ in range(sends):
        notifier.on_sent({"kind": "dm", "conversation_id": "C"})
    for _ in range(arrives):
        notifier.on_delivered({"user": "bob", "conversation_id": "C"})
    assert await recorder.next() == line


async def test_deliveries_in_the_room_are_not_announced(recorder: NoticeRecorder) -> None:
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        notifier = recorder.notifier
        notifier.rooms.add(ada.room.id)
        events = ada.events(Delivered, Message, consumer="test")
        await ada.room.send("hello")
        notifier.on_delivered((await anext(events)).to_dict())
        notifier.close()
        assert recorder.lines.empty()


async def test_older_messages_are_counted_again_if_more_come(
    recorder: NoticeRecorder,
) -> None:
    notifier = recorder.notifier
    notifier.history_command = "p2pchat history --port 8080"
    for _ in range(1043):
        notifier.count_older(OLDER)
    assert await recorder.next() == "-- 1,043 older messages: p2pchat history --port 8080 shows them"
    notifier.count_older(OLDER)
    notifier.close()  # close() prints what was delayed
    assert await recorder.next() == "-- 1,044 older messages: p2pchat history --port 8080 shows them"
    assert recorder.lines.empty()
