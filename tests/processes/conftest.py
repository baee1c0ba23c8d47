"""Fixtures for real processes: a home and event logs for each test, and nothing left running.

A test marked `relayed` runs twice: with peers that listen, and in `poe test-long` with peers that listen on no socket
and are linked through an engine (docs/relay.md). The latter only with P2PCHAT_TEST_RELAY=all, if the mark says so.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.nats import NatsServer, missing
from tests.processes.fork_server import ForkServer
from tests.processes.peers import Cluster


@pytest.fixture
def cluster_directories(tmp_path: Path) -> tuple[Path, Path]:
    """Return the directory of the peers of a test, and that of their logs, which stays if the test fails."""
    (tmp_path / "logs").mkdir()
    return tmp_path / "home", tmp_path / "logs"


ALL_RELAYED = os.environ.get("P2PCHAT_TEST_RELAY") == "all"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("relayed")
    if mark is not None and "links" in metafunc.fixturenames:
        twice = ALL_RELAYED or mark.kwargs.get("always", True)
        relay = pytest.param("relay", marks=pytest.mark.long)
        metafunc.parametrize("links", ["tcp", relay] if twice else ["tcp"], indirect=True)


@pytest.fixture
def links(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield what links the peers of a test: "" for sockets, else the URL of an engine."""
    if getattr(request, "param", "tcp") == "tcp":
        yield ""
        return
    if why := missing():
        pytest.skip(why)
    server = NatsServer()
    yield server.url
    server.kill()


@pytest.fixture
async def cluster(cluster_directories: tuple[Path, Path], links: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(*cluster_directories, engine=links)
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
    links: str,
) -> AsyncIterator[Cluster]:
    """Return a cluster whose peers start quickly; for files whose tests share one loop."""
    cluster = Cluster(*cluster_directories, fork_server, links)
    before = fork_server.killed if fork_server else 0
    try:
        yield cluster
        killed(fork_server.killed - before if fork_server else 0)  # kills at the end of a test do not count
    finally:
        for child in cluster.children:
            await child.destroy()
