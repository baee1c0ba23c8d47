"""Unread counts and mentions."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from p2pchat.commands.unread_counter import UnreadCounter, mentions

NUMBERS = itertools.count(1)


def line(conversation: str, text: str = "hi", *, kind: str = "dm", old: bool = False) -> dict[str, Any]:
    return {
        "id": f"{next(NUMBERS)}", "event": "message", "conversation_id": conversation, "kind": kind, "sender_id": "B",
        "text": text, "old": old,
    }  # fmt: skip


def test_only_new_messages_of_other_conversations_are_unread() -> None:
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


def test_what_was_deleted_is_not_unread() -> None:
    unread = UnreadCounter("ada")
    for lines in ([line("BOB", "ada?"), line("BOB")], [line("CYD")]):
        for one in lines:
            unread.on_event(one, here=None)
        unread.on_deleted(one["conversation_id"], lines[0]["id"])
        unread.on_deleted(one["conversation_id"], lines[0]["id"])
    assert (unread.count("BOB"), unread.mentions("BOB"), unread.ids) == (1, 0, ["BOB"])


def test_mentions_are_most_urgent_then_direct_messages() -> None:
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
        ("@ada", True),
        ("adapter", False),
        ("ada_2", False),
        ("Ada#K7QF2M3P: look", True),
        ("ada#2YALQJU2: look", False),
        ("ada#1 is best", True),
        ("", False),
    ],
)
def test_a_mention_is_a_whole_word(text: str, meant: bool) -> None:
    assert mentions(text, "ada", "K7QF2M3PAAAA") is meant
    assert mentions(text, "") is False
