"""Real processes: a home of their own for each test, event logs in logs/, and nothing left running."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes.stage import ROOT, Stage


@pytest.fixture
async def stage(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    logs = ROOT / "logs" / request.node.name.removeprefix("test_")
    logs.mkdir(parents=True, exist_ok=True)
    for former in logs.glob("*.jsonl"):
        former.unlink()
    stage = Stage(tmp_path / "home", logs)
    try:
        yield stage
    finally:
        for child in stage.children:
            await child.destroy()
