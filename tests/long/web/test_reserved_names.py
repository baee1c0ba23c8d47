"""A misspelt name in a terminal, beside a gateway that reserves it: nobody has it, and who may be meant."""

from __future__ import annotations

import json
from pathlib import Path

from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.processes import p2pchat, running
from tests.web.test_reserved_names import NEAR


async def test_the_terminals_say_it_in_words(tmp_path: Path) -> None:
    port, own = free_ports(2)
    words = ("web", port, "--port", own, "--trust-loopback", "--data", str(tmp_path / "gate"))
    async with running(*p2pchat(*words), home=tmp_path) as office:
        await office.until("the page")
        async with connect(f"ws://localhost:{port}/chat?user=bob&since=") as bob:
            assert json.loads(await bob.recv())["type"] == "resumed"
        client = p2pchat("client", f"ws://localhost:{port}/chat", "--user", "ada", "--recipient", "bbo")
        async with running(*client, home=tmp_path) as ada:
            await ada.until("connected as")
            await ada.say("lunch?")
            await ada.until("Acknowledgment: ok")
            assert await ada.until("did you mean") == f"-- {NEAR}"
            assert await ada.end() == 0
        peer = p2pchat("0", own, "--name", "tina", "--data", str(tmp_path / "tina"), "--plain", "--drain", "0")
        async with running(*peer, home=tmp_path) as tina:
            await tina.say("/msg bbo lunch?")
            await tina.until("nobody here is called 'bbo'; did you mean bob?")
            await tina.say("/quit")
        send = p2pchat("send", "bbo", "lunch?", "--data", str(tmp_path / "tina"))
        async with running(*send, own, home=tmp_path) as typo:
            await typo.until("nobody here is called 'bbo'; did you mean bob?")
            assert await typo.end() == 4
