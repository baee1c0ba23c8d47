"""Bytes as they come into lines, and objects into bytes: the framing of the control socket, for both ends."""

from __future__ import annotations

import json
from typing import Any


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
