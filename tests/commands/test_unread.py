"""What is unread, where, and where to look first."""

from __future__ import annotations

from typing import Any

import pytest

from p2pchat.commands.read_tracking import UnreadCounter, mentions


def line(conversation: str, text: str = "hi", *, kind: str = "dm", old: bool = False) -> dict[str, Any]:
    return {
        "event": "message", "conversation_id": conversation, "kind": kind, "sender_id": "B", "text": text, "old": old,
    }  # fmt: skip


def test_only_what_others_wrote_elsewhere_since_one_came_is_unread() -> None:
    unread = UnreadCounter("ada")
    counted = [
        unread.on_event(line("BOB"), here=None),
        unread.on_event(line("BOB", old=True), here=None),
        unread.on_event(line("ROOM", kind="room"), here=None),
        unread.on_event(line("ROOM", kind="room"), here="ROOM"),
        unread.on_event({**line("BOB"), "event": "sent"}, here=None),
    ]
    assert counted == [True, False, False, False, False]
    assert (unread.count("BOB"), unread.count("ROOM"), unread.total) == (1, 0, 1)


def test_next_is_where_one_is_meant_and_first_is_what_came_first() -> None:
    unread = UnreadCounter("ada")
    unread.on_event(line("OPS", kind="group"), here=None)
    unread.on_event(line("BOB"), here=None)
    unread.on_event(line("CYD"), here=None)
    assert (unread.most_urgent(), unread.first()) == ("BOB", "OPS")
    unread.on_event(line("OPS", "what does Ada say?", kind="group"), here=None)
    assert (unread.most_urgent(), unread.mentions("OPS"), unread.count("OPS")) == ("OPS", 1, 2)
    unread.clear("OPS")
    assert (unread.most_urgent(), unread.ids) == ("BOB", ["BOB", "CYD"])
    unread.clear("BOB")
    unread.clear("CYD")
    assert (unread.most_urgent(), unread.first(), unread.total) == (None, None, 0)


@pytest.mark.parametrize(
    "text, meant",
    [
        ("ada: look", True),
        ("thanks ADA!", True),
        ("@ada", True),
        ("adapter", False),
        ("Ramada", False),
        ("ada_2", False),
        ("Ada#K7QF2M3P: look", True),
        ("ada#2YALQJU2: look", False),
        ("ada#2YALQJU2 and ada", True),
        ("ada#1 is best", True),
        ("", False),
    ],
)
def test_a_name_is_meant_as_a_word_of_its_own(text: str, meant: bool) -> None:
    assert mentions(text, "ada", "K7QF2M3PAAAA") is meant
    assert mentions(text, "") is False
