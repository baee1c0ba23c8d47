"""A terminal under load, after a resize, and a stalled one."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from p2pchat import Left
from p2pchat.cli.terminal.screen import BATCH_INTERVAL
from tests.deadlines import WAIT
from tests.long.terminal.test_prompt import said
from tests.terminal.conftest import OpenTerminal, StartPeer, ada_and

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]


async def test_a_thousand_lines_arrive_in_order(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    await ada.type("typed before")
    await ada.prompts("room> typed before")
    texts = [f"line {number}" for number in range(1000)]
    began = time.monotonic()
    await bob.send_many("room", texts)
    await ada.shows("bob: line 999")
    assert said(ada, "bob") == texts
    await ada.prompts("room> typed before")
    batches = (time.monotonic() - began) / BATCH_INTERVAL
    assert ada.raw.count(b"typed before") < max(200, 2 * batches)  # the prompt is drawn once per batch


async def test_a_stalled_terminal_does_not_delay_the_peer(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)
    ada.stand_still()
    long = "x" * 1000
    receipts = await bob.send_many("room", [f"{number} {long}" for number in range(200)])  # more than any buffer
    await receipts.delivered(timeout=60)
    for _ in range(3):  # and the peer still answers
        await (await bob.send("ada", "are you there?")).delivered(timeout=60)
    ada.go_on()
    await ada.until(lambda: ada.text.count("are you there?") == 3)
    assert [text.split()[0] for text in said(ada, "bob")] == [str(number) for number in range(200)]


async def test_lines_after_a_resize_fit_the_new_width(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer, columns=80)
    await ada.type("half a li")
    await ada.prompts("room> half a li")
    ada.resize(40, 12)
    async with asyncio.timeout(WAIT):
        while "    | " not in ada.text:  # the new size arrives by a signal
            await (await bob.broadcast("ten words that make more than one row of forty")).delivered(timeout=60)
    await ada.until(lambda: ada.lines[-1] == "ada to room> half a li")
    assert all(len(line) <= 40 for line in ada.lines)
    await ada.line("ne")
    await ada.shows("ada: half a line")


async def test_text_typed_before_the_prompt_is_kept(terminal: OpenTerminal) -> None:
    ada = await terminal("0", "--name", "ada")
    await ada.line("very early")
    await ada.type("and on")
    await ada.shows("ada: very early  · saved")
    await ada.prompts("room> and on")


async def test_a_closed_terminal_ends_the_peer_in_order(terminal: OpenTerminal, peer: StartPeer, home: Path) -> None:
    ada, bob = await ada_and("bob", terminal, peer, "--data", str(home / "ada"))
    left = asyncio.ensure_future(bob.wait_for(Left))
    await ada.answers("last words", "last words  ✓")
    assert await ada.taken_away() in (0, 3)
    assert (await left).reason == "left"
    again = await terminal("0", "--data", str(home / "ada"))
    await again.shows("ada: last words")
    await again.prompts("room>")


async def test_switching_during_a_talk_shows_each_line_once(terminal: OpenTerminal, peer: StartPeer) -> None:
    ada, bob = await ada_and("bob", terminal, peer)

    back_at_bob = asyncio.Event()

    async def talk() -> int:
        count = 0
        while count < 300 or not back_at_bob.is_set():
            sent = await bob.send("ada", f"line {count}")
            count += 1
            if not count % 50:  # no more than are shown on one page wait for a slow terminal
                await sent.read(timeout=WAIT)
        for number in range(count, count + 20):
            await bob.send("ada", f"line {number}")
        return count + 20

    talking = asyncio.create_task(talk())
    for _ in range(5):
        await ada.prompts_after("/go bob", "bob>")
        await ada.line("/go")
        await ada.until(lambda: ada.prompt.endswith("room>"))
    await ada.prompts_after("/go bob", "bob>")
    back_at_bob.set()
    count = await talking
    await ada.shows(f"line {count - 1}")
    rule = max(number for number, line in enumerate(ada.all_lines) if line == "──── bob ────")
    seen = [int(line.rpartition(" ")[2]) for line in ada.all_lines[rule + 1 :] if "line " in line]
    assert seen == list(range(seen[0], count))
