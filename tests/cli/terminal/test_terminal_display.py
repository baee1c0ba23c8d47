"""Typing indicators."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pchat import Conversation, TCPPeer, Typing, User
from p2pchat.cli.terminal.terminal_display import TypingNotifier, TypingUsers, is_text
from p2pchat.commands.chat_settings import ChatSettings
from p2pchat.commands.command_session import Session
from p2pchat.commands.display import Display
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.commands.wrap import plain_text
from p2pchat.testing import mesh


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


def test_typing_users_of_this_and_direct_conversations_are_shown(tmp_path: Path) -> None:
    typists, settings, ignored = TypingUsers(), ChatSettings.load(tmp_path), set[str]()

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
    settings.change("typing", "off", "DM")
    assert row() is None
    ignored.clear()
    assert row() is None  # a missed end must not stay forever
