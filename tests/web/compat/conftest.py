"""Gateways for clients without accounts: callers on this machine give their names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pchat.web import WebSettings
from tests.ports import free_ports
from tests.web.conftest import Served, serving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
async def trusting() -> AsyncIterator[Served]:
    async with serving(WebSettings(trust_loopback=True)) as served:
        yield served


@pytest.fixture
def free_port() -> str:
    return free_ports(1)[0]
