"""The content store of a running peer: orders of the core, the thread that runs its jobs, and what programs ask of it.

Pieces for a link are read one at a time, small files up to as many bytes, and only while few bytes wait to be written
to it. So a link has at most a piece or two of unsent bytes before a text that is written next, and memory is bounded
however slowly it reads. Jobs that wait together are run together, and what they keep becomes durable at once
(ContentStore.commit). Nobody hears of it before.

`ContentOrders` has no thread, clock or loop: p2pchat.testing runs its jobs in virtual time. `ContentWorker` hashes,
reads and writes pieces in a thread, one job after the other; results return to the loop. The thread takes all jobs that
wait, and syncs the small files that they wrote together. A peer without a data directory has the same thread, and a
store in memory.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from p2pchat.core.content.pieces import PIECE_BYTES, piece_size
from p2pchat.core.effects import (
    ContentArrived,
    ContentOrder,
    ContentProgress,
    ContentStopped,
    FindHeld,
    GivePieces,
    OpenContent,
    OrderContent,
    StorePieces,
)
from p2pchat.core.inputs import (
    ContentAnswer,
    ContentAnswered,
    ContentFailed,
    ContentGivenUp,
    ContentKept,
    ContentOpened,
    ContentWanted,
    HeldFound,
    Input,
    LeavesStored,
    PiecesStored,
    PullAnswered,
)
from p2pchat.core.log import FileRef, LogId
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import Lacks, Piece, encode, encode_piece
from p2pchat.runtime.storage_worker import LoopWaker, resolve
from p2pchat.settings import CONTENT_FACTOR, Settings
from p2pchat.storage.content_store import SWEEP_NAME, ContentStore, DiskFiles, MemoryFiles
from p2pchat.threads import in_thread

T = TypeVar("T")
Job = Callable[[ContentStore], T]
Answer = Callable[[], None]  # runs in the loop
_Read = tuple[bytes | None, bool, list[tuple[int, int]]]  # a piece, whether it is the last one; without it what is here
_UNREAD: _Read = (None, False, [])  # what cannot be read is not here
Done = Callable[[T | None, BaseException | None], None]  # called with the result or the error
MEMORY_BYTES = 64 << 20  # of files, in a peer without a data directory; a guess
MAX_RANGES = 64  # of the pieces that are here, in one `lacks`; a guess
MAX_JOBS = 128  # run before a commit; a guess
GATHER_SECONDS = 0.0005  # for which answers of jobs behind each other wait for one turn of the loop; a guess
# Files from which on a commit comes next. So many, and those of one job, are open at once, beside the links. A guess.
MAX_WRITTEN = 128
Progress = Callable[[int, int], object]  # called with the number of bytes that are here, and of all bytes


class ContentOrders:
    """Carries out the core's orders about content.

    Args:
        put: Called with inputs for the core.
        has_room: Return whether a link takes another piece; on_drained() tells when one does again.
        send: Write bytes to a link.
    """

    def __init__(
        self, put: Callable[[Input], None], has_room: Callable[[int], bool], send: Callable[[int, bytes], None]
    ) -> None:  # fmt: skip
        self._put = put
        self._max_ranges = MAX_RANGES
        self._has_room = has_room
        self._send = send
        self._given: dict[int, deque[GivePieces]] = {}  # by link; never empty
        self._reading: set[int] = set()  # links for which a piece is being read
        self._full: set[int] = set()  # links that have too many unsent bytes for another one
        self._answers: deque[Answer] = deque()  # to run in the loop
        self._told: list[ContentAnswer] = []  # by the answers that run now

    def _run_then(self, job: Job[T], done: Done[T]) -> None:
        """Run a job with the store, after the jobs before it; then call `done`."""
        raise NotImplementedError

    def _on_defect(self, error: BaseException | None) -> None:
        """Take an error of the store that is a defect of p2pchat."""
        raise NotImplementedError

    def _run_jobs(
        self, store: ContentStore, jobs: Iterable[tuple[Job[Any], Done[Any]]], answer: Callable[[Answer], None]
    ) -> list[tuple[Done[Any], Any]]:
        """Run jobs with the store. Answer those that wait for no commit, and return the others with their results."""
        waiting: list[tuple[Done[Any], Any]] = []
        for job, done in jobs:
            store.awaits_commit = False
            try:
                result = job(store)
            except BaseException as error:  # the caller gets it
                answer(partial(done, None, error))
                continue
            if store.awaits_commit:
                waiting.append((done, result))
            else:
                answer(partial(done, result, None))
        return waiting

    def _commit_jobs(
        self, store: ContentStore, waiting: Iterable[tuple[Done[Any], Any]], answer: Callable[[Answer], None]
    ) -> None:
        """Make durable what jobs wrote, and answer them."""
        try:
            store.commit()
        except BaseException as error:  # the callers get it
            for done, _ in waiting:
                answer(partial(done, None, error))
        else:
            for done, result in waiting:
                answer(partial(done, result, None))

    def _run_answers(self) -> None:
        """In the loop: run all answers, and tell the core what it hears by them with one input."""
        try:
            while self._answers:
                self._answers.popleft()()
        finally:
            told, self._told = self._told, []
            if told:
                self._put(told[0] if len(told) == 1 else ContentAnswered(told))

    def _tell(self, answer: ContentAnswer) -> None:
        """In an answer: tell the core this, behind what answers before told it."""
        self._told.append(answer)

    # ---- the store

    def order(self, effect: OrderContent) -> None:
        """Carry out orders, one after the other, and answer them together."""
        orders = effect.orders

        def done(answers: Sequence[ContentAnswer | BaseException | None] | None, error: BaseException | None) -> None:
            for order, answer in zip(orders, answers or [error] * len(orders), strict=True):
                if isinstance(answer, P2PChatError):  # the disk is full, or cannot be used
                    self._tell(ContentFailed(order.root, str(answer)))
                elif answer is None or isinstance(answer, BaseException):
                    self._on_defect(answer)
                    self._tell(ContentFailed(order.root, "p2pchat has failed inside: restart it, and report it"))
                else:
                    self._tell(answer)

        self._run_then(lambda store: [_carry_out(order, store) for order in orders], done)

    def find(self, effect: FindHeld) -> None:
        """Find out which contents are whole."""

        def done(held: frozenset[str] | None, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, P2PChatError):
                self._on_defect(error)
            self._tell(HeldFound(effect.ticket, held or frozenset()))  # what cannot be read is not here

        self._run_then(lambda store: frozenset(filter(store.has_whole, effect.roots)), done)

    # ---- giving

    def give(self, effect: GivePieces) -> None:
        """Answer a pull in its turn. The pulls of one link are answered one after the other."""
        self._given.setdefault(effect.link, deque()).append(effect)
        self._give_next(effect.link)

    def on_link_down(self, link: int) -> None:
        """Forget the pulls of a link that ended."""
        self._given.pop(link, None)
        self._full.discard(link)

    def on_drained(self, link: int) -> None:
        """Go on with a link that has room again."""
        if link in self._full:
            self._full.remove(link)
            self._give_next(link)

    def _give_next(self, link: int) -> None:
        waiting = self._given.get(link)
        if waiting is None or link in self._reading or link in self._full:
            return
        if not self._has_room(link):
            self._full.add(link)
            return
        self._reading.add(link)
        pulls = _first_of(waiting)

        def read(store: ContentStore) -> list[_Read]:
            return [self._read(store, pull) for pull in pulls]

        self._run_then(read, partial(self._on_read, link, pulls))

    def _read(self, store: ContentStore, pull: GivePieces) -> _Read:
        """In the thread: read the next piece of a pull."""
        if not store.has_size(pull.root, pull.size):
            return None, False, []
        if pull.count:
            found, is_last = store.read(pull.root, pull.first), pull.count == 1
        else:
            leaves, start = store.leaves(pull.root), pull.first * PIECE_BYTES
            found = None if leaves is None or start >= len(leaves) else leaves[start : start + PIECE_BYTES]
            is_last = leaves is not None and start + PIECE_BYTES >= len(leaves)
        return found, is_last, [] if found is not None else store.held(pull.root, self._max_ranges)

    def _on_read(
        self, link: int, pulls: list[GivePieces], reads: list[_Read] | None, error: BaseException | None
    ) -> None:  # fmt: skip
        self._reading.discard(link)
        waiting = self._given.get(link)
        if waiting is None or waiting[0] is not pulls[0]:  # the link ended
            self._give_next(link)
            return
        frames: list[bytes] = []
        for pull, (found, is_last, held) in zip(pulls, reads or [_UNREAD] * len(pulls), strict=True):
            waiting.popleft()
            frames.append(
                encode(Lacks(pull.n, held)) if found is None else encode_piece(Piece(pull.n, pull.first, found))
            )
            if found is None or is_last:
                self._tell(PullAnswered(link, pull.n))
            else:
                rest = GivePieces(link, pull.n, pull.root, pull.size, pull.first + 1, max(0, pull.count - 1))
                waiting.appendleft(rest)
        self._send(link, frames[0] if len(frames) == 1 else b"".join(frames))
        if not waiting:
            del self._given[link]
        self._give_next(link)


def _carry_out(order: ContentOrder, store: ContentStore) -> ContentAnswer | BaseException:
    """In the thread: carry out an order. Return the answer, or the error."""
    root, size = order.root, order.size
    try:
        if isinstance(order, OpenContent):
            return ContentOpened(root, store.missing(root, size))
        if isinstance(order, StorePieces):
            right = store.add(root, size, order.pieces)
            return PiecesStored(order.link, root, right, [index for index, _ in order.pieces if index not in right])
        is_right = store.begin(root, size, order.leaves)
        return LeavesStored(order.link, root, is_right, (store.missing(root, size) or ()) if is_right else ())
    except BaseException as error:  # the orders behind it are carried out
        return error


def _first_of(waiting: Iterable[GivePieces]) -> list[GivePieces]:
    """Return the pulls of which the next pieces are read together: the first, or several with the bytes of a piece."""
    found: list[GivePieces] = []
    left = PIECE_BYTES
    for pull in waiting:
        left -= max(0, piece_size(pull.size, pull.first)) if pull.count == 1 else PIECE_BYTES
        if found and left < 0:
            break
        found.append(pull)
        if left <= 0:
            break
    return found


@dataclass(eq=False, slots=True)
class _Fetch:
    """A call of fetch(). It hears of progress itself: what a program wants to know of it runs in the program's task.

    Attributes:
        stored: Numbers of bytes that it has not been told yet.
        changed: There is one more, or it ended, with an error or None.
    """

    stored: deque[int] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    error: P2PChatError | None = None


class ContentWorker(ContentOrders):
    """The store of one peer, in its thread. The thread begins with the first job.

    Args:
        directory: The directory of content; None for a store in memory.
        put: Called in the loop with inputs for the core.
        has_room: Return whether a link takes another piece; on_drained() tells when one does again.
        send: Write bytes to a link.
    """

    def __init__(
        self,
        directory: Path | None,
        settings: Settings,
        put: Callable[[Input], None],
        has_room: Callable[[int], bool],
        send: Callable[[int, bytes], None],
    ) -> None:
        super().__init__(put, has_room, send)
        self._directory = directory
        self._settings = settings
        self._memory = MemoryFiles(MEMORY_BYTES) if directory is None else None
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Job[Any], Done[Any]] | None] = SimpleQueue()
        self._ended = False  # used in the thread only: it was told to end
        self._woken_at = 0.0  # used in the thread only: when the loop was woken last
        self._thread: threading.Thread | None = None
        self._waker: LoopWaker
        self._store: ContentStore | None = None  # used in the thread only
        self._fetching: dict[str, set[_Fetch]] = {}  # by root
        self._held: Counter[str] = Counter()  # content that may not go, by root
        self._doomed: set[str] = set()  # held content that goes once nobody holds it
        self._skipped: set[str] = set()  # held content that a sweep would have looked at
        self.forget: Callable[[str], Awaitable[None]]  # removes content, as ContentRemover.forget
        self.is_forgotten: Callable[[str], bool] = lambda root: False
        self.on_unneeded: Callable[[], None] = lambda: None  # called when there may be content that nobody needs
        self._closed = False

    # ---- jobs

    async def run(self, job: Job[T]) -> T:
        """Run a job with the store in its thread; return or raise its outcome. Raises PeerClosed after close()."""
        if self._closed:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._run_then(job, partial(resolve, future))
        return await future

    def run_soon(self, job: Callable[[ContentStore], object]) -> None:
        """Run a job with the store, without its result."""
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

    # ---- what may go

    def expect_sweep(self) -> None:
        """Note on the disk that a sweep is due, for the next process if this one is killed before. One empty file."""
        if self._directory is not None and self._memory is None:
            with suppress(OSError):  # a full disk: then what goes stays for a week after a kill
                (self._directory / SWEEP_NAME).touch()

    @contextmanager
    def held(self, *roots: str, kept: bool = False) -> Iterator[None]:
        """Keep contents from being removed while they are read, or until the message that names them is stored.

        Args:
            kept: They were kept just now, so an order to delete them that still waits for a reader does not count.
        """
        self._held.update(roots)
        if kept:
            self._doomed.difference_update(roots)
            self._put(ContentAnswered([ContentKept(root) for root in roots]))
        try:
            yield
        finally:
            for root in roots:
                self._let_go(root)

    def _let_go(self, root: str) -> None:
        self._held[root] -= 1
        if not self._held[root]:
            del self._held[root]
            if root in self._doomed:
                self._doomed.discard(root)
                self._run_then(lambda store: store.delete(root), lambda result, error: self._tell(ContentKept(root)))
            if root in self._skipped:
                self._skipped.discard(root)
                self.on_unneeded()

    def hold(self, root: str) -> Callable[[], None]:
        """Keep content that was kept just now from being removed, until the function is called, in any thread."""
        holds = ExitStack()
        holds.enter_context(self.held(root, kept=True))

        def release() -> None:
            holds.close()
            self.on_unneeded()

        def release_soon() -> None:
            with suppress(RuntimeError):  # the loop is closed, and the next start removes what no message names
                self._loop.call_soon_threadsafe(release)

        return release_soon

    def without_held(self, roots: Iterable[str]) -> list[str]:
        """Return those that nobody holds. Of the others on_unneeded() tells once nobody does."""
        asked = list(roots)
        self._skipped.update(root for root in asked if root in self._held)
        return [root for root in asked if root not in self._held]

    def is_empty(self) -> bool:
        """Return whether there is no content, and no program waits for any. It looks into a directory."""
        if self._fetching:
            return False
        if self._memory is not None:
            return not self._memory.names()
        assert self._directory is not None
        with suppress(OSError), os.scandir(self._directory) as found:
            return next(found, None) is None
        return True

    def fetching(self) -> list[str]:
        """Return the roots of content that programs wait for."""
        return list(self._fetching)

    async def delete(self, roots: Iterable[str]) -> None:
        """Delete content; what somebody holds goes once nobody does. Raises as run()."""
        asked = list(roots)
        self._doomed.update(root for root in asked if root in self._held)
        left = [root for root in asked if root not in self._held]

        def delete(store: ContentStore) -> None:
            for root in left:
                store.delete(root)

        await self.run(delete)
        for root in left:
            self._put(ContentKept(root))  # its removal is over

    # ---- downloads

    async def fetch(self, log: LogId, seq: int, file: FileRef, progress: Progress | None = None) -> None:
        """Return when this content is whole here. Raises StorageError, PeerClosed, and what `progress` raises.

        Once the last caller stops waiting, the content is no longer asked for.
        """
        if self._closed:
            raise PeerClosed("the peer was closed")
        was_doomed = file.root in self._doomed
        self._doomed.discard(file.root)
        if self.holds(file.root, file.size):  # maybe imported, of which a download that waits does not know
            if was_doomed:
                self._put(ContentKept(file.root))
            return
        fetch = _Fetch()
        waiting = self._fetching.setdefault(file.root, set())
        waiting.add(fetch)
        if len(waiting) == 1:
            self._put(ContentWanted(log, seq, file))
        try:
            while not fetch.ended or fetch.stored:
                await fetch.changed.wait()
                fetch.changed.clear()
                while fetch.stored:
                    stored = fetch.stored.popleft()
                    if progress is not None:
                        progress(stored, file.size)
            if fetch.error is not None:
                raise fetch.error
        finally:
            waiting.discard(fetch)
            if not waiting and self._fetching.get(file.root) is waiting and not self._closed:  # it goes on then
                del self._fetching[file.root]
                self._put(ContentGivenUp(file.root))

    def on_progress(self, effect: ContentProgress) -> None:
        for fetch in self._fetching.get(effect.file.root, ()):
            fetch.stored.append(effect.stored)
            fetch.changed.set()

    def on_arrived(self, effect: ContentArrived) -> None:
        self._end(self._fetching.pop(effect.file.root, ()))

    def on_imported(self, root: str) -> None:
        """End all waiting for content that became whole in another way than over links."""
        if not self._closed:
            self._put(ContentKept(root))
        waiting = self._fetching.pop(root, set())
        self._end(waiting)
        if waiting and not self._closed:
            self._put(ContentGivenUp(root))

    def on_stopped(self, effect: ContentStopped) -> None:
        self._end(self._fetching.pop(effect.root, ()), lambda: StorageError(effect.text))

    def _end(self, waiting: Iterable[_Fetch], make: Callable[[], P2PChatError] | None = None) -> None:
        for fetch in waiting:
            fetch.ended, fetch.error = True, None if make is None else make()
            fetch.changed.set()

    def _run_then(self, job: Job[T], done: Done[T]) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._waker = LoopWaker(self._loop, self._run_answers)
            self._thread = threading.Thread(target=self._run, name="p2pchat content", daemon=True)
            self._thread.start()
        self._jobs.put((job, done))

    def _run(self) -> None:
        """In the thread: run jobs until the end."""
        job = self._jobs.get()
        while job is not None:
            self._run_together(job)
            job = self._jobs.get() if not self._ended else None
        if self._store is not None:
            self._store.close()

    def _jobs_from(
        self, job: tuple[Job[Any], Done[Any]], store: ContentStore
    ) -> Iterator[tuple[Job[Any], Done[Any]]]:  # fmt: skip
        """In the thread: return this job, and those that wait once it was run, and so on."""
        yield job
        for _ in range(MAX_JOBS - 1):
            if self._jobs.empty() or store.written >= MAX_WRITTEN:
                return
            next_job = self._jobs.get_nowait()
            if next_job is None:
                self._ended = True
                return
            yield next_job

    def _run_together(self, job: tuple[Job[Any], Done[Any]]) -> None:
        """In the thread: run a job and those behind it, and commit what they wrote."""
        try:
            store = self._opened()
        except BaseException as error:  # the callers get it
            self._answer(partial(job[1], None, error))
            self._wake()
            return
        waiting = self._run_jobs(store, self._jobs_from(job, store), self._answer)
        if waiting or store.written:  # also what a job wrote before it failed
            self._wake()
            self._commit_jobs(store, waiting, self._answer)
        self._wake()

    def _answer(self, answer: Answer) -> None:
        """In the thread: have this run in the loop, in one turn with what follows at once."""
        self._answers.append(answer)
        if time.monotonic() >= self._woken_at + GATHER_SECONDS:
            self._wake()

    def _wake(self) -> None:
        """In the thread: have all answers run in the loop."""
        if self._answers:
            self._woken_at = time.monotonic()
            self._waker.wake()

    def _opened(self) -> ContentStore:
        """In the thread: return the store, opened when it is first used."""
        if self._store is None:
            least = CONTENT_FACTOR * self._settings.min_free_disk_bytes
            self._store = ContentStore(self._memory or DiskFiles(self._directory, least))  # type: ignore[arg-type]
        return self._store

    def _on_defect(self, error: BaseException | None) -> None:
        self._loop.call_exception_handler({"message": "p2pchat: the store of content failed", "exception": error})

    async def close(self) -> None:
        """End the thread when its present jobs are done."""
        self._closed = True
        self._given.clear()
        fetching, self._fetching = self._fetching, {}
        for waiting in fetching.values():
            self._end(waiting, lambda: PeerClosed("the peer was closed"))
        if self._thread is not None:
            self._jobs.put(None)
            await in_thread(self._thread.join, self._settings.bye_timeout)
            self._waker.close()
