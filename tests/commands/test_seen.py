"""What counts as seen: a session over real peers, its events shown one after the other."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat import Message, Receipt, TCPPeer
from p2pchat.commands.session import Session
from p2pchat.testing import mesh
from tests.commands.shown import Shown, session


async def show_until(peer: TCPPeer, took: Session, text: str) -> None:
    """Show what comes as a chat does, until somebody has written `text`."""
    async for event in peer.events(consumer="shown", start="beginning"):
        took.on_event(event.to_json())
        took.on_shown(event)
        if isinstance(event, Message) and event.text == text:
            return


async def test_what_is_shown_in_front_is_read_and_what_is_elsewhere_on_going_there(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(bob, shown)
        took.track_reads(shows_past=False)
        psst, hello = await ada.send("bob", "psst"), await ada.broadcast("hello")
        await show_until(bob, took, "hello")
        await hello.read(timeout=5)
        await net.settle()
        assert psst.status == "delivered"
        await took.execute([b"/go ada"])
        await psst.read(timeout=5)


async def test_nothing_is_read_while_away_and_all_of_it_on_coming_back(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(bob, shown)
        took.track_reads(shows_past=False)
        await took.execute([b"/away lunch"])
        receipts = [await ada.broadcast(text) for text in ("one", "two")]
        await show_until(bob, took, "two")
        await net.settle()
        assert [receipt.status for receipt in receipts] == ["delivered"] * 2
        await took.execute([b"/back"])
        for receipt in receipts:
            await receipt.read(timeout=5)


async def test_who_only_takes_commands_reads_nothing_but_what_they_say(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(bob, shown)
        one, two = await ada.broadcast("one"), await ada.broadcast("two")
        await show_until(bob, took, "two")
        await net.settle()
        assert one.status == "delivered"
        await took.execute([f'{{"do":"read","id":"{one.id}"}}'.encode()])
        await one.read(timeout=5)
        await net.settle()
        assert (two.status, shown.rows) == ("delivered", [{"id": one.id}])


async def test_a_terminal_shows_the_past_and_so_it_is_read(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await ada.broadcast("of an earlier run")
        await receipt.delivered(timeout=5)
        took = session(bob, shown, interactive=True)
        took.track_reads(shows_past=True)
        took.mark_seen()
        await receipt.read(timeout=5)


@pytest.mark.parametrize("line", ["/set receipts off", "/set receipts off ada"])
async def test_who_wants_no_receipts_says_so_and_reads_in_silence(shown: Shown, line: str) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(bob, shown, as_json=False)
        took.track_reads(shows_past=False)
        await took.execute([line.encode()])
        assert shown.new[-1].startswith(f"-- receipts{' with ada' * line.endswith('ada')} off (on|off): ")
        hello = await ada.broadcast("hello")
        await show_until(bob, took, "hello")
        await net.settle()
        assert hello.status == "delivered"
        await took.execute([b"/set receipts on", b"/set receipts usual ada"])
        await _is_read_with_the_next(net.peers[0], bob, took, hello)


async def _is_read_with_the_next(ada: TCPPeer, bob: TCPPeer, took: Session, former: Receipt) -> None:
    again = await ada.broadcast("again")
    await show_until(bob, took, "again")
    await asyncio.gather(again.read(timeout=5), former.read(timeout=5))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/set receipts loud", "receipts is on or off, not 'loud'"),
        ("/set receipts off room", "receipts are on or off for everyone, or with one user"),
        ("/set receipts loud ada", "receipts is on or off or usual, not 'loud'"),
    ],
)
async def test_what_cannot_be_chosen_is_told(shown: Shown, line: str, told: str) -> None:
    async with mesh("ada", "bob") as net:
        took = session(net.peers[1], shown)
        await took.execute([line.encode()])
        assert shown.lines[-1]["text"].startswith(told)
