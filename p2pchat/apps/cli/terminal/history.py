"""What was typed, kept for the next start: one JSON string a line in the profile's directory, oldest first.

Secrets are not kept: invites, whatever command they stand in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import History

FILE_NAME = "input_history"
MOST_LINES = 2000  # kept; twice as many are cut down at the next start
_SECRET = re.compile(r"p2pchat:\w{8}", re.IGNORECASE)  # how an invite begins


def is_secret(line: str) -> bool:
    """Whether a line is not to be kept."""
    return _SECRET.search(line) is not None


class ProfileHistory(History):
    """The lines typed in one profile; in memory only without a directory, or when the disk does not want them."""

    def __init__(self, directory: Path | None) -> None:
        super().__init__()
        self._path = None if directory is None else directory / FILE_NAME

    def load_history_strings(self) -> Iterable[str]:
        """Yield what was typed, the newest first."""
        lines = self._read()
        if len(lines) > 2 * MOST_LINES:
            lines = lines[-MOST_LINES:]
            self._cut(lines)
        for line in reversed(lines):
            try:
                text = json.loads(line)
            except ValueError:
                continue
            if isinstance(text, str):
                yield text

    def append_string(self, string: str) -> None:
        if not is_secret(string):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        if self._path is not None:
            self._write(os.O_APPEND, [json.dumps(string)])

    def _read(self) -> list[str]:
        if self._path is None:
            return []
        try:
            return self._path.read_text("utf-8", "replace").split("\n")[:-1]
        except OSError:
            return []

    def _cut(self, lines: list[str]) -> None:
        self._write(os.O_TRUNC, lines)

    def _write(self, how: int, lines: list[str]) -> None:
        assert self._path is not None
        flags = os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            with open(os.open(self._path, flags, 0o600), "wb") as file:
                file.write("".join(line + "\n" for line in lines).encode())
        except OSError:  # a full disk is told by whoever must write there; a line typed is no such thing
            pass
