"""Said twice, written once: a client that got no answer says it again with the same key and gets the first answer.

Kept in memory, for a while and for so many: who asks again after a restart of the gateway finds out by what it is told
since (`?since=`), or writes it twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from p2pchat import PeerClosed
from p2pchat.web.errors import WebError

T = TypeVar("T")
_MOST = 8192  # keys; some 2 MiB
_MOST_OF_ACCOUNT = 512  # then its own oldest goes: nobody who says much has others write twice
_FOR = 15 * 60.0  # seconds, longer than anybody tries again


class KeyReused(WebError):
    """This key stood for something else."""

    def __init__(self) -> None:
        super().__init__(422, "key_reused", "this key was used for another message: each has a key of its own")


@dataclass(frozen=True, slots=True)
class _CachedRequest:
    """What was asked for with a key, when, and what became of it."""

    at: float
    what: object
    made: asyncio.Future[Any]


class IdempotencyCache:
    """What was asked for with a key, by account and key."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, OrderedDict[str, _CachedRequest]] = OrderedDict()  # by account, latest last
        self._count = 0

    async def run_detached(self, account: str, key: str, what: object, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` makes, or made when it was asked for with this key; "" is no key.

        Who is cancelled goes away alone: what was begun goes on, for what was written stays, and is the answer of
        all who ask with this key.

        Args:
            what: Compared with what it was before.
        Raises:
            OtherRequest: That was something else. And as `make`, also for who asked meanwhile: what failed may be
                tried again.
        """
        doing = self.run(account, key, what, make)
        if not key:
            return await doing
        task = asyncio.ensure_future(doing)
        task.add_done_callback(_hear)
        await asyncio.wait([task])  # which cancels nothing
        return task.result()

    async def run(self, account: str, key: str, what: object, make: Callable[[], Awaitable[T]]) -> T:
        """As do, begun before this returns to the loop, so in the order of the calls; for tasks that nobody cancels.

        Raises:
            PeerClosed: The task that had begun it was cancelled all the same, as all are when the gateway stops.
        """
        if not key:
            return await make()
        asked = self._asked_by(account)
        known = asked.get(key)
        if known is not None:
            if known.what != what:
                raise KeyReused
            made: T = await asyncio.shield(known.made)
            return made
        here = asked[key] = _CachedRequest(self._clock(), what, asyncio.get_running_loop().create_future())
        self._count += 1
        self._make_room(asked)
        try:
            made = await make()
        except BaseException as error:  # cancelled as well: who waits for the same must not wait for ever
            if asked.get(key) is here:
                del asked[key]
                self._count -= 1
            _fail(here.made, error)
            raise
        here.made.set_result(made)
        return made

    def _asked_by(self, account: str) -> OrderedDict[str, _CachedRequest]:
        """Return what an account has asked for lately."""
        asked = self._of.setdefault(account, OrderedDict())
        self._of.move_to_end(account)
        until = self._clock() - _FOR
        while asked and next(iter(asked.values())).at < until:
            asked.popitem(last=False)
            self._count -= 1
        return asked

    def _make_room(self, asked: OrderedDict[str, _CachedRequest]) -> None:
        if len(asked) > _MOST_OF_ACCOUNT:
            asked.popitem(last=False)
            self._count -= 1
        while self._count > _MOST and len(self._of) > 1:
            others = self._of.popitem(last=False)[1]
            self._count -= len(others)
            others.clear()


def _fail(made: asyncio.Future[Any], error: BaseException) -> None:
    """Whoever waits for the same hears the same; but nobody else has cancelled them."""
    made.set_exception(error if isinstance(error, Exception) else PeerClosed("this gateway is stopping: try again"))
    made.exception()  # seen: it need not be that anybody waits


def _hear(task: asyncio.Task[Any]) -> None:
    """What failed when who asked has gone is no error of the loop's."""
    if not task.cancelled():
        task.exception()
