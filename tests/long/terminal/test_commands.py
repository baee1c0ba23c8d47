"""Typed commands in a real terminal: help, mistakes, and answers."""

from __future__ import annotations

import pytest

from tests.long.terminal.test_prompt import texts_of
from tests.ports import free_ports
from tests.terminal.conftest import OpenTerminal, StartPeer, port_of
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def answer_to(shown: Terminal, line: str, *texts: str) -> None:
    """Type a line and wait for these texts."""
    await shown.type(f"{line}\r")
    for text in texts:
        await shown.shows(text)


async def test_help_fits_the_smallest_terminal(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada", columns=80, rows=24)
    await ada.shows("listens on")
    await answer_to(ada, "/help", "/help COMMAND explains")
    await ada.until(lambda: ada.prompt == "room>")  # drawn below the last row
    lines = [line for line in ada.lines if line.strip()]
    assert any(line.startswith("What you type goes to") for line in lines)  # nothing has scrolled away
    assert [line for line in lines if line.startswith("  /msg bob see you at ten  message one person")] != []
    await answer_to(ada, "/help dm", "/msg NAME TEXT (also /dm)", "for example: /msg bob see you at ten")


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
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    await answer_to(ada, line, hint)
    await ada.prompts(f"room> {line}")
    await ada.key("c-u")
    await ada.type("hello\r")
    assert await texts_of(bob, 1) == ["hello"]


async def test_a_reply_shows_its_message(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    receipt = await bob.broadcast("are you there at all, dear?")
    await ada.shows("bob: are you there")
    await answer_to(ada, "/reply yes", 'ada (to bob: "are you there at all, d…"): yes')
    assert await texts_of(bob, 1) == ["yes"]
    assert [post.reply_to for post in await bob.history("room")] == [None, receipt.id]


async def test_an_ignored_user_is_hidden(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await answer_to(ada, "/ignore bob", "bob is ignored from now on")
    await (await bob.send("ada", "look at me")).delivered(timeout=60)
    await (await bob.broadcast("everybody, ada too")).delivered(timeout=60)
    await answer_to(ada, "who else is here?", "delivered 1/1")  # shown after everything before
    await answer_to(ada, "/list", "-- room (here)")
    await ada.line("/who")
    await ada.shows_line(r"^-- bob: online since .* \(ignored\)$")  # below the whole list
    assert not [line for line in ada.lines if "unread" in line or "look at me" in line or "everybody" in line]
    await answer_to(ada, "/unignore bob", "bob is no longer ignored")
    await answer_to(ada, "/history", "bob: everybody, ada too")
    await answer_to(ada, "/go bob", "bob -> ada: look at me")


async def test_a_refused_line_comes_back_with_up(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await answer_to(ada, "/mgs bob see you at noon", "did you mean /msg?")
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


async def test_a_paste_without_its_end_is_taken_as_it_is(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    for ends in ("after a while", "at once"):
        await ada.type(f"\x1b[200~it ends {ends}")
        if ends == "at once":
            await ada.key("c-c")
        await ada.prompts(f"room> it ends {ends}")
        await ada.key("enter")
    assert await texts_of(bob, 2) == ["it ends after a while", "it ends at once"]


async def test_a_group_is_typed_as_it_is_shown(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.line('/group "night shift"')
    await ada.shows('#"night shift"')
    for typed in ('#"night shift"', '"#night shift"', "#night shift"):
        await ada.line("/go")
        await ada.prompts("room>")
        await ada.line(f"/go {typed}")
        await ada.prompts('"#night shift">')


async def test_leave_says_where_the_next_line_goes(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.line("/group ops")
    await ada.prompts("#ops>")
    await answer_to(ada, "/leave", "-- what you type goes to the room now")
    await ada.prompts("room>")


async def test_a_taken_name_is_warned_of_before_it_is_used(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada", columns=120)
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await bob.rename("ada")
    await ada.shows_line(r"bob is now known as ada#\w{8}$")
    told = [line for line in ada.all_lines if "the name 'ada'" in line or "is now known as" in line]
    assert [line.split(":")[0] for line in told[:1]] == ["p2pchat"] and len(told) == 2
    await ada.line("/nick kim")
    await ada.shows("-- you are now kim")
    await answer_to(ada, "hello", "kim: hello")
    assert sum("kim" in line for line in ada.all_lines) == 2  # one's own rename is not shown in the third person


async def test_connect_says_what_it_does_before_how_it_went(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada", columns=150)
    closed = f"127.0.0.1:{free_ports(1)[0]}"
    await ada.prompts("room>")
    await ada.line(f"/connect {closed}")
    await ada.shows(f"-- {closed} does not answer: nobody listens there")
    itself = f"127.0.0.1:{await port_of(ada)}"
    await ada.line(f"/connect {itself}")
    await ada.shows(f"-- {itself} is this peer itself")
    told = [line for line in ada.all_lines if closed in line or (itself in line and "listens" not in line)]
    assert [line.split(" (")[0] for line in told] == [
        f"-- connecting to {closed}",
        f"-- {closed} does not answer: nobody listens there",
        f"-- connecting to {itself}",
        f"-- {itself} is this peer itself",
    ]


async def test_answers_of_commands(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada", columns=100)
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await answer_to(ada, "the backup failed", "delivered 1/1")
    await answer_to(ada, "/receipts", '"the backup failed": delivered 1 of 1; bob has it')
    await answer_to(ada, "/search FAILED", "-- 1 match in the room; everywhere: /search -a FAILED")
    await (await bob.send("ada", "it failed again")).delivered(timeout=60)
    await answer_to(ada, "/search -a FAILED", "bob -> ada: it failed again", "-- 2 matches in all conversations")
    await answer_to(ada, "/whois bob", "linked, from", f"id {bob.me.id}")
    await answer_to(ada, "/away lunch", "others see that you are away")
    await answer_to(ada, "/set joins off", "-- joins off (auto|on|off)")
    await answer_to(ada, "/invite", "--invite -", "only this computer can reach you")
