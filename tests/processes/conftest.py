"""Fixtures for real processes: a home and event logs for each test, and nothing left running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.processes.fork_server import ForkServer
from tests.processes.peers import Cluster


@pytest.fixture
def cluster_directories(tmp_path: Path) -> tuple[Path, Path]:
    """Return the directory of the peers of a test, and that of their logs, which stays if the test fails."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "home", tmp_path / "logs"


@pytest.fixture
async def cluster(cluster_directories: tuple[Path, Path]) -> AsyncIterator[Cluster]:
    cluster = Cluster(*cluster_directories)
    try:
        yield cluster
    finally:
        for child in cluster.children:
            await child.destroy()


@pytest_asyncio.fixture(loop_scope="module")
async def quick(
    cluster_directories: tuple[Path, Path],
    fork_server: ForkServer | None,
    killed: Callable[[int], None],
) -> AsyncIterator[Cluster]:
    """Return a cluster whose peers start quickly; for files whose tests share one loop."""
    cluster = Cluster(*cluster_directories, fork_server)
    before = fork_server.killed if fork_server else 0
    try:
        yield cluster
        killed(fork_server.killed - before if fork_server else 0)  # kills at the end of a test do not count
    finally:
        for child in cluster.children:
            await child.destroy()
