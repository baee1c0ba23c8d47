"""The hub: delivery of events, presence, and the end of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from p2pchat import Delivered, Message, Presence, Sent, TCPPeer
from p2pchat.core.log import LogId
from p2pchat.web import Gateway, WebSettings
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import WebError
from p2pchat.web.session_hub import Envelope, QueueFull, _cause_of


@asynccontextmanager
async def gateway(*names: str, settings: WebSettings | None = None) -> AsyncIterator[tuple[Gateway, list[Account]]]:
    async with TCPPeer(db="memory://", name="gate") as peer:
        gate = Gateway(peer, settings or WebSettings())
        await gate.start()
        accounts = [(await gate.accounts.register(name))[0] for name in names]
        try:
            yield gate, accounts
        finally:
            await gate.aclose()


class Receiver:
    """A receiver that keeps its messages and can be waited for."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.posts: list[Message | Sent] = []
        self.news = asyncio.Event()

    def __call__(self, told: Envelope) -> None:
        post = told.for_user(self.account.user)
        if isinstance(post, Message | Sent):
            self.posts.append(post)
            self.news.set()

    async def heard(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not enough():
                self.news.clear()
                await self.news.wait()


async def test_each_session_gets_its_events_as_own_or_others() -> None:
    async with gateway("ada", "bob", "cyd") as (gate, accounts):
        receivers = [Receiver(account) for account in accounts]
        for receiver in receivers:
            gate.hub.open(receiver.account, receiver, "chat")
        ada, bob, cyd = receivers
        await accounts[0].user.send("room", "to all")
        await accounts[0].user.send("bob", "to bob")
        await accounts[0].user.send("room", "the end")
        for one in receivers:
            await one.heard(lambda one=one: bool(one.posts) and one.posts[-1].text == "the end")  # type: ignore[misc]
        assert [(type(post), post.text) for post in ada.posts] == [
            (Sent, "to all"),
            (Sent, "to bob"),
            (Sent, "the end"),
        ]
        assert [(type(post), post.text) for post in bob.posts] == [
            (Message, "to all"), (Message, "to bob"), (Message, "the end"),
        ]  # fmt: skip
        assert [post.text for post in cyd.posts] == ["to all", "the end"]


async def test_an_event_is_encoded_once_for_all_receivers() -> None:
    made: list[str] = []
    async with gateway("ada", *(f"user{n}" for n in range(20))) as (gate, accounts):
        done = asyncio.Event()
        sinks = 0

        def sink(told: Envelope) -> None:
            nonlocal sinks
            if isinstance(told.event, Message | Sent):
                told.encoded("others", lambda: made.append(told.event.text))
                sinks += 1
                if sinks == len(accounts):
                    done.set()

        for account in accounts:
            gate.hub.open(account, sink, "chat")
        await accounts[0].user.send("room", "once")
        await asyncio.wait_for(done.wait(), 60)
        assert made == ["once"]


async def test_a_session_gets_only_the_events_it_wants() -> None:
    async with gateway("ada", "bob") as (gate, [ada, bob]):
        told: list[tuple[str, str]] = []
        receiver = Receiver(bob)

        def only(name: str) -> Callable[[Envelope], None]:
            return lambda what: told.append((name, what.event.event))

        gate.hub.open(bob, only("receipts"), "chat", wants=(Delivered,))
        seat = gate.hub.open(bob, only("messages"), "chat", wants=(Message, Sent))
        gate.hub.open(ada, only("presence"), "chat", wants=(Presence,))
        gate.hub.open(bob, receiver, "chat")
        await ada.user.send("room", "one")
        await ada.user.send("bob", "two")
        await receiver.heard(lambda: len(receiver.posts) == 2)
        gate.hub.close(seat)
        await ada.user.send("room", "three")
        await receiver.heard(lambda: len(receiver.posts) == 3)
        assert [what for what in told if what[0] == "messages"] == [("messages", "sent")] * 2
        assert {what for what in told if what[0] != "messages"} == {("presence", "presence")}


async def test_a_slow_session_and_a_broken_one_end_alone() -> None:
    async with gateway("ada", "bob") as (gate, [ada, bob]):
        ended: list[str] = []
        receiver = Receiver(bob)

        def slow(told: Envelope) -> None:
            raise QueueFull

        def broken(told: Envelope) -> None:
            raise KeyError("a defect")

        gate.hub.open(bob, slow, "chat", ended.append)
        gate.hub.open(bob, broken, "socketio", ended.append)
        gate.hub.open(bob, receiver, "lines")
        await ada.user.send("bob", "hello")
        await receiver.heard(lambda: bool(receiver.posts))
        assert sorted(ended) == ["failed", "slow"] and bob.sessions == 1
        assert gate.hub.ended == {"slow": 1, "failed": 1}


async def test_a_session_is_ended_once() -> None:
    async with gateway("bob") as (gate, [bob]):
        ended: list[str] = []
        session = gate.hub.open(bob, Receiver(bob), "chat", ended.append)
        gate.hub.end(session, "slow")
        gate.hub.end(session, "slow")  # an interface may report the same session twice
        assert ended == ["slow"] and gate.hub.ended == {"slow": 1}


async def test_presence_follows_from_the_sessions() -> None:
    async with gateway("ada", "bob") as (gate, [ada, bob]):

        async def is_now(status: str, text: str = "") -> None:
            async with asyncio.timeout(60):
                while (ada.user.user("bob").status, ada.user.user("bob").status_text) != (status, text):
                    await asyncio.sleep(0)  # poll: the cause is what is tested, not its events

        await is_now("offline")
        one = gate.hub.open(bob, Receiver(bob), "chat")
        await is_now("online")
        two = gate.hub.open(bob, Receiver(bob), "lines")
        one.set_active(False)
        await is_now("online")
        two.set_active(False)
        await is_now("idle")
        one.set_active(True)
        await is_now("online")
        gate.hub.set_away(bob, "lunch")
        await is_now("idle", "lunch")
        gate.hub.set_away(bob, "tea")
        await is_now("idle", "tea")
        gate.hub.close(two)
        gate.hub.close(one)
        gate.hub.close(one)
        await is_now("offline")
        three = gate.hub.open(bob, Receiver(bob), "lines")  # a page that was loaded again
        await is_now("idle", "tea")
        gate.hub.set_away(bob, None)
        await is_now("online")
        three.set_active(False)
        await is_now("idle")
        gate.hub.close(three)
        await is_now("offline")


async def test_in_a_crowd_presence_goes_to_acquaintances_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.web.session_hub.CROWD", 2)
    async with gateway("ada", "bob", "cyd", "dan") as (gate, [ada, bob, cyd, dan]):
        told: list[tuple[str, str]] = []
        at_end: set[str] = set()
        all_there = asyncio.Event()

        def receiver(name: str) -> Callable[[Envelope], None]:
            def sink(what: Envelope) -> None:
                if isinstance(what.event, Presence) and what.event.user.key == bob.key:
                    told.append((name, what.event.status))
                if isinstance(what.event, Message | Sent) and what.event.text == "the end":
                    at_end.add(name)
                    if len(at_end) == 4:
                        all_there.set()

            return sink

        await ada.user.send("bob", "psst")
        await cyd.user.create_group("ops", ["bob"])
        for account in (ada, cyd, dan):
            gate.hub.open(account, receiver(account.name), "lines")
        gate.hub.open(bob, receiver("bob"), "lines").set_active(False)
        await ada.user.send("room", "the end")
        await asyncio.wait_for(all_there.wait(), 60)
        assert {name for name, status in told if status == "idle"} == {"ada", "bob", "cyd"}


async def test_sessions_are_limited_and_refused_while_stopping() -> None:
    settings = WebSettings(max_sessions=3, max_sessions_of_account=2)
    async with gateway("ada", "bob", settings=settings) as (gate, [ada, bob]):
        ended: list[str] = []
        first = gate.hub.open(ada, Receiver(ada), "chat", ended.append)
        gate.hub.open(ada, Receiver(ada), "chat", ended.append)
        with pytest.raises(WebError) as full:
            gate.hub.open(ada, Receiver(ada), "chat")
        assert full.value.code == "full"
        gate.hub.open(bob, Receiver(bob), "chat", ended.append)
        with pytest.raises(WebError):
            gate.hub.open(bob, Receiver(bob), "chat")
        gate.hub.close(first)
        await gate.aclose()
        assert ended == ["stopping", "stopping"] and gate.hub.count == 0
        with pytest.raises(WebError) as stopping:
            gate.hub.open(ada, Receiver(ada), "chat")
        assert stopping.value.code == "stopping"


async def test_receipts_are_caused_by_who_wrote_the_message() -> None:
    """Charged to the reader, the receipts of one writer's many sessions held up the calls of all who read."""
    async with TCPPeer(db="memory://", name="bob") as bob:
        log, at = LogId("c" * 64, "a" * 64, "b" * 16), datetime(2026, 1, 1, tzinfo=UTC)
        receipt = Delivered(at=at, log=log, seq=2, user=bob.user("bob"), count=1, of=3)
        assert _cause_of(receipt) == log.user
