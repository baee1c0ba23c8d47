"""Real processes in one room: a gateway, a peer in a terminal and a user of `/chat`, each of them killed in turn."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_ports
from tests.web.chat_client import Chatter, connect
from tests.web.processes import Program, p2pchat, running


async def heard(terminal: Program, text: str) -> dict[str, Any]:
    """Wait until a terminal shows a message with this text; return its line."""
    while True:
        line: dict[str, Any] = json.loads(await terminal.until(f'"text":"{text}"'))
        if line["event"] == "message":
            return line


async def told(chatter: Chatter, text: str) -> dict[str, Any]:
    while (message := await chatter.message())["content"] != text:
        pass
    return message


@asynccontextmanager
async def connected(office: Program, client: list[str], home: Path) -> AsyncIterator[Program]:
    """Run a client once the gateway is running."""
    await office.until("the page")
    async with running(*client, home=home) as program:
        await program.until("connected as")
        yield program


async def test_a_terminal_and_a_chat_user_share_a_room_after_either_restarts(tmp_path: Path) -> None:
    http, own, other = free_ports(3)
    data = tmp_path / "data"
    gateway = p2pchat("web", http, "--port", own, "--trust-loopback", "--name", "office", "--data", str(data / "web"))
    terminal = p2pchat(other, own, "--name", "tina", "--json", "--data", str(data / "tina"))
    url = f"ws://localhost:{http}/chat?user=zoe"
    client = p2pchat("client", f"ws://localhost:{http}/chat", "--user", "cyd")
    async with (
        running(*gateway, home=tmp_path) as office,
        running(*terminal, home=tmp_path) as tina,
        connected(office, client, tmp_path) as cyd,
    ):
        await tina.until('"state":"up"')
        async with connect(url) as socket:
            zoe = Chatter(socket)
            await zoe.accepted("one")
            assert (await heard(tina, "one"))["sender"] == "zoe"
            await tina.say("two")
            last = await told(zoe, "two")
            assert last["from"] == "tina"
        office.kill()
        await office.end()
        await cyd.until("trying again")
        await cyd.say("typed while nobody listened")
        await tina.until('"event":"left"')
        await tina.say("three")
        await tina.say("/msg zoe four")
        async with running(*gateway, home=tmp_path) as office:
            await office.until("the page")
            await cyd.until_all("back as cyd", "Acknowledgment: ok", "tina: three")
            async with connect(f"{url}&since={last['id']}") as socket:
                zoe = Chatter(socket)
                behind = [await zoe.message() for _ in range(3)]
                assert {one["content"] for one in behind} == {"three", "four", "typed while nobody listened"}
                tina.kill()
                await tina.end()  # what came before its death would be shown by this process, not by the next
                await zoe.accepted("/dm tina five")
                await zoe.accepted("six")
                async with running(*terminal, home=tmp_path) as tina_again:
                    await tina_again.until_all('"text":"five"', '"text":"six"')  # two conversations, so in any order
                    await tina_again.say("seven")
                    assert (await told(zoe, "seven"))["from"] == "tina"
