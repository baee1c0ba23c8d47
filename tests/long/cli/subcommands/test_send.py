"""A pipe into `p2pchat send`: what is wrong is told before the input is read, and a build may outlive the chat."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import OpenChats
from tests.cli.conftest import chats as chats
from tests.cli.conftest import here as here
from tests.cli.conftest import home as home
from tests.cli.subcommands.test_send import posts
from tests.processes.commands import TIMEOUT, environment


def piped(home: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start `p2pchat send` on a pipe that stays open."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "p2pchat", "send", *words]
    return subprocess.Popen(command, stdin=pipe, stderr=pipe, env=environment(home), bufsize=0)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("room", 2, "several peers run here"),
        ("nobody --data ada", 4, "nobody here is called 'nobody'; nothing of the input was read"),
        ("nobody --data ada --file - --file-name backup.tar", 4, "nobody here is called 'nobody'; nothing of"),
        ("nobody --data ada --lines", 4, "nobody here is called 'nobody'"),
        ("room --data nothing", 2, "; nothing of the input was read"),
    ],
)
def test_who_writes_and_to_whom_is_known_before_input_is_read(
    words: str, code: int, told: str, chats: OpenChats
) -> None:
    """The output of a build was read to its end, and then lost: two chats were open, or a name was wrong."""
    chats.open("ada", data="8080")
    chats.open("bob", data="8081")
    data = {"ada": str(chats.home / "8080"), "nothing": str(chats.home / "nothing")}
    with piped(chats.home, *(data.get(word, word) for word in words.split())) as process:
        assert process.stdin is not None and process.stderr is not None
        ended = process.wait(TIMEOUT)  # while its input has not
        err = process.stderr.read().decode()
        assert (ended, told in err) == (code, True), err
        if sys.platform != "win32":
            with pytest.raises(BrokenPipeError):
                process.stdin.write(b"x")


def test_a_chat_that_is_closed_while_input_is_read_costs_nothing(chats: OpenChats) -> None:
    ada = chats.open("ada")
    bob = chats.open("bob", ada)
    data = chats.home / "ada"
    with piped(chats.home, "bob", "--data", str(data)) as process:
        deadline = time.monotonic() + TIMEOUT
        while not list(data.glob(".input-*")) and time.monotonic() < deadline:
            time.sleep(0.02)  # poll: it tells nobody that it reads
        chats.close(ada)
        _, err = process.communicate(b"compiling\n", TIMEOUT)
        assert (process.returncode, err) == (0, b"")
    assert [post.text for post in posts(bob, "ada")] == ["compiling"]
