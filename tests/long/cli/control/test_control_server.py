"""The control socket: processes of another login, and more commands than places."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from p2pchat import TCPPeer
from p2pchat.cli.control_client import RequestRefused, connect
from p2pchat.cli.control_server import MAX_CONNECTIONS, ControlServer
from tests.cli.control.conftest import Serve
from tests.cli.control.test_control_server import talking


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="takes root, to be somebody else")
async def test_another_login_gets_nothing_even_if_modes_were_widened() -> None:
    with TemporaryDirectory() as above:
        directory = Path(above) / "ada"
        async with TCPPeer(0, name="ada", data=directory) as peer:
            server = await ControlServer(peer).start()
            for path, mode in ((Path(above), 0o755), (directory, 0o755), (directory / "control.sock", 0o666)):
                path.chmod(mode)
            assert await as_nobody(directory / "control.sock") == b""
            async with talking(directory) as control:
                assert await control.ask("who")
            await server.shut_down("done")


async def as_nobody(path: Path) -> bytes:
    """Return the bytes that a process of another login receives at a socket."""
    program = (
        "import os, socket, sys\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        'try: s.sendall(b\'{"do":"who"}\\n\'); sys.stdout.write(s.recv(100).decode())\n'
        "except (BrokenPipeError, ConnectionResetError): pass"
    )
    command = (sys.executable, "-c", program, str(path))
    other = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await other.communicate()
    assert other.returncode == 0
    return out


async def test_the_number_of_connections_is_limited(serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await serve("ada")
    held = [control for _ in range(MAX_CONNECTIONS) if (control := await connect(home / "ada"))]
    with monkeypatch.context() as patch:
        patch.setattr("p2pchat.cli.control_client.CONNECT_TIMEOUT", 5.0)  # runs out
        with pytest.raises(RequestRefused, match="16 commands are connected to this peer"):
            await connect(home / "ada")
    waiting = asyncio.create_task(connect(home / "ada"))
    await held.pop().aclose()
    held += [control for control in [await waiting] if control]  # the waiting one gets the place
    assert len(held) == MAX_CONNECTIONS
    for control in held:
        await control.aclose()
