"""Flag: asyncio.Event for what there are thousands of. An Event has a queue of its own, 760 bytes, also while nobody
waits for it; a socket has four."""

from __future__ import annotations

import asyncio


class Flag:
    """Up or down, and somebody may wait until it is up."""

    __slots__ = ("_up", "_waiting")

    def __init__(self, *, up: bool = False) -> None:
        self._up = up
        self._waiting: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._up

    def set(self) -> None:
        """Put it up: who waits goes on."""
        self._up = True
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        self._up = False

    async def wait(self) -> None:
        """Return when it is up; also when it is down again by then."""
        if self._up:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = [*(one for one in self._waiting or () if not one.done()), future]
        await future
