"""Work that may block, in threads of its own; and the ends of tasks.

The default executor of the loop belongs to the program: its calls may fill it for as long as they like, and the end of
the program waits for what runs there. What blocks here (a disk that hangs, a silent name server) keeps neither.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
DISK_TIMEOUT = 10.0  # seconds for one call, above what a disk takes that wakes up; a guess


async def in_thread(run: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return or raise what `run` does in a thread, as asyncio.to_thread; nothing waits for the thread but this call."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # a thread cannot be cancelled, only left alone

    def work() -> None:
        try:
            outcome.set_result(run(*args, **named))
        except StopIteration:  # a future takes none, as a coroutine raises none
            outcome.set_exception(RuntimeError("a function that was called raised StopIteration"))
        except BaseException as error:  # the caller gets it
            outcome.set_exception(error)

    Thread(target=copy_context().run, args=(work,), name="p2pchat work", daemon=True).start()
    return await asyncio.wrap_future(outcome)


async def on_disk(run: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Do the same with a file that a person or program names; raise OSError if its disk does not answer."""
    try:
        async with asyncio.timeout(DISK_TIMEOUT):
            return await in_thread(run, *args, **named)
    except TimeoutError:
        raise OSError(errno.ETIMEDOUT, "the disk does not answer") from None


async def look_up(host: str | None, port: int = 0, *, flags: int = 0) -> dict[str, int]:
    """Return the addresses of a name, best first, each with its family. Raises OSError."""
    found: dict[str, int] = {}
    for family, *_, place in await in_thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=flags):
        scope = place[3] if len(place) == 4 else 0  # the network card of a link-local address
        found.setdefault(f"{place[0]}%{scope}" if scope else str(place[0]), family)
    return found


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end even if the caller is cancelled, and return its result.

    A server cancels the handler of a client that is gone. A change that is on disk or known to others must reach
    memory too, or the next start would know other users and names than this one.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(consume_exception)
    await asyncio.wait([task])  # does not cancel the task when it is cancelled itself
    return task.result()


def consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception, so that asyncio does not log it when no caller is left."""
    if not task.cancelled():
        task.exception()


def spawn(tasks: set[asyncio.Task[T]], work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
    """Run a coroutine as a task, which is among these until it ends: the loop keeps no task alive."""
    task = asyncio.create_task(work, name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


async def ends_within(seconds: float | None, work: Awaitable[Any]) -> bool:
    """Await something for so many seconds at most (None: without a limit); return whether it came to its end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work
            return True
    return False


async def stop_tasks(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait for their ends, whatever they are."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
