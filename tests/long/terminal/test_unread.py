"""Unread messages in a real terminal: shown when a conversation is opened, and marked read only then."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from p2pchat import DeliveryTimeout, Presence, Receipt, TCPPeer
from tests.long.terminal.test_conversations import without_times
from tests.long.terminal.test_prompt import said
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

KILL = signal.Signals(9)  # Windows has no name for it
CAME, WENT = "\x1b[I", "\x1b[O"  # focus reports of a terminal


async def end(shown: Terminal, how: str) -> None:
    if how == "/quit":
        await shown.line(how)
    else:
        shown.signal(KILL)
    await shown.ended()


def between(shown: Terminal, first: str, last: str) -> list[str]:
    """Return the lines from the last row `first` up to the next row `last`, both included."""
    lines = without_times(shown)
    start = len(lines) - 1 - lines[::-1].index(first)
    return lines[start : lines.index(last, start) + 1]


async def send_lines(peer: TCPPeer, to: str, first: int, last: int) -> list[Receipt]:
    return [await peer.send(to, f"line {number}") for number in range(first, last + 1)]


def lines_of_bob(first: int, last: int, to: str = "bob") -> list[str]:
    return [f"{to}: line {number}" for number in range(first, last + 1)]


@pytest.mark.parametrize("how", ["/quit", "kill -9"])
async def test_unread_lines_are_all_shown_after_a_restart(
    terminal: OpenTerminal, peer: StartPeer, home: Path, how: str
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    read = await bob.broadcast("read")
    await read.read(timeout=60)
    await ada.prompts_after("/go bob", "bob>")
    unread = await send_lines(bob, "room", 1, 45)
    await ada.prompts("[room 45] bob>")
    await unread[-1].delivered(timeout=60)
    assert {receipt.status for receipt in unread} == {"delivered"}
    await end(ada, how)

    again = await terminal("0", *data)
    await again.shows("──── now ────")
    assert between(again, "──── new ────", "──── now ────")[1:-1] == lines_of_bob(1, 45)
    await again.prompts("room>")
    await bob.connect(f"localhost:{await port_of(again)}")
    await unread[-1].read(timeout=60)


async def test_what_came_behind_an_editor_is_unread(
    terminal: OpenTerminal, peer: StartPeer, home: Path, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho EDITING; read answer\n")
    editor.chmod(0o755)
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data, env={"VISUAL": str(editor)})
    await ada.key("c-x", "e")
    await ada.shows("EDITING")
    direct, room = await bob.send("ada", "to you"), await bob.broadcast("to all")
    for receipt in (direct, room):
        await receipt.delivered(timeout=60)
    with pytest.raises(DeliveryTimeout):
        await room.read(timeout=1)
    assert (direct.status, room.status) == ("delivered", "delivered")
    await end(ada, "kill -9")

    again = await terminal("0", *data)
    await again.shows("──── now ────")
    await again.prompts("[bob 1] room>")
    assert between(again, "──── new ────", "──── now ────")[1:-1] == ["bob: to all"]


async def test_unread_direct_messages_are_all_shown_after_a_restart(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    for line in ("/set notify none bob", "/who"):
        await ada.line(line)
    await ada.shows("-- bob: online")
    await send_lines(bob, "ada", 1, 45)
    await ada.prompts("[bob 45] room>")
    await end(ada, "/quit")

    again = await terminal("0", *data)
    await again.prompts("[bob 45] room>")
    await again.key("m-a")
    await again.prompts("bob>")
    lines = [f"line {number}" for number in range(1, 46)]
    await again.until(lambda: said(again, "bob -> ada") == lines, "all of them, in order")


async def test_opening_a_conversation_shows_its_unread_lines_in_one_piece(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    await bob.broadcast("tea is ready")
    await ada.shows("tea is ready")
    await end(ada, "/quit")

    ada = await terminal("0", "--name", "ada", str(bob.port), *data)
    await ada.shows("──── now ────")
    await ada.shows("bob is here")
    await ada.prompts_after("/go bob", "bob>")
    for number, text in enumerate(("one", "two, ada", "three"), 1):
        await bob.broadcast(text)
        await ada.until(lambda count=number: f"[room {count}" in ada.prompt)  # type: ignore[misc]
    await ada.answers("/go", "bob: three")
    await ada.prompts("room>")
    lines = without_times(ada)
    news = ["──── new ────", "bob: one", "bob: two, ada", "bob: three"]
    assert lines[lines.index("──── room ────") : -1] == ["──── room ────", "bob: tea is ready", *news]
    four = await bob.broadcast("four")
    await four.read(timeout=60)
    await ada.answers("/go", "bob: four")
    lines = without_times(ada)
    last = [f"bob: {text}" for text in ("two, ada", "three", "four")]
    assert lines[len(lines) - lines[::-1].index("──── room ────") : -1][-3:] == last


async def test_too_many_unread_lines_are_shown_and_marked_page_by_page(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    ada, bob = await ada_and("bob", terminal, peer, "--data", str(home / "ada"), rows=40)
    await ada.prompts_after("/go bob", "bob>")
    receipts = await send_lines(bob, "room", 1, 250)
    await ada.prompts("[room 250] bob>")
    await ada.answers("/go", "-- 50 more unread: /go room shows the next ones")
    assert said(ada, "bob") == [f"line {number}" for number in range(1, 201)]
    await ada.prompts("[room 50] room>")
    await receipts[199].read(timeout=60)
    last = await bob.broadcast("line 251")
    await ada.shows("bob: line 251")
    await ada.prompts("[room 51] room>")
    await last.delivered(timeout=60)
    await end(ada, "/quit")
    assert {receipt.status for receipt in (*receipts[200:], last)} == {"delivered"}

    ada = await terminal("0", "--data", str(home / "ada"), str(bob.port))
    await ada.shows("──── now ────")
    assert between(ada, "──── new ────", "──── now ────")[1:-1] == lines_of_bob(201, 251)
    await last.read(timeout=60)


async def test_what_is_shown_to_somebody_away_is_read_after_the_return(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("/allow bob", "everything bob writes is stored, without a limit")  # a contact, so nothing is new
    await ada.line("/away lunch")
    await bob.wait_for(Presence, where=lambda event: event.status == "idle", timeout=60)
    one, two = await bob.send("ada", "one"), await bob.broadcast("two")
    await ada.shows("bob: two")
    await ada.prompts("[bob 1] room>")
    await asyncio.gather(one.delivered(timeout=60), two.delivered(timeout=60))
    assert (one.status, two.status) == ("delivered", "delivered")
    await ada.line("/back")
    await asyncio.gather(one.read(timeout=60), two.read(timeout=60))
    await ada.prompts("room>")
    await ada.type(WENT)
    await ada.line("/set notify all")  # keys bring the focus back
    await ada.shows("-- notify all")
    await ada.type(WENT)
    await ada.key("c-l")  # no key that counts; what was typed before it is handled
    await ada.until(lambda: len(ada.lines) == 1)
    three, four = await bob.send("ada", "three"), await bob.broadcast("four")
    await ada.shows("bob: four")
    await asyncio.gather(three.delivered(timeout=60), four.delivered(timeout=60))
    await ada.prompts("[bob 1] room>")
    await ada.type(f"{CAME}x")
    await asyncio.gather(three.read(timeout=60), four.read(timeout=60))
    await ada.prompts("room> x")
    assert ada.text.count("bob -> ada: three") == 1


async def test_what_was_hidden_from_somebody_away_stays_unread(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    for line in ("/set notify none bob", "/away lunch"):
        await ada.line(line)
    await bob.wait_for(Presence, where=lambda event: event.status == "idle", timeout=60)
    one = await bob.send("ada", "one")
    await ada.prompts("[bob 1] room>")
    await ada.line("/go bob")  # shown to nobody
    await ada.shows("bob -> ada: one")
    await ada.prompts_after("/go", "room>")
    await one.delivered(timeout=60)
    assert one.status == "delivered"
    await ada.line("/back")
    await one.read(timeout=60)


async def test_what_somebody_ignored_for_a_while_wrote_is_unread(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    for line in ("/set notify none bob", "/who"):
        await ada.line(line)
    await ada.shows("-- bob: online")
    await bob.send("ada", "one")
    await ada.prompts("[bob 1] room>")
    await ada.prompts_after("/ignore bob", "room>")
    await (await bob.send("ada", "two")).delivered(timeout=60)
    await (await bob.broadcast("three")).delivered(timeout=60)
    await ada.prompts_after("/unignore bob", "[room 1 · bob 2] room>")
    await ada.answers("/list", "-- bob: 2 unread")
    await ada.answers("/go", "bob: three")
    await ada.prompts("[bob 2] room>")
    await end(ada, "/quit")

    ada = await terminal("0", *data)
    await ada.prompts("[bob 2] room>")


async def test_history_shows_the_rest_of_very_many_unread_lines(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, rows=40)
    await ada.prompts_after("/go bob", "bob>")
    receipts = await send_lines(bob, "room", 1, 230)
    await ada.prompts("[room 230] bob>")
    await ada.prompts_after("/go", "[room 30] room>")
    await ada.line("/history 29")  # one is missing
    await ada.shows_line("^29 .* line 202$")
    await ada.prompts("[room 30] room>")
    await receipts[-1].delivered(timeout=60)
    assert receipts[-1].status == "delivered"
    await ada.line("/history 30")
    await receipts[-1].read(timeout=60)
    await ada.prompts("room>")


async def test_plain_lines_show_what_an_earlier_run_only_counted(
    terminal: OpenTerminal, peer: StartPeer, home: Path
) -> None:
    data = ("--data", str(home / "ada"))
    ada, bob = await ada_and("bob", terminal, peer, *data)
    await ada.prompts_after("/group ops bob", "#ops>")
    await bob.broadcast("one")
    await ada.prompts("[room 1] #ops>")
    await ada.answers("/set notify none bob", "-- notify in bob none")
    two = await bob.send("ada", "two")
    await ada.prompts("[room 1 · bob 1] #ops>")
    await end(ada, "/quit")

    ada = await terminal("0", str(bob.port), "--plain", *data)
    await ada.shows_line("bob: one$")
    await ada.line("/go bob")
    await ada.shows_line("bob -> ada: two$")
    await two.read(timeout=60)
    assert said(ada, "bob") == ["one"]


async def test_a_mention_marks_nothing_that_a_new_member_was_not_shown(terminal: OpenTerminal, peer: StartPeer) -> None:
    bob = await terminal("0", "--name", "bob")
    ada = await peer("ada", await port_of(bob))
    await bob.shows("ada is here")
    third = await ada.create_group("third")
    for text in ("t1", "t2"):
        await third.send(text)
    await third.add("bob")
    await bob.shows("-- 2 older messages in #third: see /go #third")
    mention = await third.send("t3 after bob")
    await bob.shows("[#third] ada: t3 after bob")
    await bob.prompts("[#third 1 @1] room>")
    with pytest.raises(DeliveryTimeout):
        await mention.read(timeout=1)
    await bob.line("/go #third")
    await mention.read(timeout=60)
    await bob.shows_line(r"^\d\d:\d\d ada: t3 after bob$")
    await bob.prompts("#third>")
    lines = without_times(bob)
    assert lines[lines.index("──── #third ────") + 1 : -1] == [
        "ada: t1",
        "ada: t2",
        "──── new ────",
        "ada: t3 after bob",
    ]
    await bob.line("/go #third")
    await bob.until(lambda: bob.text.count("ada: t1") == 2, "the last lines once more")
