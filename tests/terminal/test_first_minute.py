"""A newcomer's first minute: `p2pchat` typed into a terminal, its questions, hints and errors."""

from __future__ import annotations

import pytest

from tests.terminal.conftest import OpenTerminal
from tests.terminal.pty import Terminal

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("fork_server"),
    pytest.mark.story,
]


async def ada_and_her_port(terminal: OpenTerminal, *words: str) -> tuple[Terminal, int]:
    """Start a peer as a newcomer does, typing only a name."""
    ada = await terminal(*words)
    await ada.prompts("Your name [")
    await ada.line("ada")
    listens = await ada.shows_line(r"-- ada listens on [\d.]+:(\d+),")
    return ada, int(listens[1])


# ---- alone


async def test_the_first_start_asks_only_for_a_name(terminal: OpenTerminal) -> None:
    ada = await terminal()
    await ada.prompts("Your name [")
    await ada.answers("a@da", "a name does not contain '@'")
    await ada.prompts("Your name [")
    await ada.line("ada")
    port = int((await ada.shows_line(r"-- ada listens on 127\.0\.0\.1:(\d+), data in"))[1])
    await ada.shows_line(rf"-- another terminal joins with: p2pchat \d+ {port} --name bob$")
    await ada.shows(f"p2pchat {port} --host 0.0.0.0")
    await ada.shows("/help shows more, /quit leaves")
    await ada.line("/quit")
    assert await ada.ended() == 0

    again = await terminal()
    await again.shows("starting ada again")
    await again.shows_line(r"-- ada listens on 127\.0\.0\.1:\d+")  # another test may have its port now


async def test_a_second_terminal_joins_the_first(terminal: OpenTerminal) -> None:
    ada, port = await ada_and_her_port(terminal)
    bob = await terminal()
    await bob.shows(f"ada is already running on port {port}: starting another peer, linked with it")
    await bob.prompts("Your name [")
    await bob.answers("bob", f"-- 127.0.0.1:{port} reached")
    await bob.shows_line(r"-- ada is here$")  # ada was there before
    await ada.shows_line(r"-- bob is here for the first time$")
    await bob.line("hello ada")
    await ada.shows_line(r"bob: hello ada$")


# ---- a question before something goes for good


# ---- problems


# ---- another machine
