"""The protocol of the control socket, for both of its ends: addresses, lines, requests.

A running peer answers commands on a socket in its data directory, or where a file there says:

    <profile>/control.sock      a Unix socket, for its owner only (0600)
    <profile>/control.json      where there are no such sockets (Windows), or the path is too long for one:
                                {"host": "127.0.0.1", "port": 41237, "token": "...", "answer": "..."}, 0600

On loopback every user of this machine can connect, and can listen on a port that a killed peer has left. So both ends
first prove that they can read the file: the client sends `token`, and the server sends `answer`. Both are new random
values at every start.

control_server.py creates both files.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOCKET_NAME = "control.sock"
FILE_NAME = "control.json"
LOOPBACK = "127.0.0.1"
SECRET_BYTES = 32  # 256 bits cannot be guessed
MAX_FILE_BYTES = 4096  # a larger file is not a control.json
READ_BYTES = 64 * 1024  # of one read, and asyncio's buffer for each connection
BUSY = "busy"  # the code of the error line that comes instead of `listening` when there are too many connections


@dataclass(frozen=True)
class SocketAddress:
    """A loopback address, the token to send there, and the answer that must come back (both hex)."""

    port: int
    host: str = LOOPBACK
    token: str = field(default_factory=lambda: secrets.token_hex(SECRET_BYTES), repr=False)
    answer: str = field(default_factory=lambda: secrets.token_hex(SECRET_BYTES), repr=False)

    def is_token(self, received: object) -> bool:
        return _equal(self.token, received)

    def is_answer(self, received: object) -> bool:
        return _equal(self.answer, received)


def _equal(expected: str, received: object) -> bool:
    """Compare in constant time."""
    return isinstance(received, str) and secrets.compare_digest(expected.encode(), received.encode("utf-8", "replace"))


def read_address(directory: Path) -> SocketAddress | None:
    """Return the address in control.json; None when the file is missing or invalid."""
    try:
        with open(directory / FILE_NAME, "rb") as file:
            found = json.loads(file.read(MAX_FILE_BYTES))
        address = SocketAddress(found["port"], found["host"], found["token"], found["answer"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    texts = (address.host, address.token, address.answer)
    return address if type(address.port) is int and all(isinstance(text, str) for text in texts) else None


def encode(line: dict[str, Any]) -> bytes:
    """Return an object as one line of ASCII."""
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


# ---- requests

MAX_LAST = 10_000  # messages of one answer, as of a history
DEFAULT_LAST = 10  # messages, as tail(1) has lines
DEFAULT_TIMEOUT = 5.0  # seconds for deliveries, as a chat waits at the end of its input
MAX_TIMEOUT = 86_400.0  # seconds; a program that waits longer asks again
