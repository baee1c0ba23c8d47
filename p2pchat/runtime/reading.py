"""What the core asks of storage, read in the reader thread: what comes of it is an input, however often it takes.

Whole pages of entries come by way of fetching.py, which knows when a link has room for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat.config import Settings
from p2pchat.core.effects import Effect, Fetch, Lookup
from p2pchat.core.inputs import Fetched, Found, Input
from p2pchat.core.node import Node
from p2pchat.errors import StorageError
from p2pchat.runtime.rereading import Rereading
from p2pchat.runtime.storage_worker import Disk

Read = Callable[[], Found | Fetched]


class Reading:
    """Reads for one core.

    Args:
        put: Takes the answers.
        tell: Takes what people are told.
        broke: Is told of a defect: an error that no storage may raise.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        put: Callable[[Input], None],
        tell: Callable[[Effect], None],
        broke: Callable[[BaseException], None],
    ) -> None:
        self.disk: Disk  # given by the owner's start()
        self._node = node
        self._settings = settings
        self._put = put
        self._broke = broke
        self._loop = asyncio.get_running_loop()
        self._rereading = Rereading(tell, lambda: not node.keeping)
        self._stopped = False

    def look_up(self, effect: Lookup) -> None:
        """Find logs, and what else is asked of older ones."""
        storage = self.disk.storage
        self._read(
            effect,
            lambda: Found(
                effect.ticket,
                *storage.lookup(effect.logs, effect.older),
                {whose: storage.size_bytes(*whose) for whose in effect.sizes},
                {key: storage.shown_by(key) for key in effect.shown},
                {whose: storage.logs_of(*whose) for whose in effect.of},
            ),
        )

    def fetch(self, effect: Fetch) -> None:
        """Read a page of what a link lacks."""
        storage, most = self.disk.storage, self._settings.fetch_batches
        whose = effect.conversation, effect.user
        self._read(
            effect,
            lambda: Fetched(effect.link, effect.ticket, *storage.fetch(*whose, effect.start, batches=most)),
        )

    def stop(self) -> None:
        """Try nothing any more that has failed."""
        self._stopped = True
        self._rereading.stop()

    def _read(self, effect: Lookup | Fetch, read: Read) -> None:
        self.disk.read_then(
            read, lambda answer: self._answered(effect, answer), lambda error: self._failed(error, effect, read)
        )

    def _answered(self, effect: Lookup | Fetch, answer: Found | Fetched) -> None:
        """Memory answers at once: the link gets what was read before more is, so that a slow one costs no memory."""
        self._rereading.answered(effect)
        if isinstance(answer, Found) or self.disk.storage.durable:
            self._put(answer)
        else:
            self._loop.call_soon(self._put, answer)

    def _failed(self, error: BaseException, effect: Lookup | Fetch, read: Read) -> None:
        """A read failed: the core waits for its answer, so try until it comes."""
        if not isinstance(error, StorageError):
            self._broke(error)
        elif isinstance(effect, Fetch) and effect.link not in self._node.links.up:
            self._rereading.give_up(effect)
            self._put(Fetched(effect.link, effect.ticket, [], None))
        elif not self._stopped:
            self._rereading.failed(error, effect, lambda: self._read(effect, read))
