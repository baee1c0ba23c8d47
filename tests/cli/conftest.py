"""Command lines run by main() in this process, and open chats beside them on a loop of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Settings
from p2pchat.__main__ import main
from p2pchat.cli.control_server import ControlServer
from p2pchat.commands.last_start import LastStart
from p2pchat.sync import TCPPeer, in_background
from tests.processes.commands import Ran


class OpenChats:
    """Peers with control sockets on the loop of p2pchat.sync: commands find them as running peers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._servers: dict[TCPPeer, ControlServer] = {}

    def open(self, name: str, *others: TCPPeer, data: str = "", **options: Any) -> TCPPeer:
        """Open a chat in a terminal, linked with these others; its profile is `data` in the home, or has its name."""
        settings = options.pop("settings", Settings(start_timeout=60.0))
        directory = self.home / (data or name)
        peer = TCPPeer(0, *(one.endpoint for one in others), name=name, data=directory, settings=settings, **options)
        peer.start()
        LastStart(terminal=True).save(directory)
        self._servers[peer] = in_background(lambda: ControlServer(peer._async).start())
        peer._async._lifecycle.names_deadline = 0.0  # it refuses unknown names at once, as one that has run for a while
        for other in others:
            peer.wait_user(other.me.name, timeout=60)
            other.wait_user(name, timeout=60)
        return peer

    def close(self, peer: TCPPeer) -> None:
        """End a chat as `/quit` does."""
        server = self._servers.pop(peer)
        in_background(lambda: server.shut_down("quit"))

    def close_all(self) -> None:
        for peer in list(self._servers):
            self.close(peer)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Here:
    """Return a function that runs a command line in this process, with this input, and a minute for each delivery."""
    for name in ("DRAIN", "TIMEOUT"):
        monkeypatch.setenv(f"P2PCHAT_{name}", "60")

    def run(*words: object, stdin: str | bytes = "") -> Ran:
        (tmp_path / "stdin").write_bytes(stdin if isinstance(stdin, bytes) else stdin.encode())
        capfdbinary.readouterr()
        with open(tmp_path / "stdin", encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        return Ran(code, out.decode("utf-8", "backslashreplace"), err.decode(), out)

    return run


@pytest.fixture
def chats(home: Path, here: Here) -> Iterator[OpenChats]:
    """Return what opens chats in the home of `here`, and closes them at the end."""
    chats = OpenChats(home)
    yield chats
    chats.close_all()


Here = Callable[..., Ran]
