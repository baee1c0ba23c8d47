"""The profile that a command means, and the command that shows its history."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.profiles import MAX_LISTED, find_profile, history_command
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.last_start import LastStart


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
