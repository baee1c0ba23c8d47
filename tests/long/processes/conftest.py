"""Fixtures for real processes, as in tests/processes/conftest.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.processes.conftest import cluster, cluster_directories, quick
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login

__all__ = ["cluster", "cluster_directories", "quick"]


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second", "third")]
    yield logins
    for login in logins:
        for child in login.children:
            await child.destroy()
