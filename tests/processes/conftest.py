"""Real processes: a home of their own for each test, event logs in logs/, and nothing left running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes.stage import ROOT, Stage


@pytest.fixture
def stage_directories(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Return where the peers of a test live, and where their logs are."""
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
