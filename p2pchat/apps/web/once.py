"""Said twice, written once: a client that got no answer says it again with the same key and gets the first answer.

Kept in memory, for a while and for so many: who asks again after a restart of the gateway finds out by what it is told
since (`?since=`), or writes it twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

from p2pchat.apps.web.errors import WebError

T = TypeVar("T")
_MOST = 8192  # keys; some 2 MiB
_FOR = 15 * 60.0  # seconds, longer than anybody tries again


class OtherRequest(WebError):
    """This key stood for something else."""

    def __init__(self) -> None:
        super().__init__(422, "key_reused", "this key was used for another message: each has a key of its own")


class Once:
    """What was asked for with a key, by account and key."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._done: OrderedDict[tuple[str, str], tuple[float, object, asyncio.Future[Any]]] = OrderedDict()

    async def do(self, account: str, key: str, what: object, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` makes, or made when it was asked for with this key; "" is no key.

        Args:
            what: Compared with what it was before.
        Raises:
            OtherRequest: That was something else. And as `make`: what failed may be tried again.
        """
        if not key:
            return await make()
        self._forget()
        known = self._done.get((account, key))
        if known is not None:
            if known[1] != what:
                raise OtherRequest
            made: T = await asyncio.shield(known[2])
            return made
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._done[account, key] = (self._clock(), what, future)
        try:
            made = await make()
        except BaseException:
            self._done.pop((account, key), None)
            future.cancel()
            raise
        future.set_result(made)
        return made

    def _forget(self) -> None:
        until = self._clock() - _FOR
        while self._done and (len(self._done) >= _MOST or next(iter(self._done.values()))[0] < until):
            self._done.popitem(last=False)
