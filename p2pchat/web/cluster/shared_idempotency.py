"""Idempotency keys of a cluster: a request repeated at another gateway is carried out once, too.

A gateway claims a key in the engine before it carries a request out, and writes the result there afterwards; the engine
keeps both for a quarter of an hour. Another gateway with the same key waits for the result. If the gateway that carries
it out dies, another one takes over, and the message may be written twice: nobody knows whether the dead one wrote it.
While the engine is away, keys are known to one gateway, as without a cluster.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from p2pchat.web.cluster.engine_store import REQUESTS, ClusterAway, EngineStore, OtherRevision
from p2pchat.web.cluster.membership import Cluster
from p2pchat.web.errors import WebError
from p2pchat.web.idempotency import IdempotencyCache, KeyReused

LOOK_EVERY = 0.1  # seconds between two looks for the result of another gateway
CLOSED_WITHIN = 5.0  # seconds for requests under way when the gateway stops; a guess
PATIENCE = 10.0  # seconds for that result; then the client is told to try again


@dataclass(frozen=True, slots=True)
class _Claim:
    """The record of one request in the engine.

    Attributes:
        content: The hash of what it asks for; "" if it failed, and anyone may carry it out.
        gateway: Who carries it out.
        run: Of the process of that gateway.
        result: The id of the message; "" until it is written.
    """

    content: str
    gateway: str
    run: str
    result: str = ""


class SharedIdempotency(IdempotencyCache):
    """Requests by account and key, for all gateways of a cluster; their results are texts."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._key = cluster.key
        self._cluster = cluster
        self._run = secrets.token_hex(8)
        self._working: set[asyncio.Task[Any]] = set()  # requests that are being carried out
        self._closed = False
        self._orders: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def _store(self) -> EngineStore:
        return self._cluster.store

    async def _carry_out(self, account: str, key: str, content: bytes, make: Callable[[], Awaitable[Any]]) -> Any:
        order = self._orders.setdefault(account, asyncio.Lock())
        place, number = self._key.name(f"request {account} {key}") if key else "", 0
        async with order:  # messages of an account are written in the order in which they came, with a key or without
            if key:
                with suppress(ClusterAway):
                    result, number = await self._claim(place, content.hex())
                    if result:
                        return result
                if self._closed:
                    raise WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
            working = asyncio.ensure_future(self._complete(make(), place, content.hex(), number))
        self._working.add(working)
        working.add_done_callback(self._working.discard)
        # A caller that is gone does not end it: the message may be on its way to the disk.
        await asyncio.wait([working])
        return working.result()

    async def _complete(self, made: Awaitable[Any], place: str, content: str, number: int) -> Any:
        try:
            result = await made
        except BaseException:
            await self._write(place, _Claim("", "", ""), number)
            raise
        await self._write(place, _Claim(content, self._cluster.gateway_id, self._run, result), number)
        return result

    async def aclose(self) -> None:
        self._closed = True
        if self._working:
            await asyncio.wait(self._working, timeout=CLOSED_WITHIN)

    async def _claim(self, place: str, content: str) -> tuple[str, int]:
        """Return the result of another gateway, or "" and the number of the claim. Raises KeyReused, WebError."""
        mine = _Claim(content, self._cluster.gateway_id, self._run)
        result, expected = "", 0
        while not result:
            with suppress(OtherRevision):
                return "", await self._store.write(REQUESTS, place, self._sealed(place, mine), expected)
            result, expected = await self._wait_for(place, content)
        return result, expected

    async def _wait_for(self, place: str, content: str) -> tuple[str, int]:
        """Return the result of a claimed request, or "" and the number of a claim that nobody carries out."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            data, number = await self._store.read(REQUESTS, place)
            there = self._opened(place, data)
            if there is None or not there.content:
                return "", number
            if there.content != content:
                raise KeyReused
            if there.result and there.gateway != self._cluster.gateway_id:
                self._cluster.on_written_elsewhere(there.result, there.gateway)
            if there.result or not self._is_alive(there):
                return there.result, number
            if asyncio.get_running_loop().time() > deadline:
                text = "another gateway is writing this message: try again"
                raise WebError(503, "cluster", text, {"Retry-After": "1"})
            await asyncio.sleep(LOOK_EVERY)

    def _is_alive(self, claim: _Claim) -> bool:
        """Return whether the process lives that carries a request out."""
        if claim.gateway == self._cluster.gateway_id:
            return claim.run == self._run
        return claim.gateway in self._cluster.living.all

    async def _write(self, place: str, claim: _Claim, number: int) -> None:
        if number:
            with suppress(ClusterAway, OtherRevision):  # then the others wait for it, or took over
                await self._store.write(REQUESTS, place, self._sealed(place, claim), number)

    def _sealed(self, place: str, claim: _Claim) -> bytes:
        fields = {"content": claim.content, "gateway": claim.gateway, "run": claim.run, "result": claim.result}
        return self._key.seal(REQUESTS, place, json.dumps(fields).encode())

    def _opened(self, place: str, data: bytes) -> _Claim | None:
        """Return a claim; None for anything that nobody with the key wrote."""
        try:
            return _Claim(**json.loads(self._key.open(REQUESTS, place, data)))
        except (ValueError, TypeError):
            return None
