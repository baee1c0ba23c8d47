"""What programs ask of the core that is answered once, by Kept or Refused, and is no text: groups made and changed.

Their tickets are negative, so that they are never those of what is said. Each call has a future of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat.core.effects import Kept, Refused
from p2pchat.core.inputs import Input
from p2pchat.errors import P2PChatError, StorageError
from p2pchat.protocol import ConversationId
from p2pchat.runtime.saying import STORAGE_CODES

Asking = asyncio.Future[ConversationId]  # resolves to the conversation the answer is written in
Make = Callable[[int], Input]


class Asked:
    """Questions under way."""

    def __init__(self) -> None:
        self._waiting: dict[int, Asking] = {}
        self._tickets = 0

    def add(self, future: Asking, make: Make) -> Input:
        """Return what to hand in, made with a ticket of its own; the future gets the answer."""
        self._tickets -= 1
        self._waiting[self._tickets] = future
        return make(self._tickets)

    def kept(self, effect: Kept) -> bool:
        """It is durable: tell who waits. False when nothing of here has that ticket."""
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            future.set_result(effect.log.conversation)
        return future is not None

    def refused(self, effect: Refused) -> bool:
        """It was not done: tell who waits. False when nothing of here has that ticket."""
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            kind = StorageError if effect.code in STORAGE_CODES else P2PChatError
            future.set_exception(kind(effect.text))
        return future is not None

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing more is answered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error())
