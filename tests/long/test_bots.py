"""A bot as a program: its command line, a kill, and what it answers afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from tests.deadlines import ROOT
from tests.test_bots import PATIENCE, answers

PROGRAM = """
from p2pchat.bots import Bot

bot = Bot("wbot")

@bot.command
def weather(city: str) -> str:
    return f"{city}: sunny"

bot.run()
"""


@asynccontextmanager
async def program(path: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), *words, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process, text: str) -> str:
    """Return the next line of stderr that holds this text."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while text not in (line := (await process.stderr.readline()).decode()):
            assert line, "the program has ended"
    return line


async def test_a_program_of_eight_lines_is_a_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    path = tmp_path / "wbot.py"
    path.write_text(PROGRAM, "utf-8")
    async with TCPPeer(temporary=True, name="zoe") as zoe:
        words = ("0", zoe.endpoint, "--data", str(tmp_path / "data"))
        async with program(path, *words) as bot:
            await zoe.wait_user("wbot", timeout=PATIENCE)
            await zoe.send("wbot", "weather berlin")
            assert await answers(zoe, 1) == ["berlin: sunny"]
            assert await line_of(bot, "weather") == f"-- zoe: weather in zoe{os.linesep}"
            bot.kill()
            await bot.wait()
            await zoe.send("wbot", "weather rome")
        async with program(path, *words) as bot:
            [answer] = await answers(zoe, 1)
            if answer == "berlin: sunny":  # it was killed before it had noted that this one is handled
                [answer] = await answers(zoe, 1)
            assert answer == "rome: sunny"
            if os.name == "posix":
                bot.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(bot.wait(), PATIENCE) == 0


@pytest.mark.skipif(os.name != "posix", reason="sends SIGTERM")
async def test_a_signal_ends_a_bot_although_a_plain_function_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    path = tmp_path / "wbot.py"
    path.write_text(PROGRAM.replace("return", "import threading; threading.Event().wait(); return"), "utf-8")
    async with TCPPeer(temporary=True, name="zoe") as zoe, program(path, "0", zoe.endpoint) as bot:
        await zoe.wait_user("wbot", timeout=PATIENCE)
        await zoe.send("wbot", "weather berlin")
        await line_of(bot, "weather")
        bot.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(bot.wait(), PATIENCE) == 0


async def test_a_bot_says_what_is_wrong_with_its_command_line(tmp_path: Path) -> None:
    path = tmp_path / "wbot.py"
    path.write_text(PROGRAM, "utf-8")
    async with program(path, "--temp", "none") as bot:
        assert "none" in await line_of(bot, "p2pchat:")
        assert await asyncio.wait_for(bot.wait(), PATIENCE) == 2
