"""The fixtures of the quick tests of the gateway, and the scene of the tests of its page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.web.conftest import home as home
from tests.web.conftest import serve as serve
from tests.web.conftest import served as served

if TYPE_CHECKING:
    from tests.web.browser import Scene, Stage

HAS_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[HAS_PASSED] = report.when == "call" and report.passed
    return report


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    from tests.web.browser import Stage  # needs playwright

    stage = Stage(lambda: tmp_path_factory.mktemp("page"), getattr(request.module, "WINDOW", {}))
    yield stage
    await stage.close()


@pytest_asyncio.fixture(loop_scope="module")
async def scene(request: pytest.FixtureRequest, stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    """A gateway, two browsers and a terminal: those of the test before, unless that failed."""
    yield await stage.scene()
    await stage.leave(None if request.node.stash.get(HAS_PASSED, False) else tmp_path)
