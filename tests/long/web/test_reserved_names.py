"""A misspelt name in a terminal at a gateway: nobody has it yet, and who may be meant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.processes import Program, p2pchat, running
from tests.web.test_reserved_names import NEAR


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[tuple[str, str, Program]]:
    """Run a gateway that knows ada and bob; yield its port, that of its peer, and its process."""
    http, own = free_ports(2)
    words = ("web", http, "--port", own, "--trust-loopback", "--data", str(home / "gate"))
    async with running(*p2pchat(*words), home=home) as office:
        await office.until("the page")
        for name in ("ada", "bob"):
            async with connect(f"ws://localhost:{http}/chat?user={name}&since=") as one:
                assert json.loads(await one.recv())["type"] == "resumed"
        yield http, own, office


async def test_the_terminals_say_it_in_words(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (port, own, _):
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
            await tina.until_all(  # the second comes when it is on the gateway's disk
                '-- bbo is offline: "nobody has registered this name yet"',
                "-- delivered to a gateway, kept for bbo, seen or not: your message",
            )
            await tina.say("/msg boo lunch?")  # one letter away from bob and from bbo, which is reserved
            await tina.until("nobody here is called 'boo'; did you mean bob?")
            await tina.say("/msg adda lunch?")
            await tina.until("nobody here is called 'adda'; did you mean ada?")


async def test_a_command_of_a_peer_suggests_the_name(tmp_path: Path) -> None:
    async with gateway(tmp_path):
        words = ("send", "boob", "lunch?", "--data", str(tmp_path / "gate"))
        async with running(*p2pchat(*words), home=tmp_path) as send:
            assert await send.end() == 4
        assert send.shown == ["p2pchat: nobody here is called 'boob'; did you mean bob?"]
