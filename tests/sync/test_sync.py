"""Programs without a loop: peers, threads, Ctrl-C, forks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, assert_type

import pytest

from p2pchat.sync import (
    Delivered,
    DeliveryTimeout,
    Edited,
    Events,
    Group,
    GroupChanged,
    Message,
    PeerClosed,
    Receipt,
    Receipts,
    Sent,
    TCPPeer,
    TooLong,
    UnknownName,
    User,
    open_history,
)
from p2pchat.sync.background import _cancel, background
from tests.deadlines import WAIT


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def pair(home: Path) -> Iterator[tuple[TCPPeer, TCPPeer]]:
    with TCPPeer(0, name="ada", data=home / "ada") as ada:
        with TCPPeer(0, ada.endpoint, name="bob", data=home / "bob") as bob:
            ada.wait_user("bob", timeout=WAIT)
            yield ada, bob


def test_a_request_returns_the_reply(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    messages = bob.events(Message)
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(lambda: messages.next(WAIT).reply("4", automatic=True))
        reply = assert_type(ada.request("bob", "2+2", timeout=WAIT), Message)
        answering.result(WAIT)
    assert (reply.text, reply.automatic) == ("4", True)
    with pytest.raises(TimeoutError, match=r"no reply came within 0\.1 s"):
        ada.request("bob", "and you?", timeout=0.1)


def test_a_reply_takes_what_send_takes(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    ada.send("bob", "shall we?")
    asked = bob.events(Message).next(WAIT)
    with bob.events(Sent, consumer=None) as said:
        asked.reply("so?", files=[bob.keep_file(("plan", b"data"))], choices=("yes", "no"), automatic=True, hops=2)
        reply = said.next(WAIT)
    assert (reply.reply_to, reply.choices, reply.automatic, reply.hops) == (asked.id, ("yes", "no"), True, 2)
    assert [file.name for file in reply.attachments] == ["plan"]


def test_what_a_function_of_the_program_raises_ends_no_other_call(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair

    def leave(event: object) -> bool:
        raise SystemExit

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(bob.wait_for, Message, where=leave, timeout=WAIT)
        while not waiting.done():
            ada.send("bob", "ping").delivered(timeout=WAIT)
        assert isinstance(waiting.exception(), SystemExit)
    bob.send("ada", "pong").delivered(timeout=WAIT)


def test_a_message_is_sent_answered_and_delivered(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    receipt = assert_type(ada.send("bob", "ping"), Receipt)
    for event in assert_type(bob.events(Message), Events[Message]):
        assert (assert_type(event, Message).text, event.sender.name) == ("ping", "ada")
        assert event.conversation == bob.find("ada") and event.conversation.viewer == bob
        event.mark_read()
        assert_type(event.reply("pong"), Receipt).delivered(timeout=WAIT)
        break
    receipt.read(by="bob", timeout=WAIT)
    assert (receipt.status, receipt.read_by) == ("read", [ada.user("bob")])
    found = assert_type(ada.history("bob"), list[Message | Sent])
    assert [(type(one), one.text) for one in found] == [(Sent, "ping"), (Message, "pong")]
    assert [one.text for one in ada.find("bob").history()] == ["ping", "pong"]
    assert repr(found[0]).startswith("<Sent ") and str(ada.find("bob")) == "bob"


def test_messages_change_and_groups_have_members(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    changes = bob.events(Edited, GroupChanged, consumer=None)
    receipts = assert_type(ada.send_many("bob", ["one", "two"]), Receipts)
    receipts.delivered(timeout=WAIT)
    assert len(receipts) == 2 and [one.id for one in receipts] == [receipts[0].id, receipts[-1].id]
    ada.edit(receipts[0].id, "1")
    edited = changes.next(timeout=WAIT)
    assert isinstance(edited, Edited) and edited.text == "1" and isinstance(edited.message, Message)
    edited.message.react("+1").delivered(timeout=WAIT)
    assert ada.message(receipts[0].id).reactions == {"+1": [ada.user("bob")]}

    group = assert_type(ada.create_group("ops", [ada.user("bob")]), Group)
    created = changes.next(timeout=WAIT)
    assert isinstance(created, GroupChanged) and created.group.name == "ops"
    assert {user.name for user in assert_type(created.group.members, list[User])} == {"ada", "bob"}
    created.group.send("here").delivered(timeout=WAIT)
    assert [one.text for one in group.history()] == ["here"]


def test_a_hosted_user_writes_and_reads(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    zoe = ada.host("42", name="zoe")
    assert ada.hosted == [zoe] and zoe.name == "zoe" and zoe.hosted_as == "42"
    assert ada.hosted_user("42") == zoe and ada.hosted_user("zoe") is None
    events = zoe.events(Message)
    zoe.set_presence("online")
    bob.wait_user("zoe", timeout=WAIT)
    bob.send("zoe", "hi").delivered(timeout=WAIT)
    post = events.next(timeout=WAIT)
    assert post.text == "hi" and post.conversation.viewer == zoe
    assert [one.text for one in zoe.unread("bob")] == ["hi"]
    assert zoe.without_read([post]) == [post]


def test_a_class_may_be_derived_and_a_function_called_back_gets_classes(home: Path) -> None:
    class Gateway(TCPPeer):
        """A peer of a program."""

    heard: Queue[type] = Queue()

    def hears(kind: type) -> bool:
        heard.put(kind)
        return False

    with Gateway(0, name="gateway", data=home / "gateway") as gateway:
        zoe, yan = gateway.host("zoe"), gateway.host("yan")
        yan.deliver_when_taken("clients", hears)
        zoe.deliver_when_taken("clients", lambda kind: False)
        events = zoe.events(Message)
        yan.send("zoe", "hi")
        zoe.hand_on(events.next(timeout=WAIT), "clients")
        assert heard.get(timeout=WAIT) is Delivered
        assert isinstance(gateway, TCPPeer) and gateway.find("room").viewer == gateway


def test_errors_keep_their_class_and_their_facts(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    with pytest.raises(UnknownName):
        ada.history("nobody")
    with pytest.raises(TooLong) as long:
        ada.send("bob", "x" * 100_000)
    assert long.value.limit_bytes == 32_768
    with pytest.raises(TimeoutError):
        ada.wait_for(Message, timeout=0.01)
    events = ada.events(Message)
    with pytest.raises(TimeoutError):
        events.next(timeout=0.01)
    bob.close()
    receipt = ada.send("bob", "later")
    with pytest.raises(DeliveryTimeout) as late:
        receipt.delivered(timeout=0.01)
    assert list(late.value.missing) == ["bob"]
    with pytest.raises(AttributeError):
        _ = receipt.nonsense  # type: ignore[attr-defined]  # as every misspelt name
    with pytest.raises(TypeError):
        User()


def test_the_traceback_of_an_error_is_short(pair: tuple[TCPPeer, TCPPeer]) -> None:
    """It showed twelve steps of the loop below the line of the program."""
    calls: list[Callable[[], object]] = [lambda: pair[0].user("nobody"), lambda: pair[0].wait_user("nobody", 0.01)]
    for call in calls:
        with pytest.raises((UnknownName, TimeoutError)) as told:
            call()
        assert len(told.traceback) <= 4 and told.value.__suppress_context__


def test_several_threads_use_one_peer(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    with ThreadPoolExecutor(4) as threads:

        def write(name: str) -> None:
            for number in range(25):
                receipt = ada.send("bob", f"{name} {number}")
            receipt.delivered(timeout=WAIT)

        writers = [threads.submit(write, name) for name in "abc"]
        events = bob.events(Message)
        found = [next(events).text for _ in range(75)]
        for writer in writers:
            writer.result()
    for name in "abc":
        assert [text for text in found if text.startswith(name)] == [f"{name} {number}" for number in range(25)]


def test_what_waits_in_a_thread_ends_when_another_closes(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    with ThreadPoolExecutor(4) as threads:
        events, others = ada.events(Message), ada.events(consumer=None)
        reading, to_the_end = threads.submit(list, events), threads.submit(list, others)
        events.close()
        assert reading.result(WAIT) == []
        bob.close()
        receipt = ada.send("bob", "later")
        waiting = threads.submit(receipt.delivered)
        ada.close("enough")
        assert type(to_the_end.result(WAIT)[-1]).__name__ == "Stopped"
        with pytest.raises(PeerClosed):
            waiting.result(WAIT)
    calls: list[Callable[[], Any]] = [lambda: ada.send("bob", "x"), ada.events, lambda: ada.history("bob"), ada.start]
    for call in calls:
        with pytest.raises(PeerClosed):
            call()
    ada.close()  # a second time


def test_a_function_called_back_gets_the_same_objects_and_must_not_wait(pair: tuple[TCPPeer, TCPPeer]) -> None:
    ada, bob = pair
    seen: list[Message] = []

    def is_ping(event: Message) -> bool:
        seen.append(event)
        return event.conversation.name == "ada" and event.text == "ping"

    def answers(event: Message) -> bool:
        event.reply("from the thread of the loop, which would wait for itself")
        return True

    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(bob.wait_for, Message, where=is_ping, timeout=WAIT)
        while not seen:  # until bob waits, he hears nothing
            ada.send("bob", "ping").delivered(timeout=WAIT)
        assert found.result(WAIT) == seen[0] and type(seen[0]) is Message
        wrong = threads.submit(bob.wait_for, Message, where=answers, timeout=WAIT)
        while not wrong.done():
            ada.send("bob", "ping").delivered(timeout=WAIT)
        with pytest.raises(RuntimeError, match="use another thread"):
            wrong.result()


def test_the_history_of_a_peer_that_ended_can_be_read(home: Path) -> None:
    with TCPPeer(0, name="ada", data=home / "ada") as ada:
        ada.broadcast("hello")
        data = ada.data
    assert data is not None
    with open_history(data) as history:
        assert [one.text for one in history.history("room")] == ["hello"]
        with pytest.raises(PeerClosed):
            history.find("room").send("no")


def test_on_windows_a_wait_looks_up_for_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float | None] = []

    class Outcome(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            looks.append(timeout)
            return super().result(timeout)

    async def waits_for_looks() -> None:
        while len(looks) < 3:
            await asyncio.sleep(0)
        raise TimeoutError("that of the call")

    monkeypatch.setattr(concurrent.futures, "Future", Outcome)
    monkeypatch.setattr("p2pchat.sync.background.SIGNALS_EVERY", 0.001)
    with pytest.raises(TimeoutError, match="that of the call"):
        background().run(waits_for_looks)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal for one process")
def test_a_result_that_came_with_ctrl_c_is_kept() -> None:
    async def is_done_when_cancelled() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            return "event"
        return "never cancelled"

    late: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            background().run(is_done_when_cancelled, late.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert late == ["event"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal for one process")
def test_ctrl_c_before_the_first_step_of_a_call_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task of the call is cancelled before it begins, so nothing in it can say that it has ended."""
    loop = background()

    def is_cancelled_at_once() -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        while _cancel not in [one._callback for one in list(loop._loop._ready)]:  # type: ignore[attr-defined]
            pass  # until the thread that waits asks for the end of the call
        return asyncio.sleep(WAIT)

    monkeypatch.setattr("p2pchat.sync.background.CANCELLED_WITHIN", 2 * WAIT)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run(is_cancelled_at_once)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < WAIT
