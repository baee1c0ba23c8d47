"""Conversations that somebody new began, typed about in a real terminal: told once, listed as new, and /block."""

from __future__ import annotations

import pytest

from tests.terminal.conftest import OpenTerminal, StartPeer, port_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_who_is_new_is_told_once_and_listed_until_it_is_opened(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    bob, mal = await peer("bob", await port_of(ada)), await peer("mal", await port_of(ada))
    await ada.shows("bob is here")
    await ada.shows("mal is here")
    await bob.send("ada", "hello from bob")
    await ada.shows("-- new: bob")
    await ada.shows("hello from bob")
    await mal.send("ada", "buy this")
    await ada.shows("-- new: mal")
    await mal.create_group("spam", ["ada"])
    await ada.shows("-- new: #spam by mal")
    await bob.send("ada", "are you there?")
    await ada.shows("are you there?")
    assert len([line for line in ada.all_lines if "-- new: bob" in line]) == 1
    await ada.answers(
        "/list", "-- bob: 2 unread; new: bob", "-- mal: 1 unread; new: mal", "-- #spam; new: #spam by mal"
    )
    await ada.line("/go bob")
    await ada.prompts("[mal 1] bob>")
    await ada.answers("/list", "-- bob (here)")
    # One is blocked: nothing is shown any more, and it is not told.
    await ada.answers("/block mal", "mal is blocked: no link, nothing stored, nothing shown; nobody is told")
    await ada.answers("/list", "1 person is blocked: /block")
    await mal.send("ada", "buy this again")
    await bob.send("ada", "the last word")
    await ada.shows("the last word")
    assert not any("buy this again" in line for line in ada.all_lines)
    await ada.line("/quit")
    assert await ada.ended() == 0
