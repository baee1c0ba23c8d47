"""Activity of the user, and marks of what was read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from p2pchat import Conversation, Message, Receipt, TCPPeer
from p2pchat.commands.activity_tracker import ActivityTracker
from p2pchat.commands.session import Session
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session


class ActivityRecorder:
    """An activity tracker, the presences it set, and how often on_view was called."""

    def __init__(self, idle_after: float | None = None) -> None:
        self.presences: list[tuple[str, str]] = []
        self.views = 0
        self.activity = ActivityTracker(
            lambda status, text: self.presences.append((status, text)), idle_after=idle_after
        )
        self.activity.on_view.append(self._on_view)

    def _on_view(self) -> None:
        self.views += 1


async def test_a_switch_shows_more_to_somebody_active() -> None:
    recorder = ActivityRecorder()
    recorder.activity.on_switch()
    assert (recorder.activity.is_active, recorder.views, recorder.presences) == (True, 1, [])


async def test_away_lasts_until_back() -> None:
    recorder = ActivityRecorder()
    recorder.activity.away("lunch")
    recorder.activity.on_input()
    recorder.activity.on_switch()
    assert (recorder.activity.is_active, recorder.views) == (False, 0)
    recorder.activity.back()
    assert (recorder.activity.is_active, recorder.views) == (True, 1)
    assert recorder.presences == [("idle", "lunch"), ("online", "")]


async def test_losing_focus_keeps_the_presence() -> None:
    recorder = ActivityRecorder()
    recorder.activity.on_focus(False)
    assert (recorder.activity.is_active, recorder.presences) == (False, [])
    recorder.activity.on_focus(True)
    assert (recorder.activity.is_active, recorder.views, recorder.presences) == (True, 1, [])


async def test_a_key_implies_focus() -> None:
    recorder = ActivityRecorder()
    recorder.activity.on_focus(False)  # and no report of the return
    recorder.activity.on_input()
    assert (recorder.activity.is_active, recorder.views) == (True, 1)


async def idle(recorder: ActivityRecorder) -> None:
    """Wait for the idle presence."""
    async with asyncio.timeout(60):
        while ("idle", "") not in recorder.presences:
            await asyncio.sleep(0)  # poll: the presences are a list


async def test_without_keys_the_user_becomes_idle() -> None:
    recorder = ActivityRecorder(idle_after=0.02)
    await idle(recorder)
    assert not recorder.activity.is_active
    recorder.activity.on_input()
    assert (recorder.activity.is_active, recorder.views) == (True, 1)
    assert recorder.presences == [("online", ""), ("idle", ""), ("online", "")]
    recorder.presences.clear()
    await idle(recorder)  # the next pause counts like the first
    recorder.activity.close()


async def test_a_key_postpones_idleness() -> None:
    recorder = ActivityRecorder(idle_after=0.05)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.12
    while loop.time() < until:
        recorder.activity.on_input()
        await asyncio.sleep(0)  # input in each turn, for 0.12 s
    assert recorder.presences == [("online", "")]
    recorder.activity.close()


async def test_a_pipe_is_always_active() -> None:
    recorder = ActivityRecorder(idle_after=None)
    assert recorder.activity._timer is None
    assert recorder.activity.is_active


async def show_until(peer: TCPPeer, session: Session, text: str) -> None:
    """Show events as a chat does, until a message has this text."""
    async for event in peer.events(consumer="shown", start="beginning"):
        session.on_displayed(event, shown=session.on_event(event.to_dict()))
        if isinstance(event, Message) and event.text == text:
            return


async def test_messages_are_read_when_shown_or_opened(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown)
        session.track_reads()
        psst, hello = await ada.send("bob", "psst"), await ada.broadcast("hello")
        await show_until(bob, session, "hello")
        await hello.read(timeout=60)
        await net.settle()
        assert psst.status == "delivered"
        await session.execute([b"/go ada"])
        await psst.read(timeout=60)


async def test_what_was_shown_a_moment_ago_is_not_unread_when_its_conversation_is_opened(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown, as_json=False, interactive=True)
        session.track_reads()
        for number in range(7):
            await ada.send("bob", f"line {number}")
        await net.settle()
        await show_until(bob, session, "line 6")  # all of it within MARK_DELAY
        opened = list[Message]()

        async def show(conversation: Conversation, unread: Sequence[Message]) -> int:
            opened.extend(unread)
            return len(unread)

        await session.open(bob.find("ada"), show)
        assert [message.text for message in opened] == []


async def test_nothing_is_read_while_away(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown)
        session.track_reads()
        await session.execute([b"/away lunch"])
        receipts = [await ada.broadcast(text) for text in ("one", "two")]
        await show_until(bob, session, "two")
        await net.settle()
        assert [receipt.status for receipt in receipts] == ["delivered"] * 2
        await session.execute([b"/back"])
        for receipt in receipts:
            await receipt.read(timeout=60)


async def test_without_read_tracking_only_read_commands_count(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown)
        one, two = await ada.broadcast("one"), await ada.broadcast("two")
        await show_until(bob, session, "two")
        await net.settle()
        assert one.status == "delivered"
        await session.execute([f'{{"do":"read","id":"{one.id}"}}'.encode()])
        await one.read(timeout=60)
        await net.settle()
        assert (two.status, shown.rows) == ("delivered", [{"id": one.id}])


async def test_what_is_shown_at_the_start_is_read(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await ada.broadcast("of an earlier run")
        await receipt.delivered(timeout=60)
        session = open_session(bob, shown, interactive=True)
        session.track_reads()
        await session.open(session.current, session.display.on_start)
        session.mark_seen()
        await receipt.read(timeout=60)


@pytest.mark.parametrize("line", ["/set receipts off", "/set receipts off ada"])
async def test_with_receipts_off_no_read_receipt_is_sent(shown: Shown, line: str) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown, as_json=False)
        session.track_reads()
        await session.execute([line.encode()])
        assert shown.new[-1].startswith(f"-- receipts{' with ada' * line.endswith('ada')} off (on|off): ")
        hello = await ada.broadcast("hello")
        await show_until(bob, session, "hello")
        await net.settle()
        assert hello.status == "delivered"
        await session.execute([b"/set receipts on", b"/set receipts usual ada"])
        await _is_read_with_the_next(net.peers[0], bob, session, hello)


async def _is_read_with_the_next(ada: TCPPeer, bob: TCPPeer, session: Session, former: Receipt) -> None:
    again = await ada.broadcast("again")
    await show_until(bob, session, "again")
    await asyncio.gather(again.read(timeout=60), former.read(timeout=60))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/set receipts loud", "receipts is on or off, not 'loud'"),
        ("/set receipts off room", "receipts are on or off for everyone, or with one user"),
        ("/set receipts loud ada", "receipts is on or off or usual, not 'loud'"),
    ],
)
async def test_invalid_values_of_receipts(shown: Shown, line: str, expected: str) -> None:
    async with mesh("ada", "bob") as net:
        session = open_session(net.peers[1], shown)
        await session.execute([line.encode()])
        assert shown.lines[-1]["text"].startswith(expected)
