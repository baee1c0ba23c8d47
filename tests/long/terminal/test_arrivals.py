"""Who comes and goes, as people see it: those who stay or say something, and no program that runs once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from p2pchat import Joined, Left, TCPPeer
from p2pchat.commands.pending_arrivals import STAYS_AFTER
from tests.deadlines import within
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and, arrives, port_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

SCRIPT = """\
import sys
from p2pchat.sync import TCPPeer
with TCPPeer(0, sys.argv[1], name="script", data=sys.argv[2]) as peer:
    peer.wait_user("bob", timeout=60)
    peer.send("bob", "psst").delivered(timeout=60)
"""


@pytest.mark.parametrize("plain", [(), ("--plain",)], ids=["prompt", "plain"])
async def test_programs_that_run_once_come_and_go_unseen(
    terminal: OpenTerminal, peer: StartPeer, home: Path, plain: tuple[str, ...]
) -> None:
    """Three of them: `p2pchat send` to somebody who is there, to somebody who is not, and a script."""
    cron = ("--data", str(home / "cron"))
    ada, bob = await ada_and("bob", terminal, peer, *plain, "--data", str(home / "ada"), columns=120)
    port = await port_of(ada)
    away = await peer("zoe", port)
    await arrives(ada, away)
    async with TCPPeer(0, str(port), name="cron", data=home / "cron") as known:
        for name in ("bob", "zoe"):
            await known.wait_user(name, timeout=60)
        for one in (known, away):
            await (await one.broadcast("I am known")).delivered(timeout=60)
        await ada.shows_line("-- cron is here")  # as it said something
    await ada.shows("cron left")
    tail = await terminal("tail", "--data", str(home / "ada"), columns=120)
    await tail.shows("cron: I am known")
    seen = bob.events(Joined, Left, consumer=None)
    sent = await terminal("send", "bob", "backup finished", *cron)
    assert await sent.ended() == 0
    await away.aclose()
    late = await terminal("send", "zoe", "for later", *cron)
    assert await late.ended() == 3
    script = await terminal("-c", SCRIPT, str(port), str(home / "script"), command=(sys.executable,))
    assert await script.ended() == 0, script.text
    async with within(60, "all of them came and went"):
        came: list[str] = []
        while came[-1:] != ["Left script"]:
            event = await anext(seen)
            came.append(f"{type(event).__name__} {event.user.name}")
    assert came.count("Joined cron") == came.count("Left cron") >= 1
    await (await bob.broadcast("everything of them has come")).delivered(timeout=60)
    for shown in (ada, tail):
        await shown.shows("everything of them has come")
        assert "script" not in shown.text
    assert ada.text.count("cron is here") == ada.text.count("cron left") == 1
    assert "cron is here" not in tail.text and "cron left" not in tail.text


async def test_a_program_that_stays_is_shown_a_moment_later(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada = await terminal("0", "--name", "ada")
    bob = await peer("bob", await port_of(ada))
    began = asyncio.get_running_loop().time()
    await ada.shows_line("-- bob is here for the first time$")
    assert asyncio.get_running_loop().time() - began > STAYS_AFTER / 2
    await bob.aclose()
    await ada.shows_line("-- bob left$")
