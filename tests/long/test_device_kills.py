"""A machine that is killed while it becomes a device, or while it gets a key of its own: one begins again."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from p2pchat import Device, InviteError, P2PChatError, TCPPeer, join_device
from p2pchat.identity.device_code import PREFIX
from tests.deadlines import ROOT, WAIT, within
from tests.messaging.conftest import home as home
from tests.processes.peers import KILLED, launcher
from tests.test_devices import Adding, Login
from tests.test_devices import login as login

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGKILL")
OF_A_DEVICE = "before-rename"
RENAMES = 5  # two keys, the certificates, the network, and the directory with all of it


async def killed(point: str, *words: str) -> None:
    """Run a command of p2pchat that kills itself there."""
    silent, environment = asyncio.subprocess.DEVNULL, {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *launcher([point]), *words, stdin=silent, stdout=silent, stderr=silent, env=environment
    )
    assert await process.wait() == KILLED


async def begins_again(home: Path, login: Login, me: str) -> None:
    """Check that the old machine runs as the same person, and have the new one join."""
    async with TCPPeer(data=home / "ada") as ada:
        assert ada.me.id == me
    adding = Adding(home / "ada")
    code = await adding.code()
    login("the laptop")
    joined = await join_device(code, home / "lap", on_words=lambda words: None)
    assert await adding.task == Device(joined.peer_id)


@pytest.mark.parametrize("step", range(1, RENAMES + 1))
async def test_a_kill_while_a_machine_joins(step: int, home: Path, login: Login) -> None:
    login("ada")
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        me = ada.me.id
    adding = Adding(home / "ada")
    code = await adding.code()
    login("the laptop")
    await killed(f"{OF_A_DEVICE}:{step}", "device", "join", code, "--data", str(home / "lap"))
    with pytest.raises(P2PChatError, match="begin again at both"):
        await adding.task
    assert not (home / "lap").exists()
    login("ada")
    await begins_again(home, login, me)
    assert [path.name for path in home.iterdir() if path.name.startswith(".")] == []  # nothing of the first one is left
    async with TCPPeer(data=home / "lap") as laptop:
        assert laptop.me.id == me


@pytest.mark.parametrize("step", [1, 2])
async def test_a_kill_while_a_machine_gets_its_own_key(step: int, home: Path, login: Login) -> None:
    login("ada")
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        me = ada.me.id
    words = ["device", "add", "--data", str(home / "ada"), "--host", "127.0.0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *launcher([f"{OF_A_DEVICE}:{step}"]), *words, stdin=pipe, stdout=pipe, env=environment
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"y\n")  # it is killed after the yes, while the keys are written
    async with within(WAIT, "the code"):
        while PREFIX not in (line := (await process.stdout.readline()).decode()):
            pass
    login("the laptop")
    with pytest.raises(InviteError, match="no longer good"):
        await join_device(line.split()[-1], home / "lap", on_words=lambda words: None)
    assert await process.wait() == KILLED and not (home / "lap").exists()
    login("ada")
    await begins_again(home, login, me)
    for name in ("ada", "lap"):
        login(name)
        async with TCPPeer(data=home / name) as one:
            assert one.me.id == me
