"""The programs in the README, run as written beside the README's three peers; only ports are replaced by free ones."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from p2pchat import Message, Receipt, TCPPeer
from p2pchat.cli.control_server import ControlServer
from tests.deadlines import WAIT, within
from tests.ports import free_ports
from tests.test_readme import README, ROOT, blocks

PORT = re.compile(r"\b80\d\d\b")
# Programs of one line stand in the text. What they import is said there, too.
LINE = re.compile(r"`((?:with TCPPeer\(|p2pchat\.send_once\().+?)`")
IMPORTS = "import p2pchat\nfrom p2pchat.sync import TCPPeer\n"
PROGRAMS = [*blocks("python"), *(IMPORTS + line for line in LINE.findall(README))]


def peers() -> list[list[str]]:
    """Return the arguments of the peers that the README starts in terminals: a port, endpoints and a name each."""
    lines = (line for block in blocks("sh") for line in block.splitlines() if "|" not in line)
    return [shlex.split(words) for line in lines for words in re.findall(r"p2pchat (80\d\d .*--name \w+)$", line)]


@asynccontextmanager
async def topology(port_of: dict[str, str], home: Path) -> AsyncIterator[dict[str, TCPPeer]]:
    """Run the peers of the README, linked with each other; yields them by name."""
    running: dict[str, TCPPeer] = {}
    async with AsyncExitStack() as stack:
        for port, *endpoints, _, name in peers():
            there = [PORT.sub(lambda found: port_of[found[0]], endpoint) for endpoint in endpoints]
            peer = TCPPeer(int(port_of[port]), *there, name=name, data=home / port_of[port])
            running[name] = await stack.enter_async_context(peer)
            stack.push_async_callback((await ControlServer(peer).start()).shut_down, "the test is over")
        for peer in running.values():
            for name in running:
                await peer.wait_user(name, timeout=WAIT)
        yield running


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.splitlines()[-1][:40])
async def test_a_program_of_the_readme_works_among_its_peers(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    named = sorted({*PORT.findall(program), *(port for words in peers() for port in PORT.findall(" ".join(words)))})
    port_of = dict(zip(named, free_ports(len(named)), strict=True))
    code = PORT.sub(lambda found: port_of[found[0]], program)
    async with topology(port_of, tmp_path) as running:
        heard = running["bob"].events(Message)
        history = await running["ada"].send_many("room", ["ping"] * 3)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=ROOT, env=dict(os.environ), stderr=asyncio.subprocess.PIPE
        )
        try:
            async with within(2 * WAIT, "the end of the program, or its answers"):
                if '"pong"' in program:
                    await check_answers(running["ada"], history[-1])
                else:
                    _, trouble = await process.communicate()
                    assert (process.returncode, trouble.decode()) == (0, "")
                    while (await anext(heard)).conversation.kind != "dm":
                        pass
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def check_answers(ada: TCPPeer, before: Receipt) -> None:
    """Check that the bot answers a ping in the room and one to itself, and none from before it came."""
    bot = await ada.wait_user("bot")
    await before.delivered(by=bot)
    await ada.broadcast("ping")
    await ada.send(bot, "ping")
    pongs = []
    async for event in ada.events(Message):
        if event.text == "pong":
            pongs.append((event.sender, event.conversation.kind))
            if event.conversation.kind == "dm":
                break
    assert pongs == [(bot, "room"), (bot, "dm")]


PIPES = [line for block in blocks("sh") for line in block.splitlines() if " | " in line]


@pytest.mark.parametrize("line", PIPES)
async def test_a_pipe_of_the_readme_works_among_its_peers(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32":
        pytest.skip("a shell of POSIX")
    missing = [tool for tool in ("git", "jq") if f"{tool} " in line and shutil.which(tool) is None]
    if missing:
        pytest.skip(f"without {missing[0]}")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    named = sorted({*PORT.findall(line), *(port for words in peers() for port in PORT.findall(" ".join(words)))})
    port_of = dict(zip(named, free_ports(len(named)), strict=True))
    typed = PORT.sub(lambda found: port_of[found[0]], line)
    typed = typed.replace(".venv/bin/p2pchat", f"{shlex.quote(sys.executable)} -m p2pchat")
    async with topology(port_of, tmp_path) as running:
        heard = running["bob"].events(Message)
        screen, slave = os.openpty()  # jq keeps lines back in a pipe
        process = await asyncio.create_subprocess_shell(
            typed, cwd=ROOT, stdout=slave, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        os.close(slave)
        try:
            async with within(2 * WAIT, f"what {line!r} does"):
                if "tail" in line:
                    shown = asyncio.create_task(asyncio.to_thread(os.read, screen, 100))
                    while not shown.done():  # it shows what comes once it runs
                        await running["bob"].broadcast("hello, pipe")
                        await asyncio.wait([shown], timeout=1)
                    assert shown.result().startswith(b"hello, pipe\r\n")
                    return
                _, trouble = await process.communicate()
                assert process.returncode == 0, trouble.decode()
                message = await anext(heard)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(screen)
        if "echo" in line:
            assert (message.text, message.sender.name, message.conversation.kind) == ("backup finished", "cron", "room")
        else:
            assert message.conversation.kind == "dm" and message.text.startswith("commit ")


def test_the_programs_and_the_peers_are_found() -> None:
    assert len(PIPES) == 3
    assert "bob" in [words[-1] for words in peers()]
    assert any("TCPPeer(" in program for program in PROGRAMS)
