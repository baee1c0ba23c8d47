"""Where a running peer answers commands: a socket in its data directory, or a file there that says how to find it.

    <profile>/control.sock      a Unix socket, for its owner only (0600)
    <profile>/control.json      where there are no such sockets (Windows), or the path is too long for one:
                                {"host": "127.0.0.1", "port": 41237, "token": "...", "answer": "..."}, 0600

On loopback anybody of this machine can connect, and anybody can wait on a port that a killed peer has left. So both
ends show what only a reader of the file can know: who calls says `token` first, who answers says `answer`, and
nothing else is said before. Both are drawn anew at every start.

Only the process that holds the profile's lock makes these files, so what it finds of them is stale, and is replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOCKET_NAME = "control.sock"
FILE_NAME = "control.json"
LOOPBACK = "127.0.0.1"
HAS_SOCKETS = hasattr(socket, "AF_UNIX") and sys.platform != "win32"  # asyncio has none on Windows; tests force both
MAX_PATH_BYTES = 103  # sun_path holds 104 bytes on macOS and the BSDs, 108 on Linux, its NUL included
SECRET_BYTES = 32  # nobody guesses 256 bits
MAX_FILE_BYTES = 4096  # of a file with a port and two secrets; more is some other file
BUSY = "busy"  # the code of the error line that a command gets instead of `listening` where there are too many


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where to connect without a Unix socket, what to say there, and what must be said in return (hex)."""

    port: int
    host: str = LOOPBACK
    token: str = field(default_factory=lambda: secrets.token_hex(SECRET_BYTES), repr=False)
    answer: str = field(default_factory=lambda: secrets.token_hex(SECRET_BYTES), repr=False)

    def is_token(self, received: object) -> bool:
        return _equal(self.token, received)

    def is_answer(self, received: object) -> bool:
        return _equal(self.answer, received)


def _equal(known: str, received: object) -> bool:
    """Compare in a time that tells nothing of where they differ."""
    return isinstance(received, str) and secrets.compare_digest(known.encode(), received.encode("utf-8", "replace"))


def socket_path_fits(directory: Path) -> bool:
    """Whether a Unix socket can stand in `directory` (absolute)."""
    return HAS_SOCKETS and len(os.fsencode(directory / SOCKET_NAME)) <= MAX_PATH_BYTES


def bind_socket(directory: Path) -> socket.socket:
    """Return a Unix socket bound in `directory`, for the owner only from the first moment somebody could connect.

    Raises:
        OSError: The file system knows no sockets, or does not let us.
    """
    if sys.platform == "win32":
        raise OSError("no Unix sockets here")
    path = directory / SOCKET_NAME
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(os.fspath(path))
        os.chmod(path, 0o600)  # nobody can connect before listen(), which whoever gets this calls
    except BaseException:  # interrupted as well: nothing of it stays open
        made.close()
        raise
    return made


def write_address(directory: Path, address: SocketAddress) -> None:
    """Put control.json there: whole or not at all, readable by the owner only.

    Raises:
        OSError: It cannot be written.
    """
    path = directory / FILE_NAME
    new = path.with_name(f".{FILE_NAME}.{secrets.token_hex(6)}.new")
    found = {"host": address.host, "port": address.port, "token": address.token, "answer": address.answer}
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(new, flags, 0o600), "w", encoding="ascii") as file:
            file.write(json.dumps(found) + "\n")
        os.replace(new, path)
    except BaseException:  # interrupted as well: half a file must not stay
        new.unlink(missing_ok=True)
        raise


def read_address(directory: Path) -> SocketAddress | None:
    """Return what control.json says; None when there is none, or none that can be meant."""
    try:
        with open(directory / FILE_NAME, "rb") as file:
            found = json.loads(file.read(MAX_FILE_BYTES))
        address = SocketAddress(found["port"], found["host"], found["token"], found["answer"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    received = (address.host, address.token, address.answer)
    return address if type(address.port) is int and all(isinstance(word, str) for word in received) else None


def remove_files(directory: Path) -> None:
    """Remove what is there; only whoever holds the profile may."""
    for name in (SOCKET_NAME, FILE_NAME):
        try:
            (directory / name).unlink(missing_ok=True)
        except OSError:
            pass  # it is no way in for anybody: nobody listens there any more


# ---- lines
#
# Bytes as they come into lines, and objects into bytes: the framing of the control socket, for both ends.


class LineBuffer:
    """Cuts what comes into lines.

    Args:
        max_bytes: A longer line is left out and given as None.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._rest = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """Take what came; return the lines that are whole now, without their ends."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        first, *more = chunk.split(b"\n")
        self._keep(first)
        lines = [self._take()]
        rest = more.pop()
        lines += [None if len(line) > self._max else line.removesuffix(b"\r") for line in more]
        self._keep(rest)
        return lines

    def end(self) -> list[bytes | None]:
        """Nothing more comes: return what was a line without an end."""
        return [self._take()] if self._rest or self._too_long else []

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > self._max:
            self._too_long = True
        if self._too_long:
            self._rest.clear()

    def _take(self) -> bytes | None:
        line, too_long = bytes(self._rest), self._too_long
        self._rest.clear()
        self._too_long = False
        return None if too_long else line.removesuffix(b"\r")


def encode(line: dict[str, Any]) -> bytes:
    """Return an object as one line of ASCII."""
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
