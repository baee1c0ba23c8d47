"""Status notices: deliveries, offline recipients, older messages, joins, log records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from p2pchat import Conversation, Delivered, Link, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.errors import print_error, print_notice, redirect_notices
from p2pchat.commands.notifications import JoinSummary, NoticeLogHandler, Notifier
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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


async def arrive(peer: TCPPeer, arrival: JoinSummary) -> None:
    """Start a peer and tell of what happens until it has arrived."""
    events = peer.events(consumer=None)
    await peer.start()
    arrival.begin(peer)
    async with asyncio.timeout(10):
        while not arrival.finished:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.wait({waiting}, timeout=0.1)
            if waiting.done():
                arrival.on_event(waiting.result())
            else:
                waiting.cancel()
    arrival.close()
    await peer.aclose()


async def test_whose_network_it_is_and_how_many_are_there(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(data=home / "ada", name="Ada L") as ada:
        async with TCPPeer(0, ada.port, data=home / "cyd", name="cyd") as cyd:
            await ada.wait_user("cyd", timeout=5)
            await (await cyd.broadcast("I was here")).delivered(timeout=5)
        arrival = JoinSummary(ada.invite, dials=True, notify=told.append)
        await arrive(TCPPeer(temporary=True, name="bob", invite=ada.invite), arrival)
        assert told == [f'-- joined the network of "Ada L" at {ada.endpoint}: 3 people, 2 of them online']


async def test_who_came_without_an_invite_is_told_nothing(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(temporary=True, name="ada") as ada:
        await arrive(TCPPeer(0, ada.port, temporary=True), JoinSummary("", dials=True, notify=told.append))
    assert told == []


async def test_who_calls_nobody_has_not_come_anywhere() -> None:
    assert JoinSummary("", dials=False).finished


async def test_who_calls_us_meanwhile_does_come() -> None:
    arrival = JoinSummary("", dials=True)
    arrival.on_event(Link(endpoint="", state="up", reason=""))
    assert not arrival.in_progress and not arrival.finished
    arrival.on_event(Link(endpoint="127.0.0.1:8080", state="up", reason=""))
    assert arrival.in_progress
    arrival.close()
    assert arrival.finished and not arrival.in_progress


@pytest.fixture
def notices() -> Iterator[list[str]]:
    notices: list[str] = []
    redirect_notices(notices.append)
    yield notices
    redirect_notices(None)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("p2pchat.test_diagnostics")
    handler = NoticeLogHandler()
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def test_notices_go_where_they_are_sent_and_to_stderr_again(
    notices: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    print_notice("-- bob is away")
    print_error("no\nsuch name")
    redirect_notices(None)
    print_notice("-- on stderr")
    assert notices == ["-- bob is away", "p2pchat: no\\u{a}such name"]
    assert capsys.readouterr() == ("", "-- on stderr\n")


def test_a_record_is_one_safe_line(notices: list[str], logger: logging.Logger) -> None:
    logger.warning("a link to %s broke", "eve\x1b[2J\n12:00 bob: hi")
    assert len(notices) == 1 and notices[0].endswith("WARNING a link to eve\\u{1b}[2J\\u{a}12:00 bob: hi broke")


def test_a_defect_keeps_its_traceback_each_line_marked(notices: list[str], logger: logging.Logger) -> None:
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError:
        logger.exception("it failed")
    lines = notices[0].split("\n")
    assert "it failed" in lines[0] and all(line.startswith("    | ") for line in lines[1:])
    assert lines[-1] == "    | RuntimeError: \\u{1b}[2J"
