"""Outgoing messages: recipients and replies."""

from __future__ import annotations

import pytest

from p2pchat.commands.errors import USAGE
from p2pchat.testing import Mesh, mesh
from tests.commands.shown import Shown, got, see, session


async def test_a_reply_answers_what_another_wrote_last_where_one_is(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        early = await bob.broadcast("are you there?")
        secret = await bob.send("ada", "psst")
        await see(ada, took, "psst")
        await took.execute([b"my own line", b"/reply yes, I am", b"/go bob", b"/reply what is it?"])
        assert [(post.text, post.reply_to) for post in await got(bob, 3)] == [
            ("my own line", None),
            ("yes, I am", early.id),
            ("what is it?", secret.id),
        ]


async def test_a_reply_after_a_restart_answers_the_newest_that_is_stored(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await bob.broadcast("see you tomorrow")
        await ada.broadcast("good night")
        await net.settle()
        await session(ada, shown).execute([b"/reply here I am"])
        assert (await ada.history())[-1].reply_to == receipt.id


async def test_there_must_be_something_to_answer(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        took = session(ada, shown)
        await took.execute([b"hello?", b"/reply anybody?"])
        assert [line["text"] for line in shown.lines] == ["nobody else has written here yet"]
        assert took.exit_code == USAGE
        assert [post.text for post in await ada.history()] == ["hello?"]


async def test_people_see_what_an_answer_is_to(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown, as_json=False)
        await ada.broadcast('is "this"\nthe place where we meet?')
        await net.settle()
        await session(bob, shown).execute([b"/reply it is"])
        await see(ada, took, "it is")
        [line] = shown.new
        assert line[5:] == " bob (to ada: \"is 'this' the place whe…\"): it is"
        await took.execute([b"/history 1"])
        assert shown.new == [f"1 {line}"]


async def test_a_program_says_what_it_answers(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        receipt = await bob.broadcast("ping")
        await net.settle()
        order = f'{{"do":"send","text":"pong","reply_to":"{receipt.id}"}}'
        await session(ada, shown).execute([order.encode(), b'{"do":"send","to":"bob","text":"x","reply_to":"no id"}'])
        assert [(post.text, post.reply_to) for post in await got(bob, 1)] == [("pong", receipt.id)]
        assert [(line["event"], line["code"]) for line in shown.lines] == [("error", "usage")]


@pytest.mark.parametrize("typed", ['"Anna Maria"', '@"Anna Maria"'])
async def test_a_name_with_blanks_stands_in_quotes(shown: Shown, typed: str) -> None:
    async with Mesh("ada", "Anna Maria") as net:
        ada, anna = net.peers
        await session(ada, shown).execute([f"/msg {typed} hi there".encode()])
        assert [(post.conversation.name, post.text) for post in await got(anna, 1)] == [("ada", "hi there")]
