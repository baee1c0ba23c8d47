"""Fixtures: three linked peers in memory, ada among them, and a home directory of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.testing import Mesh, mesh


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh("ada", "bob", "cyd") as net:
        yield net


@pytest.fixture
def ada(net: Mesh) -> TCPPeer:
    return net.peers[0]
