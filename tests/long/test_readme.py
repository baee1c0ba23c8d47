"""The program in the README, run as written; only its two ports are replaced by free ones."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from p2pchat import Message, TCPPeer
from tests.test_readme import ROOT, blocks


async def test_the_library_example_answers_a_ping_and_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = blocks("python")[0]
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with asyncio.timeout(180), TCPPeer(0, name="ada", temporary=True) as ada:
        code = example.replace("8085", "0").replace("localhost:8080", ada.endpoint)
        assert code.count(ada.endpoint) == 1
        history = await ada.send_many(ada.room, ["ping"] * 3)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, env=dict(os.environ))
        try:
            bot = await ada.wait_user("bot", timeout=60)
            await history[-1].delivered(by=bot)
            await ada.broadcast("ping")
            await ada.send(bot, "ping")
            pongs = []
            async for event in ada.events(Message):
                if event.text == "pong":
                    pongs.append((event.sender, event.conversation.kind))
                    if event.conversation.kind == "dm":
                        break
        finally:
            process.kill()
            await process.wait()
    assert pongs == [(bot, "room"), (bot, "dm")]
