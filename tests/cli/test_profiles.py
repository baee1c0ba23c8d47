"""The profile that a command means, and the command that shows its history."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.options import ProfileChoice
from p2pchat.cli.profiles import MAX_LISTED, find_profile, history_command
from p2pchat.commands.exit_codes import UsageError


def test_many_profiles_are_listed_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    for port in range(8001, 8001 + MAX_LISTED + 30):
        (tmp_path / str(port)).mkdir()
        (tmp_path / str(port) / "identity.pem").touch()
    with pytest.raises(UsageError) as error:
        find_profile(ProfileChoice())
    assert "(8001, 8002, " in str(
        error.value
    ) and "8012 and 30 more) and none runs: choose one with --port PORT" in str(error.value)
    assert find_profile(ProfileChoice(port=8002)) == tmp_path / "8002"


@pytest.mark.parametrize(
    ("chat", "command"),
    [
        (ChatOptions(port=8080), "p2pchat history --port 8080"),
        (ChatOptions(port=8080, data="my chat"), "p2pchat history --data '/home/my chat'"),
        (ChatOptions(port=8080, temp=True), "p2pchat history --data '/home/my chat'"),
        (ChatOptions(port=0), "p2pchat history --data '/home/my chat'"),
        (ChatOptions(port=8080, db="sqlite:///x.db"), "p2pchat history --port 8080 --db sqlite:///x.db"),
        (ChatOptions(port=8080, db="memory://"), "/history"),
    ],
)
def test_the_command_that_shows_the_history(chat: ChatOptions, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert history_command(chat, "/home/my chat") == command


def test_on_windows_it_is_quoted_for_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # since Python 3.12 it asks Windows, which is not here
    monkeypatch.setattr(sys, "platform", "win32")
    chat = ChatOptions(port=0, data="x")
    assert history_command(chat, "C:\\my chat") == 'p2pchat history --data "C:\\my chat"'


def test_a_history_in_memory_is_shown_by_the_chat() -> None:
    assert history_command(ChatOptions(port=0), "") == "/history"
