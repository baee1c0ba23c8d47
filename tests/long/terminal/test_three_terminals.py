"""The README's three terminals, typed as written except for the ports."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.terminal.conftest import OpenTerminal
from tests.terminal.pty import Terminal

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("fork_server")]

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


def commands() -> list[str]:
    """The command of each terminal, from the section that shows them."""
    section = README.partition("## Three terminals")[2].partition("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)\n```", section, re.DOTALL)
    return [block for block in found if "--name" in block and "\n" not in block][:3]


@pytest.mark.parametrize("loop", ["asyncio", "any"])
async def test_three_people_in_three_terminals(terminal: OpenTerminal, loop: str) -> None:
    typed = commands()
    named = sorted(set(re.findall(r"\b80\d\d\b", " ".join(typed))))
    instead = dict(zip(named, free_ports(len(named)), strict=True))
    people: dict[str, Terminal] = {}
    lives: dict[str, list[str]] = {}
    for command in typed:
        words = shlex.split(re.sub(r"\b80\d\d\b", lambda found: instead[found[0]], command))
        assert words[1:3] == ["-m", "p2pchat"]  # and this environment's interpreter for .venv/bin/python
        name = words[words.index("--name") + 1]
        lives[name] = words[3:]
        people[name] = await terminal(*words[3:], env={"P2PCHAT_LOOP": loop})
        await people[name].prompts("room>")
    ada, bob, cyd = people["ada"], people["bob"], people["cyd"]
    for name, shown in people.items():
        for other in people.keys() - {name}:
            await shown.shows(f"-- {other} is here")

    await ada.line("hello, all")
    await bob.shows("ada: hello, all")
    await cyd.shows("ada: hello, all")
    await ada.shows("hello, all  ✓✓ read 2/2")
    await cyd.line("/msg bob see you at noon")
    await bob.shows("cyd -> bob: see you at noon")
    await cyd.shows("see you at noon  ✓ delivered")
    await bob.line("/go cyd")
    await bob.line("with pleasure")
    await cyd.shows("bob -> cyd: with pleasure")
    await bob.shows("with pleasure  ✓")  # nothing is left to deliver when bob leaves
    await bob.prompts_after("/go", "room>")
    await ada.line("/who")
    await ada.shows_line(r"^-- bob: online")
    await ada.line("/list")
    await ada.shows_line(r"^-- room .*\(here\)")
    await ada.answers("/help", "/quit")

    await bob.key("c-d")
    assert await bob.ended() == 0
    for shown in (ada, cyd):
        await shown.shows_line(r"-- bob left$")
    await ada.line("bob will read this later")
    await ada.answers("/msg bob and this", '-- bob is offline: "and this" is saved, and delivered when they are back')

    port = lives["bob"][0]
    again = await terminal(port)  # without any endpoint this time
    await again.shows("ada: bob will read this later")
    await again.shows("ada -> bob: and this")
    await again.shows("──── now ────")
    assert again.text.index("ada: hello, all") < again.text.index("──── now ────")
    await again.line("/history")
    await again.line("/quit")
    assert await again.ended() == 0
