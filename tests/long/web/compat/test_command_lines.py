"""The command lines of the former chats as they are printed, on port 8080 itself, in a network of their own.

The lines and `client.py` are those of docs/gateway-api.md.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.processes.machines import SYSTEM, TOOLS, Held, NoNamespaces
from tests.web.processes import p2pchat, running

PAGE = blocks((ROOT / "docs/gateway-api.md").read_text("utf-8"))


@pytest.fixture
def network() -> Iterator[Held]:
    if SYSTEM != "linux" or any(shutil.which(tool) is None for tool in (*TOOLS, "curl")):
        pytest.skip("needs the network namespaces of Linux, and curl")
    try:
        held = Held()
        held.run("ip", "link", "set", "lo", "up")
    except NoNamespaces as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield held
    finally:
        held.let_go()


async def test_each_line_works_as_printed(network: Held, tmp_path: Path) -> None:
    [printed] = [block.text.splitlines() for block in PAGE if "p2pchat client -user=A" in block.text]
    [program] = [block.text for block in PAGE if block.attributes.get("file") == "client.py"]
    (tmp_path / "client.py").write_text(program, "utf-8")
    assert printed[1:4] == [
        "p2pchat client -user=A -recipient=B",
        "p2pchat client -user=B -recipient=A",
        'curl "http://localhost:8080/messages?user1=A&user2=B"',
    ]
    ways = {"p2pchat": p2pchat(), "curl": ["curl", "-s"], "python": [sys.executable]}

    def command(line: str) -> list[str]:
        name, *words = shlex.split(line.replace("client.py", str(tmp_path / "client.py")))
        return network.under(*ways[name], *words)

    gateway, a, b, curl, client = map(command, printed)
    async with running(*gateway, home=tmp_path) as console:
        await console.until("Chat service started on :8080")
        async with running(*a, home=tmp_path) as one, running(*b, home=tmp_path) as other:
            await one.until("connected as A")
            await other.until("connected as B")
            await one.say("Hello, B!")
            await one.until("📨 Sent message to B: Hello, B!")
            await one.until("✅ Acknowledgment: ok")
            await other.until("💬 A: Hello, B!")
            await other.say("Hey A!")
            await one.until("💬 B: Hey A!")
            async with running(*client, home=tmp_path) as terminal:
                await terminal.say("zoe")
                await terminal.say("/dm A Hello from Python!")
                assert json.loads((await terminal.until("{")).removeprefix("Your name: "))["status"] == "ok"
                await one.until("💬 zoe: Hello from Python!")
                await terminal.say("/dm C welcome, whenever you come")
                await console.until("buffered for C, who is offline: a message from zoe")
                assert await terminal.end() == 0
            await console.until("zoe disconnected (chat: left)")
            async with running(*command("p2pchat client -user=C -recipient=A"), home=tmp_path) as late:
                await late.until("💬 zoe: welcome, whenever you come")
                await console.until("C connected (chat)")
                await console.until("sent to C: 1 buffered message")
        async with running(*curl, home=tmp_path) as history:
            assert await history.end() == 0
        rows = json.loads("".join(history.shown))
        assert "Hello" not in "".join(console.shown)
        assert [(row["from"], row["to"], row["content"]) for row in rows] == [
            ("A", "B", "Hello, B!"), ("B", "A", "Hey A!"),
        ]  # fmt: skip
