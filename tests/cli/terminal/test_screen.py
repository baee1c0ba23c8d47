"""The screen above the prompt: batches, backpressure, delivery marks."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import pytest
from prompt_toolkit.output import ColorDepth, DummyOutput

from p2pchat.cli.terminal.device import TerminalStream, create_terminal_output
from p2pchat.cli.terminal.pending_line import PendingLine
from p2pchat.cli.terminal.screen import MAX_BATCH_CHARACTERS, MAX_QUEUED, Screen
from tests.deadlines import WAIT

LONG = "x" * (MAX_BATCH_CHARACTERS - 1)


class Paper(DummyOutput):
    """Records the output in batches, one per flush."""

    def __init__(self) -> None:
        self.batches: list[str] = [""]

    def write(self, data: str) -> None:
        self.batches[-1] += data

    def write_raw(self, data: str) -> None:
        self.write(data)

    def flush(self) -> None:
        self.batches.append("")

    @property
    def text(self) -> str:
        return "".join(self.batches)


@pytest.fixture
async def paper() -> Paper:
    return Paper()


@pytest.fixture
async def screen(paper: Paper) -> Screen:
    return Screen(paper, None, ColorDepth.DEPTH_1_BIT, lambda own: None)


async def printed(paper: Paper, text: str) -> None:
    async with asyncio.timeout(WAIT):
        while text not in paper.text:
            await asyncio.sleep(0)  # poll: the paper is a list of writes


async def test_long_lines_are_printed_in_several_batches(screen: Screen, paper: Paper) -> None:
    for _ in range(10):
        screen.add_line([("", LONG)])
    screen.add_line([("", "the end")])
    await printed(paper, "the end")
    assert paper.text.count("x") == 10 * len(LONG)
    assert max(batch.count("x") for batch in paper.batches) <= 2 * len(LONG)


async def test_producers_wait_while_nothing_can_be_printed(screen: Screen, paper: Paper) -> None:
    screen.may_draw = lambda: False
    for _ in range(MAX_QUEUED + 1):
        screen.add_line([("", "line")])
    waiting = asyncio.ensure_future(screen.wait_for_room())
    assert not (await asyncio.wait([waiting], timeout=0))[0]
    screen.may_draw = lambda: True
    screen.update_soon()
    await asyncio.wait_for(waiting, WAIT)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("end", ["leaves", "terminal goes"])
async def test_the_end_stops_all_waiting(end: str) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    user, program = os.openpty()
    stream = TerminalStream(program, asyncio.get_running_loop())
    screen = Screen(create_terminal_output(stream), stream, ColorDepth.DEPTH_1_BIT, lambda own: None)
    while screen._has_room.is_set():  # nobody reads
        screen.add_line([("", LONG)])
        await asyncio.sleep(0)
    waiting = asyncio.ensure_future(screen.wait_for_room())
    await asyncio.sleep(0)  # the task starts
    if end == "leaves":
        screen.stop_waiting()
        screen.add_line([("", LONG)])
    else:
        os.close(user)
    await asyncio.wait_for(waiting, WAIT)
    if end == "leaves":
        os.close(user)
    screen.close()
    stream.close()
    os.close(program)


def own(kind: str = "group") -> PendingLine:
    return PendingLine({"id": "ID.1", "kind": kind}, [("", "12:00 ada: hi")])


def test_a_delivery_mark_only_improves() -> None:
    line = own()
    marks = [line.mark]
    for count, of in ((1, 3), (3, 3), (2, 3)):
        line.on_delivered(count, of)
        marks.append(line.mark)
    assert marks == ["· saved", "✓ delivered 1/3", "✓ delivered 3/3", "✓ delivered 3/3"]
    assert not line.complete
    marks = []
    for count, of in ((1, 3), (3, 3), (2, 3)):
        line.on_read(count, of)
        marks.append(line.mark)
    assert marks == ["✓✓ read 1/3", "✓✓ read 3/3", "✓✓ read 3/3"]
    assert line.complete


def test_a_mark_counts_apart_who_is_at_a_gateway() -> None:
    """Somebody away looked as if it had reached them."""
    alone, line = own("dm"), own()
    alone.on_delivered(1, 1, at_gateway=True)
    marks = [alone.mark]
    for count, at_gateway in ((1, True), (2, False)):
        line.on_delivered(count, 3, at_gateway=at_gateway)
        marks.append(line.mark)
    assert marks == ["✓ at a gateway", "✓ at a gateway 1/3", "✓ delivered 1/3, ✓ at a gateway 1/3"]


def test_a_mark_in_the_room_says_that_those_are_counted_who_were_here() -> None:
    """It looked complete while somebody who was away had nothing."""
    line = own("room")
    line.on_delivered(1, 1)
    assert line.mark == "✓ delivered 1/1 here"
    line.on_read(1, 1)
    assert line.mark == "✓✓ read 1/1 here"


def test_a_direct_message_has_no_count() -> None:
    line = own("dm")
    assert (line.mark, line.complete) == ("· saved", False)
    line.on_delivered(1, 1)
    assert (line.mark, line.complete) == ("✓ delivered", False)
    line.on_read(1, 1)
    assert (line.mark, line.complete) == ("✓✓ read", True)


def test_a_mark_counts_who_has_all_files_and_waits_for_them() -> None:
    line = own()
    line.event["files"] = [{"root": "aa"}, {"root": "bb"}]
    line.on_read(2, 2)
    line.on_file("aa", 2)
    assert (line.mark, line.complete) == ("✓✓ read 2/2", False)
    line.on_file("bb", 1)
    assert (line.mark, line.complete) == ("✓✓ read 2/2, files 1/2", False)
    line.on_file("bb", 2)
    assert (line.mark, line.complete) == ("✓✓ read 2/2, files 2/2", True)
    line.on_file("aa", 1)  # removed there
    assert line.mark == "✓✓ read 2/2, files 1/2"
    direct = own("dm")
    direct.event["files"] = [{"root": "aa"}]
    direct.on_delivered(1, 1)
    direct.on_file("aa", 1)
    assert direct.mark == "✓ delivered, has the file"


async def test_an_own_line_is_printed_soon_when_another_follows(screen: Screen, paper: Paper) -> None:
    screen.add_pending(own())
    printing = asyncio.ensure_future(printed(paper, "ada: hi"))
    assert not (await asyncio.wait([printing], timeout=0))[0]
    screen.add_line([("", "bob: hello")])
    await printing
    await printed(paper, "bob: hello")
    assert re.sub(r"\x1b\[.*?[hlm]|\r", "", paper.text) == "12:00 ada: hi  · saved\nbob: hello\n"
