"""Activity of the user, read marks, and unread counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from p2pchat import Message, Receipt, TCPPeer
from p2pchat.commands.read_tracking import ActivityTracker, UnreadCounter, mentions
from p2pchat.commands.session import Session
from p2pchat.testing import mesh
from tests.commands.shown import Shown, session


class Watched:
    """An Attention in the room, what others were told, and how often more was to be seen."""

    def __init__(self, idle_after: float | None = None) -> None:
        self.told: list[tuple[str, str]] = []
        self.looks = 0
        self.where = "ROOM"
        self.activity = ActivityTracker(
            lambda status, text: self.told.append((status, text)), lambda: self.where, idle_after=idle_after
        )
        self.activity.on_view.append(self._look)

    def _look(self) -> None:
        self.looks += 1


async def test_what_is_in_front_is_seen_and_nothing_else() -> None:
    watched = Watched()
    assert [watched.activity.is_viewing(id) for id in ("ROOM", "BOB", "")] == [True, False, False]
    watched.where = "BOB"
    watched.activity.on_switch()
    assert (watched.activity.is_viewing("BOB"), watched.looks, watched.told) == (True, 1, [])


async def test_an_away_holds_until_back_whatever_is_typed() -> None:
    watched = Watched()
    watched.activity.away("lunch")
    watched.activity.on_input()
    watched.activity.on_switch()
    assert (watched.activity.is_viewing("ROOM"), watched.looks) == (False, 0)
    watched.activity.back()
    assert (watched.activity.is_viewing("ROOM"), watched.looks) == (True, 1)
    assert watched.told == [("idle", "lunch"), ("online", "")]


async def test_another_window_says_nothing_to_others() -> None:
    watched = Watched()
    watched.activity.on_focus(False)
    assert (watched.activity.is_viewing("ROOM"), watched.told) == (False, [])
    watched.activity.on_focus(True)
    assert (watched.activity.is_viewing("ROOM"), watched.looks, watched.told) == (True, 1, [])


async def test_keys_go_to_the_window_in_front() -> None:
    watched = Watched()
    watched.activity.on_focus(False)  # and the terminal never told that it came back
    watched.activity.on_input()
    assert (watched.activity.is_active, watched.looks) == (True, 1)


async def idle(watched: Watched) -> None:
    """Return when others are told that nobody types."""
    async with asyncio.timeout(10):
        while ("idle", "") not in watched.told:
            await asyncio.sleep(0)


async def test_who_types_nothing_is_idle_and_back_with_the_next_key() -> None:
    watched = Watched(idle_after=0.02)
    await idle(watched)
    assert not watched.activity.is_viewing("ROOM")
    watched.activity.on_input()
    assert (watched.activity.is_active, watched.looks) == (True, 1)
    assert watched.told == [("idle", ""), ("online", "")]
    watched.told.clear()
    await idle(watched)  # the next pause counts like the first
    watched.activity.close()


async def test_a_key_in_time_puts_it_off() -> None:
    watched = Watched(idle_after=0.05)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.12
    while loop.time() < until:
        watched.activity.on_input()
        await asyncio.sleep(0)
    assert watched.told == []
    watched.activity.close()


async def test_a_pipe_is_in_use_for_ever() -> None:
    watched = Watched(idle_after=None)
    assert watched.activity._timer is None
    assert watched.activity.is_active


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


def line(conversation: str, text: str = "hi", *, kind: str = "dm", old: bool = False) -> dict[str, Any]:
    return {
        "event": "message", "conversation_id": conversation, "kind": kind, "sender_id": "B", "text": text, "old": old,
    }  # fmt: skip


def test_only_what_others_wrote_elsewhere_since_one_came_is_unread() -> None:
    unread = UnreadCounter("ada")
    counted = [
        unread.on_event(line("BOB"), here=None),
        unread.on_event(line("BOB", old=True), here=None),
        unread.on_event(line("ROOM", kind="room"), here=None),
        unread.on_event(line("ROOM", kind="room"), here="ROOM"),
        unread.on_event({**line("BOB"), "event": "sent"}, here=None),
    ]
    assert counted == [True, False, False, False, False]
    assert (unread.count("BOB"), unread.count("ROOM"), unread.total) == (1, 0, 1)


def test_next_is_where_one_is_meant_and_first_is_what_came_first() -> None:
    unread = UnreadCounter("ada")
    unread.on_event(line("OPS", kind="group"), here=None)
    unread.on_event(line("BOB"), here=None)
    unread.on_event(line("CYD"), here=None)
    assert (unread.most_urgent(), unread.first()) == ("BOB", "OPS")
    unread.on_event(line("OPS", "what does Ada say?", kind="group"), here=None)
    assert (unread.most_urgent(), unread.mentions("OPS"), unread.count("OPS")) == ("OPS", 1, 2)
    unread.clear("OPS")
    assert (unread.most_urgent(), unread.ids) == ("BOB", ["BOB", "CYD"])
    unread.clear("BOB")
    unread.clear("CYD")
    assert (unread.most_urgent(), unread.first(), unread.total) == (None, None, 0)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("ada: look", True),
        ("thanks ADA!", True),
        ("@ada", True),
        ("adapter", False),
        ("Ramada", False),
        ("ada_2", False),
        ("Ada#K7QF2M3P: look", True),
        ("ada#2YALQJU2: look", False),
        ("ada#2YALQJU2 and ada", True),
        ("ada#1 is best", True),
        ("", False),
    ],
)
def test_a_name_is_meant_as_a_word_of_its_own(text: str, meant: bool) -> None:
    assert mentions(text, "ada", "K7QF2M3PAAAA") is meant
    assert mentions(text, "") is False
