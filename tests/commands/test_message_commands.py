"""/reply, /edit, /delete, /react, /search and /receipts, as typed and as JSON commands."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from p2pchat import Deleted, Edited, Left, Message, Reaction, Sent, TCPPeer
from p2pchat.commands.exit_codes import DONE, NO_SUCH_NAME, USAGE
from p2pchat.commands.session import Session
from p2pchat.testing import Mesh, mesh
from tests.commands.session_output import Shown, got, open_session, see

KINDS = (Message, Sent, Edited, Deleted, Reaction)


async def show_next(session: Session, events: Any, count: int) -> None:
    """Show the next events."""
    async with asyncio.timeout(60):
        while count:
            event = await anext(events)
            if isinstance(event, KINDS):
                session.on_event(line := event.to_dict())
                await session.display.show_event(line)
                count -= 1


async def says(peer: TCPPeer) -> list[str]:
    return ["[deleted]" if post.deleted else post.text for post in await peer.history("room")]


def words(lines: list[str]) -> list[str]:
    """Return the lines without their times."""
    return [re.sub(r"\b\d\d:\d\d\b", "TT:TT", line) for line in lines]


async def test_without_a_number_the_latest_message_is_meant(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        await ada.broadcast("one")
        await ada.broadcast("tow")
        await bob.broadcast("lunch?")
        await net.settle()
        await session.execute([b"/edit two", b"/react +1", b"/reply yes"])
        await net.settle()
        assert await says(bob) == ["one", "two", "lunch?", "yes"]
        [_, _, lunch, yes] = await bob.history("room")
        assert (lunch.reactions, yes.reply_to) == ({"+1": [bob.user("ada")]}, lunch.id)
        await session.execute([b"/delete --yes", b"/delete --yes", b"/react"])
        await net.settle()
        assert await says(bob) == ["one", "[deleted]", "lunch?", "[deleted]"]
        assert (await bob.history("room"))[2].reactions == {}
        assert session.exit_code == DONE


async def test_a_pin_without_a_number_is_of_the_newest_message_whoever_wrote_it(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await bob.broadcast("an old remark")
        await net.settle()
        await open_session(ada, shown).execute([b"standup at nine", b"/pin"])
        await net.settle()
        assert [post.text for post in await bob.head("room", "pins")] == ["standup at nine"]


async def test_a_number_selects_a_listed_message(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        for text in ("one", "tow", "three"):
            await ada.broadcast(text)
            await bob.broadcast(f"{text}?")
            await net.settle()
        await session.execute([b"/history 4"])
        assert [line.partition(" ")[0] for line in shown.new] == ["4", "3", "2", "1"]
        assert [line.split(" ", 2)[2] for line in shown.text.splitlines()] == [
            "ada: tow", "bob: tow?", "ada: three", "bob: three?"]  # fmt: skip
        await session.execute([b"/edit 4 two", b"/react 3 ok", b"/delete 2 --yes", b"/reply 3 indeed"])
        await net.settle()
        assert await says(bob) == ["one", "one?", "two", "tow?", "[deleted]", "three?", "indeed"]
        assert (await bob.history("room"))[3].reactions == {"ok": [bob.user("ada")]}


async def test_numbers_expire_when_a_message_is_sent(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        await bob.broadcast("lunch?")
        await net.settle()
        await session.execute([b"/edit 1 o'clock", b"/history", b"at noon", b"/edit 1 o'clock"])
        hint = "; to begin a text with a number, put 0 before it: /edit 0 1 o'clock"
        assert (
            capsys.readouterr().err == 2 * f"p2pchat: there is no line '1': /history shows lines with numbers{hint}\n"
        )
        for line in (b"/history", b"/reply 1 indeed", b"/history", b"/msg bob psst", b"/history", b"/go bob"):
            await session.execute([line])
            if not line.startswith(b"/history"):
                await session.execute([b"/go", b"/reply 1 it is"])
                assert "there is no line " in capsys.readouterr().err
        await session.execute([b"/history", b"/reply 99 bottles"])
        assert "there is no line '99': /history shows lines with numbers; to begin" in capsys.readouterr().err
        await session.execute([b"/edit 0 1 o'clock", b"/reply 0 99 bottles", b"/reply 0"])
        await net.settle()
        assert await says(bob) == ["lunch?", "at noon", "1 o'clock", "99 bottles", "0"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/edit 2 mine now", "only the writer of a message can edit it"),
        ("/delete 2", "only the writer of a message can delete it"),
        ("/delete 7", "there is no line '7': /history shows lines with numbers"),
        ("/delete please", "there is no line 'please': /history shows lines with numbers"),
        ("/react 2 very nice", "a reaction has at most 8 characters, this has 9: reply instead"),
        ("/reply 2", "usage: /reply [N] TEXT, for example /reply yes, at ten"),
        ("/edit 1", "usage: /edit [N] TEXT"),
    ],
)
async def test_errors_of_edits(shown: Shown, capsys: pytest.CaptureFixture[str], line: str, expected: str) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await bob.broadcast("lunch?")
        await net.settle()
        await ada.broadcast("yes")
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/history", line.encode()])
        assert expected in capsys.readouterr().err
        await net.settle()
        assert await says(bob) == ["lunch?", "yes"]


async def test_an_edit_is_a_new_line_and_history_has_the_latest(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        session, events = open_session(ada, shown, as_json=False), ada.events(consumer="chat")
        lunch = await bob.broadcast("lunch at ten?")
        await show_next(session, events, 1)
        await bob.edit(lunch.id, "lunch at noon?")
        await show_next(session, events, 1)
        await net.settle()
        await cyd.react(lunch.id, "+1")
        await show_next(session, events, 1)
        await cyd.react(lunch.id, "")
        await show_next(session, events, 1)
        await bob.delete(lunch.id)
        await show_next(session, events, 1)
        assert words(shown.new) == [
            "TT:TT bob: lunch at ten?",
            "TT:TT bob (edited; first sent TT:TT): lunch at noon?",
            'TT:TT -- cyd reacted +1 to bob: "lunch at noon?"',
            'TT:TT -- cyd removed a reaction to bob: "lunch at noon?"',
            "TT:TT -- bob deleted a message sent TT:TT",
        ]
        await bob.edit(lunch.id, "dinner?")
        await show_next(session, events, 1)
        await net.settle()
        for peer, reaction in ((ada, "ok"), (cyd, "ok"), (bob, "so: so")):
            await peer.react(lunch.id, reaction)
            await net.settle()
        await session.execute([b"/history"])
        assert words(shown.new)[-1] == '1 TT:TT bob: dinner? (edited) [ok 2, "so: so"]'


async def test_edits_made_while_offline_are_shown_in_the_message(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        ada.events(consumer="chat").close()
        lunch, secret = await bob.broadcast("lunch at ten?"), await bob.broadcast("secret")
        await bob.edit(lunch.id, "lunch at noon?")
        await bob.delete(secret.id)
        await net.settle()
        session = open_session(ada, shown, as_json=False)
        await show_next(session, ada.events(consumer="chat"), 4)
        assert words(shown.new) == ["TT:TT bob: lunch at noon? (edited)", "TT:TT bob: [deleted]"]


async def test_edits_are_not_unread_and_those_of_ignored_users_hidden(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session, events = open_session(ada, shown, as_json=False), ada.events(consumer="chat")
        lunch = await bob.broadcast("lunch?")
        await show_next(session, events, 1)
        await session.execute([b"/go bob"])
        assert session.unread.total == 0
        await bob.edit(lunch.id, "lunch, ada?")
        await bob.react(lunch.id, "+1")
        await show_next(session, events, 2)
        assert session.unread.total == 0
        await session.execute([b"/ignore bob"])
        before = shown.text
        await bob.edit(lunch.id, "hello?")
        await show_next(session, events, 1)
        assert shown.text == before


async def test_edits_by_id_return_the_ref(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session, events = open_session(ada, shown), ada.events(consumer="chat")
        lunch, mine = await bob.broadcast("lunch?"), await ada.broadcast("yse")
        await net.settle()
        await session.execute(
            [
                f'{{"do":"edit","id":"{mine.id}","text":"yes","ref":"1"}}'.encode(),
                f'{{"do":"react","id":"{lunch.id}","reaction":"+1","ref":"2"}}'.encode(),
                f'{{"do":"delete","id":"{lunch.id}","ref":"3"}}'.encode(),
                b'{"do":"edit","id":"x","text":"y","ref":"4"}',
            ]
        )
        answers = [(line["event"], line["ref"], line.get("rows", [{}])[0].get("id")) for line in shown.lines]
        assert answers == [
            ("answer", "1", mine.id),
            ("answer", "2", lunch.id),
            ("error", "3", None),
            ("error", "4", None),
        ]
        await show_next(session, events, 4)
        changes = [(line["event"], line["id"], line["ref"], line["by"]) for line in shown.lines[-2:]]
        assert changes == [("edited", mine.id, "1", "ada"), ("reaction", lunch.id, "2", "ada")]
        assert await session.sender.drain(10) == [] and not session.sender.has_undelivered()


async def test_receipts_of_an_edited_message_are_of_the_edit(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        await ada.send("bob", "helo")
        await net.settle()
        await net.crash(bob)
        edit = await ada.edit((await ada.history())[0], "hello")
        await session.execute([b'{"do":"receipts","to":"bob"}'])
        assert [(row["text"], row["status"], row["missing"]) for row in shown.rows] == [("hello", "accepted", ["bob"])]
        await net.restart(bob)
        await edit.delivered(timeout=60)
        await session.execute([b'{"do":"receipts","to":"bob"}'])
        assert [(row["status"], row["delivered_to"]) for row in shown.rows] == [("delivered", ["bob"])]


async def test_search_covers_the_current_conversation_or_all_and_a_match_can_be_answered(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        await bob.broadcast("the backup failed")
        await bob.broadcast("all is well")
        await bob.send("ada", "Backup of the other disk failed too")
        await net.settle()
        await session.execute([b"/search FAILED backup"])
        found, how = shown.new
        assert found.endswith(" bob: the backup failed")
        assert how == "-- 1 match in the room; everywhere: /search -a FAILED backup"
        await session.execute([b"/go bob", b"/search it's"])
        assert shown.new[-1] == "-- no matches in bob; everywhere: /search -a it's"
        await session.execute([b"/search disk"])
        assert len(shown.new) == 2
        await session.execute([b"/search -a FAILED backup"])
        room, direct, how = shown.new
        assert room.startswith("2 ") and room.endswith(" bob: the backup failed")
        assert direct.startswith("1 ") and direct.endswith(" bob -> ada: Backup of the other disk failed too")
        assert how == "-- 2 matches in all conversations"
        await session.execute([b"/reply 1 which one?"])
        [answer] = (await ada.history("bob"))[1:]
        assert answer.text == "which one?" and answer.reply_to == (await ada.history("bob"))[0].id
        await session.execute([b"/search -a"])
        assert session.exit_code == 2


async def test_search_shows_at_most_fifty_messages(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        session = open_session(ada, shown, as_json=False)
        await ada.send_many("room", [f"line {number}" for number in range(60)])
        await session.execute([b"/search line"])
        *found, how = shown.new
        assert [line.rpartition(" ")[2] for line in found] == [str(number) for number in range(10, 60)]
        assert how.startswith("-- the newest 50 matches in the room")


async def test_a_json_search_covers_everything_by_default(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        await bob.broadcast("one backup")
        await bob.send("ada", "two backups")
        await net.settle()
        await session.execute(
            [b'{"do":"search","words":"backup"}', b'{"do":"search","words":"backup","to":"bob","ref":"s"}']
        )
        everywhere, there = shown.lines
        assert [row["text"] for row in everywhere["rows"]] == ["one backup", "two backups"]
        assert ([row["text"] for row in there["rows"]], there["ref"]) == (["two backups"], "s")
        await session.execute([b'{"do":"search","words":" "}', b'{"do":"search","words":"x","limit":0}'])
        assert [line["code"] for line in shown.lines[2:]] == ["usage", "usage"]


async def test_nobody_waits_behind_a_search_that_takes_long(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        session = open_session(ada, shown, as_json=False, interactive=True)
        indexer = ada._lifecycle.indexer
        assert indexer is not None
        await ada.broadcast("the backup failed")
        with indexer._turn:
            async with asyncio.timeout(60):
                assert not await session.execute([b"/search backup", b"all is well", b"/quit"])
            assert await says(ada) == ["the backup failed", "all is well"]
            assert not any("match" in line for line in shown.new)
        await session.wait()
        assert shown.new[-1].startswith("-- 1 match in the room")
        with indexer._turn:
            async with asyncio.timeout(60):
                await session.execute([b"/search backup"])
                await session.stop()
        await ada.broadcast("later")
        assert shown.new == []  # leaving ended it


async def test_a_program_waits_behind_no_search_that_has_a_ref_and_is_answered_at_the_end(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        session = open_session(ada, shown)
        indexer = ada._lifecycle.indexer
        assert indexer is not None
        await ada.broadcast("the backup failed")
        with indexer._turn:
            async with asyncio.timeout(60):
                await session.execute([b'{"do":"search","words":"backup","ref":"s"}', b'{"do":"about","ref":"a"}'])
            assert [line["ref"] for line in shown.lines] == ["a"]
        await session.wait()
        assert [(line["ref"], len(line["rows"])) for line in shown.lines] == [("a", 1), ("s", 1)]


async def test_receipts_list_the_users_who_have_a_message(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, _, cyd = net.peers
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"to all of you"])
        await net.settle()
        await net.crash(cyd)
        await session.execute([b"/msg cyd for later", b"/receipts 5"])
        [room] = shown.new
        has = [f' "to all of you": delivered 2 of 2 here; {who} have it' for who in ("bob, cyd", "cyd, bob")]
        assert room[:3] == "-- " and room[8:] in has  # in the order in which they stored it
        await session.execute([b"/go cyd", b"/receipts 1"])
        assert shown.new[-1][8:] == ' "for later": accepted; cyd will get it soon: online, not stored there yet'


async def test_receipts_say_since_when_somebody_is_away(shown: Shown) -> None:
    async with mesh("ada", "cyd") as net:
        ada, cyd = net.peers
        session = open_session(ada, shown)
        left = ada.events(Left)
        await cyd.aclose()
        await anext(left)
        await session.execute([b"/msg cyd for later", b'{"do":"receipts","to":"cyd"}'])
        [cause] = shown.rows[-1]["causes"]
        assert cause == {
            "user": "cyd",
            "user_id": cyd.me.id,
            "cause": "away",
            "since": shown.rows[-1]["causes"][0]["since"],
            "text": "will get it when back: away",
            "by": None,
            "by_id": None,
        }
        await session.execute([b'{"do":"who"}'])
        assert cause["since"] in [row["since"] for row in shown.rows]  # in the same format


async def test_receipts_for_programs_are_rows(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        receipt = await ada.send("bob", "one")
        await ada.broadcast("two")
        other = await bob.broadcast("mine")
        await net.settle()
        ask = f'{{"do":"receipts","id":"{receipt.id}"}}'
        await session.execute([b'{"do":"receipts","limit":9}', ask.encode(), b"/receipts 1"])
        everything, one, here = ([(row["text"], row["status"]) for row in line["rows"]] for line in shown.lines)
        assert everything == [("one", "delivered"), ("two", "delivered")]
        assert one == [("one", "delivered")]
        assert here == [("two", "delivered")]
        row = shown.rows[0]
        assert (row["delivered_to"], row["delivered_to_ids"], row["missing"]) == (["bob"], [bob.me.id], [])
        await session.execute([f'{{"do":"receipts","id":"{other.id}"}}'.encode()])
        assert session.exit_code == NO_SUCH_NAME


async def test_receipts_without_own_messages(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        await net.peers[1].broadcast("hi")
        await net.settle()
        await open_session(net.peers[0], shown, as_json=False).execute([b"/receipts"])
        assert shown.new == ["-- you have not written here yet"]


@pytest.mark.parametrize(
    "line", ["/history 0", "/history x", "/receipts -1", "/history ²", '{"do":"history","limit":0}']
)
async def test_a_count_must_be_positive(shown: Shown, line: str) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([line.encode()])
        assert session.exit_code == USAGE


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_reply_belongs_to_the_newest_message_shown_where_it_came(
    shown: Shown, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=as_json)
        early = await bob.broadcast("are you there?")
        secret = await bob.send("ada", "psst")
        await see(ada, session, "psst")
        await session.execute([b"/reply yes, 42", b"/react +1"])
        told = [line for line in capsys.readouterr().err.splitlines() if "↳" in line]
        assert told == ([] if as_json else ["-- ↳ to bob, private: yes, 42", "-- ↳ to bob, private: +1"])
        await session.execute([b"/go", b"/reply here I am", b"/go bob", b"/reply what is it?"])
        assert [(post.conversation.kind, post.text, post.reply_to) for post in await got(bob, 3)] == [
            ("dm", "yes, 42", secret.id),
            ("room", "here I am", early.id),
            ("dm", "what is it?", secret.id),
        ]
        assert (await bob.message(secret.id)).reactions == {"+1": [bob.user("ada")]}


async def test_what_is_changed_is_the_own_message_written_last_wherever_it_went(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"to everybody", b"/msg bob the secert", b"/edit the secret", b"/receipts"])
        assert "-- ↳ to bob, private: the secret" in capsys.readouterr().err
        assert '"the secret"' in shown.text and "to everybody" not in shown.new[-1]
        assert [post.text for post in await ada.history("bob")] == ["the secret"]
        await session.execute([b"/delete --yes", b"/go room", b"/edit to all"])
        assert [post.text for post in await ada.history("room")] == ["to all"]
        assert [post.deleted for post in await ada.history("bob")] == [True]


async def test_what_was_written_last_is_what_was_accepted_last(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/msg bob secret", b"hello"])
        session.on_event((await ada.history("bob"))[-1].to_dict())  # its line comes late
        await session.execute([b"/edit hello all"])
        assert [post.text for post in await ada.history()] == ["secret", "hello all"]


@pytest.mark.parametrize("line", ["/ignore bob", "/delete-conversation bob --yes"])
async def test_a_reply_belongs_to_nothing_that_is_hidden_or_gone(shown: Shown, line: str) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        session = open_session(ada, shown, as_json=False)
        await cyd.broadcast("lunch?")
        await see(ada, session, "lunch?")
        await bob.send("ada", "spam")
        await see(ada, session, "spam")
        await session.execute([line.encode(), b"/reply yes"])
        assert [post.text for post in await ada.history("room")] == ["lunch?", "yes"]


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


async def test_a_program_asks_with_choices_and_learns_who_pressed_one(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session, events = open_session(ada, shown, as_json=True), ada.events(Reaction)
        asks = '{"do":"send","to":"bob","text":"deploy?","choices":["yes","no"],"hops":1,"ref":"7"}'
        wrong = '{"do":"send","to":"bob","text":"deploy?","choices":["yes"],"ref":"8"}'
        await session.execute([asks.encode(), wrong.encode()])
        [question] = await got(bob, 1)
        assert (question.choices, question.hops) == (("yes", "no"), 1)
        assert [(line["event"], line["code"], line["ref"]) for line in shown.lines] == [("error", "usage", "8")]
        answers = open_session(bob, shown, as_json=True)
        for more in ('"no","automatic":true', '"yes"'):
            await answers.execute([f'{{"do":"react","id":"{question.id}","reaction":{more}}}'.encode()])
            await net.settle()
        pressed = [(await anext(events)).to_dict() for _ in range(1)]
        assert [(line["by"], line["reaction"], line.get("automatic")) for line in pressed] == [("bob", "yes", None)]


@pytest.mark.parametrize("typed", ['"Anna Maria"', '@"Anna Maria"'])
async def test_a_name_with_blanks_is_quoted(shown: Shown, typed: str) -> None:
    async with Mesh("ada", "Anna Maria") as net:
        ada, anna = net.peers
        await open_session(ada, shown).execute([f"/msg {typed} hi there".encode()])
        assert [(post.conversation.name, post.text) for post in await got(anna, 1)] == [("ada", "hi there")]


# ---- deleting a conversation


async def test_a_conversation_is_deleted_here_and_history_says_so(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False)
        await (await bob.send("ada", "psst")).delivered(timeout=60)
        await (await ada.send("bob", "yes?")).delivered(timeout=60)
        await session.execute([b"/go bob", b"/delete-conversation --yes"])
        assert "-- deleted 2 messages of bob here, " in shown.text and "kept" not in shown.text
        await (await bob.send("ada", "again")).delivered(timeout=60)
        await session.execute([b"/history"])
        assert [line for line in shown.text.splitlines() if "deleted here" in line] == [
            "-- 2 messages were deleted here"
        ]
        assert shown.text.index("-- 2 messages were deleted here") < shown.text.rindex("again")
        assert [post.text for post in await ada.history("bob")] == ["again"]
        assert len(await bob.history("ada")) == 3


async def test_programs_delete_what_one_user_wrote_before_a_moment(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        for text in ("one", "two"):
            await (await bob.send("ada", text)).delivered(timeout=60)
        await (await ada.send("bob", "three")).delivered(timeout=60)
        moment = (await ada.history("bob"))[1].sent_at.isoformat()
        await session.execute([f'{{"do":"delete_history","to":"bob","sender":"bob","before":"{moment}"}}'.encode()])
        assert [post.text for post in await ada.history("bob")] == ["two", "three"]
        await session.execute([b'{"do":"delete_history","to":"bob","before":"yesterday"}'])
        assert session.exit_code == USAGE


@pytest.mark.parametrize("interactive", [False, True])
async def test_what_nobody_can_confirm_is_not_done(
    shown: Shown, capsys: pytest.CaptureFixture[str], interactive: bool
) -> None:
    """In a pipe, and on a plain terminal without a prompt."""
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        await (await ada.broadcast("precious")).delivered()
        session = open_session(ada, shown, as_json=False)
        session.interactive = interactive
        for line in ("/delete", "/delete-conversation room", "/delete-conversation"):
            await session.execute([line.encode()])
            assert "Nobody can be asked here: the line does it with --yes at its end" in capsys.readouterr().err
            assert session.exit_code == (DONE if interactive else USAGE)
        assert [post.text for post in await ada.history("room")] == ["precious"]
        await session.execute([b"/delete-conversation room --yes"])
        assert await ada.history("room") == []
        await ada.broadcast("again")
        await session.execute([b"/delete"])  # one line says yes for itself alone
        assert [post.text for post in await ada.history("room")] == ["again"]
