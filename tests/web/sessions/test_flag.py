"""A flag wakes whoever waits, like asyncio's Event."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat.web.hub import LightEvent


async def test_who_waits_goes_on_when_it_is_up_and_who_gave_up_is_not_missed() -> None:
    flag = LightEvent()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    flag.set()
    flag.clear()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [False, True, False]
    assert not flag.is_set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flag.wait(), 0.01)
    flag.set()
    await flag.wait()
    await LightEvent(up=True).wait()
