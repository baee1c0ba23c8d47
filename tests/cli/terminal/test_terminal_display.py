"""Typing indicators."""

from __future__ import annotations

from typing import Any

import pytest

from p2pchat import Conversation, TCPPeer, Typing, User
from p2pchat.cli.terminal.terminal_display import OpenQuestions, TypingNotifier, TypingUsers, is_text
from p2pchat.commands.chat_settings import ChatSettings
from p2pchat.commands.display import Display
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.commands.wrap import plain_text
from p2pchat.testing import mesh


def asked(id: str, *choices: str, **more: Any) -> dict[str, Any]:
    return {"event": "message", "id": id, "conversation_id": "C", "choices": list(choices), **more}


def test_a_question_is_open_until_the_user_answers_it_or_it_is_deleted() -> None:
    questions = OpenQuestions()

    def newest() -> str | None:
        line = questions.newest("C")
        return None if line is None else str(line["id"])

    mine = {"event": "reaction", "by_id": "ADA"}
    questions.add(asked("1", "yes", "no"), "ADA")
    questions.add(asked("2", "yes", "no"), "ADA")
    questions.add(asked("3", "now", "later"), "ADA")
    questions.add(asked("4"), "ADA")
    questions.add(asked("5", "yes", "no", event="sent"), "ADA")
    questions.add(asked("6", "yes", "no", reactions=[{"by_id": "ADA", "reaction": "no"}]), "ADA")
    questions.add(asked("7", "yes", "no", conversation_id="D"), "ADA")
    assert newest() == "3"
    for said in ({**mine, "reaction": "+1"}, {**mine, "reaction": "now", "by_id": "BOB"}, {**mine, "event": "edited"}):
        questions.on_change({"id": "3", **said}, "ADA")
        assert newest() == "3"
    questions.on_change({"id": "3", **mine, "reaction": "now"}, "ADA")
    assert newest() == "2"
    questions.on_change({"id": "2", "event": "deleted", "by_id": "BOB"}, "ADA")
    assert newest() == "1"
    questions.add(asked("2", "yes", "no", reactions=[{"by_id": "BOB", "reaction": "no"}]), "ADA")  # as in /history
    assert newest() == "2"
    assert [questions.close(id) for id in ("2", "2", "1")] == [True, False, True] and newest() is None


@pytest.mark.parametrize(
    ("line", "expected"), [("hello", True), ("//slash", True), ("/who", False), ("  ", False), ("", False)]
)
def test_commands_are_no_texts(line: str, expected: bool) -> None:
    assert is_text(line) is expected


class Keys:
    """A TypingNotifier, and the indicators it sent."""

    def __init__(self, peer: TCPPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[tuple[str, bool]] = []
        display = Display(StdoutWriter(None), None, as_json=False, echo=False)
        self.session = Session(peer, display, interactive=False, as_json=False)
        self.typist = TypingNotifier(peer, self.session)
        monkeypatch.setattr(Conversation, "typing", lambda to, on=True: self.said.append((to.name, on)))

    def take(self) -> list[tuple[str, bool]]:
        said, self.said = self.said, []
        return said


async def test_typing_is_sent_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mesh("ada", "bob") as net:
        keys = Keys(net.peers[0], monkeypatch)
        for line in ("h", "he"):
            keys.typist.on_line(line)
        assert keys.take() == [("room", True)] * 2
        await keys.session.switch_to(net.peers[0].find("bob"))
        keys.typist.on_line("hello")
        assert keys.take() == [("room", False), ("bob", True)]
        keys.typist.on_line("")
        keys.typist.on_line("")
        assert keys.take() == [("bob", False)]
        keys.typist.on_line("bye")
        keys.typist.on_sent()
        keys.typist.on_line("")
        assert keys.take() == [("bob", True)]


async def test_typing_is_not_sent_to_a_large_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        keys = Keys(ada, monkeypatch)
        crowd: list[User] = [ada.user("bob")] * 9
        monkeypatch.setattr(ada, "here", lambda: crowd)
        keys.typist.on_line("hello")
        assert keys.take() == []
        await keys.session.switch_to(ada.find("bob"))
        keys.typist.on_line("hello")
        assert keys.take() == [("bob", True)]
        await keys.session.switch_to(await ada.create_group("ops", ["bob"]))
        keys.typist.on_line("hello")
        assert keys.take() == [("bob", False), ("ops", True)]


def line(where: str, user: str, on: bool = True) -> dict[str, object]:
    return {"event": Typing.event, "conversation_id": where, "user": user, "user_id": user.upper(), "typing": on}


async def test_typing_users_of_this_and_direct_conversations_are_shown() -> None:
    async with mesh("ada") as net:
        await _typing_users_are_shown(ChatSettings(net.peers[0]))


async def _typing_users_are_shown(settings: ChatSettings) -> None:
    typists, ignored = TypingUsers(), set[str]()

    def row() -> str | None:
        found = typists.row("ROOM", {"DM"}.__contains__, settings, ignored.__contains__)
        return None if found is None else plain_text(found)

    assert (row(), bool(typists)) == (None, False)
    typists.on_event(line("ROOM", "bob"))
    typists.on_event(line("ELSEWHERE", "eve"))
    assert row() == "bob is typing …"
    typists.on_event(line("ROOM", "x\x1b[2J"))
    typists.on_event(line("DM", "cyd"))
    assert row() == "bob, x\\u{1b}[2J are typing …   cyd is typing to you …"
    typists.on_event(line("ROOM", "x\x1b[2J", on=False))
    ignored.add("BOB")
    await settings.change("typing", "off", "DM")
    assert row() is None
    ignored.clear()
    assert row() is None  # a missed end must not stay forever
