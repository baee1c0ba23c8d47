"""Fixtures for real processes: a home for each test, event logs in logs/, and nothing left running."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from p2pchat.__main__ import main
from tests.processes.commands import Ran
from tests.processes.fork_server import ForkServer
from tests.processes.peers import ROOT, Cluster


@pytest.fixture
def cluster_directories(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Return the directory of the peers of a test, and that of their logs."""
    logs = ROOT / "logs" / request.node.name.removeprefix("test_")
    logs.mkdir(parents=True, exist_ok=True)
    for former in logs.glob("*.jsonl"):
        former.unlink()
    return tmp_path / "home", logs


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
    cluster_directories: tuple[Path, Path], fork_server: ForkServer | None, killed: Callable[[int], None]
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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs a command line in this process, through the same main(), which is much faster."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))

    def run(*words: str, stdin: str = "") -> Ran:
        (tmp_path / "stdin").write_text(stdin, "utf-8")
        capfd.readouterr()
        with open(tmp_path / "stdin", encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main(words)
        return Ran(code, *capfd.readouterr())

    return run
