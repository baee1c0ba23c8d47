"""Run the examples of the pages in docs/ as written. tests/docs/pages.py has the syntax of a page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.page_runner import Scene
from tests.docs.pages import PAGES, Block, blocks

posix = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None,
    reason="the pages are written for a POSIX shell, run by bash",
)


def scenes(page: Path) -> list[list[Block]]:
    """Return the blocks of a page that run, scene by scene."""
    found: list[list[Block]] = [[]]
    for block in blocks(page.read_text("utf-8")):
        if block.language == "!new scene":
            found.append([block])
        elif block.runs:
            found[-1].append(block)
    return [scene for scene in found if any(block.language[0] != "!" for block in scene)]


def parameter(page: Path, scene: list[Block]) -> Any:
    """Return a scene as a parameter; weekly if it plays histories, of which test_histories.py has others."""
    plays = any("python -m simulation" in block.text for block in scene)
    return pytest.param(scene, id=f"{page.stem}-{scene[0].line}", marks=[pytest.mark.weekly] * plays)


@posix
@pytest.mark.parametrize("scene", [parameter(page, scene) for page in PAGES for scene in scenes(page)])
async def test_the_examples_run(scene: list[Block], tmp_path: Path) -> None:
    beginning = scene[0].text if scene[0].language == "!new scene" else ""
    if beginning.startswith("needs ") and shutil.which(beginning[6:]) is None:
        pytest.skip(f"{beginning[6:]} is not installed")
    here = Scene(tmp_path)
    try:
        for block in scene:
            try:
                await here.play(block)
            except AssertionError as error:
                raise AssertionError(f"the block in line {block.line}: {error}") from None
    finally:
        await here.close()
