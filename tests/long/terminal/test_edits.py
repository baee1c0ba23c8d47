"""Replies, edits, deletions and reactions in a terminal of 40 columns."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path

import pytest

from p2pchat import Deleted, Message, Reaction
from p2pchat.cli.control_client import ask_running_peer
from tests.deadlines import WAIT
from tests.long.terminal.test_prompt import texts_of
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_edits_and_reactions_are_new_lines(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=40)
    events = bob.events(Message, Reaction, consumer=None)
    plan = await bob.send("room", "lunch at ten?")
    await ada.shows_line(r"^\d\d:\d\d bob: lunch at ten\?$")
    await bob.edit(plan.id, "lunch at noon?")
    await ada.shows_line(r"^\d\d:\d\d bob \(edited; first sent \d\d:\d\d\):")
    await ada.line("/react +1")
    async with asyncio.timeout(WAIT):
        reaction = await anext(events)
    assert isinstance(reaction, Reaction) and (reaction.id, reaction.reaction) == (plan.id, "+1")
    await ada.shows_line(r"^\d\d:\d\d -- ada reacted \+1 to bob")
    await ada.line("/react")
    async with asyncio.timeout(WAIT):
        removed = await anext(events)
    assert isinstance(removed, Reaction) and (removed.id, removed.reaction) == (plan.id, "")
    await ada.answers("/react", "nothing changed")
    await ada.line("yse")
    await ada.line("/edit yes")
    await ada.shows_line(r"^\d\d:\d\d ada \(edited; first sent \d\d:\d\d\):")
    await ada.line("/history")
    await ada.shows_line(r"^2 \d\d:\d\d bob: lunch at noon\? \(edited\)$")
    await ada.shows_line(r"^1 \d\d:\d\d ada: yes \(edited\)$")
    await ada.line("/reply 2 with soup")
    async with asyncio.timeout(WAIT):
        answers = [await anext(events) for _ in range(2)]
    assert [(each.text, each.reply_to) for each in answers if isinstance(each, Message)][-1] == ("with soup", plan.id)
    await bob.react((await bob.history("room"))[-1], "soup!")
    await ada.shows("bob reacted")
    await bob.delete(plan.id)
    await ada.shows_line(r"^\d\d:\d\d -- bob deleted a message sent")


async def test_a_deletion_is_asked_for_and_named(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    deletions = bob.events(Deleted, consumer=None)
    for text in ("first", "nice one"):
        await ada.answers(text, f"ada: {text}  ✓")
    no = {"no\r": "", "N\r": "", "\r": "", "\x03": "", "\x04": "", "\x1b": "", "no\x1b": "no"}
    other = {"yes please\r": "yes please", "/list\r": "/list", "\x1b[200~yes\x1b[201~": "yes"}
    for answer, line in {**no, **other}.items():
        await ada.line("/delete")
        await ada.until(lambda: re.match(r'delete "nice one" \(\d\d:\d\d\)\? yes/no', ada.prompt), "the question")
        await ada.type(answer)
        await ada.until(lambda: ada.prompt == f"room> {line}".strip(), repr(answer))  # noqa: B023
        await ada.key("c-u")
        await ada.until(lambda: ada.prompt == "room>")
    await ada.until(lambda: ada.text.count("-- nothing was deleted") == len(no) + len(other))
    await ada.line("/delete")
    await ada.until(lambda: ada.prompt.startswith("delete"))
    await ada.line("Y")
    await ada.shows_line(r'^\d\d:\d\d -- ada deleted "nice one", sent \d\d:\d\d$')
    async with asyncio.timeout(WAIT):
        deleted = await anext(deletions)
    assert deleted.message.text == ""
    await ada.line("/delete")
    await ada.until(lambda: ada.prompt.startswith('delete "first"'))
    assert await ada.taken_away() in (0, 3, 129)
    assert [post.text for post in await bob.history("room")] == ["first", ""]


async def test_a_question_ends_when_its_message_is_gone(terminal: OpenTerminal, peer: StartPeer, home: Path) -> None:
    ada, bob = await ada_and("bob", terminal, peer, "--data", str(home / "ada"))
    await ada.answers("first", "ada: first  ✓")
    await ada.line("/delete")
    await ada.until(lambda: ada.prompt.startswith('delete "first"'), "the question")
    await ada.type("and now")
    other = await bob.broadcast("another one")
    await ada.shows("another one")
    await bob.delete(other.id)
    await ada.shows("bob deleted")
    assert ada.prompt.startswith('delete "first"')
    first = (await bob.history("room"))[0].id
    assert await ask_running_peer(home / "ada", "delete", id=first)  # as a script of hers does
    await ada.until(lambda: ada.prompt == "room> and now", "the line")
    await ada.shows("-- nothing was deleted")


async def test_edits_made_meanwhile_are_shown_on_return(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    plan, wrong = await bob.broadcast("lunch at ten?"), await bob.broadcast("wrong window")
    await ada.shows("bob: wrong window")
    await ada.prompts_after("/go bob", "bob>")
    await bob.edit(plan.id, "lunch at noon?")
    await bob.delete(wrong.id)
    await bob.send("ada", "both are done")
    await ada.shows("both are done")
    assert "noon" not in ada.text
    await ada.prompts_after("/go", "room>")
    await ada.shows("bob: lunch at noon? (edited)")
    await ada.shows("bob: [deleted]")
    assert ada.text.count("noon") == 1  # the last lines show it
    await bob.edit(plan.id, "lunch at one?")
    await bob.send_many("room", [f"line {number}" for number in range(6)])
    await ada.shows("bob: line 5")
    await ada.prompts_after("/go bob", "bob>")
    await bob.edit(plan.id, "lunch at two?")
    await bob.send("ada", "now it is done")
    await ada.shows("now it is done")
    await ada.prompts_after("/go", "room>")  # which shows too few lines for that
    await ada.shows_line(r"^\d\d:\d\d bob \(edited; first sent \d\d:\d\d\): lunch at two\?$")


async def test_what_was_typed_before_a_question_answers_nothing_and_goes_to_nobody(
    terminal: OpenTerminal, peer: StartPeer
) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("first", "ada: first  ✓")
    await ada.type("/delete\ryes\rsecret\ryes")
    await ada.until(lambda: ada.prompt.startswith('delete "first"'), "the question")
    await ada.line("no")
    await ada.shows("-- nothing was deleted")
    await ada.until(lambda: ada.lines[-3:] == ["ada to room> yes", "secret", "yes"], "the lines again")
    await ada.key("c-c")
    await ada.answers("second", "ada: second  ✓")
    assert await texts_of(bob, 2) == ["first", "second"]


async def test_a_letter_answers_a_question_and_any_other_line_is_a_no_that_stays(
    terminal: OpenTerminal, peer: StartPeer
) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("first", "ada: first  ✓")
    others = [("n\r", ""), ("see you at ten\r", "see you at ten"), ("/users\r", "/users"), ("wait\x1b", "wait")]
    for told, (typed, left) in enumerate(others, 1):
        await ada.line("/delete")
        await ada.until(lambda: ada.prompt.startswith('delete "first"'), "the question")
        await ada.type(typed)
        await ada.until(partial(_says_no, ada, told, left), f"a no to {typed!r}")
        await ada.key("c-u")
    await ada.line("/delete")
    await ada.until(lambda: ada.prompt.startswith('delete "first"'), "the question")
    await ada.line("y")
    await ada.shows('ada deleted "first"')
    assert [post.text for post in await bob.history("room")] == [""]


def _says_no(ada: Terminal, told: int, left: str) -> bool:
    return ada.text.count("-- nothing was deleted") == told and ada.prompt == f"room> {left}".rstrip()


async def test_a_whole_conversation_is_deleted_after_a_question(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await (await bob.send("ada", "psst")).delivered(timeout=60)
    await ada.shows("psst")
    for answer, told in (("no", "-- nothing was deleted"), ("yes", "-- deleted 1 message of bob here")):
        await ada.line("/delete-conversation bob")
        await ada.until(lambda: ada.prompt.startswith("delete everything stored here of bob"), "the question")
        await ada.line(answer)
        await ada.shows(told)
    await ada.prompts_after("/go bob", "bob>")
    await ada.answers("/history", "-- 1 message of bob was deleted here")
