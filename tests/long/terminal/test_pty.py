"""The test harness: it types, reads the screen, answers cursor requests, and waits without sleeping."""

from __future__ import annotations

import sys

import pytest

from tests.terminal.conftest import OpenTerminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKS_WHERE = r"""
import sys, termios, tty
old = termios.tcgetattr(0)
tty.setraw(0)
sys.stdout.write("\x1b[3;5H\x1b[6n\x1b]2;a title\x07\x07"); sys.stdout.flush()
answer = ""
while not answer.endswith("R"):
    answer += sys.stdin.read(1)
termios.tcsetattr(0, termios.TCSADRAIN, old)
print(repr(answer))
"""


async def test_the_harness_types_and_keeps_the_scrollback(terminal: OpenTerminal) -> None:
    shown = await terminal(command=("cat",), columns=20, rows=4)
    for number in range(6):
        await shown.line(f"line {number}")
    await shown.until(lambda: shown.text.count("line 5") == 2)  # the echo, and cat
    assert shown.all_lines[0] == "line 0"
    assert "line 5" in shown.lines and "line 0" not in shown.lines
    await shown.key("c-d")
    assert await shown.ended() == 0


async def test_the_harness_answers_cursor_requests(terminal: OpenTerminal) -> None:
    shown = await terminal(command=(sys.executable, "-c", ASKS_WHERE))
    await shown.shows(r"'\x1b[3;5R'")
    assert (shown.title, shown.screen.bells) == ("a title", 1)


async def test_a_failed_wait_shows_the_screen(terminal: OpenTerminal) -> None:
    shown = await terminal(command=("cat",))
    await shown.line("here")
    await shown.until(lambda: shown.text.count("here") == 2)
    with pytest.raises(AssertionError, match="the screen:\nhere\nhere"):
        await shown.shows("there", timeout=0.2)


async def test_ctrl_c_is_a_signal(terminal: OpenTerminal) -> None:
    shown = await terminal(command=("cat",))
    await shown.line("here")
    await shown.until(lambda: shown.text.count("here") == 2)
    await shown.key("c-c")
    assert await shown.ended() == -2
