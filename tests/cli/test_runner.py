"""The event loop of the commands."""

from __future__ import annotations

import asyncio
import sys

import pytest

from p2pchat.cli.runner import FASTER, VARIABLE, make_runner


def loop_of_a_program() -> str:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    with make_runner() as runner:
        return runner.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="winloop is not among the things tests need")
def test_a_faster_loop_is_used_if_installed_and_not_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    found = loop_of_a_program()
    monkeypatch.setenv(VARIABLE, "asyncio")
    assert (found, loop_of_a_program()) == ("uvloop", "asyncio")


def test_without_a_faster_loop_asyncios_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setitem(sys.modules, FASTER, None)  # as if it were not installed
    assert loop_of_a_program() == "asyncio"
