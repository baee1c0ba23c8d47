"""Presence and typing indicators in a real terminal."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from p2pchat import Conversation, Events, Presence, Typing
from tests.deadlines import WAIT
from tests.ports import free_ports
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

CAME, WENT = "\x1b[I", "\x1b[O"  # focus reports of a terminal
ASKED, STOPPED = b"\x1b[?1004h", b"\x1b[?1004l"


async def test_focus_reports_are_requested_and_disabled_at_the_end(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    assert ASKED in ada.raw
    await ada.type(f"one{WENT}{CAME} two")
    await ada.prompts("room> one two")
    await ada.key("c-r")  # a search handles keys differently
    await ada.type(f"{WENT}{CAME}{WENT}")
    await ada.key("c-c", "c-c")
    await ada.prompts("room>")
    await ada.paste("line\n" * 12)
    await ada.shows("send 12 lines as one message?")
    await ada.line(f"{WENT}{CAME}no")  # the reports are no answer to a question
    await ada.prompts("room>")
    await ada.line("/quit")
    assert await ada.ended() == 0
    assert ada.raw.rfind(STOPPED) > ada.raw.rfind(ASKED)


async def told(events: Events[Typing]) -> tuple[str, bool]:
    async with asyncio.timeout(WAIT):
        event = await anext(events)
    return event.conversation.name, event.typing


async def comes(events: Events[Presence], status: str) -> str:
    """Wait until ada has this status; return its text."""
    async with asyncio.timeout(WAIT):
        async for event in events:
            if (event.user.name, event.status) == ("ada", status):
                return event.text
    raise AssertionError("the peer has ended")


async def test_typing_and_presence_reach_each_other(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    typing, presence = bob.events(Typing, consumer=None), bob.events(Presence, consumer=None)
    # An indicator is sent for a text, not for a command, and not when switched off.
    await ada.type("/who")
    await ada.key("c-c")
    await ada.answers("/set typing off room", "-- typing in room off")
    await ada.answers("nobody hears that I type this", "type this  ✓ delivered")
    await ada.prompts_after("/go bob", "bob>")
    await ada.type("psst")  # the first that is sent
    assert await told(typing) == ("ada", True)
    await ada.key("enter")
    assert await told(typing) == ("ada", False)
    # Typing users are shown above the prompt until they send.
    await ada.line("/set typing usual room")
    await ada.line("/go")
    await ada.type("my own words")
    await ada.prompts("room> my own words")
    goes_on = asyncio.create_task(types_on(bob.room))
    await above(ada, "bob is typing …")
    also = asyncio.create_task(types_on(bob.find("ada")))
    await above(ada, "bob is typing …   bob is typing to you …")
    goes_on.cancel()
    await bob.broadcast("there")
    await above(ada, "bob is typing to you …")
    also.cancel()
    await bob.send("ada", "psst")
    await ada.shows("bob -> ada: psst")  # before ada is away
    await ada.until(lambda: not any("typing …" in line for line in ada.lines), "nobody types")
    await ada.prompts("room> my own words")
    await ada.key("c-c")
    # An away text is shown to everyone, and to the sender of a message.
    await ada.line("/away lunch, back at one")
    assert await comes(presence, "idle") == "lunch, back at one"
    bob.set_presence("idle", "in a meeting")
    asked = 0
    while "bob: idle" not in ada.text:
        asked += 1
        await ada.line("/who")
        await ada.until(lambda: ada.text.count("-- ada: ") == asked)  # noqa: B023
        await ada.until(lambda: ada.prompt == "room>")
    await ada.answers("/msg bob are you there", '-- bob is away: "in a meeting"')
    await ada.line("/back")
    assert await comes(presence, "online") == ""


async def types_on(where: Conversation) -> None:
    """Type until the task is cancelled: ada's display of it would end after six seconds."""
    while True:
        where.typing()
        await asyncio.sleep(0.5)


async def above(shown: Terminal, text: str) -> None:
    """Wait until this is the row above the prompt."""
    await shown.until(lambda: shown.lines[-2:-1] == [text], text)


async def test_a_rename_names_the_one_of_two_with_the_same_name(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    port = await port_of(ada)
    await peer("bob", port)
    await ada.shows("bob is here")
    robert = await peer("robert", port)
    await ada.shows("robert is here")
    await robert.rename("bob")
    await ada.shows(f"-- robert is now known as bob#{robert.me.id[:8]}")
    await robert.rename("Anna Maria")
    await ada.shows(f'-- bob#{robert.me.id[:8]} is now known as "Anna Maria"')
    assert "-- bob is now known" not in ada.text


async def test_a_gateway_is_linked_and_names_that_nobody_registered_are_no_people(
    terminal: OpenTerminal, home: Path
) -> None:
    here, (http, port) = ("--data", str(home / "ada")), free_ports(2)
    words = ("--port", port, "--trust-loopback", "--name", "gate", "--data", str(home / "gate"))
    gate = await terminal("web", http, *words)
    await gate.shows("the page")
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{http}", params={"as": "zoe"}, trust_env=False, timeout=WAIT
    ) as zoe:
        sent = await zoe.post("/messages", json={"to": "zooey", "content": "for when you come"})
        assert sent.json()["reserved"]
    ada = await terminal("0", port, "--name", "ada", *here, columns=120)
    await ada.shows("gate is here")
    asked = 0
    while "-- zoe: offline" not in ada.text:  # of whom gate tells
        asked += 1
        await ada.line("/who -a")
        await ada.until(lambda: ada.text.count("-- ada: ") == asked)  # noqa: B023
        await ada.until(lambda: ada.prompt == "room>")
    await ada.line("/whois gate")
    await ada.shows_line("own peer: linked")
    linked = re.findall("^-- gate: a gateway, linked$", ada.text, re.M)
    assert len(linked) == asked + 1 and "zooey" not in ada.text
    users = await terminal("users", *here)
    await users.shows_line("^gate: a gateway, linked$")
    doctor = await terminal("doctor", *here, columns=120)
    await doctor.shows_line("linked with .*gate")
    await ada.line("/msg zooey are you there?")
    await ada.shows("nobody here is called 'zooey'")


async def test_all_who_are_known_are_named_where_nobody_answers(terminal: OpenTerminal, peer: StartPeer) -> None:
    [port] = free_ports(1)
    ada = await terminal(port, "--name", "ada")
    others = [await peer(name, int(port)) for name in ("bob", "cyd")]  # it was dialled by both, and reached neither
    for one in others:
        await one.room.send("hello")
        await ada.shows(f"{one.me.name}: hello")
    await ada.answers("/quit")
    await ada.ended()
    for one in others:
        await one.aclose()
    again = await terminal(port)
    await again.shows("-- no known peer answers yet; still trying bob, cyd")


async def test_who_is_beyond_a_machine_that_is_off_is_not_called_offline(terminal: OpenTerminal) -> None:
    rita = await terminal("0", "--name", "rita")
    port = str(await port_of(rita))
    ada = await terminal("0", port, "--no-listen", "--name", "ada", columns=200)
    bob = await terminal("0", port, "--no-listen", "--name", "bob")
    await bob.shows("ada is here")
    await bob.line("I sit here")
    await ada.shows("bob: I sit here")
    await rita.line("/quit")
    await ada.shows("-- rita left")
    await ada.shows("-- bob left")
    await ada.line("/msg bob are you there?")
    await ada.shows("bob can get it once linked: cannot be reached from here; rita, who linked you last, is off")
    await ada.answers("/who", "-- bob: cannot be reached from here; rita, who linked you last, is off")
    assert "bob is offline" not in ada.text
