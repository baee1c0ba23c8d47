"""Status notices: deliveries, offline recipients, older messages, log records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

import pytest

from p2pchat import Conversation, Delivered, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.delivery_notices import NoticeLogHandler, Notifier, show_library_logs
from p2pchat.commands.exit_codes import print_error, print_notice, redirect_notices
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
