"""The thread of the store of content, and pieces on their way to links.

Hashing, reading and writing of pieces all happen in this thread, one job after the other; results return to the loop.
A peer without a data directory has the same thread and a store in memory.

Pieces for a link are read one at a time, and only while few bytes wait to be written to it. So a link has at most a
piece or two of unsent bytes before a text that is written next, and memory is bounded however slowly it reads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from p2pchat.config import Settings
from p2pchat.core.attachments import PIECE_BYTES
from p2pchat.core.effects import (
    ContentArrived,
    ContentProgress,
    ContentStopped,
    GivePieces,
    OpenContent,
    StoreLeaves,
    StorePieces,
)
from p2pchat.core.inputs import (
    ContentFailed,
    ContentGivenUp,
    ContentOpened,
    ContentWanted,
    Input,
    LeavesStored,
    PiecesStored,
    PullAnswered,
)
from p2pchat.core.log import FileRef, LogId
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import Lacks, Piece, encode, encode_piece
from p2pchat.runtime.storage_worker import LoopWaker
from p2pchat.storage.content import ContentStore, Disk, Memory

T = TypeVar("T")
Done = Callable[[T | None, BaseException | None], None]  # called in the loop with the result or the error
Progress = Callable[[int, int], object]  # called with the bytes that are here, and those of the whole
MAX_UNSENT_BYTES = 256 * 1024  # of a link that gets pieces: texts wait behind no more, besides what the system took
RETRY_AFTER = 0.002  # seconds until a link with more unsent bytes is looked at again; a fifth of the time of a text
MAX_RANGES = 64  # told of what is here of content; a guess


class ContentWorker:
    """The store of one peer, in its thread. The thread begins with the first job.

    Args:
        directory: The directory of content; None for a store in memory.
        put: Called in the loop with inputs for the core.
        buffered: Return the number of unsent bytes of a link.
        send: Write bytes to a link.
    """

    def __init__(
        self,
        directory: Path | None,
        settings: Settings,
        put: Callable[[Input], None],
        buffered: Callable[[int], int],
        send: Callable[[int, bytes], None],
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._memory = Memory(settings.content_memory_bytes) if directory is None else None
        self._put = put
        self._buffered = buffered
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._answers: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._waker: LoopWaker
        self._store: ContentStore | None = None  # used in the thread only
        self._given: dict[int, deque[GivePieces]] = {}  # by link; never empty
        self._reading: set[int] = set()  # links for which a piece is being read
        self._fetching: dict[str, dict[asyncio.Future[None], Progress | None]] = {}  # by root
        self._closed = False

    # ---- jobs

    async def run(self, job: Callable[[ContentStore], T]) -> T:
        """Run something with the store in its thread; return or raise the outcome. Raises PeerClosed after close()."""
        if self._closed:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        self._run_then(job, done)
        return await future

    def run_soon(self, job: Callable[[ContentStore], object]) -> None:
        """Run something with the store, of which nobody hears."""
        self._run_then(job, lambda result, error: None)

    async def read(self, root: str, index: int) -> bytes | None:
        """Return a piece; None if it is not here."""
        return await self.run(lambda store: store.read(root, index))

    def holds(self, root: str, size: int) -> bool:
        """Return whether this content is whole here. It looks at the size of one file, in any thread."""
        if self._memory is not None:
            return self._memory.size(root) == size
        assert self._directory is not None
        with suppress(OSError):
            return (self._directory / root).stat().st_size == size
        return False

    # ---- downloads

    async def fetch(self, log: LogId, seq: int, file: FileRef, progress: Progress | None = None) -> None:
        """Return when this content is whole here. Raises StorageError, PeerClosed.

        Content that nobody waits for any more is not asked for any more.
        """
        if self._closed:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._fetching.setdefault(file.root, {})
        waiting[future] = progress
        if len(waiting) == 1:
            self._put(ContentWanted(log, seq, file))
        try:
            await future
        finally:
            waiting.pop(future, None)
            if not waiting and self._fetching.get(file.root) is waiting and not self._closed:  # it goes on then
                del self._fetching[file.root]
                self._put(ContentGivenUp(file.root))

    def on_progress(self, effect: ContentProgress) -> None:
        for progress in list(self._fetching.get(effect.file.root, {}).values()):
            if progress is not None:
                progress(effect.stored, effect.file.size)

    def on_arrived(self, effect: ContentArrived) -> None:
        for future in self._fetching.pop(effect.file.root, {}):
            if not future.done():
                future.set_result(None)

    def on_stopped(self, effect: ContentStopped) -> None:
        self._fail(self._fetching.pop(effect.root, {}), lambda: StorageError(effect.text))

    def _fail(self, waiting: Iterable[asyncio.Future[None]], make: Callable[[], P2PChatError]) -> None:
        for future in waiting:
            if not future.done():
                future.set_exception(make())

    def _run_then(self, job: Callable[[ContentStore], T], done: Done[T]) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._waker = LoopWaker(self._loop, self._run_answers)
            self._thread = threading.Thread(target=self._run, name="p2pchat content", daemon=True)
            self._thread.start()
        self._jobs.put(partial(self._run_job, job, done))

    def _run(self) -> None:
        """In the thread: run jobs until the end."""
        while (job := self._jobs.get()) is not None:
            job()
        if self._store is not None:
            self._store.close()

    def _run_job(self, job: Callable[[ContentStore], T], done: Done[T]) -> None:
        """In the thread: run one job."""
        try:
            result = job(self._opened())
        except BaseException as error:  # the caller gets it
            self._answers.append(partial(done, None, error))
        else:
            self._answers.append(partial(done, result, None))
        self._waker.wake()

    def _opened(self) -> ContentStore:
        """In the thread: return the store, opened when it is first used."""
        if self._store is None:
            least = self._settings.min_free_disk_bytes
            self._store = ContentStore(self._memory or Disk(self._directory, least))  # type: ignore[arg-type]
        return self._store

    def _run_answers(self) -> None:
        while self._answers:
            self._answers.popleft()()

    async def close(self) -> None:
        """End the thread when its present jobs are done."""
        self._closed = True
        self._given.clear()
        for waiting in list(self._fetching.values()):
            self._fail(waiting, lambda: PeerClosed("the peer was closed"))
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join, self._settings.bye_timeout)
            self._waker.close()

    # ---- orders of the core

    def open(self, effect: OpenContent) -> None:
        """Find out what is here of some content."""
        root, size = effect.root, effect.size
        self._order(root, lambda store: ContentOpened(root, store.missing(root, size)))

    def store_leaves(self, effect: StoreLeaves) -> None:
        """Judge and keep a list of leaves."""
        root, size, leaves = effect.root, effect.size, effect.leaves

        def store(store: ContentStore) -> Input:
            right = store.begin(root, size, leaves)
            return LeavesStored(effect.link, root, right, (store.missing(root, size) or ()) if right else ())

        self._order(root, store)

    def store_pieces(self, effect: StorePieces) -> None:
        """Judge and keep pieces."""

        def store(store: ContentStore) -> Input:
            right = store.add(effect.root, effect.size, effect.pieces)
            wrong = [index for index, _ in effect.pieces if index not in right]
            return PiecesStored(effect.link, effect.root, right, wrong)

        self._order(effect.root, store)

    def _order(self, root: str, job: Callable[[ContentStore], Input]) -> None:
        def done(input: Input | None, error: BaseException | None) -> None:
            if input is not None:
                self._put(input)
            elif isinstance(error, P2PChatError):  # the disk is full, or cannot be used
                self._put(ContentFailed(root, str(error)))
            else:
                self._loop.call_exception_handler(
                    {"message": "p2pchat: the store of content failed", "exception": error}
                )
                self._put(ContentFailed(root, "p2pchat has failed inside: restart it, and report it"))

        self._run_then(job, done)

    # ---- giving

    def give(self, effect: GivePieces) -> None:
        """Answer a pull when it is its turn: those of one link one after the other."""
        self._given.setdefault(effect.link, deque()).append(effect)
        self._give_next(effect.link)

    def on_link_down(self, link: int) -> None:
        """Forget the pulls of a link that ended."""
        self._given.pop(link, None)

    def _give_next(self, link: int) -> None:
        waiting = self._given.get(link)
        if waiting is None or link in self._reading:
            return
        self._reading.add(link)
        if self._buffered(link) > MAX_UNSENT_BYTES:
            self._loop.call_later(RETRY_AFTER, self._resume, link)
            return
        pull = waiting[0]

        def read(store: ContentStore) -> tuple[bytes | None, bool, list[tuple[int, int]]]:
            """Return a piece, whether it is the last one, and what is here if it is not."""
            if pull.count:
                found, is_last = store.read(pull.root, pull.first), pull.count == 1
            else:
                leaves, start = store.leaves(pull.root), pull.first * PIECE_BYTES
                found = None if leaves is None or start >= len(leaves) else leaves[start : start + PIECE_BYTES]
                is_last = leaves is not None and start + PIECE_BYTES >= len(leaves)
            return found, is_last, [] if found is not None else store.held(pull.root, MAX_RANGES)

        self._run_then(read, partial(self._on_read, link, pull))

    def _resume(self, link: int) -> None:
        self._reading.discard(link)
        self._give_next(link)

    def _on_read(
        self,
        link: int,
        pull: GivePieces,
        read: tuple[bytes | None, bool, list[tuple[int, int]]] | None,
        error: BaseException | None,
    ) -> None:
        self._reading.discard(link)
        waiting = self._given.get(link)
        if waiting is None or waiting[0] is not pull:  # the link ended
            self._give_next(link)
            return
        waiting.popleft()
        found, is_last, held = read or (None, False, [])  # what cannot be read is not here
        if found is None:
            self._send(link, encode(Lacks(pull.n, held)))
        else:
            self._send(link, encode_piece(Piece(pull.n, pull.first, found)))
        if found is None or is_last:
            self._put(PullAnswered(link, pull.n))
        else:
            waiting.appendleft(GivePieces(link, pull.n, pull.root, pull.first + 1, max(0, pull.count - 1)))
        if not waiting:
            del self._given[link]
        self._give_next(link)
