"""`send` and `tail` in a second terminal, beside an open chat."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.terminal.conftest import OpenTerminal

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX"),
]


async def test_send_beside_a_chat_is_shown_in_it(terminal: OpenTerminal, home: Path) -> None:
    here = ("--data", str(home / "ada"))
    ada = await terminal("0", "--name", "ada", *here)
    await ada.shows("ada listens on")
    bob = await terminal("0", str(port_of(ada.lines)), "--name", "bob", "--data", str(home / "bob"))
    await ada.shows("bob is here")
    await ada.type("half a lin")
    sent = await terminal("send", "bob", "from beside", *here)
    assert await sent.ended() == 0
    await bob.shows_line(r"ada -> bob: from beside")
    await ada.shows_line(r"ada -> bob: from beside")
    await ada.shows("half a lin")  # the line being typed is whole
    tail = await terminal("tail", *here)
    await tail.shows_line(r"ada -> bob: from beside")
    await ada.type("e\r")
    await tail.shows_line(r"ada: half a line")
    await tail.key("c-c")
    assert await tail.ended() == 130


async def test_send_reads_a_message_until_ctrl_d(terminal: OpenTerminal, home: Path) -> None:
    here = ("--data", str(home / "ada"))
    ada = await terminal("0", "--name", "ada", *here)
    await ada.shows("ada listens on")
    send = await terminal("send", "room", "--wait", "accepted", *here)
    await send.shows("-- type the message; Ctrl-D on a line of its own ends it")
    await send.type("one\r/quit\r")
    await send.key("c-d")
    assert await send.ended() == 0
    await ada.shows_line(r"ada: one")
    await ada.shows("    | /quit")


def port_of(lines: list[str]) -> int:
    [port] = re.findall(r"listens on 127\.0\.0\.1:(\d+)", "\n".join(lines))
    return int(port)
