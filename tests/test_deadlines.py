"""A wait that never ends fails its test, and the failure names the wait."""

from __future__ import annotations

import asyncio

import pytest

from tests import deadlines
from tests.deadlines import with_deadline, within


async def test_a_late_wait_names_the_expected_event() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"waited 0\.01 s for bob to say hello"):
        async with within(0.01, "bob to say hello"):
            await asyncio.Event().wait()


async def test_a_timeout_of_the_code_under_test_passes_through() -> None:
    async def call() -> None:
        async with within(60, "a call with a timeout of its own"), asyncio.timeout(0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await call()


async def test_a_hanging_test_shows_the_stacks_of_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "TEST", 1.02)

    async def waits_for_bob() -> None:
        await asyncio.Event().wait()

    with pytest.raises(
        pytest.fail.Exception,
        match=r"did not end in 1\.02 s; .*\n(.*\n)*.* waits_for_bob in tests/test_deadlines\.py:\d+",
    ):
        await with_deadline(waits_for_bob)()
