"""Status notices: deliveries, offline recipients, older messages, joins, log records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from p2pchat import Conversation, Delivered, Link, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.exit_codes import print_error, print_notice, redirect_notices
from p2pchat.commands.notices import JoinSummary, NoticeLogHandler, Notifier, show_library_logs
from p2pchat.testing import mesh


class NoticeRecorder:
    """The lines of a notifier, as they come."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.notifier = Notifier(self.lines.put_nowait)

    async def next(self) -> str:
        return await asyncio.wait_for(self.lines.get(), 60)


@pytest.fixture
async def recorder() -> NoticeRecorder:
    return NoticeRecorder()


async def sent(notifier: Notifier, peer: TCPPeer, to: Conversation, texts: Iterable[str]) -> Receipt:
    """Send these texts as a session does."""
    for text in texts:
        receipt = await to.send(text)
        notifier.on_accepted(to, receipt)
        [post] = await peer.history(to, limit=1)
        assert isinstance(post, Sent)
        notifier.on_sent(post.to_json())
    return receipt


async def test_an_offline_recipient_is_announced_once_per_absence(recorder: NoticeRecorder) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        notifier = recorder.notifier
        to = ada.find("bob")
        await bob.aclose()
        await net.settle()
        await sent(notifier, ada, to, ["one", "two"])
        assert await recorder.next() == "-- bob is offline; saved, and delivered when they are back"
        await sent(notifier, ada, to, ["three"])
        notifier.count_older(OLDER)  # a later notice proves that there was none about the third
        assert await recorder.next() == "-- 1 older message: /history shows it"
        notifier.on_joined(bob.me.id)
        await sent(notifier, ada, to, ["four"])
        assert await recorder.next() == "-- bob is offline; saved, and delivered when they are back"


async def test_an_empty_room_is_announced(recorder: NoticeRecorder) -> None:
    async with mesh("ada") as net:
        [ada] = net.peers
        notifier = recorder.notifier
        await sent(notifier, ada, ada.room, ["anybody?"])
        assert await recorder.next() == "-- nobody is here yet; saved, and delivered when someone joins"


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
        (0, 50, "-- delivered to bob: 50 waiting messages"),  # of an earlier run
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
        notifier.on_delivered((await anext(events)).to_json())
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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


async def arrive(peer: TCPPeer, arrival: JoinSummary) -> None:
    """Start a peer and pass on its events until the join is finished."""
    events = peer.events(consumer=None)
    await peer.start()
    arrival.begin(peer)
    async with asyncio.timeout(60):
        while not arrival.finished:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.wait({waiting}, timeout=0.1)
            if waiting.done():
                arrival.on_event(waiting.result())
            else:
                waiting.cancel()
    arrival.close()
    await peer.aclose()


async def test_a_join_names_the_network_and_counts_its_users(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(data=home / "ada", name="Ada L") as ada:
        async with TCPPeer(0, ada.port, data=home / "cyd", name="cyd") as cyd:
            await ada.wait_user("cyd", timeout=60)
            await (await cyd.broadcast("I was here")).delivered(timeout=60)
        while ada.user("cyd").status != "offline":
            await asyncio.sleep(0.01)  # poll: the event may have come before
        arrival = JoinSummary(ada.invite, dials=True, notify=told.append)
        await arrive(TCPPeer(temporary=True, name="bob", invite=ada.invite), arrival)
        assert told == [f'-- joined the network of "Ada L" at {ada.endpoint}: 3 people, 2 of them online']


async def test_a_join_waits_for_the_name_of_a_slow_inviter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.commands.notices.JOINS_SETTLE_AFTER", 0.0)
    told: list[str] = []
    async with TCPPeer(data=home / "ada", name="ada") as ada, TCPPeer(temporary=True, name="bob") as bob:
        arrival = JoinSummary(ada.invite, dials=True, notify=told.append)
        arrival.begin(bob)
        arrival.on_event(Link(endpoint=ada.endpoint, state="up", reason=""))  # linked, and ada has said nothing yet
        await bob.connect(ada.endpoint)
        await bob.wait_user("ada", timeout=60)
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0)  # poll: the summary is a callback
        arrival.close()
        assert told == [f"-- joined the network of ada at {ada.endpoint}: 2 people, all online"]


async def test_a_join_without_an_invite_is_not_announced(home: Path) -> None:
    told: list[str] = []
    async with TCPPeer(temporary=True, name="ada") as ada:
        await arrive(TCPPeer(0, ada.port, temporary=True), JoinSummary("", dials=True, notify=told.append))
    assert told == []


async def test_without_dialling_there_is_no_join() -> None:
    assert JoinSummary("", dials=False).finished


async def test_an_incoming_link_is_no_join() -> None:
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
    logger.setLevel(logging.DEBUG)  # whatever a command set in this process for all of p2pchat
    yield logger
    logger.removeHandler(handler)


def test_notices_can_be_redirected_and_restored(notices: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    print_notice("-- bob is away")
    print_error("no\nsuch name")
    redirect_notices(None)
    print_notice("-- on stderr")
    assert notices == ["-- bob is away", "p2pchat: no\\u{a}such name"]
    assert capsys.readouterr() == ("", "-- on stderr\n")


def test_a_log_record_is_one_safe_line(notices: list[str], logger: logging.Logger) -> None:
    logger.warning("a link to %s broke", "eve\x1b[2J\n12:00 bob: hi")
    assert len(notices) == 1 and notices[0].endswith("WARNING a link to eve\\u{1b}[2J\\u{a}12:00 bob: hi broke")


@pytest.mark.parametrize(
    ("level", "verbose", "shown"),
    [("", False, ["ERROR"]), ("info", False, ["INFO", "ERROR"]), ("", True, ["DEBUG", "INFO", "ERROR"])],
)
def test_library_logs_are_shown_from_a_level_on(
    notices: list[str], level: str, verbose: bool, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("p2pchat")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    show_library_logs(level, verbose=verbose)
    for each in (logging.DEBUG, logging.INFO, logging.ERROR):
        logging.getLogger("p2pchat.peer").log(each, "a line")
    logger.setLevel(logging.NOTSET)  # forgets which levels were enabled
    assert [notice.split()[-3] for notice in notices] == shown


def test_a_traceback_keeps_its_lines_marked(notices: list[str], logger: logging.Logger) -> None:
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError:
        logger.exception("it failed")
    lines = notices[0].split("\n")
    assert "it failed" in lines[0] and all(line.startswith("    | ") for line in lines[1:])
    assert lines[-1] == "    | RuntimeError: \\u{1b}[2J"
