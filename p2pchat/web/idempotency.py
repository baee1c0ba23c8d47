"""Idempotency keys: a request repeated with the same key is carried out once and gets the first result.

Results are kept in memory, for a limited time and number. After a restart of the gateway a client that repeats a
request finds out by `?since=` whether its message was written, or writes it twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from p2pchat import PeerClosed
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

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._by_account: OrderedDict[str, OrderedDict[str, _CachedRequest]] = OrderedDict()  # last active last
        self._count = 0

    async def run_detached(self, account: str, key: str, content: Content, make: Callable[[], Awaitable[T]]) -> T:
        """As run, but the work goes on if the caller is cancelled, since its result serves all calls with this key."""
        running = self.run(account, key, content, make)
        if not key:
            return await running
        task = asyncio.ensure_future(running)
        task.add_done_callback(_consume_exception)
        await asyncio.wait([task])  # does not cancel the task
        return task.result()

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
        request = requests[key] = _CachedRequest(self._clock(), digest, asyncio.get_running_loop().create_future())
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
        self._drop_idle(oldest := self._clock() - _KEPT_FOR)
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


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception so that asyncio does not log it; perhaps no caller is left."""
    if not task.cancelled():
        task.exception()
