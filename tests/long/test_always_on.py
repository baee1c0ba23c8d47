"""A machine of a person that is always on, as its unit runs it."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import pytest

from p2pchat import TCPPeer, profile_directory
from tests.deadlines import WAIT, until
from tests.messaging.conftest import home as home
from tests.messaging.texts import texts
from tests.ports import free_ports
from tests.test_devices import Adding, Login, has
from tests.test_devices import login as login

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a unit is for systemd")


async def run(*words: str) -> tuple[int, str]:
    """Run a command of p2pchat to its end. Return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pchat", *words, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_a_machine_that_is_always_on_takes_private_messages(login: Login, home: Path) -> None:
    """It runs as its unit says. Its person is offline there; what others send has come, and is read later, once."""
    desk_port, attic_port = map(int, free_ports(2))
    login("ada")
    async with TCPPeer(desk_port, name="ada") as desk:
        me, invite = desk.me.id, await desk.make_invite()
        login("bob")
        async with TCPPeer(data=home / "bob", name="bob", invite=invite) as bob:
            await bob.wait_user("ada", timeout=WAIT)
            login("ada")
            await desk.aclose()
            adding = Adding(desk_port)
            code = await adding.code()
            login("the attic")
            ended, shown = await run("device", "join", code, "--port", str(attic_port), "--always-on")
            assert ended == 0, shown
            await adding.task
            unit = profile_directory(attic_port) / f"p2pchat-{attic_port}.service"
            assert f"systemctl --user enable --now {shlex.quote(str(unit))}\n" in shown
            [start] = re.findall(r"^ExecStart=(.*)$", unit.read_text("utf-8"), re.MULTILINE)
            process = await asyncio.create_subprocess_exec(*shlex.split(start), stdin=DEVNULL, stdout=DEVNULL)
            try:
                ada = bob.user(me)
                await bob.connect(attic_port)
                await until(bob.links, "the attic")
                sent = [await bob.send(ada, text) for text in ("while you sleep", "in this order", "once")]
                for receipt in sent:
                    await receipt.delivered(timeout=WAIT)
                assert not bob.is_at_gateway(ada)
                await until(lambda: ada.status == "offline", "nobody at the attic")
                login("ada")
                async with TCPPeer(desk_port, attic_port) as desk:
                    await desk.wait_user("bob", timeout=WAIT)
                    await has(desk, "bob", "while you sleep", "in this order", "once")
                    assert await texts(desk, "bob") == ["while you sleep", "in this order", "once"]
                    await until(lambda: ada.status == "online", "ada at the desk")
                    await desk.mark_read_durably((await desk.unread("bob"))[-1])
                    await sent[-1].read(timeout=WAIT)
                async with TCPPeer(desk_port, attic_port) as desk:
                    await until(desk.links, "the attic")
                    assert not await desk.unread("bob") and len(await texts(desk, "bob")) == 3
            finally:
                process.terminate()
                assert await process.wait() == 0
