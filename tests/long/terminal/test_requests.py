"""People unknown here, typed about in a real terminal: /requests, /accept, /decline and /block."""

from __future__ import annotations

import pytest

from tests.terminal.conftest import OpenTerminal, StartPeer, port_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_requests_are_listed_accepted_declined_and_blocked(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.prompts("room>")
    await ada.answers("/set requests known", "-- requests known")
    await ada.answers("/requests", "nobody whom you do not know waits for you")
    bob, mal = await peer("bob", await port_of(ada)), await peer("mal", await port_of(ada))
    await ada.shows("bob is here")
    await ada.shows("mal is here")
    # What they write is announced once and not shown.
    await bob.send("ada", "hello from bob")
    await ada.shows("bob, whom you do not know, wrote to you: /requests")
    await mal.send("ada", "buy this")
    await ada.shows("mal, whom you do not know, wrote to you: /requests")
    await mal.create_group("spam", ["ada"])
    await mal.broadcast("the group is made")  # what comes before it is taken
    await ada.shows("the group is made")
    await ada.line("/requests")
    await ada.shows_line(r"bob.* 1 message")
    await ada.shows_line(r"mal.* 1 message")
    await ada.shows("#spam")
    assert not any("hello from bob" in line or "buy this" in line for line in ada.all_lines)
    # One is accepted: everything is shown.
    await ada.answers("/accept bob", "bob is known to you now: what they wrote is shown", "hello from bob")
    await ada.answers("/decline #spam", "#spam does not wait any more")
    # One is blocked: nothing is shown any more, and it is not told.
    await ada.answers("/block mal", "mal is blocked: no link, nothing stored, nothing shown; nobody is told")
    await ada.answers("/block", "mal is blocked: /unblock lifts that")
    await ada.answers("/list", "1 person is blocked: /block")
    await mal.send("ada", "buy this again")
    await bob.send("ada", "the last word")
    await ada.shows("the last word")
    assert not any("buy this" in line for line in ada.all_lines)
    await ada.line("/quit")
    assert await ada.ended() == 0
