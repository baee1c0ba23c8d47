"""Content of a process that was killed before it could be removed: the next start finds it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from p2pchat import Sent, TCPPeer
from tests.deadlines import WAIT, within


def contents(data: Path) -> list[Path]:
    return [path for path in (data / "content").iterdir() if not path.suffix]


@pytest.mark.parametrize("kind", ["deleted", "unsent"])
async def test_what_a_killed_process_left_behind_goes_at_the_next_start(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-m", "tests.processes.removal_peer", str(tmp_path / "ada"), kind]
    killed = await asyncio.to_thread(subprocess.run, command, timeout=WAIT, check=False)
    assert killed.returncode != 0 and len(contents(tmp_path / "ada")) == 2
    async with TCPPeer(data=tmp_path / "ada", name="ada") as ada, within(60, "the content to be removed"):
        while len(contents(tmp_path / "ada")) > 1:
            await asyncio.sleep(0.01)  # poll: nothing reports what is removed
        [stays, *_] = [post for post in await ada.room.history() if isinstance(post, Sent)]
        assert await stays.attachments[0].read() == b"stays"
        assert not [path for path in (tmp_path / "ada" / "content").iterdir() if path.suffix]
