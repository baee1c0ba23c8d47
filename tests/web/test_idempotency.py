"""Said twice with one key, written once; and what one account says costs no other its keys."""

from __future__ import annotations

import asyncio
import gc
from functools import partial

import pytest

from p2pchat import PeerClosed
from p2pchat.web import idempotency
from p2pchat.web.idempotency import IdempotencyCache, KeyReused


class Writing:
    """Writes when it may; counts how often it was asked to."""

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


async def test_the_same_key_is_the_same_answer_and_another_request_is_refused() -> None:
    keys, write = IdempotencyCache(), Writing()
    write.may.set()
    assert [await keys.run_detached("ada", "k", "hello", write) for _ in range(2)] == [1, 1]
    assert await keys.run_detached("bob", "k", "hello", write) == 2
    with pytest.raises(KeyReused):
        await keys.run_detached("ada", "k", "bye", write)


async def test_who_asks_meanwhile_hears_that_it_failed_and_may_ask_again() -> None:
    keys, write = IdempotencyCache(), Writing()
    write.fails = True
    both = [asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write)) for _ in range(2)]
    await write.begun.wait()
    write.may.set()
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the disk is full"] * 2
    write.fails = False
    assert await keys.run_detached("ada", "k", "hello", write) == 2


async def test_who_goes_away_takes_the_answer_from_nobody_and_it_is_written_once() -> None:
    """What is written is kept, whoever goes away: to begin again would write it twice."""
    keys, write = IdempotencyCache(), Writing()
    first, second = (asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write)) for _ in range(2))
    await write.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    third = asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write))
    write.may.set()
    assert (await second, await third) == (1, 1)
    assert first.cancelled() and write.times == 1


async def test_what_fails_when_who_asked_has_gone_troubles_nobody() -> None:
    keys, write, troubles = IdempotencyCache(), Writing(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    write.fails = True
    asking = asyncio.ensure_future(keys.run_detached("ada", "k", "hello", write))
    await write.begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    write.may.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert troubles == []


async def test_what_ends_with_the_gateway_is_told_to_who_waits_for_it() -> None:
    keys, write = IdempotencyCache(), Writing()
    first, second = (asyncio.ensure_future(keys.run("ada", "k", "hello", write)) for _ in range(2))
    await write.begun.wait()
    first.cancel()
    with pytest.raises(PeerClosed):
        await second


async def test_what_has_a_key_and_what_has_none_begin_in_their_order() -> None:
    keys = IdempotencyCache()
    begun: list[str] = []

    async def begin(key: str) -> None:
        begun.append(key)

    await asyncio.gather(*(keys.run("ada", key, "hello", partial(begin, key)) for key in ("k", "", "l")))
    assert begun == ["k", "", "l"]


async def test_who_says_much_has_nobody_else_write_twice() -> None:
    keys, write = IdempotencyCache(), Writing()
    write.may.set()
    assert await keys.run_detached("ada", "k", "hello", write) == 1
    for number in range(idempotency._MAX_KEYS + 1):
        await keys.run_detached("loud", str(number), "buy", write)
    before = write.times
    assert await keys.run_detached("ada", "k", "hello", write) == 1
    assert write.times == before


async def test_what_is_kept_is_bounded_and_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_MAX_KEYS", 3)
    now = 0.0
    keys, write = IdempotencyCache(lambda: now), Writing()
    write.may.set()
    for account in ("ada", "bob", "cyd", "dan"):
        await keys.run_detached(account, "k", "hello", write)
    assert await keys.run_detached("dan", "k", "hello", write) == 4
    assert await keys.run_detached("ada", "k", "hello", write) == 5  # the one that asked longest ago
    now = idempotency._KEPT_FOR + 1
    assert await keys.run_detached("ada", "k", "hello", write) == 6
