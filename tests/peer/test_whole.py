"""What is done whole, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine

import pytest

from p2pchat.messaging.local_user import run_to_completion


async def give_up(doing: Coroutine[object, object, None]) -> None:
    """Begin to wait for it, and wait no more once it is under way."""
    waiting = asyncio.create_task(run_to_completion(doing))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_it_goes_on_to_its_end_when_nobody_waits_any_more() -> None:
    gate, done = asyncio.Event(), list[str]()

    async def doing() -> None:
        done.append("half")
        await gate.wait()
        done.append("all")

    await give_up(doing())
    gate.set()
    await asyncio.sleep(0)
    assert done == ["half", "all"]


async def test_what_fails_when_nobody_waits_any_more_troubles_nobody() -> None:
    gate, troubles = asyncio.Event(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))

    async def failing() -> None:
        await gate.wait()
        raise ValueError("too late")

    await give_up(failing())
    gate.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert troubles == []
