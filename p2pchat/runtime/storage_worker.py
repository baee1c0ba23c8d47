"""Storage, carried out: commits in one writer thread, reads in one reader thread, answers back in the event loop.

The writer takes everything that waits and makes it one transaction: that is the group commit. A transaction that
fails voids everything of its epoch, what waits included, so that nothing can be stored on top of what was lost.
Free disk is looked at before a commit, at most once a second; below the limit the owner is told before it is too
late for SQLite. Storage that is only memory is used at once, in the loop: there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
import shutil
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
from p2pchat.core.effects import Commit
from p2pchat.core.inputs import CommitFailed, Committed, DiskLow, Input, Loaded
from p2pchat.core.records import Change, Stored
from p2pchat.errors import PeerClosed, StorageError
from p2pchat.protocol import UserId
from p2pchat.runtime.bell import Bell
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


class Disk:
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
        self._bell: Bell  # with threads
        if storage.durable:
            self._bell = Bell(self._loop, self._hand_over)
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
            self.storage.try_out()
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
            self._bell.close()
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
        self._bell.ring()

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
