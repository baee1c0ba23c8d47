"""Fixtures for real processes: a home for each test, event logs in logs/, and nothing left running."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from p2pchat.cli.main import main
from tests.processes.commands import Ran
from tests.processes.fork_server import Nursery
from tests.processes.peers import ROOT, Stage


@pytest.fixture
def stage_directories(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Return the directory of the peers of a test, and that of their logs."""
    logs = ROOT / "logs" / request.node.name.removeprefix("test_")
    logs.mkdir(parents=True, exist_ok=True)
    for former in logs.glob("*.jsonl"):
        former.unlink()
    return tmp_path / "home", logs


@pytest.fixture
async def stage(stage_directories: tuple[Path, Path]) -> AsyncIterator[Stage]:
    stage = Stage(*stage_directories)
    try:
        yield stage
    finally:
        for child in stage.children:
            await child.destroy()


@pytest_asyncio.fixture(loop_scope="module")
async def quick(
    stage_directories: tuple[Path, Path], nursery: Nursery | None, killed: Callable[[int], None]
) -> AsyncIterator[Stage]:
    """Return a stage whose peers start quickly; for files whose tests share one loop."""
    stage = Stage(*stage_directories, nursery)
    before = nursery.killed if nursery else 0
    try:
        yield stage
        killed(nursery.killed - before if nursery else 0)  # kills at the end of a test do not count
    finally:
        for child in stage.children:
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
