"""Addresses of the control socket, which are private, and its framing."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from p2pchat.cli import control_server
from p2pchat.cli.control_protocol import SocketAddress, encode, read_address
from p2pchat.cli.control_server import bind_socket, remove_files, socket_path_fits, write_address

posix = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


@posix
def test_a_path_too_long_for_a_socket_is_detected(home: Path) -> None:
    spare = control_server.MAX_PATH_BYTES - len(os.fsencode(home / "x" / "control.sock"))
    fits = home / ("x" * (spare + 1))
    fits.mkdir(parents=True)
    assert socket_path_fits(fits) and not socket_path_fits(fits.with_name(fits.name + "x"))
    bind_socket(fits).close()  # the longest there is can be bound


def test_a_written_address_is_read_again_and_private(home: Path) -> None:
    home.mkdir()
    address = SocketAddress(4000)
    write_address(home, address)
    assert read_address(home) == address and [path.name for path in home.iterdir()] == ["control.json"]
    if os.name == "posix":
        assert stat.S_IMODE((home / "control.json").stat().st_mode) == 0o600
    remove_files(home)
    remove_files(home)
    assert read_address(home) is None and not list(home.iterdir())


def test_each_address_has_its_own_secrets_and_shows_none() -> None:
    one, other = SocketAddress(1), SocketAddress(1)
    assert len({one.token, one.answer, other.token, other.answer}) == 4
    assert len(bytes.fromhex(one.token)) == 32
    assert one.is_token(one.token) and not one.is_token(other.token) and not one.is_token(None)
    assert one.is_answer(one.answer) and not one.is_answer(one.token) and not one.is_token("\udc80ü")
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
def test_an_invalid_file_is_not_an_address(text: str, home: Path) -> None:
    home.mkdir()
    (home / "control.json").write_text(text)
    assert read_address(home) is None


def test_an_object_is_always_one_line() -> None:
    assert encode({"text": "a\nb\u2028ü"}) == b'{"text":"a\\nb\\u2028\\u00fc"}\n'
