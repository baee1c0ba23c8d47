"""What input does to a running peer: texts in their order, commands, unread counts, mistakes. Peers in memory."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat import Message, TCPPeer
from p2pchat.commands.display import Display
from p2pchat.commands.errors import DONE, NO_SUCH_NAME, USAGE
from p2pchat.commands.notifications import Notifier
from p2pchat.commands.output import StdoutWriter
from p2pchat.commands.session import Session
from p2pchat.testing import mesh
from tests.commands.shown import Shown, got, session


async def texts(peer: TCPPeer, count: int) -> list[tuple[str, str, bool]]:
    """Return (conversation, text, action) of the first messages a peer got."""
    return [(post.conversation.name, post.text, post.action) for post in await got(peer, count)]


async def test_texts_keep_their_order_whatever_they_are(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
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
        assert await took.execute(lines)
        assert await took.drain(10) == []
        assert took.exit_code == DONE and not took.has_undelivered()
        assert await texts(bob, 7) == [
            ("room", "one", False),
            ("room", "two", False),
            ("room", "/three", False),
            ("room", "four", True),
            ("ada", "five", False),
            ("ada", "six", False),
            ("room", "seven", False),
        ]


async def test_a_text_that_is_refused_takes_no_other_with_it(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        await took.execute([b"before", b"x" * 40_000, b"after", None])
        assert [line["code"] for line in shown.lines] == [
            "usage",
            "too_long",
        ]  # the line above any limit was seen first
        assert await texts(bob, 2) == [("room", "before", False), ("room", "after", False)]
        assert took.exit_code == USAGE


async def test_nobody_is_written_to_by_mistake(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, _ = net.peers
        took = session(ada, shown)
        took.stop_waiting_for_names()
        await took.execute([b"/msg bbo psst", b"/go bbo", b'{"do":"send","to":"bbo","text":"psst","ref":"7"}'])
        assert [(line["code"], line["ref"]) for line in shown.lines] == [("unknown_name", None)] * 2 + [
            ("unknown_name", "7")
        ]
        assert took.exit_code == NO_SUCH_NAME
        assert await ada.history() == []


async def test_on_a_terminal_a_mistake_is_seen_and_forgiven(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada") as net:
        took = session(net.peers[0], shown, as_json=False, interactive=True)
        await took.execute([b"/msg bbo psst", b"/mgs bob psst"])
        assert "nobody here is called 'bbo'" in capsys.readouterr().err
        assert took.exit_code == DONE


async def test_what_others_write_elsewhere_is_unread_until_one_goes_there(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        await bob.send(bob.room, "in the room")
        await bob.send(ada.me.label, "for ada")
        read = 0
        async for event in ada.events(Message, consumer="test", start="beginning"):
            took.on_event(event.to_json())
            read += 1
            if read == 2:
                break
        await took.execute([b"/list", b"/go bob", b"/list"])
        before, _, after = shown.lines
        assert [(row["conversation"], row["unread"], row["current"]) for row in before["rows"]] == [
            ("room", 0, True),
            ("bob", 1, False),
        ]
        assert [(row["unread"], row["current"]) for row in after["rows"]] == [(0, False), (0, True)]
        line = event.to_json()
    took.on_event(line)  # the peer is closed: what still comes asks nothing of it


async def test_plain_answers_are_lines_for_people(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown, as_json=False)
        await bob.rename("bob: x")
        await net.settle()
        await took.execute([b"/who", b"/nick Ada", b"/help quit"])
        lines = shown.text.splitlines()
        assert lines[0].startswith("-- ada: online since ") and lines[0].endswith(" (you)")
        assert any(line.startswith('-- "bob: x": online since ') for line in lines)
        assert lines[2:5] == ["-- you are now Ada", "/quit (also /exit)", "    leave the chat"]


async def test_quit_ends_the_lines(shown: Shown) -> None:
    async with mesh("ada") as net:
        took = session(net.peers[0], shown)
        assert not await took.execute([b"one", b"/quit", b"two"])
        assert [post.text for post in await net.peers[0].history()] == ["one"]


async def test_what_nobody_has_is_undelivered(shown: Shown) -> None:
    async with mesh("ada") as net:
        took = session(net.peers[0], shown)
        await took.execute([b"hello"])
        assert took.has_undelivered()
        assert await took.drain(0) == [""]


async def test_who_is_away_is_told_to_people(shown: Shown) -> None:
    async with mesh("ada") as net:
        ada = net.peers[0]
        show = Display(StdoutWriter(shown.raw), None, as_json=False, echo=True)
        told: asyncio.Queue[str] = asyncio.Queue()
        show.notifier = Notifier(told.put_nowait)
        took = Session(ada, show, interactive=True, as_json=False)
        await took.execute([b"anybody?"])
        assert (
            await asyncio.wait_for(told.get(), 20) == "-- nobody is here yet; saved, and delivered when someone joins"
        )
        await took.execute([b"one", b"two"])  # sent in one call
        show.notifier.on_joined("somebody")
        await took.execute([b"three", b"four"])
        assert (
            await asyncio.wait_for(told.get(), 20) == "-- nobody is here yet; saved, and delivered when someone joins"
        )
        assert told.empty()


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("/msg nobody hi", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/go nobody", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/mgs bob hi", USAGE, "did you mean /msg?"),
        ("/group ops nobody", NO_SUCH_NAME, "nobody here is called 'nobody'"),
        ("/kick bob", USAGE, "/kick works in a group: /go #NAME first"),
        ("x" * 40_000, USAGE, "the limit is 32768"),
    ],
    ids=["msg", "go", "typo", "member", "no-group", "long"],
)
async def test_a_mistake_in_a_pipe_has_its_code(shown: Shown, line: str, code: int, told: str) -> None:
    async with mesh("ada") as net:
        took = session(net.peers[0], shown)
        took.stop_waiting_for_names()
        await took.execute([line.encode(), b"after it"])
        assert took.exit_code == code
        assert [told in error["text"] for error in shown.lines] == [True]
        assert [post.text for post in await net.peers[0].history()] == ["after it"]


async def test_answers_are_rows(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        took = session(ada, shown)
        await bob.broadcast("hello")
        await bob.send("ada", "psst")
        await net.settle()
        async for event in ada.events(Message, consumer="test", start="beginning"):
            took.on_event(event.to_json())
            if event.text == "psst":
                break
        await took.execute([b'{"do":"who","ref":"w"}', b'{"do":"list"}', b'{"do":"history","to":"bob"}', b"/history 5"])
        who, listed, with_bob, here = shown.lines
        assert (who["command"], who["ref"]) == ("who", "w")
        assert [(row["user"], row["status"], row["me"]) for row in who["rows"]] == [
            ("ada", "online", True),
            ("bob", "online", False),
        ]
        assert [(row["conversation"], row["kind"], row["unread"]) for row in listed["rows"]] == [
            ("room", "room", 0),
            ("bob", "dm", 1),
        ]
        assert [row["text"] for row in with_bob["rows"]] == ["psst"]
        assert [row["text"] for row in here["rows"]] == ["hello"]


async def test_nick_is_heard_by_others(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        await session(ada, shown).execute([b'{"do":"nick","name":"Ada Lovelace"}'])
        await net.settle()
        assert [line["command"] for line in shown.lines] == ["nick"]
        await session(bob, shown).execute([b'/msg "Ada Lovelace" hello'])
        async for event in ada.events(Message, consumer="test", start="beginning"):
            assert (event.conversation.name, event.text) == ("bob", "hello")
            break
        assert bob.find("Ada Lovelace").name == "Ada Lovelace"
