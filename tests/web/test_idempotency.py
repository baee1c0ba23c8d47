"""Idempotency keys: one result for each key, and bounded memory."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import suppress
from functools import partial

import pytest

from p2pchat import PeerClosed
from p2pchat.web import idempotency
from p2pchat.web.idempotency import IdempotencyCache, KeyReused


class FakeWrite:
    """A write that waits for permission and counts its calls."""

    def __init__(self) -> None:
        self.times = 0
        self.begun = asyncio.Event()
        self.may = asyncio.Event()
        self.fails = False

    async def __call__(self) -> int:
        self.times += 1
        self.begun.set()
        await self.may.wait()
        if self.fails:
            raise ValueError("the disk is full")
        return self.times


async def test_a_key_returns_the_first_result_and_refuses_another_request() -> None:
    keys, write = IdempotencyCache(), FakeWrite()
    write.may.set()
    assert [await keys.run_detached("ada", "k", "hello", write) for _ in range(2)] == [1, 1]
    assert await keys.run_detached("bob", "k", "hello", write) == 2
    with pytest.raises(KeyReused):
        await keys.run_detached("ada", "k", "bye", write)


async def test_concurrent_requests_share_a_failure_and_may_retry() -> None:
    keys, write = IdempotencyCache(), FakeWrite()
    write.fails = True
    both = [asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write)) for _ in range(2)]
    await write.begun.wait()
    write.may.set()
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the disk is full"] * 2
    write.fails = False
    assert await keys.run_detached("ada", "k", "hello", write) == 2


async def test_a_cancelled_request_still_completes_once_for_the_others() -> None:
    """A write that has started must complete: starting again would write the message twice."""
    keys, write = IdempotencyCache(), FakeWrite()
    first, second = (asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write)) for _ in range(2))
    await write.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    third = asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write))
    write.may.set()
    assert (await second, await third) == (1, 1)
    assert first.cancelled() and write.times == 1


async def test_a_failure_without_a_waiting_caller_is_not_logged() -> None:
    keys, write, troubles = IdempotencyCache(), FakeWrite(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    write.fails = True
    asking = asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write))
    await write.begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    write.may.set()
    for _ in range(3):
        await asyncio.sleep(0)  # the request ends within 3 turns
    gc.collect()
    assert troubles == []


async def test_callers_waiting_for_a_cancelled_request_get_peer_closed() -> None:
    keys, write = IdempotencyCache(), FakeWrite()
    first, second = (asyncio.ensure_future(keys.run("ada", "k", "hello", write)) for _ in range(2))
    await write.begun.wait()
    first.cancel()
    with pytest.raises(PeerClosed):
        await second


async def test_requests_with_and_without_key_start_in_order() -> None:
    keys = IdempotencyCache()
    begun: list[str] = []

    async def begin(key: str) -> None:
        begun.append(key)

    await asyncio.gather(*(keys.run("ada", key, "hello", partial(begin, key)) for key in ("k", "", "l")))
    assert begun == ["k", "", "l"]


async def test_keys_keep_no_texts() -> None:
    """2,048 keys with texts of 32 KiB, wide ones in Python, took 330 MiB."""
    keys, write = IdempotencyCache(), FakeWrite()
    write.may.set()
    tracemalloc.start()
    try:
        for number in range(idempotency._MAX_KEYS_OF_ACCOUNT):
            await keys.run_detached("loud", str(number), (f"{number}" + "x" * 32_000 + "\U0001f600", "room"), write)
        assert tracemalloc.get_traced_memory()[0] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


async def test_keys_are_bounded_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_MAX_KEYS", 3)
    now = 0.0
    monkeypatch.setattr(idempotency, "monotonic", lambda: now)
    keys, write = IdempotencyCache(), FakeWrite()
    write.may.set()
    for account in ("ada", "bob", "cyd", "dan"):
        await keys.run_detached(account, "k", "hello", write)
    assert await keys.run_detached("dan", "k", "hello", write) == 4
    assert await keys.run_detached("ada", "k", "hello", write) == 5  # the key used longest ago was evicted
    now = idempotency._KEPT_FOR + 1
    assert await keys.run_detached("ada", "k", "hello", write) == 6


async def test_keys_of_idle_accounts_go_when_they_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: they stayed until the account came again, and the fresh keys of a busy one were evicted for them."""
    now = 0.0
    monkeypatch.setattr(idempotency, "monotonic", lambda: now)
    keys, write = IdempotencyCache(), FakeWrite()
    for account in ("ada", "bob", "cyd"):
        write.may.set()
        write.fails = account == "bob"
        with suppress(ValueError):
            await keys.run(account, "k", "hello", write)
    now = idempotency._KEPT_FOR + 1
    await keys.run("dan", "k", "hello", write)
    assert (list(keys._by_account), keys._count) == (["dan"], 1)


async def test_a_request_that_fails_after_its_key_expired_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(idempotency, "monotonic", lambda: now)
    keys, write = IdempotencyCache(), FakeWrite()
    write.fails = True
    asking = asyncio.ensure_future(keys.run("ada", "k", "hello", write))
    await write.begun.wait()
    now = idempotency._KEPT_FOR + 1
    await keys.run("bob", "k", "hello", partial(asyncio.sleep, 0))
    write.may.set()
    with pytest.raises(ValueError, match="full"):
        await asking
    assert (list(keys._by_account), keys._count) == (["bob"], 1)
