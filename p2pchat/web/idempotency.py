"""Idempotency keys: a request repeated with the same key is carried out once and gets the first result.

Results are kept in memory, for a limited time and number. After a restart of the gateway a client that repeats a
request finds out by `?since=` whether its message was written, or writes it twice.

In a cluster a request repeated at another gateway is carried out once, too. A gateway claims a key in the engine before
it carries a request out, and writes the result there afterwards; the engine keeps both for a quarter of an hour. The
results of a moment are one record: a record costs three servers and a gateway some 2 ms of CPU, and few are ever read.
Another gateway with the same key looks through the results that the first one wrote after the claim, and waits for its
own. The claim of a request that failed is given up instead: somebody who asks for it a quarter of an hour later would
have thousands of records looked through. If the first gateway dies before, another takes over, and the message may be
written twice: nobody knows whether the dead one wrote it. While the engine is away, keys are known to one gateway, as
without a cluster. A claim whose answer was lost may be in the engine, so its result is written too.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from p2pchat import PeerClosed
from p2pchat.threads import ends_within, run_to_completion, spawn
from p2pchat.web.cluster.cluster import Cluster
from p2pchat.web.cluster.engine_store import REQUESTS, AnswerLost, ClusterAway, EngineStore, OtherRevision
from p2pchat.web.cluster.nats_client import cancel
from p2pchat.web.error_responses import WebError

T = TypeVar("T")
Content = str | tuple[str | bool | None, ...]  # what a request asks for
_MAX_KEYS = 8192  # some 4 MiB, whatever was written with them
_MAX_KEYS_OF_ACCOUNT = 512  # beyond it the account's own oldest key goes, so that none evicts the keys of others
_KEPT_FOR = 15 * 60.0  # seconds, longer than any client retries


class KeyReused(WebError):
    """The key was used for another request."""

    def __init__(self) -> None:
        super().__init__(422, "key_reused", "this key was used for another message: each needs a key of its own")


@dataclass(frozen=True, slots=True)
class _CachedRequest:
    """A request made with a key: its time, the hash of its content, and its result."""

    at: float
    content: bytes
    result: asyncio.Future[Any]


class IdempotencyCache:
    """Requests by account and key."""

    def __init__(self) -> None:
        self._by_account: OrderedDict[str, OrderedDict[str, _CachedRequest]] = OrderedDict()  # last active last
        self._count = 0

    async def run_detached(self, account: str, key: str, content: Content, make: Callable[[], Awaitable[T]]) -> T:
        """As run, but the work goes on if the caller is cancelled, since its result serves all calls with this key."""
        running = self.run(account, key, content, make)
        return await (run_to_completion(running) if key else running)

    async def run(self, account: str, key: str, content: Content, make: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `make`, which is called once for each key; the key "" always calls it.

        The work starts before this coroutine first suspends, so it starts in the order of the calls. A failed request
        may be repeated.

        Args:
            content: Compared with the content of the first request with this key.
        Raises:
            KeyReused: The first request had another content.
            PeerClosed: The call that started the work was cancelled, as all are when the gateway stops.
            Exception: As `make`, also for calls that waited for the same result.
        """
        if not key:
            done: T = await self._carry_out(account, key, b"", make)
            return done
        requests, digest = self._requests_of(account), _digest(content)
        known = requests.get(key)
        if known is not None:
            if known.content != digest:
                raise KeyReused
            result: T = await asyncio.shield(known.result)
            return result
        request = requests[key] = _CachedRequest(monotonic(), digest, asyncio.get_running_loop().create_future())
        self._count += 1
        self._evict(requests)
        try:
            result = await self._carry_out(account, key, digest, make)
        except BaseException as error:  # cancellation too: other calls must not wait for ever
            if requests.get(key) is request:
                del requests[key]
                self._count -= 1
            _fail(request.result, error)
            raise
        request.result.set_result(result)
        return result

    async def _carry_out(self, account: str, key: str, content: bytes, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return the result of `make`, or of the same request elsewhere; the work starts in the order of the calls."""
        return await make()

    async def aclose(self) -> None:
        """Return when what others have to know of requests under way is told. Further ones are refused."""

    def _requests_of(self, account: str) -> OrderedDict[str, _CachedRequest]:
        """Return the recent requests of an account, without expired ones."""
        self._drop_idle(oldest := monotonic() - _KEPT_FOR)
        requests = self._by_account.setdefault(account, OrderedDict())
        self._by_account.move_to_end(account)
        while requests and next(iter(requests.values())).at < oldest:
            requests.popitem(last=False)
            self._count -= 1
        return requests

    def _drop_idle(self, oldest: float) -> None:
        """Drop accounts all of whose requests failed or expired; those that were active last are at the end."""
        while self._by_account:
            account, requests = next(iter(self._by_account.items()))
            if requests and next(reversed(requests.values())).at >= oldest:
                return
            del self._by_account[account]
            self._count -= len(requests)
            requests.clear()  # one of them may be under way still

    def _evict(self, requests: OrderedDict[str, _CachedRequest]) -> None:
        if len(requests) > _MAX_KEYS_OF_ACCOUNT:
            requests.popitem(last=False)
            self._count -= 1
        while self._count > _MAX_KEYS:  # accounts with few keys keep theirs
            fullest = max(self._by_account.values(), key=len)
            for _ in range(len(fullest) // 8 or 1):  # several, as all accounts are looked through
                fullest.popitem(last=False)
                self._count -= 1


def _digest(content: Content) -> bytes:
    """Return what is kept of a content: texts are long, and those of all keys together would take a gigabyte."""
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _fail(result: asyncio.Future[Any], error: BaseException) -> None:
    """Pass a failure to the calls that wait for the result; they were not cancelled themselves."""
    result.set_exception(error if isinstance(error, Exception) else PeerClosed("this gateway is stopping: try again"))
    result.exception()  # marked as retrieved: perhaps nothing waits


LOOK_EVERY = 0.1  # seconds between two looks for the result of another gateway
# Seconds for requests under way when the gateway stops, and then for their results. Later, others may carry them out
# again. Guesses: a busy disk takes seconds, and whoever stops gateways gives them half a minute in all.
COMPLETED_WITHIN = 10.0
TOLD_WITHIN = 5.0
PATIENCE = 10.0  # seconds for that result; then the client is told to try again
RESULTS_EVERY = (
    0.2  # seconds between two records of results; what a gateway killed meanwhile wrote may be written twice
)
RESULTS_A_RECORD = 64  # 5 KiB: a place and the id of a message each
# Requests that have a result to tell, or will have one. An engine that takes claims and no results would have all of
# them kept, so beyond these it is as one that is away.
MAX_UNTOLD = 8192  # 2 MiB, a guess


@dataclass(frozen=True, slots=True)
class _Claim:
    """The record of one request in the engine.

    Attributes:
        content: The hash of what it asks for; "" if it failed, and anyone may carry it out.
        gateway: Who carries it out.
        run: Of the process of that gateway.
    """

    content: str
    gateway: str
    run: int


class SharedIdempotency(IdempotencyCache):
    """Requests by account and key, for all gateways of a cluster; their results are texts."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._key = cluster.key
        self._cluster = cluster
        self._working: set[asyncio.Task[Any]] = set()  # requests; others have to know of them when the gateway stops
        self._under_way: set[str] = set()  # places of claims that are carried out here
        self._results: dict[str, str] = {}  # by place, which the engine has to get yet; "" for a request that failed
        self._records = 0  # of results that were written
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._closed = False  # nothing is told any more
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def _store(self) -> EngineStore:
        return self._cluster.store

    async def _carry_out(self, account: str, key: str, content: bytes, make: Callable[[], Awaitable[Any]]) -> Any:
        order = self._orders.setdefault(account, asyncio.Lock())
        place, is_claimed = self._key.name(f"request {account} {key}") if key else "", False
        async with order:  # messages of an account are written in the order in which they came, with a key or without
            if key and len(self._under_way) + len(self._results) < MAX_UNTOLD:
                try:
                    if result := await self._claim(place, content.hex()):
                        return result
                    is_claimed = True
                except AnswerLost:
                    is_claimed = True  # perhaps
                except ClusterAway:
                    pass
                if self._closing.is_set():
                    raise WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
            if is_claimed:
                self._under_way.add(place)
            working = spawn(self._working, self._complete(make(), place if is_claimed else ""))
        # A caller that is gone does not end it: the message may be on its way to the disk.
        await asyncio.wait([working])
        return working.result()

    async def _complete(self, made: Awaitable[Any], place: str) -> Any:
        try:
            result = await made
        except asyncio.CancelledError:  # the program ends, and nobody knows whether the message was written
            self._under_way.discard(place)
            raise
        except BaseException:  # whatever it is: other gateways wait for the result, and may try now
            self._tell(place, "")
            raise
        self._tell(place, result)
        return result

    def _tell(self, place: str, result: str) -> None:
        """Have the other gateways told what became of a claim; "" if it failed."""
        if place:
            self._under_way.discard(place)
            self._results[place] = result
            if not self._closed and (self._writing is None or self._writing.done()):
                self._writing = asyncio.create_task(self._write_results(), name="p2pchat web results")

    async def _write_results(self) -> None:
        """Write the results of the last moments as one record, and give up what failed, until none is left."""
        while self._results:
            if len(self._results) < RESULTS_A_RECORD:
                await ends_within(RESULTS_EVERY, self._closing.wait())
            part = dict(islice(self._results.items(), RESULTS_A_RECORD))
            await asyncio.gather(*(self._give_up(place) for place, result in part.items() if not result))
            if not (written := {place: result for place, result in part.items() if result}):
                continue
            place = f"{self._results_of(self._cluster.gateway_id, self._cluster.run)}.{self._records}"
            self._records += 1
            sealed = self._key.seal(REQUESTS, place, json.dumps(written).encode())
            while not await self._is_written(place, sealed):
                await asyncio.sleep(RESULTS_EVERY)  # until the engine is back
            for key, result in written.items():
                if self._results[key] == result:
                    del self._results[key]

    async def _give_up(self, place: str) -> None:
        """Say in the claim of a request that failed that anyone may carry it out, unless the engine is away."""
        try:
            data, number = await self._store.read(REQUESTS, place)
            claim, mine = self._opened(place, data), (self._cluster.gateway_id, self._cluster.run)
            if claim is not None and (claim.gateway, claim.run) == mine and place not in self._under_way:
                with suppress(OtherRevision):
                    await self._store.write(REQUESTS, place, self._sealed(place, replace(claim, content="")), number)
        except ClusterAway:
            await asyncio.sleep(RESULTS_EVERY)  # until the engine is back
        else:
            if not self._results[place]:  # otherwise it was carried out meanwhile
                del self._results[place]

    async def _is_written(self, place: str, sealed: bytes) -> bool:
        try:
            await self._store.write(REQUESTS, place, sealed, 0)
        except OtherRevision:  # nobody else writes there: it was written, and the answer was lost
            return True
        except ClusterAway:
            return False
        return True

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closing.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(COMPLETED_WITHIN):
                while self._working:
                    await asyncio.wait(self._working)
        self._closed = True
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=TOLD_WITHIN)
            await cancel([self._writing])

    async def _claim(self, place: str, content: str) -> str:
        """Return the result of another gateway; "" once this one has the claim. Raises KeyReused, WebError.

        An engine that contradicts itself for too long is as one that is away: all messages of the account wait here.
        """
        mine = _Claim(content, self._cluster.gateway_id, self._cluster.run)
        result, expected, deadline = "", 0, asyncio.get_running_loop().time() + PATIENCE
        while not result:
            with suppress(OtherRevision):
                await self._store.write(REQUESTS, place, self._sealed(place, mine), expected)
                return ""
            if asyncio.get_running_loop().time() > deadline:
                raise ClusterAway
            result, expected = await self._wait_for(place, content, deadline)
        return result

    async def _wait_for(self, place: str, content: str, deadline: float) -> tuple[str, int]:
        """Return the result of a claimed request, or "" and the number of a claim that nobody carries out."""
        while True:
            data, number = await self._store.read(REQUESTS, place)
            there = self._opened(place, data)
            if there is None or not there.content:
                return "", number
            if there.content != content:
                raise KeyReused
            is_alive = self._is_alive(there, place)  # what it wrote before its end is found below
            result = await self._result(there, place, number, deadline)
            if result and there.gateway != self._cluster.gateway_id:
                self._cluster.on_written_elsewhere(result, there.gateway)
            if result or not is_alive:
                return result, number
            if asyncio.get_running_loop().time() > deadline:
                text = "another gateway is writing this message: try again"
                raise WebError(503, "cluster", text, {"Retry-After": "1"})
            await asyncio.sleep(LOOK_EVERY)

    def _is_alive(self, claim: _Claim, place: str) -> bool:
        """Return whether a process carries a request out, or has a result of it to tell."""
        if claim.gateway != self._cluster.gateway_id:
            return self._cluster.is_running(claim.gateway, claim.run)
        return claim.run == self._cluster.run and (place in self._under_way or place in self._results)

    async def _result(self, claim: _Claim, place: str, number: int, deadline: float) -> str:
        """Return the result of a claim with this number; "" if its gateway has not told any. Raises ClusterAway."""
        while True:
            key, data, number = await self._store.read_next(
                REQUESTS, self._results_of(claim.gateway, claim.run), number
            )
            if not number:
                return ""
            if asyncio.get_running_loop().time() > deadline:
                raise ClusterAway
            with suppress(ValueError, TypeError):  # nobody with the key wrote it
                found = json.loads(self._key.open(REQUESTS, key, data))
                if place in found:
                    return str(found[place])

    def _results_of(self, gateway: str, run: int) -> str:
        """Return the part of the store where a process writes results."""
        return self._key.name(f"results {gateway} {run}")

    def _sealed(self, place: str, claim: _Claim) -> bytes:
        fields = {"content": claim.content, "gateway": claim.gateway, "run": claim.run}
        return self._key.seal(REQUESTS, place, json.dumps(fields).encode())

    def _opened(self, place: str, data: bytes) -> _Claim | None:
        """Return a claim; None for anything that nobody with the key wrote."""
        try:
            return _Claim(**json.loads(self._key.open(REQUESTS, place, data)))
        except (ValueError, TypeError):
            return None
