"""Waking the event loop from threads."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from p2pchat.runtime.storage_worker import LoopWaker


class Porch:
    """A waker, and a way to wait until it has called back so often."""

    def __init__(self) -> None:
        self.heard = 0
        self._news = asyncio.Event()
        self.bell = LoopWaker(asyncio.get_running_loop(), self._hear)

    def _hear(self) -> None:
        self.heard += 1
        self._news.set()

    async def until(self, times: int) -> None:
        async with asyncio.timeout(60):
            while self.heard < times:
                self._news.clear()
                await self._news.wait()


async def test_a_ring_in_a_thread_is_heard_in_the_loop_each_time() -> None:
    porch = Porch()
    for times in range(1, 4):
        await asyncio.to_thread(porch.bell.wake)
        await porch.until(times)
    porch.bell.close()


async def test_waking_during_and_after_close_works() -> None:
    porch = Porch()
    porch.bell.wake()
    porch.bell.close()
    await porch.until(1)
    heard = porch.heard
    await asyncio.to_thread(porch.bell.wake)
    await porch.until(heard + 1)
    porch.bell.close()


def test_waking_a_closed_loop_does_nothing() -> None:
    async def close() -> LoopWaker:
        porch = Porch()
        porch.bell.close()
        return porch.bell

    asyncio.run(close()).wake()


@pytest.mark.skipif(sys.platform != "linux", reason="counts what only Linux shows")
async def test_a_closed_bell_holds_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    porches = [Porch() for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) > len(before)
    for porch in porches:
        porch.bell.close()
    assert os.listdir("/proc/self/fd") == before


async def test_many_threads_may_ring_while_it_is_closed() -> None:
    porch = Porch()

    def ring_on() -> None:
        for _ in range(1000):
            porch.bell.wake()

    threads = [threading.Thread(target=ring_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    porch.bell.close()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await porch.until(1)
