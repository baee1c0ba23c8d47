"""Commands about users, oneself and peers."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from p2pchat import Presence, Settings, TCPPeer, Typing, Warned
from p2pchat.commands.display import is_ignored
from p2pchat.commands.exit_codes import NO_SUCH_NAME, USAGE
from p2pchat.commands.standard_output import EventLogFile
from p2pchat.testing import mesh
from tests.commands.session_output import Shown, open_session, see

TIMELESS = re.compile(r" since (\d{4}-\d\d-\d\d )?\d\d:\d\d")  # the time of a status


async def seen(peer: TCPPeer, name: str, status: str) -> None:
    """Wait until `peer` knows a user with this status."""
    async with asyncio.timeout(60):
        async with peer.events(Presence, consumer=None) as events:
            if peer.directory.find(name).status != status:
                async for event in events:
                    if (event.user.name, event.status) == (name, status):
                        return


async def test_who_shows_status_time_and_text(shown: Shown) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        session = open_session(ada, shown, as_json=False)
        await open_session(bob, shown).execute([b'/away lunch, back at "one"'])
        await cyd.aclose()
        await seen(ada, "bob", "idle")
        await seen(ada, "cyd", "offline")
        shown.new  # noqa: B018 (what bob was answered)
        await session.execute([b"/who -a"])
        here, lunch, gone = shown.new
        now = datetime.now().astimezone()
        times = {now.strftime("%H:%M"), ada.directory.find("bob").since.astimezone().strftime("%H:%M")}  # type: ignore[union-attr]
        assert TIMELESS.sub("", here) == "-- ada: online (you)"
        assert lunch in {f"-- bob: idle since {time} \"lunch, back at 'one'\"" for time in times}
        assert gone.startswith("-- cyd: offline since ")
        await open_session(bob, shown).execute([b"/back"])
        await seen(ada, "bob", "online")


async def test_away_without_text_is_back(shown: Shown) -> None:
    async with mesh("ada") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([b'{"do":"away","text":"lunch"}', b"/away", b"/back", b'{"do":"back","ref":"b"}'])
        assert [(line["command"], line["rows"][0]["status"]) for line in shown.lines] == [
            ("away", "idle"),
            ("away", "online"),
            ("back", "online"),
            ("back", "online"),
        ]
        await session.execute([b"/away lunch", b"/who", b"/back", b"/who"])
        assert [line["rows"][0]["status"] for line in shown.lines[4:]] == ["idle", "idle", "online", "online"]
        await session.execute([b"/away " + b"x" * 513, b'{"do":"away","text":"\\ud800"}'])
        assert session.exit_code == USAGE and [line["event"] for line in shown.lines[-2:]] == ["error", "error"]
        assert session.activity.is_active and net.peers[0].me.status == "online"


async def test_whois_shows_the_id(shown: Shown) -> None:
    async with mesh("ada", "Anna Maria") as net:
        ada, anna = net.peers
        session = open_session(ada, shown)
        await session.execute([b'/whois "Anna Maria"', b'{"do":"whois","user":"ada"}'])
        first, second = (line["rows"][0] for line in shown.lines)
        assert (first["user"], first["user_id"], first["linked"], first["me"]) == (
            "Anna Maria",
            anna.me.id,
            True,
            False,
        )
        assert (second["user_id"], second["me"]) == (ada.me.id, True)
        assert [conversation.name for conversation in ada.conversations()] == ["room"]  # whois opens no conversation
        shown.new  # noqa: B018
        await open_session(ada, shown, as_json=False).execute([b"/whois Anna Maria"])
        assert [TIMELESS.sub("", line) for line in shown.new] == [
            '-- "Anna Maria": online',
            '   name: "Anna Maria"',
            "   known",
            f"   own peer: linked, from 127.0.0.1; listens at {anna.endpoint}",
            f"   id {anna.me.id}",
        ]


async def test_about_is_visible_until_it_is_removed(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown, as_json=False)
        await session.execute([b"/about", b"/about on call", b"/nick robert"])
        await net.settle()
        assert shown.new[-1] == "-- you are now robert"
        await open_session(ada, shown).execute([b'{"do":"whois","user":"robert"}'])
        row = json.loads(shown.new[0])["rows"][0]
        assert (row["about"], row["names_before"], row["allowed"]) == ("on call", ["bob"], False)
        assert [(host["peer_id"], host["linked"]) for host in row["hosts"]] == [(bob.me.id, True)]
        await open_session(ada, shown, as_json=False).execute([b"/whois robert"])
        _first, called, about, known, host, id = shown.new
        assert called == "   name: robert; formerly bob" and about == '   about: "on call"'
        assert known.startswith("   known since ") and host.startswith("   own peer: linked, from ")
        assert id == f"   id {bob.me.id}"
        await session.execute([b"/about -"])
        assert shown.new == ["-- your about text is empty"]
        await net.settle()
        assert ada.user("robert").about == ""


async def test_an_ambiguous_name_lists_the_labels(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    async with mesh("ada", "bob", "cyd") as net:
        ada, bob, cyd = net.peers
        await cyd.rename("bob")
        await net.settle()
        session = open_session(ada, shown)
        for command in ("/whois bob", "/msg bob hi", "/go bob", "/ignore @bob"):
            await session.execute([command.encode()])
            assert shown.lines[-1]["code"] == "ambiguous_name"
            assert all(f"bob#{peer.me.id[:8]}" in shown.lines[-1]["text"] for peer in (bob, cyd))
        await session.execute([f"/whois bob#{cyd.me.id[:8]}".encode()])
        assert shown.rows[0]["user_id"] == cyd.me.id
        assert session.exit_code == NO_SUCH_NAME


async def test_an_ignored_user_is_hidden_from_people(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada", "bob", "mallory") as net:
        ada, bob, mallory = net.peers
        session = open_session(
            ada,
            shown,
            as_json=False,
        )
        await session.execute([b"/ignore mallory"])
        await mallory.rename("nice guy")  # ignoring is by id
        await mallory.broadcast("look at me")
        await net.settle()
        await open_session(bob, shown).execute([b"/reply do not feed it"])
        await mallory.send("ada", "look at me!")
        await see(ada, session, "look at me!")
        assert [line[5:] for line in shown.new] == ["-- mallory is ignored from now on"[5:], " bob: do not feed it"]
        await session.execute([b"/list", b"/who", b"/history"])
        text = shown.text
        assert "look at me" not in text and "unread" not in text
        assert '-- "nice guy": online (ignored)' in TIMELESS.sub("", text)
        assert "look at me" in [post.text for post in await ada.history("room")]  # stored and passed on

        later = open_session(ada, shown, as_json=False)
        shown.new  # noqa: B018
        await later.execute([b"/reply are you still here?", b'/unignore "nice guy"', b"/history"])
        unignored, theirs, answer, _ = shown.new
        assert unignored == '-- "nice guy" is no longer ignored'
        assert theirs[7:] == " nice guy: look at me"  # after number and time
        assert answer[7:] == ' bob (to "nice guy": "look at me"): do not feed it'
        assert [post.text for post in await ada.history("room")][-1] == "are you still here?"


async def test_ignored_users_are_listed_and_not_unread(shown: Shown) -> None:
    async with mesh("ada", "bob", "mallory") as net:
        ada, bob, mallory = net.peers
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/ignore", b"/go bob"])
        await mallory.broadcast("hey ada")
        await mallory.send("ada", "look at me")
        await bob.broadcast("hello")
        await see(ada, session, "hello")
        await session.execute([b"/list", b"/ignore mallory", b"/list", b"/ignore"])
        assert [line for line in shown.new if "unread" in line or "ignored" in line] == [
            "-- nobody is ignored",
            "-- room: 2 unread, 1 with your name",
            "-- mallory: 1 unread; new: mallory",
            "-- mallory is ignored from now on",
            "-- room: 1 unread",
            "-- mallory is ignored: /unignore shows them again",
        ]


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ({"event": "message", "sender_id": "BOB"}, True),
        ({"event": "joined", "user_id": "BOB"}, True),
        ({"event": "reaction", "by_id": "BOB"}, True),
        ({"event": "delivered", "user_id": "BOB"}, False),
        ({"event": "warning", "text": "x"}, False),
    ],
)
async def test_which_events_of_ignored_users_are_hidden(line: dict[str, str], hidden: bool) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        line = {name: bob.me.id if value == "BOB" else value for name, value in line.items()}
        assert not is_ignored(ada, line)
        await ada.ignore("bob")
        assert is_ignored(ada, line) is hidden


async def test_programs_and_logs_get_messages_of_ignored_users(shown: Shown, tmp_path: Path) -> None:
    async with mesh("ada", "mallory") as net:
        ada, mallory = net.peers
        session = open_session(ada, shown)
        await session.execute([b"/ignore mallory"])
        await mallory.broadcast("look at me")
        await see(ada, session, "look at me")
        assert shown.lines[-1]["text"] == "look at me"
        people = open_session(ada, shown, as_json=False)
        log = EventLogFile(str(tmp_path / "log"))
        people.display._log = log
        shown.new  # noqa: B018
        await see(ada, people, "look at me", consumer="log")
        assert shown.new == []
        assert "look at me" in (tmp_path / "log").read_text("utf-8")
        log.close()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/ignore ada", "that is the own user"),
        ("/unignore bob", "bob is not ignored"),
        ("/block ada", "that is the own user"),
        ("/unblock bob", "bob is not blocked"),
        ("/block nobody", "nobody here is called 'nobody'"),
        ("/nick a/b", "a name does not contain '/'"),
    ],
)
async def test_errors_of_people_commands(shown: Shown, line: str, expected: str) -> None:
    async with mesh("ada", "bob") as net:
        session = open_session(net.peers[0], shown)
        await session.execute([line.encode()])
        assert shown.lines[-1]["text"].startswith(expected)


async def test_blocked_users_are_listed_hidden_and_shown_again(shown: Shown) -> None:
    async with mesh("ada", "bob", "mallory") as net:
        ada, _, mallory = net.peers
        await mallory.broadcast("look at me")
        await net.settle()
        session = open_session(ada, shown, as_json=False)
        await session.execute([b"/block", b"/block mallory", b"/block", b"/who -a", b"/history"])
        lines = [TIMELESS.sub("", line) for line in shown.new]
        assert lines[:3] == [
            "-- nobody is blocked",
            "-- mallory is blocked: no link, nothing stored, nothing shown; nobody is told",
            "-- mallory is blocked: /unblock lifts that",
        ]
        assert "-- mallory: offline (blocked)" in lines and "look at me" not in "".join(lines)
        await session.execute([b"/whois mallory"])
        assert TIMELESS.sub("", shown.new[0]) == "-- mallory: offline (blocked)"
        await mallory.broadcast("and now?")
        await session.execute([b"/unblock mallory"])
        assert shown.new[-1] == "-- mallory is no longer blocked: what was written meanwhile arrives"
        await net.settle()
        assert [post.text for post in await ada.history("room")] == ["look at me", "and now?"]


async def test_allow_lifts_the_storage_limit(shown: Shown) -> None:
    small = Settings(contact_bytes=4_000, member_bytes=4_000, log_bytes=0, digest_every=1.0)
    async with mesh("ada", "bob", settings=small) as net:
        ada, bob = net.peers
        async with asyncio.timeout(60):
            full = asyncio.create_task(ada.wait_for(Warned, where=lambda event: event.code == "full"))
            refused = asyncio.create_task(bob.wait_for(Warned, where=lambda event: event.code == "refused"))
            await asyncio.sleep(0)  # the tasks start
            receipt = [await bob.send("ada", "x" * 300) for _ in range(20)][-1]
            assert "/allow NAME" in (await full).text and "/allow" in (await refused).text
            assert receipt.status == "accepted"
            session = open_session(ada, shown)
            await session.execute([b'{"do":"allow","user":"bob"}', b'{"do":"allow","user":"ada"}'])
            answer, error = shown.lines
            assert answer["rows"] == [{"user": "bob", "user_id": bob.me.id, "allowed": True}]
            assert error["event"] == "error"
            await receipt.delivered()
        assert len([post for post in await ada.history("bob", limit=0) if post.text.startswith("x")]) == 20


async def test_json_typing_respects_the_setting(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(ada, shown)
        async with bob.events(Typing, consumer=None) as events:
            await session.execute([b"/set typing off room", b'{"do":"typing"}', b'{"do":"typing","to":"bob"}'])
            async with asyncio.timeout(60):
                event = await anext(events)  # the first that is sent
        assert (event.user.name, event.conversation.name, event.typing) == ("ada", "ada", True)
        rows = [line["rows"][0] for line in shown.lines]
        assert [(row["conversation"], row["typing"]) for row in rows[1:]] == [("room", False), ("bob", True)]


async def test_forget_takes_a_name_or_an_address(shown: Shown) -> None:
    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        session = open_session(bob, shown)
        await session.execute([b'{"do":"forget","peer":"ada"}', b"/forget 127.0.0.1:9"])
        forgotten, error = shown.lines
        assert (len(forgotten["rows"][0]["endpoints"]), forgotten["rows"][0]["linked"]) == (1, True)
        assert error["code"] == "unknown_name" and session.exit_code == NO_SUCH_NAME
        await open_session(ada, shown, as_json=False).execute([b"/forget bob"])
        assert shown.new[-1] == f"-- no longer dialling {bob.endpoint}; the current link stays until it ends"
