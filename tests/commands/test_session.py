"""A session: order of messages, commands, unread counts, mistakes. Peers in memory."""

from __future__ import annotations

import asyncio
import json

import pytest

from p2pchat import Deleted, Message, TCPPeer
from p2pchat.commands.display import Display
from p2pchat.commands.exit_codes import DONE, NO_SUCH_NAME, USAGE
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, got, open_session, see
from tests.deadlines import WAIT, within

SECRET = {"do": "send", "to": "bob", "text": "secret"}


async def texts(peer: TCPPeer, count: int) -> list[tuple[str, str, bool]]:
    """Return (conversation, text, action) of the first messages a peer got."""
    return [(post.conversation.name, post.text, post.action) for post in await got(peer, count)]


@pytest.mark.parametrize("before", ["\ufeff", " ", "\xa0", "\u200b", "\u00ad\u2066\t"])
async def test_a_json_command_behind_something_invisible_is_a_command(shown: Shown, before: str) -> None:
    async with mesh("ada", "bob") as net:
        line = before + '{"do":"send","to":"bob","text":"secret"}'
        await open_session(net.peers[0], shown).execute([line.encode()])
        assert [post.conversation.name for post in await net.peers[0].history()] == ["bob"]


@pytest.mark.parametrize("line", ['"yes, it is"', "[1]", '["a", "b"]', "7", "null", "[" * 10_000])
async def test_what_does_not_begin_as_an_object_is_a_text(shown: Shown, line: str) -> None:
    async with mesh("ada") as net:
        await open_session(net.peers[0], shown).execute([line.encode()])
        assert [post.text for post in await net.peers[0].history()] == [line]


@pytest.mark.parametrize(
    "line", [json.dumps(SECRET)[:-1], json.dumps(json.dumps(SECRET)), json.dumps([SECRET]), "{x} is a set"]
)
async def test_json_that_is_no_command_is_sent_to_nobody(shown: Shown, line: str) -> None:
    async with mesh("ada") as net:
        await open_session(net.peers[0], shown).execute([line.encode(), f"\ufeff {line}\u200b".encode()])
        assert [(line["event"], line["code"]) for line in shown.lines] == [("error", "usage")] * 2
        assert await net.peers[0].history() == []


async def test_a_person_is_told_what_went_as_a_text_and_looks_like_more(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown, as_json=False, interactive=True)

        async def told(line: str) -> str:
            await session.execute([line.encode()])
            assert (await ada.history(limit=1))[-1].text == line
            return capsys.readouterr().err.removesuffix("\n")

        alone = "-- this went to the room as a text; to write to bob alone: /msg bob TEXT"
        assert [await told("bob: the pin is 4711"), await told("bob: again")] == [alone, ""]
        assert await told("msg bob test") == "-- this went to the room as a text; the command is /msg"
        assert await told("quit") == "-- this went to the room as a text; the command is /quit"
        for text in ("who is bob?", "go on", "cyd: no such name", "ada: myself", "note: bob is here", "bob is here"):
            assert await told(text) == ""
        await session.execute([b"/go bob"])
        assert await told("bob: only to you") == ""
        await open_session(ada, shown, as_json=False).execute([b"bob: from a pipe"])
        assert capsys.readouterr().err == ""
        await open_session(bob, shown, as_json=False, interactive=True).execute([b"ada: hi"])


async def test_a_person_is_told_how_a_question_is_answered(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare `yes` is a text, and whoever asked goes on waiting."""
    async with mesh("ada", "bot") as net:
        ada, bot = net.peers
        session = open_session(ada, shown, as_json=False, interactive=True)

        async def told(text: str, line: bytes = b"yes") -> str:
            await see(ada, session, text, consumer=f"{len(await ada.history())}")
            capsys.readouterr()
            await session.execute([line])
            return capsys.readouterr().err.removesuffix("\n")

        await bot.send("room", "deploy now?", choices=["yes", "not yet"])
        choices = "-- bot waits for one of the choices: /react yes · not yet"
        assert [await told("deploy now?"), await told("deploy now?")] == [choices, ""]
        await bot.send("room", "which one?", automatic=True)
        assert await told("which one?") == "-- bot may wait for a reply: /reply TEXT answers the question"
        await bot.send("room", "and then?", automatic=True)
        assert await told("and then?", b"/reply yes") == ""
        await bot.send("room", "drink tea?", choices=["yes", "no"])
        assert [await told("drink tea?", b"/react no"), await told("drink tea?")] == ["", ""]
        for text in ("it is done", "and you?"):  # by a program, no question; a question, by a person
            await bot.send("room", text, automatic=text == "it is done")
            assert await told(text) == ""


async def test_messages_keep_their_order(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        lines = [
            b"one",
            b"two",
            b"//three",
            b"/me four",
            b"/go bob",
            b"five",
            b"six",
            b"/go",
            b'{"do":"send","text":"seven"}',
        ]
        assert await session.execute(lines)
        assert await session.sender.drain(10) == []
        assert session.exit_code == DONE and not session.sender.has_undelivered()
        assert await texts(bob, 7) == [
            ("room", "one", False),
            ("room", "two", False),
            ("room", "/three", False),
            ("room", "four", True),
            ("ada", "five", False),
            ("ada", "six", False),
            ("room", "seven", False),
        ]


async def test_messages_shown_before_their_receipts_are_kept_are_not_waited_for(shown: Shown) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        receipts = [await net.peers[0].broadcast(text) for text in ("one", "two", "three")]
        for receipt in receipts:
            session.sender.on_shown(session.current, receipt.id)
        for receipt in receipts:
            session.sender.add_receipt(session.current, receipt, ["one"])
        async with within(WAIT / 2, "what was shown"):
            await session.sender.wait_shown(WAIT)


async def test_a_refused_message_does_not_affect_others(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        await session.execute([b"before", b"x" * 40_000, b"after", None])
        assert [line["code"] for line in shown.lines] == [
            "usage",
            "too_long",
        ]  # the line above the limit was found first
        assert await texts(bob, 2) == [("room", "before", False), ("room", "after", False)]
        assert session.exit_code == USAGE


async def test_each_of_several_refused_lines_is_an_error(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await ada.create_group("ops", ["bob"])
        await net.settle()
        await bob.group("ops").leave()
        await open_session(bob, shown).execute([b"/go ops", b"one", b"two", b"three"])
        errors = [line for line in shown.lines if line["event"] == "error"]
        assert [line["text"] for line in errors] == ["only members can write in this conversation"] * 3
        capsys.readouterr()
        await open_session(bob, shown, as_json=False).execute([b"/go ops", b"one", b"two", b"three"])
        assert capsys.readouterr().err.count("only members can write") == 3


async def test_mistakes_on_a_terminal_keep_the_exit_code(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown, as_json=False, interactive=True)
        await session.execute([b"/msg bbo psst", b"/mgs bob psst"])
        assert "nobody here is called 'bbo'" in capsys.readouterr().err
        assert session.exit_code == DONE


async def test_a_message_that_is_too_long_can_be_brought_back(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Display, "has_prompt", True)
    async with mesh("ada") as net:
        await open_session(net.peers[0], shown, as_json=False, interactive=True).execute([b"x" * 40_000])
        complaint = capsys.readouterr().err
        assert complaint == "p2pchat: too long: 40,000 bytes, at most 32,768. Press Up to get it back and split it\n"


async def test_messages_deleted_meanwhile_are_not_unread(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown)
        async with bob.events(Message, Deleted, consumer=None) as events:
            for text in ("one", "two"):
                receipt = await ada.send("bob", text)
                session.on_event((await anext(events)).to_dict())
            assert session.unread.count(bob.find("ada").id) == 2
            await (await ada.message(receipt.id)).delete()
            session.on_event((await anext(events)).to_dict())
        assert session.unread.count(bob.find("ada").id) == 1


async def test_other_conversations_are_unread_until_opened(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        await bob.send(bob.room, "in the room")
        await bob.send(ada.me.label, "for ada")
        read = 0
        async for event in ada.events(Message, consumer="test", start="beginning"):
            session.on_event(event.to_dict())
            read += 1
            if read == 2:
                break
        await session.execute([b"/list", b"/go bob", b"/list"])
        before, _, after = shown.lines
        assert [(row["conversation"], row["unread"], row["current"]) for row in before["rows"]] == [
            ("room", 0, True),
            ("bob", 1, False),
        ]
        assert [(row["unread"], row["current"]) for row in after["rows"]] == [(0, False), (0, True)]
        line = event.to_dict()
    session.on_event(line)  # works on a closed peer


async def test_quit_stops_execution(shown: Shown) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        assert not await session.execute([b"one", b"/quit", b"two"])
        assert [post.text for post in await net.peers[0].history()] == ["one"]


async def test_a_message_without_recipients_is_undelivered(shown: Shown) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([b"hello"])
        assert session.sender.has_undelivered()
        assert await session.sender.drain(0) == [""]


async def test_an_empty_room_is_announced_once_per_absence(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        display = Display(StdoutWriter(shown.raw), None, as_json=False, echo=True)
        notes: asyncio.Queue[str] = asyncio.Queue()
        monkeypatch.setattr("p2pchat.commands.notifier.print_notice", notes.put_nowait)
        session = Session(ada, display, interactive=True, as_json=False)
        await session.execute([b"anybody?"])
        fate = "saved, and delivered when someone joins"
        assert await asyncio.wait_for(notes.get(), 60) == f'-- nobody is here yet: "anybody?" is {fate}'
        await session.execute([b"one", b"two"])  # sent in one call
        display.notifier.on_joined("somebody")
        await session.execute([b"three", b"four"])
        assert await asyncio.wait_for(notes.get(), 60) == f'-- nobody is here yet: "one" and 3 more are {fate}'
        assert notes.empty()


@pytest.mark.parametrize(
    ("line", "code", "expected"),
    [
        ("/msg nobody hi", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/msg ada", USAGE, "usage: /msg NAME TEXT"),  # and what follows does not go there
        ("/go nobody", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/mgs bob hi", USAGE, "did you mean /msg?"),
        ("/group ops nobody", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/kick bob", USAGE, "/kick works in a group: /go #NAME first"),
    ],
    ids=["msg", "no text", "go", "typo", "member", "no-group"],
)
async def test_mistakes_in_a_pipe_set_the_exit_code(shown: Shown, line: str, code: int, expected: str) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([line.encode(), b"after it"])
        assert session.exit_code == code
        assert [expected in error["text"] for error in shown.lines] == [True]
        assert [post.text for post in await net.peers[0].history()] == ["after it"]


# ---- commands of bots


async def test_a_command_of_a_bot_is_offered_and_sent_by_the_same_line_again(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh("ada", "bot", "cyd") as net:
        ada, bot, cyd = net.peers
        await bot.rename("bot", "I tell the weather: weather CITY · /weather /help")
        await cyd.rename("cyd", "no bot, but /mgs and /Msg")
        await net.settle()
        session = open_session(ada, shown, as_json=False, interactive=True)
        await session.execute([b"/weather new york"])
        [refused] = capsys.readouterr().err.splitlines()
        assert "/weather is a command of bot, and none here. Nothing was sent; the same line again" in refused
        assert refused.endswith("goes to room, as @bot weather")
        await session.execute([b"/weather new york"])
        assert [post.text for post in await ada.history("room")] == ["@bot weather new york"]

        await session.execute([b"/go bot", b"/WEATHER rome"])
        assert capsys.readouterr().err.endswith("the same line again (Up, Enter) goes to bot\n")
        await session.execute([b"/WEATHER rome"])
        assert [post.text for post in await ada.history("bot")] == ["/WEATHER rome"]

        await session.execute([b"/weather oslo", b"in between", b"/weather oslo"])
        await session.execute([b"/go cyd", b"/weather oslo"])  # cyd has no such command
        assert "there is no command '/weather'" in capsys.readouterr().err.splitlines()[-1]
        await session.execute([b"/weather oslo", b"/mgs bot secret", b"/go", b"/mgs bot secret"])
        await session.execute([b"/msg cyd hello"])
        assert [post.text for post in await ada.history("bot")] == ["/WEATHER rome", "in between"]
        assert [post.text for post in await ada.history("cyd")] == ["hello"]


async def test_no_program_and_nobody_ignored_gets_a_line_that_is_no_command(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    async with mesh("ada", "bot") as net:
        ada, bot = net.peers
        await bot.rename("bot", "/weather /help")
        await net.settle()
        script = open_session(ada, shown, as_json=False)
        await script.execute([b"/weather rome", b"/weather rome"])
        await ada.ignore("bot")
        person = open_session(ada, shown, as_json=False, interactive=True)
        await person.execute([b"/weather rome", b"/weather rome", b"/", b"/"])
        refused = capsys.readouterr().err.splitlines()
        assert ["there is no command" in line for line in refused] == [True] * 6
        assert await ada.history() == []
