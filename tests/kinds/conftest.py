"""Fixtures of kinds: three peers in memory, and what a session shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from p2pchat.testing import Mesh, mesh
from tests.commands.session_output import Shown


@pytest.fixture
async def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with mesh("ada", "bob", "cyd") as net:
        yield net


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "out")
    yield shown
    shown.raw.close()
