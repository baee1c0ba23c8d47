"""What keeps a peer from starting, and the command that works instead."""

from __future__ import annotations

import asyncio
import shlex
import socket
from pathlib import Path

import pytest

from p2pchat import DataLocked, InviteError, P2PChatError, PortInUse, StorageError, TCPPeer
from p2pchat.cli.chat.startup import StartupErrors
from p2pchat.cli.profiles import is_free
from p2pchat.cli.program import program
from p2pchat.commands.errors import CommandError, UsageError
from tests.cli.parsing import parse_chat


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def starting(*words: str, bare: bool = False) -> StartupErrors:
    return StartupErrors(parse_chat(words, may_ask=bare), program.split(words)[1])


def command_in(error: Exception) -> list[str]:
    """Return the words of the command at the end of a sentence."""
    return shlex.split(str(error)[str(error).rindex("p2pchat ") :])


def test_a_taken_port_comes_with_the_same_command_on_the_next_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = starting("--name", "Ada L", str(port), "localhost:1").explain(PortInUse("127.0.0.1", port))
    assert isinstance(error, CommandError)
    assert str(error).startswith(f"port {port} on 127.0.0.1 is in use by another program: try p2pchat ")
    _, other, *rest = command_in(error)
    assert int(other) > port and is_free("127.0.0.1", int(other))
    assert rest == ["--name", "Ada L", "localhost:1"]


async def test_another_peer_is_called_so_and_who_was_there_before_stays_the_same(home: Path) -> None:
    async with TCPPeer(temporary=True) as other:
        async with TCPPeer(data=home / str(other.port), name="ada"):
            pass
        here = starting(str(other.port))
        error = await asyncio.to_thread(here.explain, PortInUse("127.0.0.1", other.port))
        assert "is in use by another p2pchat peer" in str(error)
        assert command_in(error)[2:] == ["--data", str(home / str(other.port))]


def test_an_invite_is_not_said_again() -> None:
    error = starting("8080", "--invite", "p2pchat:SECRET@h:1", "--name", "x").explain(PortInUse("127.0.0.1", 1))
    assert "SECRET" not in str(error) and command_in(error)[2:] == ["--invite", "-"]


def test_a_directory_in_use_names_who_has_it_and_what_works_beside_it() -> None:
    error = starting("8080").explain(DataLocked("/home/8080", 123))
    assert isinstance(error, CommandError)
    assert "/home/8080 is in use by process 123" in str(error)
    assert "`p2pchat send room TEXT --port 8080` and `p2pchat tail --port 8080`" in str(error)
    assert command_in(error)[2:] == ["8080"]
    error = starting("0", "--data", "/d d").explain(DataLocked("/d d", 0))
    assert "in use by another process" in str(error) and "`p2pchat tail --data '/d d'`" in str(error)


def test_an_invite_elsewhere_wants_a_new_profile() -> None:
    told = InviteError("/home/8080 belongs to another network than this invite: leave it out")
    error = starting("8080", "--invite", "-").explain(told)
    assert isinstance(error, UsageError) and command_in(error)[2:] == ["--invite", "-"]
    assert starting("8080").explain(told) is told


def test_other_errors_say_it_themselves() -> None:
    for told in (StorageError("the disk is full"), P2PChatError("others can read the key")):
        assert starting("8080").explain(told) is told


def test_a_port_that_was_only_picked_is_picked_anew() -> None:
    options = parse_chat((), may_ask=True)
    options.port = 8080
    here = StartupErrors(options, ())
    assert here.try_next_port(PortInUse("127.0.0.1", 8080))
    assert options.port > 8080
    assert not here.try_next_port(StorageError("the disk is full"))
    typed = parse_chat(("8080",))
    assert not StartupErrors(typed, ()).try_next_port(PortInUse("127.0.0.1", 8080))
