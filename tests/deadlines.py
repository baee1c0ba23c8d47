"""Deadlines of tests: every wait of a test has one, whose error names the expected event."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
WAIT = 60.0  # seconds for one condition: far above what a loaded machine needs
POLL_EVERY = 0.005  # seconds between checks of a condition
TEST = 220.0  # seconds for one test: below the 240 of pytest-timeout, which knows nothing about tasks


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Fail the test when the block takes longer than `seconds`, and name `what` it waited for."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        pytest.fail(f"waited {seconds:g} s for {what}")


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition is true, which no event reports; `what` names it."""
    async with within(WAIT, what):
        while not condition():
            await asyncio.sleep(POLL_EVERY)  # poll: threads, files, other tasks and other processes tell nobody


def with_deadline(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Return an asynchronous test that ends after TEST seconds and shows what each of its tasks waits for."""

    @functools.wraps(test)
    async def limited(*args: Any, **kwargs: Any) -> None:
        loop = asyncio.get_running_loop()
        stacks: list[str] = []
        look = loop.call_later(TEST - 1, lambda: stacks.extend(waiting_tasks()))
        try:
            async with asyncio.timeout(TEST) as limit:
                await test(*args, **kwargs)
        except TimeoutError:
            if not limit.expired():
                raise
            pytest.fail("\n".join([f"the test did not end in {TEST:g} s; its tasks wait at:", *stacks]))
        finally:
            look.cancel()

    assert inspect.iscoroutinefunction(limited)
    return limited


def waiting_tasks() -> list[str]:
    """Return for each task of the running loop its name and the line it waits at."""
    return [f"  {task.get_name()}: {_place_of(task)}" for task in asyncio.all_tasks()]


def _place_of(task: asyncio.Task[Any]) -> str:
    """Return the innermost line of the project that a task waits at, else the innermost of all."""
    waits_for: Any = task.get_coro()
    places: list[tuple[bool, str]] = []
    while waits_for is not None:
        frame = getattr(waits_for, "cr_frame", None) or getattr(waits_for, "ag_frame", None)
        if frame is not None:
            file = Path(frame.f_code.co_filename)
            ours = file.is_relative_to(ROOT)
            shown = file.relative_to(ROOT).as_posix() if ours else file.as_posix()
            places.append((ours, f"{frame.f_code.co_name} in {shown}:{frame.f_lineno}"))
        waits_for = getattr(waits_for, "cr_await", None) or getattr(waits_for, "ag_await", None)
    return max(enumerate(places), key=lambda one: (one[1][0], one[0]), default=(0, (False, "nowhere")))[1][1]
