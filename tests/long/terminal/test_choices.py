"""Questions with choices in a terminal: their keys, which answer what is on the screen, and nothing else."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from p2pchat import Message, Reaction
from tests.deadlines import WAIT
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_a_key_answers_the_newest_question_that_is_not_answered(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    events = bob.events(Message, Reaction, consumer=None)
    first = await bob.send("room", "lunch?", choices=["now", "later"])
    await ada.shows_line(r"^\d\d:\d\d bob: lunch\? \[/react now · later\]$")
    await ada.shows_line(r'^  Alt-1 now · Alt-2 later   bob: "lunch\?"$')
    second = await bob.send("room", "deploy?", choices=["yes", "no", "\x1b[31m"])
    await ada.shows_line(r'^  Alt-1 yes · Alt-2 no · Alt-3 \\u\{1b\}\[31m   bob: "deploy\?"$')
    await ada.type("half a line")
    for key, id, choice in (("m-2", second.id, "no"), ("m-1", first.id, "now")):
        await ada.key(key)
        async with asyncio.timeout(WAIT):
            pressed = await anext(events)
        assert isinstance(pressed, Reaction) and (pressed.id, pressed.reaction) == (id, choice)
        assert not pressed.automatic and pressed.by.name == "ada"
        await ada.shows_line(rf"^\d\d:\d\d -- ada reacted {choice} to bob: ")
    await ada.until(lambda: "Alt-" not in ada.text, "no question is left")
    await ada.prompts("room> half a line")
    await ada.key("enter")
    async with asyncio.timeout(WAIT):
        message = await anext(events)
    assert isinstance(message, Message) and message.text == "half a line"


async def test_a_key_goes_on_switching_where_no_question_is_open(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    events = bob.events(Reaction, consumer=None)
    await bob.send("ada", "hello")
    await ada.shows("bob -> ada: hello")
    asked = await bob.send("ada", "deploy?", choices=["yes", "no"])
    await ada.shows("[/react yes · no]")  # shown here, and asked elsewhere
    assert "Alt-1" not in ada.text
    await ada.key("m-2")
    await ada.prompts("bob>")
    await ada.shows_line(r'^  Alt-1 yes · Alt-2 no   bob: "deploy\?"$')
    await ada.key("m-3")  # neither a choice nor a conversation
    await ada.key("m-1")
    async with asyncio.timeout(WAIT):
        assert (pressed := await anext(events)).reaction == "yes" and pressed.id == asked.id
    await ada.until(lambda: "Alt-1" not in ada.text, "it is answered")
    await ada.key("m-1")
    await ada.prompts("room>")


async def test_a_question_is_gone_with_its_deletion_and_answered_by_hand(
    terminal: OpenTerminal, peer: StartPeer
) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    first = await bob.send("room", "lunch?", choices=["now", "later"])
    await bob.send("room", "deploy?", choices=["yes", "no"])
    await ada.shows("Alt-1 yes")
    await ada.line("/react yes")
    await ada.shows("Alt-1 now")
    await bob.delete(first.id)
    await ada.until(lambda: "Alt-1" not in ada.text, "no question is left")


async def test_a_key_answers_no_question_that_came_in_the_same_moment(terminal: OpenTerminal, peer: StartPeer) -> None:
    if sys.platform == "win32":
        pytest.skip("nothing stops a process")
    ada, bob = await ada_and("bob", terminal, peer)
    events = bob.events(Reaction, consumer=None)
    first = await bob.send("room", "lunch?", choices=["yes", "no"])
    await ada.shows("Alt-1 yes")
    ada.signal(signal.SIGSTOP)
    await bob.send("room", "delete all?", choices=["yes", "no"])
    await ada.key("m-1")
    ada.signal(signal.SIGCONT)
    async with asyncio.timeout(WAIT):
        assert (await anext(events)).id == first.id
    await ada.shows_line(r'^  Alt-1 yes · Alt-2 no   bob: "delete all\?"$')
