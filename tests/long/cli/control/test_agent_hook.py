"""`p2pchat agent hook` as a process, beside real peers: each message once, nothing lost, nobody kept waiting."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from p2pchat.cli import control_server
from tests.cli.control.conftest import Serve
from tests.deadlines import within

# Kills itself when it has printed, and marks the first message as read.
KILLED = """\
import os, sys
from p2pchat.cli import agent_hook
ask = agent_hook._Peer.ask
def ask_or_die(peer, do, **fields):
    if do == "shown":
        os.kill(os.getpid(), 9)
    return ask(peer, do, **fields)
agent_hook._Peer.ask = ask_or_die
agent_hook.answer_hook(["prompt", "reviewer"])
"""


async def printed(*words: str, said: str = '{"stop_hook_active": false}', code: int = 0) -> str:
    """Run Python with these words; return what it prints."""
    running = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, errors = await running.communicate(said.encode())
    assert (running.returncode, errors) == (code, b"")
    return out.decode()


async def hook(kind: str, agent: str = "reviewer", said: str = '{"stop_hook_active": false}') -> Any:
    """Run a hook; return what it says to its client, None for nothing."""
    out = await printed("-m", "p2pchat", "agent", "hook", kind, agent, said=said)
    return json.loads(out) if out else None


def texts(context: str) -> list[str]:
    return [json.loads(line)["text"] for line in context.splitlines() if line.startswith("{")]


async def test_each_hook_shows_what_is_unread_once_and_its_writer_reads_so(serve: Serve, home: Path) -> None:
    reviewer, _ = await serve("reviewer")
    ada, _ = await serve("ada", reviewer.endpoint)
    assert await hook("stop") is None
    first = await ada.send(reviewer.me, "one\n\u202etwo")
    await first.delivered(timeout=60)
    assert await hook("stop", said='{"stop_hook_active": true}') is None, "a turn is not held up for ever"
    assert not first.read_by
    said = await hook("stop")
    assert said["decision"] == "block" and texts(said["reason"]) == ["one\n\\u{202e}two"]
    assert said["reason"].startswith("Unread messages of p2pchat")
    await first.read(timeout=60)
    assert await hook("stop") is None
    for kind, event in (("prompt", "UserPromptSubmit"), ("tool", "PostToolUse")):
        sent = await ada.broadcast(f"for {kind}")
        await sent.delivered(timeout=60)
        given = (await hook(kind, str(home / "reviewer")))["hookSpecificOutput"]
        assert (given["hookEventName"], texts(given["additionalContext"])) == (event, [f"for {kind}"])
        await sent.read(timeout=60)


async def test_more_than_fits_comes_in_order_and_a_mention_marks_nothing_before_it(serve: Serve, home: Path) -> None:
    reviewer, _ = await serve("reviewer")
    ada, _ = await serve("ada", reviewer.endpoint)
    said = ["plain", *(f"reviewer: look {number}" for number in range(80))]
    await (await ada.send_many("room", said)).delivered(timeout=60)
    await (await ada.send(reviewer.me, "y" * 9_000)).delivered(timeout=60)
    found: list[str] = []
    while len(found) < len(said):
        context = (await hook("tool"))["hookSpecificOutput"]["additionalContext"]
        assert texts(context) and context.endswith("More wait: call the tool `inbox`.")
        found += texts(context)
    assert found == said
    assert texts((await hook("stop"))["reason"]) == [], "what is too long waits for the tool"
    assert [post.text for post in await reviewer.unread(ada.me)] == ["y" * 9_000]
    assert not await reviewer.unread("room")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
async def test_what_was_printed_before_a_kill_is_printed_once_more(serve: Serve, home: Path) -> None:
    reviewer, _ = await serve("reviewer")
    ada, _ = await serve("ada", reviewer.endpoint)
    await (await ada.send(reviewer.me, "hello")).delivered(timeout=60)
    given = json.loads(await printed("-c", KILLED, code=-9))["hookSpecificOutput"]
    assert texts(given["additionalContext"]) == ["hello"]
    assert texts((await hook("stop"))["reason"]) == ["hello"]
    assert await hook("stop") is None


async def test_without_a_peer_that_answers_it_prints_nothing(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await hook("stop") is None, "there is no home"
    monkeypatch.setattr(control_server, "HAS_SOCKETS", False)
    reviewer, server = await serve("reviewer")
    ada, _ = await serve("ada", reviewer.endpoint)
    await (await ada.send(reviewer.me, "hello")).delivered(timeout=60)
    assert await hook("stop", "nobody") is None
    assert (
        await printed(
            "-c",
            "import os, sys; os.close(0); os.execv(sys.executable, sys.argv[1:])",
            sys.executable,
            "-m",
            "p2pchat",
            "agent",
            "hook",
            "stop",
            "reviewer",
        )
        == ""
    ), "standard input is closed"
    assert await hook("stop", said="no JSON") is None
    assert texts((await hook("stop"))["reason"]) == ["hello"]
    await server.shut_down("the test is over")
    assert await hook("stop") is None
    (home / "hangs").mkdir()
    if sys.platform == "win32":
        return
    with socket.socket(socket.AF_UNIX) as silent:
        monkeypatch.chdir(home / "hangs")
        silent.bind("control.sock")
        silent.listen()
        async with within(30, "a hook beside a peer that hangs"):
            assert await hook("stop", os.fspath(home / "hangs")) is None


async def test_it_imports_little() -> None:
    code = "import sys; from p2pchat.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    modules = await printed("-c", code, "agent", "hook", "stop", "reviewer")
    assert not {"asyncio", "click", "msgspec", "sqlite3", "cryptography", "ssl"} & {*modules.split()}
