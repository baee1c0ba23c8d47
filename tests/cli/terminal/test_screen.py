"""What is printed above the prompt: all of it, in order, a little at a time, and only so much waits."""

from __future__ import annotations

import asyncio

import pytest
from prompt_toolkit.output import ColorDepth, DummyOutput

from p2pchat.cli.terminal.screen import MAX_BATCH_CHARACTERS, MAX_QUEUED, Screen

LONG = "x" * (MAX_BATCH_CHARACTERS - 1)


class Paper(DummyOutput):
    """Keeps what is written, and where it was flushed: a batch each."""

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
    async with asyncio.timeout(10):
        while text not in paper.text:
            await asyncio.sleep(0)


async def test_long_lines_are_printed_over_several_turns_of_the_loop(screen: Screen, paper: Paper) -> None:
    for _ in range(10):
        screen.add_line([("", LONG)])
    screen.add_line([("", "the end")])
    await printed(paper, "the end")
    assert paper.text.count("x") == 10 * len(LONG)
    assert max(batch.count("x") for batch in paper.batches) <= 2 * len(LONG)


async def test_so_is_one_line_of_very_many_rows(screen: Screen, paper: Paper) -> None:
    screen.add_line([("bold", "mallory"), ("", ": " + "\n    | y" * 10_000 + " the end")])
    await printed(paper, "the end")
    assert paper.text.count("\n") == 10_001 and paper.text.count("    | y") == 10_000
    assert max(batch.count("\n") for batch in paper.batches) < 3000


async def test_when_nothing_can_be_printed_whoever_has_more_waits(screen: Screen, paper: Paper) -> None:
    screen.hold()
    while screen._has_room.is_set():
        screen.add_line([("", LONG)])
    waiting = asyncio.ensure_future(screen.wait_for_room())
    assert not (await asyncio.wait([waiting], timeout=0))[0]
    assert screen._queued <= MAX_QUEUED + len(LONG)
    screen.release()
    await asyncio.wait_for(waiting, 10)


@pytest.mark.parametrize("end", ["leaves", "terminal goes"])
async def test_nobody_waits_beyond_the_end(screen: Screen, end: str) -> None:
    screen.hold()
    while screen._has_room.is_set():
        screen.add_line([("", LONG)])
    waiting = asyncio.ensure_future(screen.wait_for_room())
    await asyncio.sleep(0)
    if end == "leaves":
        screen.stop_waiting()
        screen.add_line([("", LONG)])
    else:
        screen.closed.set()
    await asyncio.wait_for(waiting, 10)
