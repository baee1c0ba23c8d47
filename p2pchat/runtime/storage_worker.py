"""Storage in threads: commits in a writer thread, reads in a reader thread, answers back in the event loop.

The writer takes all commits that wait and makes them one transaction: that is the group commit. A transaction that
fails voids every commit of its epoch, those that wait included, so that nothing is stored on top of what was lost. Free
disk space is checked before a commit, at most once a second, so that the core stops accepting before SQLite fails.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from p2pchat.core.content.file_receipts import MAX_NAMING
from p2pchat.core.durable_changes import Change, DiskLevel, Record, Stored
from p2pchat.core.effects import Commit, Effect, Fetch, Lookup, WarningIssued
from p2pchat.core.inputs import CommitFailed, Committed, DiskLow, FetchResult, Input, Loaded, LookupResult
from p2pchat.core.node import Node
from p2pchat.errors import PeerClosed, StorageError
from p2pchat.protocol import UserId
from p2pchat.settings import OWN_ONLY_FACTOR, Settings
from p2pchat.storage.contract import files_of

if TYPE_CHECKING:
    from p2pchat.storage.sql_storage import SqlStorage

T = TypeVar("T")
_change_of, _ticket_of = attrgetter("change"), attrgetter("ticket")
DISK_CHECK_AFTER = 1.0  # seconds between checks of free disk space
TIDIED_EVERY = 128  # commits of 5 to 7 pages each; SQLite itself tidies up after 1,000 pages
WARM_AFTER = 1.0  # idle seconds until storage is warmed: 25 ms that no start and no commit should wait for; a guess
RELEASED_AFTER = 2.0  # seconds without a commit until storage releases memory; a guess, as the next
RELEASED_ABOVE = 256  # commits since it last did: fewer do not fill what it keeps
RELOAD_AFTER = 1.0  # seconds between attempts to use a storage that failed
MAX_RELOAD_AFTER = 30.0  # the same when it fails again and again, doubled each time
STEADY_AFTER = 60.0  # seconds a storage must work until a failure counts as the first; a guess
EMPTIED_AFTER = 5.0  # seconds between attempts to empty a log that another program reads; a guess
CLOSE_TIMEOUT = 5.0  # seconds to wait for a storage that does not answer; a guess
READ_RETRY_AFTER = 1.0  # seconds until a failed read is tried again
MAX_READ_RETRY_AFTER = 30.0  # the same when it fails again and again, doubled each time


class _Job(Record):
    """Work for a thread, other than a commit. `done` is called in the loop with the result or the error."""

    run: Callable[[], Any]
    done: Callable[[Any, BaseException | None], None]


class StorageWorker:
    """One storage and its threads.

    Args:
        storage: Made and opened by the caller.
        directory: Where free disk space is checked; None for temporary storage.
        put: Called in the event loop with inputs for the core.
        on_answered: Called in the event loop after all answers that the threads gave so far.

    Attributes:
        before_read: Called in memory before a read that a program waits for: what it wrote is to be there.
        on_quiet: Called in the event loop when storage has released memory: it does when nothing was committed for a
            while after many commits, and when it is asked.
    """

    def __init__(
        self,
        storage: SqlStorage,
        settings: Settings,
        directory: Path | None,
        put: Callable[[Input], None],
        on_answered: Callable[[], None] = lambda: None,
    ) -> None:
        self.storage = storage
        self._settings = settings
        self._directory = directory
        self._put = put
        self._on_answered = on_answered
        self.on_quiet: Callable[[], None] = lambda: None
        self.before_read: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._writes: SimpleQueue[Commit | _Job | None] = SimpleQueue()
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._answers: deque[Callable[[], None]] = deque()  # from the threads, to run in the loop
        self._failed_epoch = -1
        self._reloaded_at = float("-inf")
        self._reload_pause = 0.0  # before the last reload
        self._disk_checked_at = float("-inf")
        self._disk = DiskLevel.ENOUGH
        self._again: set[Callable[[], object]] = set()  # what runs again later
        self._warm = False
        self._committed = 0  # since storage last released memory
        self._closed = False
        self._closer: threading.Thread
        self._waker = LoopWaker(self._loop, self._run_answers)
        self._threads = [
            threading.Thread(target=self._run_writer, name="p2pchat writer", daemon=True),
            threading.Thread(target=self._run_reader, name="p2pchat reader", daemon=True),
        ]
        self._check_disk()  # before anything can be accepted
        for thread in self._threads:
            thread.start()

    # In the loop

    def commit(self, commit: Commit) -> None:
        """Make a change durable. The answer is Committed, CommitFailed, or none when its epoch has failed already.

        In memory it is made here: to wake a thread takes longer, and no disk can hang.
        """
        if self.storage.is_volatile:
            if (answer := self._run_commits([commit])) is not None:
                self._put(answer)
        else:
            self._writes.put(commit)

    async def read(self, run: Callable[[], T]) -> T:
        """Run in the reader thread; return or raise the outcome. Raises PeerClosed after close()."""
        if self.storage.is_volatile:
            self.before_read()
        return await self._run_in(self._reads, run)

    async def write(self, change: Change) -> None:
        """Make a change that is not the core's durable, after every commit before it. Raises StorageError."""
        await self._run_in(self._writes, lambda: self.storage.commit([change]))

    def write_then(self, change: Change, done: Callable[[None, BaseException | None], None]) -> None:
        """As write(), then call `done` in the loop with None and the error."""
        self._writes.put(_Job(lambda: self.storage.commit([change]), done))

    async def compact(self, *, all: bool) -> None:
        """Give the room of deleted entries back to the disk, after every commit before. Raises StorageError."""
        await self._run_in(self._writes, partial(self.storage.compact, all=all))

    async def empty_log(self) -> bool:
        """Take deleted texts out of the log of the database too; if another program reads them, soon after that.

        Returns:
            False if that is still to come.
        """
        return await self._run_in(self._writes, self._empty_log)

    def release_memory(self) -> None:
        """Have storage release memory, after every commit before, and call on_quiet then."""

        def done(_: None, error: BaseException | None) -> None:
            if not self._closed:
                self.on_quiet()

        if not self._closed:
            self._writes.put(_Job(self.storage.release_memory, done))

    async def _run_in(self, queue: SimpleQueue[Any], run: Callable[[], T]) -> T:
        if self._closed:
            raise PeerClosed("the peer was closed")
        future: asyncio.Future[T] = self._loop.create_future()
        queue.put(_Job(run, partial(resolve, future)))
        return await future

    def read_then(self, run: Callable[[], T], done: Callable[[T, BaseException | None], None]) -> None:
        """Run in the reader thread, then call `done` in the loop with the result or the error."""
        self._reads.put(_Job(run, done))

    def reload(self, hosted: Sequence[UserId]) -> None:
        """Load the content of storage again as soon as it can be written; the answer is Loaded.

        A storage that soon fails again (a nearly full disk, a lock that comes and goes) is left alone for longer each
        time: with every recovery all links end and start again.
        """
        if self._loop.time() - self._reloaded_at < STEADY_AFTER:
            self._reload_pause = min(max(RELOAD_AFTER, 2 * self._reload_pause), MAX_RELOAD_AFTER)
            self._loop.call_later(self._reload_pause, self._reload, hosted)
        else:
            self._reload_pause = 0.0
            self._reload(hosted)

    def _reload(self, hosted: Sequence[UserId]) -> None:
        def done(stored: Stored, error: BaseException | None) -> None:
            if error is None:
                self._reloaded_at = self._loop.time()
                self._put(Loaded(stored))
            elif not self._closed:
                self._loop.call_later(RELOAD_AFTER, self._reload, hosted)

        def load() -> Stored:
            self.storage.check_writable()
            return self.storage.load(hosted)

        if not self._closed:
            self._writes.put(_Job(load, done))

    async def close(self, wait: bool = True, within: float = CLOSE_TIMEOUT) -> bool:
        """Finish everything requested, then close storage. `wait=False` drops what waits, as a crash would.

        Returns:
            Whether storage is closed. False when it does not answer `within` seconds. It is then closed as soon as it
            answers, and what waited for it may be stored or not. It never keeps the process from ending.
        """
        if self._closed:
            return True
        self._closed = True
        if not wait:
            self._failed_epoch = 1 << 62
        self._writes.put(None)
        self._reads.put(None)
        closed: asyncio.Future[None] = self._loop.create_future()
        self._closer = _start_daemon(lambda: self._close_storage(closed))
        try:
            await asyncio.wait([closed], timeout=within)
        finally:
            self._waker.close()
        if not closed.done():
            return False
        self._closer.join()
        closed.result()
        return True

    def when_closed(self, run: Callable[[], None]) -> None:
        """After a close() that returned False: run this in a thread as soon as storage is closed."""
        closer = self._closer

        def wait() -> None:
            closer.join()
            run()

        _start_daemon(wait)

    def _close_storage(self, closed: asyncio.Future[None]) -> None:
        """Close storage in a thread of its own, because any of these calls may never return."""
        for thread in self._threads:
            thread.join()
        self._run_job(_Job(self.storage.close, partial(resolve, closed)))

    def _answer(self, answer: Callable[[], None]) -> None:
        """In a thread: have this run in the loop."""
        self._answers.append(answer)
        self._waker.wake()

    def _run_answers(self) -> None:
        while self._answers:
            self._answers.popleft()()
        self._on_answered()

    # In the writer thread

    def _run_writer(self) -> None:
        while True:
            work = [self._next_work()]
            while not self._writes.empty():
                work.append(self._writes.get_nowait())
            commits: list[Commit] = []
            for item in work:
                if isinstance(item, Commit):
                    commits.append(item)
                    continue
                self._commit_all(commits)
                commits = []
                if item is None:
                    return
                self._run_job(item)
            self._commit_all(commits)
            if self.storage.untidied >= TIDIED_EVERY and self._writes.empty():
                self._maintain(self.storage.tidy)

    def _next_work(self) -> Commit | _Job | None:
        """Wait for work. The first time that none comes for a while, warm storage."""
        if not self._warm:
            try:
                return self._writes.get(timeout=WARM_AFTER)
            except Empty:
                self._warm = True
                self._maintain(self._empty_log)  # the process before may have been killed before it could
                self._maintain(self.storage.warm)
        if self._committed >= RELEASED_ABOVE:
            try:
                return self._writes.get(timeout=RELEASED_AFTER)
            except Empty:
                self._committed = 0
                self._maintain(self.storage.release_memory)
                self._answer(self.on_quiet)
        return self._writes.get()

    def _empty_log(self) -> bool:
        is_empty = False
        with suppress(StorageError):  # it is tried again
            is_empty = self.storage.empty_log()
        if not is_empty:
            self._answer(lambda: self._run_again(self._empty_log, EMPTIED_AFTER))
        return is_empty

    def _maintain(self, run: Callable[[], object]) -> None:
        """Do maintenance that no caller waits for."""
        try:
            run()
        except StorageError:
            pass  # the next commit will report it
        except Exception as error:  # without this thread nothing would be stored or refused any more
            self._answer(partial(self._report, error))

    def _commit_all(self, commits: list[Commit]) -> None:
        if commits:
            if time.monotonic() - self._disk_checked_at >= DISK_CHECK_AFTER:
                self._check_disk()
            if (answer := self._run_commits(commits)) is not None:
                self._answer(partial(self._put, answer))

    def _run_commits(self, commits: list[Commit]) -> Input | None:
        """Make one transaction of these commits. Return the answer; None if their epoch has failed already."""
        valid = [commit for commit in commits if commit.epoch > self._failed_epoch]
        if not valid:
            return None
        try:
            self._committed += len(valid)
            self.storage.commit([*map(_change_of, valid)])
        except Exception as error:  # after any error, nothing may count as stored
            self._failed_epoch = max(commit.epoch for commit in valid)
            text = str(error) if isinstance(error, StorageError) else repr(error)
            if not isinstance(error, StorageError):
                self._answer(partial(self._report, error))
            return CommitFailed(self._failed_epoch, text)
        return Committed([*map(_ticket_of, valid)])

    def _check_disk(self) -> None:
        """Compare free disk space with the limits, and tell the core when it crosses one."""
        if self._directory is None:
            return
        self._disk_checked_at = time.monotonic()
        try:
            level = disk_level(shutil.disk_usage(self._directory).free, self._settings.min_free_disk_bytes)
        except OSError:
            level = self._disk  # the next commit will report the error
        if level != self._disk:
            self._disk = level
            self._answer(lambda: self._put(DiskLow(level)))
        if level is not DiskLevel.ENOUGH:
            # A full disk gets no commits that would check. Timers of some loops, and on Windows, come early.
            self._answer(lambda: self._run_again(self._check_disk, DISK_CHECK_AFTER))

    def _run_again(self, run: Callable[[], object], after: float) -> None:
        """In the loop: have the writer do this later, once for several calls."""

        def begin() -> None:
            self._again.discard(run)
            self._writes.put(_Job(run, lambda result, error: None))

        if not self._closed and run not in self._again:
            self._again.add(run)
            self._loop.call_later(after, begin)

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "p2pchat: storage broke its contract", "exception": error})

    # In either thread

    def _run_reader(self) -> None:
        while (job := self._reads.get()) is not None:
            self._run_job(job)

    def _run_job(self, job: _Job) -> None:
        try:
            result = job.run()
        except BaseException as error:  # the caller gets it
            self._answer(partial(job.done, None, error))
        else:
            self._answer(partial(job.done, result, None))


def disk_level(free: int, least: int) -> DiskLevel:
    """Return what there is space for with so many free bytes."""
    if free < least:
        return DiskLevel.NOTHING
    return DiskLevel.OWN_ONLY if free < OWN_ONLY_FACTOR * least else DiskLevel.ENOUGH


def _start_daemon(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="p2pchat closer", daemon=True)
    thread.start()
    return thread


def resolve(future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    """Give a future the outcome of a job that ran in a thread."""
    if future.done():
        return  # the caller was cancelled, or close() has given up
    if error is None:
        future.set_result(result)  # type: ignore[arg-type]  # without an error there is one
    elif isinstance(error, StopIteration):  # of a program's function; a future takes none, as a coroutine raises none
        future.set_exception(RuntimeError("a function that was called raised StopIteration"))
    else:
        future.set_exception(error)


ReadResult = LookupResult | FetchResult


class CoreReads:
    """Reads that the core requested. Each result becomes an input, after any number of attempts.

    A database that is locked for a moment answers soon, a damaged one never does. So the pause before each attempt
    doubles, up to half a minute. A warning reports the first failure, another one the success of all reads. When
    commits fail as well, the core warns of that itself, and there is no warning here.

    The driver calls fetch() when a link has room for a page (PageQueue).

    Args:
        put: Called with the results.
        emit: Called with warnings for people.
        on_defect: Called with an error that no storage may raise.
    """

    def __init__(
        self,
        node: Node,
        disk: StorageWorker,
        put: Callable[[Input], None],
        emit: Callable[[Effect], None],
        on_defect: Callable[[BaseException], None],
    ) -> None:
        self._node = node
        self._disk = disk
        self._put = put
        self._emit = emit
        self._on_defect = on_defect
        self._loop = asyncio.get_running_loop()
        self._retries: dict[int, asyncio.TimerHandle] = {}  # of reads that failed, by the id of their effect
        self._warned = False
        self._stopped = False

    def look_up(self, effect: Lookup) -> None:
        """Find facts of stored logs."""
        storage = self._disk.storage
        self._read(
            effect,
            lambda: LookupResult(
                effect.ticket,
                {key: storage.chain_at(*key) for key in effect.chains},
                {key: storage.shown_by(key) for key in effect.shown},
                {key: storage.prunable(key) for key in effect.prunable},
                {key: files_of(storage.entry(*key)) for key in effect.files},
                storage.referring(effect.naming, MAX_NAMING) if effect.naming else {},
            ),
        )

    def fetch(self, effect: Fetch) -> None:
        """Read a page of entries that a link lacks."""
        storage = self._disk.storage
        whose = effect.conversation, effect.user
        self._read(
            effect,
            lambda: FetchResult(effect.link, effect.ticket, *storage.fetch(*whose, effect.start, batches=effect.most)),
        )

    def stop(self) -> None:
        """Retry nothing any more."""
        self._stopped = True
        for timer in self._retries.values():
            timer.cancel()

    def _read(self, effect: Lookup | Fetch, read: Callable[[], ReadResult], pause: float = 0.0) -> None:
        """Read for the core. `pause` is how long this attempt waited after a failed one, in seconds."""

        def done(result: ReadResult, error: BaseException | None) -> None:
            if error is None:
                self._on_result(effect, result)
            else:
                self._on_failure(error, effect, read, pause)

        self._disk.read_then(read, done)

    def _on_result(self, effect: Lookup | Fetch, result: ReadResult) -> None:
        self._retries.pop(id(effect), None)
        if self._warned and not self._retries:
            self._warned = False
            self._emit(WarningIssued("storage_works", "what is stored can be read again"))
        self._put(result)

    def _on_failure(
        self, error: BaseException, effect: Lookup | Fetch, read: Callable[[], ReadResult], pause: float
    ) -> None:
        if not isinstance(error, StorageError):
            self._on_defect(error)
        elif isinstance(effect, Fetch) and effect.link not in self._node.links.up:
            self._retries.pop(id(effect), None)
            self._put(FetchResult(effect.link, effect.ticket, [], None))
        elif not self._stopped:
            pause = min(max(READ_RETRY_AFTER, 2 * pause), MAX_READ_RETRY_AFTER)
            self._retries[id(effect)] = self._loop.call_later(pause, self._read, effect, read, pause)
            if not self._warned and self._node.storage.works:
                self._warned = True
                self._emit(WarningIssued("storage", f"what is stored cannot be read, which is tried again: {error}"))


class LoopWaker:
    """Wake-up of an event loop from threads: `callback` runs in the loop soon after wake(), once for several calls.

    asyncio's own call_soon_threadsafe sends a byte through a pair of sockets, and reads there until an exception says
    that there is no more. Linux has a counter for this (eventfd), which costs a third less, 20 us of each commit.
    Elsewhere asyncio's is used.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._counter = -1
        self._is_due = False  # the counter was raised, and the callback has not begun
        self._lock = threading.Lock()  # the number of a closed counter may be another file a moment later
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            self._counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            loop.add_reader(self._counter, self._on_wake)

    def wake(self) -> None:
        """Wake the loop. Any thread may call this, also after close(); it does nothing once the loop is closed."""
        if self._is_due:
            return
        with self._lock:
            if sys.platform == "linux" and self._counter >= 0:
                self._is_due = True
                os.eventfd_write(self._counter, 1)
                return
        try:
            self._loop.call_soon_threadsafe(self._callback)
        except RuntimeError:
            pass

    def _on_wake(self) -> None:
        if sys.platform == "linux":
            os.eventfd_read(self._counter)
        self._is_due = False  # before the callback: what comes while it runs may wake it once more
        self._callback()

    def close(self) -> None:
        """Close the counter. wake() goes on to work without it."""
        with self._lock:
            counter, self._counter = self._counter, -1
            self._is_due = False
        if counter >= 0:
            self._loop.remove_reader(counter)
            os.close(counter)
            self._loop.call_soon(self._callback)  # for a wake() that was not noticed yet
