"""Where a peer answers: private from the first moment, and found again, or not, by whoever looks."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from p2pchat.cli import control_socket
from p2pchat.cli.control_socket import Door, make_socket, read_door, remove, takes_socket, write_door

posix = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


@posix
def test_a_socket_is_for_its_owner_only(home: Path) -> None:
    home.mkdir()
    former = os.umask(0)
    try:
        with make_socket(home):
            assert stat.S_IMODE((home / "control.sock").stat().st_mode) == 0o600
    finally:
        os.umask(former)


@posix
def test_a_socket_that_was_left_is_replaced(home: Path) -> None:
    if sys.platform == "win32":
        return  # for type checkers
    home.mkdir()
    make_socket(home).close()
    with make_socket(home) as made, socket.socket(socket.AF_UNIX) as other:
        made.listen()
        other.connect(str(home / "control.sock"))


@posix
def test_a_path_too_long_for_a_socket_is_known_before(home: Path) -> None:
    spare = control_socket.MAX_PATH_BYTES - len(os.fsencode(home / "x" / "control.sock"))
    fits = home / ("x" * (spare + 1))
    fits.mkdir(parents=True)
    assert takes_socket(fits) and not takes_socket(fits.with_name(fits.name + "x"))
    make_socket(fits).close()  # the longest there is can be bound


def test_without_unix_sockets_none_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "HAS_SOCKETS", False)
    assert not takes_socket(Path("/x"))


def test_a_door_is_found_again_and_private(home: Path) -> None:
    home.mkdir()
    door = Door(4000)
    write_door(home, door)
    assert read_door(home) == door and [path.name for path in home.iterdir()] == ["control.json"]
    if os.name == "posix":
        assert stat.S_IMODE((home / "control.json").stat().st_mode) == 0o600
    remove(home)
    remove(home)
    assert read_door(home) is None and not list(home.iterdir())


def test_each_door_has_secrets_of_its_own_and_shows_none() -> None:
    one, other = Door(1), Door(1)
    assert len({one.token, one.answer, other.token, other.answer}) == 4
    assert len(bytes.fromhex(one.token)) == 32
    assert one.same_token(one.token) and not one.same_token(other.token) and not one.same_token(None)
    assert one.same_answer(one.answer) and not one.same_answer(one.token) and not one.same_token("\udc80ü")
    assert one.token not in repr(one) and one.answer not in repr(one)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"port": 1}',
        json.dumps({"port": "1", "host": "h", "token": "t", "answer": "a"}),
        json.dumps({"port": 1, "host": "h", "token": None, "answer": "a"}),
        "[" * 4000,
    ],
)
def test_a_file_that_cannot_be_meant_is_no_door(text: str, home: Path) -> None:
    home.mkdir()
    (home / "control.json").write_text(text)
    assert read_door(home) is None
