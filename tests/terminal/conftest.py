"""Terminals of a test: a home of their own, and nothing left running."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.terminal.pty import Terminal

if sys.platform == "win32":  # which has no pseudo-terminals of this kind
    collect_ignore_glob = ["test_*.py"]


class OpenTerminal(Protocol):
    """Run `python -m p2pchat WORDS..`, or another command, in a terminal of its own."""

    async def __call__(
        self,
        *words: str,
        command: tuple[str, ...] = ...,
        columns: int = ...,
        rows: int = ...,
        env: dict[str, str] | None = ...,
    ) -> Terminal: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """P2PCHAT_HOME of every terminal of the test."""
    return tmp_path / "home"


@pytest.fixture
async def terminal(home: Path) -> AsyncIterator[OpenTerminal]:
    opened: list[Terminal] = []
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "SYSTEMROOT") if key in os.environ}

    async def open_terminal(
        *words: str,
        command: tuple[str, ...] = (sys.executable, "-m", "p2pchat"),
        columns: int = 80,
        rows: int = 24,
        env: dict[str, str] | None = None,
    ) -> Terminal:
        usual = {**kept, "P2PCHAT_HOME": str(home), "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}
        found = Terminal([*command, *words], {**usual, **(env or {})}, columns, rows)
        opened.append(found)
        return await found.start()

    yield open_terminal
    for each in opened:
        await each.close()
