"""Typed commands in a real terminal: help, mistakes, and answers."""

from __future__ import annotations

import pytest

from tests.terminal.conftest import OpenTerminal, StartPeer, port_of
from tests.terminal.pty import Terminal
from tests.terminal.test_prompt import texts_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("nursery")]


async def told(shown: Terminal, line: str, *texts: str) -> None:
    """Type a line; these come on the screen."""
    await shown.type(f"{line}\r")
    for text in texts:
        await shown.shows(text)


async def test_help_fits_the_smallest_terminal(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada", columns=80, rows=24)
    await ada.shows("listens on")
    await told(ada, "/help", "/help COMMAND explains")
    lines = [line for line in ada.lines if line.strip()]
    assert any(line.startswith("What you type goes to") for line in lines)  # nothing has scrolled away
    assert [line for line in lines if line.startswith("  /msg bob see you at ten  message one person")] != []
    await told(ada, "/help dm", "/msg NAME TEXT (also /dm)", "for example: /msg bob see you at ten")


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
    await told(ada, line, hint)
    await ada.type("hello\r")
    assert await texts_of(bob, 1) == ["hello"]


async def test_a_reply_shows_its_message(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    receipt = await bob.broadcast("are you there at all, dear?")
    await ada.shows("bob: are you there")
    await told(ada, "/reply yes", 'ada (to bob: "are you there at all, d…"): yes')
    assert await texts_of(bob, 1) == ["yes"]
    assert [post.reply_to for post in await bob.history("room")] == [None, receipt.id]


async def test_an_ignored_user_is_hidden(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await told(ada, "/ignore bob", "bob is ignored from now on")
    await (await bob.send("ada", "look at me")).delivered(timeout=30)
    await (await bob.broadcast("everybody, ada too")).delivered(timeout=30)
    await told(ada, "who else is here?", "delivered 1/1")  # shown after all that came before
    await told(ada, "/list", "-- room (here)")
    assert not [line for line in ada.lines if "unread" in line or "look at me" in line or "everybody" in line]
    await ada.line("/who")
    await ada.shows_line(r"^-- bob: online since .* \(ignored\)$")
    await told(ada, "/unignore bob", "bob is no longer ignored")
    await told(ada, "/history", "bob: everybody, ada too")
    await told(ada, "/go bob", "bob -> ada: look at me")


async def test_answers_of_commands(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada", columns=100)
    bob = await peer("bob", await port_of(ada))
    await ada.shows("bob is here")
    await told(ada, "the backup failed", "delivered 1/1")
    await told(ada, "/receipts", '"the backup failed": delivered 1 of 1; bob has it')
    await told(ada, "/search FAILED", "-- 1 match in the room; everywhere: p2pchat history --data")
    await told(ada, "/whois bob", "linked, from", f"id {bob.me.id}")
    await told(ada, "/away lunch", "others see that you are away")
    await told(ada, "/set joins off", "-- joins off (auto|on|off)")
    await told(ada, "/invite", "--invite -", "only this computer can reach you")
