"""Events: the iterator that programs hold. What comes, and what counts as taken, its reader knows (subscription.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from p2pchat.messaging.subscription import AnyEvent, Reader

T = TypeVar("T")


class Events(AsyncIterator[T], Generic[T]):
    """An iterator over events. Cancelling a wait loses nothing; asking for the next acknowledges the one before."""

    def __init__(
        self, reader: Reader, passed_over: Callable[[Any], bool] | None = None, consumer: str | None = None
    ) -> None:
        self._reader = reader  # a reader lives as long as its Events: whoever drops these reads no more
        self._passed_over = passed_over
        self._name = consumer

    @property
    def consumer(self) -> str | None:
        """The name under which the cursor is kept; None when nobody remembers the place, or no messages are read."""
        return None if self._reader.consumer is None else self._name

    def __aiter__(self) -> Events[T]:
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        """Return the next event; acknowledges the one before."""
        return self._reader.next() if self._passed_over is None else self._next_shown()

    async def _next_shown(self) -> Any:
        assert self._passed_over is not None
        while self._passed_over(event := await self._reader.next()):
            pass
        return event

    async def ack(self) -> None:
        """Acknowledge what was handed out last; it is on disk when this returns. Nothing to do: returns at once.

        Raises:
            StorageError: It could not be written.
            PeerClosed: The peer was closed.
        """
        await self._reader.ack()

    def hold(self) -> None:
        """Acknowledge nothing any more: what was handed out last and all behind it come again, to whoever is next."""
        self._reader.hold()

    async def aclose(self) -> None:
        """Read no more and free the consumer's name. What was not acknowledged comes again next time."""
        self._reader.close()

    def close(self) -> None:
        """As aclose, without await."""
        self._reader.close()

    async def __aenter__(self) -> Events[T]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.close()

    def __repr__(self) -> str:
        return f"<Events of {self.consumer!a} at place {self._reader.place}>"


def matches(types: tuple[type, ...], where: Callable[[Any], bool] | None, event: AnyEvent) -> bool:
    """Whether an event is one that somebody waits for."""
    return (not types or isinstance(event, types)) and (where is None or where(event))
