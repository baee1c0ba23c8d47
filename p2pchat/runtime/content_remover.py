"""Removal of content that no message names any more, or that a program forgets.

A sweep compares what the store has with the messages that are stored (SqlStorage.referring). There is one at the start,
which finds what a killed process left behind, and one soon after each commit that may have taken a reference away: a
deletion, or an edit. The cost of a sweep grows with the store, so the next one waits many times as long as the last one
took.

A database that was restored from a backup lacks newer messages until other peers bring them. So the sweep at the start
keeps content that is not old, although no message names it: KEPT_FOR. But a sweep that a killed process had to do is
done, and noted before the commit that needs it: content of deleted messages does not stay because of a kill.

Between a look and the removal somebody may need the content again. Content of a message that is being sent is held from
the moment it is kept until the message is durable, and what is saved or handed out is held while it is read. The store
itself notes what was kept or asked for since the sweep began. So nothing goes that was named or wanted meanwhile.

The core hears of each content before it goes: a download of it ends, and its writer's quota gets the room back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from p2pchat.core.inputs import ContentKept, ContentRemoved, Input
from p2pchat.errors import PeerClosed, StorageError

if TYPE_CHECKING:
    from p2pchat.core.durable_changes import Change
    from p2pchat.runtime.content_worker import ContentWorker
    from p2pchat.runtime.storage_worker import StorageWorker
    from p2pchat.storage.content_store import ContentStore

SWEEP_AFTER = 1.0  # seconds from a deletion to the sweep, which serves all deletions until then
SWEEP_SHARE = 20  # a sweep waits so many times as long as the last one took: it has a twentieth of the time at most
KEPT_FOR = 7 * 24 * 3600.0  # seconds after it was written, for messages that a backup lacks; a guess
RETRY_AFTER = 60.0  # seconds after a sweep that failed; a guess


class ContentRemover:
    """Removes content from the store of one peer.

    Args:
        settle: Returns once what the core was told is durable (Driver.settle).
    Attributes:
        unknown: Content that no message named at the start, and that stays.
    """

    def __init__(
        self,
        content: ContentWorker,
        disk: StorageWorker,
        put: Callable[[Input], None],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._content = content
        self._disk = disk
        self._put = put
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()  # one removal at a time: the store knows one sweep
        self._pause = SWEEP_AFTER
        self._is_first = False  # the next sweep is that of the start
        self.unknown: set[str] = set()
        self._closed = False
        content.on_unneeded = self.sweep_soon
        content.forget = lambda root: self.forget([root])

    def on_commit(self, change: Change) -> None:
        """Note that a sweep is due before this is durable, if it may take a reference away."""
        if _may_unname(change) and not self._content.is_empty():
            self._content.expect_sweep()

    def on_committed(self, change: Change) -> None:
        """Sweep soon if this may have taken a reference away; and note what messages name that came late."""
        for batch in change.batches if self.unknown else ():
            for entry in batch.entries or ():
                self.unknown.difference_update(file.root for file in entry.files)
        if _may_unname(change):
            self.sweep_soon()

    def start(self) -> None:
        """Sweep at once, before a message can be deleted whose content would count as unknown."""
        if not self._content.is_empty():
            self._is_first = True
            self._timer = self._loop.call_soon(self._begin)

    def sweep_soon(self) -> None:
        """Sweep once the pause since the last sweep is over, if there is any content."""
        if self._timer is None and not self._closed and not self._content.is_empty():
            self._content.expect_sweep()
            self._timer = self._loop.call_later(self._pause, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = self._loop.create_task(self._sweep_in_background())

    async def _sweep_in_background(self) -> None:
        try:
            await self.sweep()
        except PeerClosed:
            pass
        except StorageError:  # a file that another program has open on Windows, or a database that is away
            self._pause = RETRY_AFTER
            self.sweep_soon()
        except Exception as error:  # a defect: reported to the handler of the loop, since no caller waits
            self._loop.call_exception_handler({"message": "p2pchat: removing files failed", "exception": error})

    async def sweep(self) -> int:
        """Remove what no message names; return how many contents went. Raises StorageError, PeerClosed."""
        if self._closed or self._content.is_empty():
            return 0
        async with self._lock:
            begun = self._loop.time()
            stored = await self._content.run(lambda store: store.begin_sweep())
            # First: the message of what is held now may be stored while storage is asked.
            roots = self._content.without_held([*stored, *self._content.fetching()])
            await self._settle()
            storage = self._disk.storage
            named = await self._disk.read(lambda: storage.referring(roots))
            unnamed = [root for root in roots if root not in named]
            if self._is_first:
                self._is_first = False
                self.unknown = await self._content.run(lambda store: _unknown(store, unnamed))
            self.unknown.difference_update(named)
            unnamed = [root for root in unnamed if root not in self.unknown]
            await self._tell(unnamed)
            left, is_last = self._content.without_held(unnamed), self._timer is None
            gone = await self._content.run(lambda store: store.sweep(left, is_last=is_last))
            for root in unnamed:
                self._put(ContentKept(root))  # its removal is over, or was none: somebody needs it again
            self._pause = max(SWEEP_AFTER, SWEEP_SHARE * (self._loop.time() - begun))
            return len(gone)

    async def forget(self, roots: Collection[str]) -> None:
        """Remove content although messages name it; it does not come by itself again. Raises StorageError, PeerClosed.

        What is being sent or read goes right after that. A full disk is no obstacle.
        """
        async with self._lock:
            try:
                await self._settle()
                await self._tell(roots, forgotten=True)
            except StorageError:  # a full disk is no obstacle
                for root in roots:
                    self._put(ContentRemoved(root, forgotten=True))
            await self._content.delete(roots)

    async def _tell(self, roots: Iterable[str], *, forgotten: bool = False) -> None:
        """Have the core end downloads of these, and give room back."""
        told = list(roots)
        for root in told:
            self._put(ContentRemoved(root, forgotten))
        if told:
            await self._settle()  # a kill now leaves content that the next sweep finds, and no charge for it

    def close(self) -> None:
        """Sweep no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


def _unknown(store: ContentStore, roots: Collection[str]) -> set[str]:
    """Return which of these stay although no message names them."""
    return set() if store.is_sweep_due() else store.younger(roots, KEPT_FOR)


_aspect_of = attrgetter("aspect")


def _may_unname(change: Change) -> bool:
    """Return whether a message that names content may be gone once this is durable."""
    return bool(change.pruned or "text" in map(_aspect_of, change.relations))
