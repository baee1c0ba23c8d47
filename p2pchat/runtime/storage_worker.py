"""Storage, carried out: commits in one writer thread, reads in one reader thread, answers back in the event loop.

The writer takes everything that waits and makes it one transaction: that is the group commit. A transaction that
fails voids everything of its epoch, what waits included, so that nothing can be stored on top of what was lost.
Free disk is looked at before a commit, at most once a second; below the limit the owner is told before it is too
late for SQLite. Storage that is only memory is used at once, in the loop: there is nothing to wait for.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from p2pchat.config import Settings
from p2pchat.core.effects import Commit, Effect, Fetch, Lookup, WarningIssued
from p2pchat.core.inputs import CommitFailed, Committed, DiskLow, FetchResult, Input, Loaded, LookupResult
from p2pchat.core.node import Node
from p2pchat.core.records import Change, Stored
from p2pchat.errors import PeerClosed, StorageError
from p2pchat.protocol import UserId
from p2pchat.storage.base import Storage

T = TypeVar("T")
FREE_LOOKED_AT_AFTER = 1.0  # seconds between looks at the free disk
WARM_AFTER = 1.0  # idle seconds before storage is warmed: 25 ms that no start and no commit shall wait for; a guess
RELOAD_AFTER = 1.0  # seconds between attempts to use a storage that failed
STEADY_AFTER = 60.0  # seconds a storage works before a failure counts as a new one; a guess
CLOSE_WITHIN = 5.0  # seconds that closing waits for a storage that does not answer; a guess
RELOAD_MOST = 30.0  # seconds to wait when it fails again and again, doubled each time


@dataclass(frozen=True, slots=True)
class _Job:
    """Something else than a commit for one of the threads: `done` gets the result or the error, in that thread."""

    run: Callable[[], Any]
    done: Callable[[Any, BaseException | None], None]


class StorageWorker:
    """One storage and its threads.

    Args:
        storage: Made and opened by the caller.
        directory: Where free space is looked at; None for memory.
        tell: Takes inputs for the core, in the event loop.

    Attributes:
        told: Called in the event loop when threads have answered, behind all those answers.
    """

    def __init__(
        self, storage: Storage, settings: Settings, directory: Path | None, tell: Callable[[Input], None]
    ) -> None:
        self.storage = storage
        self._settings = settings
        self._directory = directory
        self._tell = tell
        self.told: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._writes: SimpleQueue[Commit | _Job | None] = SimpleQueue()
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._answers: deque[Callable[[], None]] = deque()  # from the threads, for the loop
        self._failed_epoch = -1
        self._reloaded_at = float("-inf")
        self._rest = 0.0  # seconds the last reload was put off
        self._looked_at = float("-inf")
        self._looks_again = False  # a timer is set for it
        self._low = False
        self._warm = False
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._closer: threading.Thread
        self._waker: LoopWaker  # with threads
        if storage.durable:
            self._waker = LoopWaker(self._loop, self._hand_over)
            self._threads = [
                threading.Thread(target=self._write_on, name="p2pchat writer", daemon=True),
                threading.Thread(target=self._read_on, name="p2pchat reader", daemon=True),
            ]
            self._look_at_free_disk()  # before anything can be accepted
            for thread in self._threads:
                thread.start()
            self._writes.put(_Job(self._look_at_free_disk, lambda result, error: None))

    # In the loop

    def commit(self, commit: Commit) -> None:
        """Make it durable; answered by Committed, CommitFailed, or not at all when its epoch has failed."""
        if self._threads:
            self._writes.put(commit)
        elif not self._closed:
            self._run_commits([commit], self._tell)

    async def read(self, run: Callable[[], T]) -> T:
        """Return what `run` returns in the reader thread, or raise what it raises; PeerClosed after close()."""
        return await self._ask(self._reads, run)

    async def write(self, change: Change) -> None:
        """Make a change of the owner's own durable, after every commit before it. Raises StorageError."""
        await self._ask(self._writes, lambda: self.storage.commit([change]))

    async def _ask(self, queue: SimpleQueue[Any], run: Callable[[], T]) -> T:
        if self._closed:
            raise PeerClosed("the peer was closed")
        if not self._threads:
            await asyncio.sleep(0)  # what was promised a place goes in before anybody looks for it
            return run()
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        queue.put(_Job(run, done))
        return await future

    def read_then(
        self, run: Callable[[], T], then: Callable[[T], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Run in the reader thread, then call back in the loop; for what nobody awaits."""
        if not self._threads:
            then(run())
            return

        def done(result: T, error: BaseException | None) -> None:
            if error is None:
                then(result)
            else:
                failed(error)

        self._reads.put(_Job(run, done))

    def reload(self, hosted: Sequence[UserId]) -> None:
        """Load again what storage holds, as soon as it takes something; answered by Loaded.

        A storage that soon fails again (a disk with hardly any room, a lock that comes and goes) is left alone for
        longer each time: links end and begin anew with every recovery.
        """
        if self._loop.time() - self._reloaded_at < STEADY_AFTER:
            self._rest = min(max(RELOAD_AFTER, 2 * self._rest), RELOAD_MOST)
            self._loop.call_later(self._rest, self._reload, hosted)
        else:
            self._rest = 0.0
            self._reload(hosted)

    def _reload(self, hosted: Sequence[UserId]) -> None:
        def done(stored: Stored, error: BaseException | None) -> None:
            if error is None:
                self._reloaded_at = self._loop.time()
                self._tell(Loaded(stored))
            elif not self._closed:
                self._loop.call_later(RELOAD_AFTER, self._reload, hosted)

        def load() -> Stored:
            self.storage.check_writable()
            return self.storage.load(hosted)

        if self._closed:
            return
        if self._threads:
            self._writes.put(_Job(load, done))
        else:
            done(load(), None)

    async def close(self, wait: bool = True, within: float = CLOSE_WITHIN) -> bool:
        """Finish everything asked for, then close storage. `wait=False` gives up what waits, as a crash would.

        Returns:
            Whether storage is closed. False when it has not answered `within` seconds: then it is closed as soon as
            it does, and what waited for it may be kept or not. That keeps no process from ending.
        """
        if self._closed:
            return True
        self._closed = True
        if not wait:
            self._failed_epoch = 1 << 62
        if not self._threads:
            self.storage.close()
            return True
        self._writes.put(None)
        self._reads.put(None)
        closed: asyncio.Future[None] = self._loop.create_future()
        self._closer = _daemon(lambda: self._close_storage(closed))
        try:
            await asyncio.wait([closed], timeout=within)
        finally:
            self._waker.close()
        if not closed.done():
            return False
        self._closer.join()
        closed.result()
        return True

    def afterwards(self, run: Callable[[], None]) -> None:
        """Run this in a thread when storage is closed at last; after a close() that returned False."""
        closer = self._closer

        def wait() -> None:
            closer.join()
            run()

        _daemon(wait)

    def _close_storage(self, closed: asyncio.Future[None]) -> None:
        """In a thread of its own, for any of this may never come back."""
        for thread in self._threads:
            thread.join()
        try:
            self.storage.close()
        except Exception as error:  # whatever it is, who closes is told
            self._answer(partial(_settle, closed, error))
        else:
            self._answer(partial(_settle, closed, None))

    def _answer(self, answer: Callable[[], None]) -> None:
        """Called in a thread: run this in the loop."""
        self._answers.append(answer)
        self._waker.wake()

    def _hand_over(self) -> None:
        while self._answers:
            self._answers.popleft()()
        self.told()

    # In the writer thread

    def _write_on(self) -> None:
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
                self._do(item)
            self._commit_all(commits)
            if commits and self._writes.empty():
                self._care(self.storage.tidy)

    def _next_work(self) -> Commit | _Job | None:
        """Wait for work; the first time that none comes for a while storage is warmed."""
        if not self._warm:
            try:
                return self._writes.get(timeout=WARM_AFTER)
            except Empty:
                self._warm = True
                self._care(self.storage.warm)
        return self._writes.get()

    def _care(self, care: Callable[[], None]) -> None:
        """Do for storage what nobody waits for."""
        try:
            care()
        except StorageError:
            pass  # the next commit will say what is wrong
        except Exception as error:  # without this thread nothing would be stored or refused any more
            self._answer(partial(self._report, error))

    def _commit_all(self, commits: list[Commit]) -> None:
        if commits:
            self._look_at_free_disk()
            self._run_commits(commits, lambda input: self._answer(lambda: self._tell(input)))

    def _run_commits(self, commits: list[Commit], tell: Callable[[Input], None]) -> None:
        alive = [commit for commit in commits if commit.epoch > self._failed_epoch]
        if not alive:
            return
        try:
            self.storage.commit([commit.change for commit in alive])
        except Exception as error:  # whatever it is, nobody may believe that this was stored
            self._failed_epoch = max(commit.epoch for commit in alive)
            tell(CommitFailed(self._failed_epoch, str(error) if isinstance(error, StorageError) else repr(error)))
            if not isinstance(error, StorageError):
                self._answer(partial(self._report, error))
        else:
            tell(Committed([commit.ticket for commit in alive]))

    def _look_at_free_disk(self) -> None:
        if time.monotonic() - self._looked_at >= FREE_LOOKED_AT_AFTER:
            self._look_at_it_now()

    def _look_at_it_now(self) -> None:
        if self._directory is None:
            return
        self._looked_at = time.monotonic()
        try:
            low = shutil.disk_usage(self._directory).free < self._settings.min_free_disk_bytes
        except OSError:
            low = self._low  # the commit will say what is wrong
        if low != self._low:
            self._low = low
            self._answer(lambda: self._tell(DiskLow(low)))
        if low:
            self._answer(self._look_again_later)

    def _look_again_later(self) -> None:
        """While nothing is committed nobody looks: do it for them."""
        if not self._closed and not self._looks_again:
            self._looks_again = True
            self._loop.call_later(FREE_LOOKED_AT_AFTER, self._look_again)

    def _look_again(self) -> None:
        self._looks_again = False
        # Not asking how long ago the last look was: timers of some loops, and on Windows, come early.
        self._writes.put(_Job(self._look_at_it_now, lambda result, error: None))

    def _report(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "p2pchat: storage broke its contract", "exception": error})

    # In either thread

    def _read_on(self) -> None:
        while (job := self._reads.get()) is not None:
            self._do(job)

    def _do(self, job: _Job) -> None:
        try:
            result = job.run()
        except BaseException as error:  # whatever it is, who asked is told
            caught = error  # the name of an except clause ends with it
            self._answer(lambda: job.done(None, caught))
        else:
            self._answer(lambda: job.done(result, None))


def _daemon(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, name="p2pchat closer", daemon=True)
    thread.start()
    return thread


def _settle(closed: asyncio.Future[None], error: Exception | None) -> None:
    if closed.done():
        return  # nobody waits any more
    if error is None:
        closed.set_result(None)
    else:
        closed.set_exception(error)


# ---- bell
#
# A bell that threads ring and an event loop hears.
#
# asyncio's own (call_soon_threadsafe) sends a byte through a pair of sockets and reads there until an exception says
# that there is no more. Linux has a counter for that: a ring and its answer cost a third less, 20 us of each commit.
# Elsewhere asyncio's is used.


class LoopWaker:
    """Has `callback` run in the loop soon after `wake()`; once for several rings, perhaps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._called = callback
        self._counter = -1
        self._lock = threading.Lock()  # a counter that was closed may be another file a moment later
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            self._counter = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            loop.add_reader(self._counter, self._on_wake)

    def wake(self) -> None:
        """Called in any thread, also after close(); when the loop is closed nobody hears it."""
        with self._lock:
            if sys.platform == "linux" and self._counter >= 0:
                os.eventfd_write(self._counter, 1)
                return
        try:
            self._loop.call_soon_threadsafe(self._called)
        except RuntimeError:
            pass

    def _on_wake(self) -> None:
        if sys.platform == "linux":
            os.eventfd_read(self._counter)
        self._called()

    def close(self) -> None:
        """Let go of what it is made of; later rings are heard all the same."""
        with self._lock:
            counter, self._counter = self._counter, -1
        if counter >= 0:
            self._loop.remove_reader(counter)
            os.close(counter)
            self._loop.call_soon(self._called)  # the last ring may not have been heard


# ---- reading
#
# What the core asks of storage, read in the reader thread: what comes of it is an input, however often it takes.
#
# Whole pages of entries come by way of driver.py, which knows when a link has room for one.


Read = Callable[[], LookupResult | FetchResult]


class CoreReads:
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
        self.disk: StorageWorker  # given by the owner's start()
        self._node = node
        self._settings = settings
        self._put = put
        self._broke = broke
        self._loop = asyncio.get_running_loop()
        self._rereading = ReadRetry(tell, lambda: not node.storage_works)
        self._stopped = False

    def look_up(self, effect: Lookup) -> None:
        """Find logs, and what else is asked of older ones."""
        storage = self.disk.storage
        self._read(
            effect,
            lambda: LookupResult(
                effect.ticket,
                *storage.lookup(effect.logs, effect.older),
                {whose: storage.size_bytes(*whose) for whose in effect.sizes},
                {key: storage.shown_by(key) for key in effect.shown},
                {whose: storage.logs_of(*whose) for whose in effect.all_logs},
            ),
        )

    def fetch(self, effect: Fetch) -> None:
        """Read a page of what a link lacks."""
        storage, most = self.disk.storage, self._settings.fetch_batches
        whose = effect.conversation, effect.user
        self._read(
            effect,
            lambda: FetchResult(effect.link, effect.ticket, *storage.fetch(*whose, effect.start, batches=most)),
        )

    def stop(self) -> None:
        """Try nothing any more that has failed."""
        self._stopped = True
        self._rereading.stop()

    def _read(self, effect: Lookup | Fetch, read: Read) -> None:
        self.disk.read_then(
            read, lambda answer: self._answered(effect, answer), lambda error: self._failed(error, effect, read)
        )

    def _answered(self, effect: Lookup | Fetch, answer: LookupResult | FetchResult) -> None:
        """Memory answers at once: the link gets what was read before more is, so that a slow one costs no memory."""
        self._rereading.answered(effect)
        if isinstance(answer, LookupResult) or self.disk.storage.durable:
            self._put(answer)
        else:
            self._loop.call_soon(self._put, answer)

    def _failed(self, error: BaseException, effect: Lookup | Fetch, read: Read) -> None:
        """A read failed: the core waits for its answer, so try until it comes."""
        if not isinstance(error, StorageError):
            self._broke(error)
        elif isinstance(effect, Fetch) and effect.link not in self._node.links.up:
            self._rereading.give_up(effect)
            self._put(FetchResult(effect.link, effect.ticket, [], None))
        elif not self._stopped:
            self._rereading.failed(error, effect, lambda: self._read(effect, read))


# ---- rereading
#
# Reads that failed and that the core waits for: tried until they answer, and told to people once.
#
# The core cannot go on without the answer, and what it asked for is not lost by asking again: a database that somebody
# holds for a moment answers soon, one that is damaged never does. So each try waits longer, up to half a minute, and
# people hear of the first failure and of the moment when all of them have answered. While commits fail as well the core
# says so itself (node.py), and nothing is said here.


READ_AGAIN_AFTER = 1.0  # seconds until a failed read is tried again
READ_AGAIN_MOST = 30.0  # seconds between tries, doubled each time


class ReadRetry:
    """Reads that have not answered yet.

    Args:
        tell: Takes what people are told.
        is_told: Whether the core has said that storage does not work.
    """

    def __init__(self, tell: Callable[[Effect], None], is_told: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._is_told = is_told
        self._waits: dict[int, float] = {}  # seconds until the next try, by the id of the effect that asks
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._told = False

    def failed(self, error: StorageError, effect: Effect, again: Callable[[], None]) -> None:
        """A read failed: try it again by and by."""
        key = id(effect)  # it lives as long as its timer does
        wait = self._waits[key] = min(max(READ_AGAIN_AFTER, 2 * self._waits.get(key, 0.0)), READ_AGAIN_MOST)
        self._timers[key] = self._loop.call_later(wait, again)
        if not self._told and not self._is_told():
            self._told = True
            self._tell(WarningIssued("storage", f"what is stored cannot be read, which is tried again: {error}"))

    def answered(self, effect: Effect) -> None:
        """A read has answered, whether it had failed before or not."""
        self.give_up(effect)
        if self._told and not self._waits:
            self._told = False
            self._tell(WarningIssued("storage_works", "what is stored can be read again"))

    def give_up(self, effect: Effect) -> None:
        """Nobody waits for this one any more."""
        if self._waits:
            self._waits.pop(id(effect), None)
            self._timers.pop(id(effect), None)

    def stop(self) -> None:
        """Try nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
