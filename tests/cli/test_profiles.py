"""The profile that a command means, the command that shows its history, and sockets that were handed over."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.__main__ import main
from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.profiles import MAX_LISTED, find_profile, history_command
from p2pchat.commands.exit_codes import USAGE, UsageError
from p2pchat.commands.last_start import LastStart
from tests.cli.parsing import parse_chat


def test_many_profiles_are_listed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    for port in range(8001, 8001 + MAX_LISTED + 30):
        (tmp_path / str(port)).mkdir()
        (tmp_path / str(port) / "identity.pem").touch()
    listed = r"\(\(no name yet\): 8001, .* 8012 and 30 more\): choose one with --port PORT"
    with pytest.raises(UsageError, match=f"all profiles here are of programs {listed}"):
        find_profile(ProfileChoice())
    for port in range(8001, 8001 + MAX_LISTED + 30):
        LastStart(gateway=True).save(tmp_path / str(port))
    with pytest.raises(UsageError, match=f"there are several profiles and none runs {listed}"):
        find_profile(ProfileChoice(), of_gateways=True)
    assert find_profile(ProfileChoice(port=8002)) == tmp_path / "8002"


async def test_the_profiles_of_programs_are_meant_only_by_their_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    said: list[str] = []

    async def meant(**options: bool) -> str:
        return (await asyncio.to_thread(find_profile, ProfileChoice(), notify=said.append, **options)).name

    async with TCPPeer(0, data=tmp_path / "8002", name="bot"):
        with pytest.raises(UsageError, match=r"all profiles here are of programs \(bot: 8002\): choose"):
            await meant()
        LastStart(gateway=True).save(tmp_path / "8002")
        async with TCPPeer(0, data=tmp_path / "8001", name="ada"):
            pass
        LastStart(terminal=True).save(tmp_path / "8001")
        assert (await meant(), await meant(of_gateways=True)) == ("8001", "8002")  # ada does not run
    assert said == ["-- as ada, port 8001 (--port PORT: another)", "-- as bot, port 8002 (--port PORT: another)"]


async def test_who_acts_is_said_also_where_there_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with TCPPeer(0, data=tmp_path / "8001", name="ada"):
        pass
    LastStart(terminal=True).save(tmp_path / "8001")
    said: list[str] = []
    for acts in (False, True):
        await asyncio.to_thread(find_profile, ProfileChoice(), acts=acts, notify=said.append)
    assert said == ["-- as ada, port 8001 (--port PORT: another)"]


@pytest.mark.parametrize(
    ("db", "data", "command"),
    [
        ("", "/home/8080", "p2pchat history --port 8080"),
        ("", "/home/my chat", "p2pchat history --data '/home/my chat'"),
        ("", "/elsewhere/8080", "p2pchat history --data /elsewhere/8080"),
        ("", "/home/networks/lab/8080", "p2pchat history --data /home/networks/lab/8080"),
        ("sqlite:///x.db", "/home/8080", "p2pchat history --port 8080 --db sqlite:///x.db"),
        ("memory://", "/home/8080", "/history"),
    ],
)
def test_the_command_that_shows_the_history(db: str, data: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("P2PCHAT_HOME", "/home")
    assert history_command(ChatOptions(port=8080, db=db), data) == command


def test_on_windows_it_is_quoted_for_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # since Python 3.12 it asks Windows, which is not here
    monkeypatch.setattr(sys, "platform", "win32")
    chat = ChatOptions(port=0, data="x")
    assert history_command(chat, "C:\\my chat") == 'p2pchat history --data "C:\\my chat"'


def test_a_history_in_memory_is_shown_by_the_chat() -> None:
    assert history_command(ChatOptions(port=0), "") == "/history"


# ---- sockets that were handed over

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows hands no sockets over")


@posix
@pytest.mark.parametrize("port", ["", "0", "own"])
def test_a_peer_listens_on_the_socket_that_it_was_given(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its port is that of the socket. It leaves at the end of its input, which is empty."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    (tmp_path / "stdin").touch()
    with socket.create_server(("127.0.0.1", 0)) as kept, open(tmp_path / "stdin", encoding="utf-8") as nothing:
        own = kept.getsockname()[1]
        monkeypatch.setattr(sys, "stdin", nothing)
        words = [str(own)] if port == "own" else [port] * bool(port)
        given = kept.dup().detach()
        os.set_inheritable(given, True)
        assert main([*words, "--listen-fd", str(given), "--json"]) == 0
        first = json.loads(capfd.readouterr().out.splitlines()[0])
        assert (first["event"], first["host"], first["port"]) == ("listening", "127.0.0.1", own)
        assert first["data"] == str(tmp_path / str(own))
        with pytest.raises(OSError):
            os.fstat(given)  # the peer closed it, and `kept` is open


def file() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def connection() -> int:
    with socket.create_server(("127.0.0.1", 0)) as there:
        made = socket.create_connection(there.getsockname())
        there.accept()[0].close()
        return made.detach()


def end_of_a_pair() -> int:
    one, other = socket.socketpair()
    other.close()
    return one.detach()


@posix
@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (file, "is not a socket"),
        (connection, "is a connection (a socket unit of systemd needs Accept=no)"),
        (lambda: socket.socket().detach(), "is not bound to a port"),
        (lambda: socket.socket(type=socket.SOCK_DGRAM).detach(), "is a socket of another kind"),
        (end_of_a_pair, "is a socket of another kind"),
    ],
)
def test_any_other_descriptor_is_refused_and_stays_open(
    make: Callable[[], int], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = make()
    try:
        assert main(["--listen-fd", str(given)]) == USAGE
        says = f"p2pchat: --listen-fd names a TCP socket that listens or is bound: descriptor {given} {fault}\n"
        assert capsys.readouterr().err == says
    finally:
        os.close(given)


@posix
def test_a_port_that_is_not_the_sockets_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        fd, own = given.fileno(), given.getsockname()[1]
        assert parse_chat([str(own), "--listen-fd", str(fd)]) == parse_chat(["0", "--listen-fd", str(fd)])
        with pytest.raises(UsageError) as error:
            parse_chat(["1", "--listen-fd", str(fd)])
        says = f"the port is 1, and that of the socket of --listen-fd {fd} is {own}: leave the port out"
        assert str(error.value) == says


def test_windows_hands_no_sockets_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UsageError, match="Windows hands no sockets over: leave --listen-fd out, and name a port"):
        parse_chat(["--listen-fd", "3"])
