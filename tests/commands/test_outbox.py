"""Outgoing messages: recipients and replies."""

from __future__ import annotations

import pytest

from p2pchat.commands.errors import USAGE
from p2pchat.testing import Mesh, mesh
from tests.commands.shown import Shown, got, open_session, see


async def test_reply_is_to_the_latest_message_of_others_here(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        early = await bob.broadcast("are you there?")
        secret = await bob.send("ada", "psst")
        await see(ada, session, "psst")
        await session.execute([b"my own line", b"/reply yes, I am", b"/go bob", b"/reply what is it?"])
        assert [(post.text, post.reply_to) for post in await got(bob, 3)] == [
            ("my own line", None),
            ("yes, I am", early.id),
            ("what is it?", secret.id),
        ]


async def test_reply_after_a_restart_uses_stored_messages(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await bob.broadcast("see you tomorrow")
        await ada.broadcast("good night")
        await net.settle()
        await open_session(ada, shown).execute([b"/reply here I am"])
        assert (await ada.history())[-1].reply_to == receipt.id


async def test_reply_needs_a_message_of_others(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        session = open_session(ada, shown)
        await session.execute([b"hello?", b"/reply anybody?"])
        assert [line["text"] for line in shown.lines] == ["nobody else has written here yet"]
        assert session.exit_code == USAGE
        assert [post.text for post in await ada.history()] == ["hello?"]


async def test_a_reply_shows_an_excerpt_of_its_message(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        await ada.broadcast('is "this"\nthe place where we meet?')
        await net.settle()
        await open_session(bob, shown).execute([b"/reply it is"])
        await see(ada, session, "it is")
        [line] = shown.new
        assert line[5:] == " bob (to ada: \"is 'this' the place whe…\"): it is"
        await session.execute([b"/history 1"])
        assert shown.new == [f"1 {line}"]


async def test_a_json_reply_names_its_message(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await bob.broadcast("ping")
        await net.settle()
        order = f'{{"do":"send","text":"pong","reply_to":"{receipt.id}"}}'
        await open_session(ada, shown).execute(
            [order.encode(), b'{"do":"send","to":"bob","text":"x","reply_to":"no id"}']
        )
        assert [(post.text, post.reply_to) for post in await got(bob, 1)] == [("pong", receipt.id)]
        assert [(line["event"], line["code"]) for line in shown.lines] == [("error", "usage")]


@pytest.mark.parametrize("typed", ['"Anna Maria"', '@"Anna Maria"'])
async def test_a_name_with_blanks_is_quoted(shown: Shown, typed: str) -> None:
    async with Mesh("ada", "Anna Maria") as net:
        ada, anna = net.peers
        await open_session(ada, shown).execute([f"/msg {typed} hi there".encode()])
        assert [(post.conversation.name, post.text) for post in await got(anna, 1)] == [("ada", "hi there")]
