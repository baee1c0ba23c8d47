"""Content of a process that was killed before it could be removed: a later start finds it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from p2pchat import Sent, TCPPeer
from tests.deadlines import WAIT, within


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


def killed(data: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.processes.removal_peer", str(data), kind]
    assert subprocess.run(command, timeout=WAIT, check=False).returncode != 0
    assert len(contents(data)) == 2


async def check_that_one_goes(data: Path) -> None:
    async with TCPPeer(data=data, name="ada") as ada, within(60, "the content to be removed"):
        while len(contents(data)) > 1:
            await asyncio.sleep(0.01)  # poll: nothing reports what is removed
        [stays, *_] = [post for post in await ada.room.history() if isinstance(post, Sent)]
        assert await stays.attachments[0].read() == b"stays"
        while [path for path in (data / "content").iterdir() if path.suffix]:
            await asyncio.sleep(0.01)  # poll: nor that the sweep is over


async def test_what_a_killed_process_had_to_remove_goes_at_the_next_start(tmp_path: Path) -> None:
    await asyncio.to_thread(killed, tmp_path / "ada", "deleted")
    await check_that_one_goes(tmp_path / "ada")


async def test_what_a_killed_process_did_not_send_goes_once_it_is_old(tmp_path: Path) -> None:
    data = tmp_path / "ada"
    await asyncio.to_thread(killed, data, "unsent")
    async with TCPPeer(data=data, name="ada") as ada:
        await ada._lifecycle.require_running().removal.sweep()
        assert len(contents(data)) == 2  # a restored history may lack the message
    for path in contents(data):
        os.utime(path, (0, 0))
    await check_that_one_goes(data)
