"""Tests of the page runner: a correct page passes, a wrong one fails."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.docs.expected import Ports, pattern
from tests.docs.page_runner import Scene
from tests.docs.pages import blocks

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None,
    reason="the pages are written for a POSIX shell, run by bash",
)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    await scene.close()


async def test_a_wrong_page_fails(scene: Scene) -> None:
    for page in ("$ echo one\ntwo", "$ false", "$ true\n$ echo $?\n1", "$ echo unexpected"):
        (block,) = blocks(f"```console\n{page}\n```\n")
        with pytest.raises(AssertionError):
            await scene.play(block)
    (block,) = blocks('```console title="ada"\n$ echo one\ntwo\n```\n')
    with pytest.raises(AssertionError, match="ended without 'two'"):
        await scene.play(block)


def test_a_port_chosen_by_a_program_is_used_from_then_on() -> None:
    ports = Ports()
    found = re.fullmatch(pattern(["listens on 127.0.0.1:8080, p2pchat 8080"], ports), "listenson127.0.0.1:47,p2pchat47")
    assert found is not None
    ports.learn(found)
    assert ports.put("p2pchat 8081 localhost:8080").endswith(" localhost:47")
    assert ports.put("p2pchat 8081") == ports.put("p2pchat 8081") != "p2pchat 8081"
    assert ports.put("after 18080 tries, 8192 bytes") == "after 18080 tries, 8192 bytes"
