"""Typed commands in a real terminal: help, mistakes, and answers."""

from __future__ import annotations

import pytest

from tests.long.terminal.test_prompt import texts_of
from tests.ports import free_ports
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, ada_bob_and_cyd, port_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_help_fits_the_smallest_terminal(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada", columns=80, rows=24)
    await ada.shows("listens on")
    await ada.answers("/help", "/help COMMAND explains")
    await ada.until(lambda: ada.prompt == "room>")  # drawn below the last row
    lines = [line for line in ada.lines if line.strip()]
    assert any(line.startswith("What you type goes to") for line in lines)  # nothing has scrolled away
    assert [line for line in lines if line.startswith("  /msg bob see you at ten  message one person")] != []
    await ada.answers("/help dm", "/msg NAME [TEXT] (also /dm)", "for example: /msg bob see you at ten")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("/mgs bob the secret", "did you mean /msg?"),
        (" /msg bob the secret", "Did you mean /msg?"),
        ("/ msg bob the secret", "Did you mean /msg?"),
        ("／msg bob the secret", "Did you mean /msg?"),
        ("/мsg bob the secret", "did you mean /msg?"),
        ("/123 the secret", "/help lists them"),
        ("/kick the secret", "/kick works in a group"),
    ],
    ids=["typo", "blank before", "blank behind", "full width", "cyrillic", "digits", "no group"],
)
async def test_a_mistyped_command_is_not_sent(terminal: OpenTerminal, peer: StartPeer, line: str, hint: str) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers(line, hint)
    await ada.line("hello")
    assert await texts_of(bob, 1) == ["hello"]


async def test_a_reply_shows_its_message(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    receipt = await bob.broadcast("are you there at all, dear?")
    await ada.shows("bob: are you there")
    await ada.answers("/reply yes", 'ada (to bob: "are you there at all, d…"): yes')
    assert await texts_of(bob, 1) == ["yes"]
    assert [post.reply_to for post in await bob.history("room")] == [None, receipt.id]


async def test_a_reply_means_what_was_shown_when_it_was_begun(terminal: OpenTerminal, peer: StartPeer) -> None:
    """A private message that came while it was typed got the answer to somebody else."""
    ada, bob, cyd = await ada_bob_and_cyd(terminal, peer)
    question = await cyd.broadcast("marry me?")
    await ada.shows("cyd: marry me?")
    await ada.type("/reply yes, ")
    await ada.prompts("room> /reply yes,")
    await bob.send("ada", "are we late?")
    await ada.shows("bob -> ada: are we late?")
    await ada.type("gladly\r")
    await ada.shows('ada (to cyd: "marry me?"): yes, gladly')
    assert await texts_of(cyd, 1) == ["yes, gladly"]
    assert (await cyd.history("room"))[-1].reply_to == question.id
    await ada.line("/reply no")  # begun anew
    await ada.shows('ada -> bob (to bob: "are we late?"): no')


async def test_an_ignored_user_is_hidden(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("/ignore bob", "bob is ignored from now on")
    await (await bob.send("ada", "look at me")).delivered(timeout=60)
    await (await bob.broadcast("everybody, ada too")).delivered(timeout=60)
    await ada.answers("who else is here?", "delivered 1/1")  # shown after everything before
    await ada.answers("/list", "-- room (here)")
    await ada.line("/who")
    await ada.shows_line(r"^-- bob: online \(ignored\)$")  # below the whole list
    assert not [line for line in ada.lines if "unread" in line or "look at me" in line or "everybody" in line]
    await ada.answers("/unignore bob", "bob is no longer ignored")
    await ada.answers("/history", "bob: everybody, ada too")
    await ada.answers("/go bob", "bob -> ada: look at me")


async def test_a_refused_line_comes_back_with_up(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.answers("/mgs bob see you at noon", "did you mean /msg?")
    await ada.line("and this is no part of it")
    assert await texts_of(bob, 1) == ["and this is no part of it"]
    await ada.key("up", "up")
    await ada.prompts("room> /mgs bob see you at noon")
    await ada.key("home", *["right"] * 2, *["delete"] * 2, "s", "g", "enter")
    assert (await texts_of(bob, 2))[1] == "see you at noon"
    await ada.until(lambda: ada.prompt == "room>")
    await ada.paste("x" * 32_769)
    await ada.key("enter")
    await ada.shows("too long: 32,769 bytes, at most 32,768. Press Up")
    await ada.until(lambda: ada.prompt == "room>")
    await ada.key("up", "backspace", "enter")
    assert (await texts_of(bob, 3))[2] == "x" * 32_768


async def test_a_group_is_typed_as_it_is_shown(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.answers('/group "night shift"', '#"night shift"')
    for typed in ('#"night shift"', '"#night shift"', "#night shift"):
        await ada.prompts_after("/go", "room>")
        await ada.prompts_after(f"/go {typed}", '"#night shift">')


async def test_leave_says_where_the_next_line_goes(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.prompts_after("/group ops", "#ops>")
    await ada.answers("/leave", "-- what you type goes to the room now")
    await ada.prompts("room>")


async def test_a_taken_name_is_warned_of_before_it_is_used(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=120)
    await bob.rename("ada")
    await ada.shows_line(r"bob is now known as ada#\w{8}$")
    told = [line for line in ada.all_lines if "the name 'ada'" in line or "is now known as" in line]
    assert [line.split(":")[0] for line in told[:1]] == ["p2pchat"] and len(told) == 2
    await ada.answers("/nick kim", "-- you are now kim")
    await ada.answers("hello", "kim: hello")
    await ada.until(lambda: ada.cursor_row == "kim to room>")
    assert sum("kim" in line for line in ada.all_lines[:-1]) == 2  # one's own rename is not shown in the third person


async def test_connect_says_what_it_does_before_how_it_went(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada", columns=150)
    closed = f"127.0.0.1:{free_ports(1)[0]}"
    await ada.prompts("room>")
    await ada.answers(f"/connect {closed}", f"-- {closed} does not answer: nobody listens there")
    itself = f"127.0.0.1:{await port_of(ada)}"
    await ada.answers(f"/connect {itself}", f"-- {itself} is this peer itself")
    told = [line for line in ada.all_lines if closed in line or (itself in line and "listens" not in line)]
    assert [line.split(" (")[0] for line in told] == [
        f"-- connecting to {closed}",
        f"-- {closed} does not answer: nobody listens there",
        f"-- connecting to {itself}",
        f"-- {itself} is this peer itself",
    ]


async def test_answers_of_commands(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=100)
    await ada.answers("the backup failed", "delivered 1/1")
    await ada.answers("/receipts", '"the backup failed": delivered 1 of 1 here; bob has it')
    await ada.answers("/search FAILED", "-- 1 match in the room; everywhere: /search -a FAILED")
    await (await bob.send("ada", "it failed again")).delivered(timeout=60)
    await ada.answers("/search -a FAILED", "bob -> ada: it failed again", "-- 2 matches in all conversations")
    await ada.answers("/whois bob", "linked, from", f"id {bob.me.id}")
    await ada.answers("/away lunch", "others see that you are away")
    await ada.answers("/set joins off", "-- joins off (auto|on|off)")
    await ada.answers("/invite", "--invite -", "only this computer can reach you")
