"""`send` and `tail` in a second terminal, beside an open chat."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes.settings_override import altered, changes
from tests.terminal.conftest import P2PCHAT, OpenTerminal, port_of

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("fork_server"),
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX"),
]


async def test_send_beside_a_chat_is_shown_in_it(terminal: OpenTerminal, home: Path) -> None:
    here = ("--data", str(home / "ada"))
    ada = await terminal("0", "--name", "ada", *here)
    bob = await terminal("0", str(await port_of(ada)), "--name", "bob", "--data", str(home / "bob"))
    await ada.shows("bob is here")
    await ada.type("half a lin")
    sent = await terminal("send", "bob", "from beside", "--timeout", "60", *here)
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


async def test_a_message_written_long_ago_says_when_it_came(terminal: OpenTerminal, home: Path) -> None:
    clock, here = home.parent / "clock", ("--data", str(home / "ada"))
    off = (*altered(changes({}, clock=clock)), *P2PCHAT)
    clock.write_text("-10800")  # ada founded her network three hours ago: what was written before would be old
    first = await terminal("0", "--name", "ada", *here, command=off)
    await first.shows("ada listens on")
    await first.type("/quit\r")
    assert await first.ended() == 0
    clock.write_text("-7200")  # bob claims two hours ago
    ada = await terminal("0", "--name", "ada", *here)
    bob = await terminal("0", str(await port_of(ada)), "--name", "bob", "--data", str(home / "bob"), command=off)
    await ada.shows("bob is here")
    await bob.shows("ada is here")
    await bob.type("on the way\r")
    late = r"\d\d:\d\d bob \(came [-0-9 ]*\d\d:\d\d\): on the way"
    await ada.shows_line(late)
    history = await terminal("history", *here)
    await history.shows_line(late)
    assert await history.ended() == 0
    rows = await terminal("history", "--json", *here)
    await rows.shows_line(r'"came": ?"20')
    await ada.type("seen at once\r")
    await bob.shows_line(r"\d\d:\d\d ada: seen at once")  # two hours in bob's future, which is not late
    await bob.shows_line(r"\d\d:\d\d bob: on the way")  # one's own


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
