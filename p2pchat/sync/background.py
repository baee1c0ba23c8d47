"""The event loop behind p2pchat.sync, and the objects that call into it.

One daemon thread per process runs one loop, from the first call on. All peers of p2pchat.sync run there. A Wrapper
stands for one object of the asynchronous API. Each of its methods runs on the loop, so any thread may call it; the
calling thread waits for the result. Arguments are unwrapped on the way in and results wrapped on the way out: users,
messages, events and lists of them.

An exception raised in the waiting thread (Ctrl-C) cancels the call on the loop, as asyncio.Task.cancel does, and is
raised when the call has ended. The peer stays usable.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib import import_module
from threading import Lock, Thread, get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from p2pchat.errors import P2PChatError, PeerClosed

if TYPE_CHECKING:
    from asyncio import Task
    from concurrent.futures import Future
    from types import TracebackType

T_co = TypeVar("T_co", covariant=True)

# Windows runs no signal handler while a thread waits for a lock, so there a wait looks up after so many seconds: Ctrl-C
# is noticed as soon as a person would repeat it. A guess.
SIGNALS_EVERY = 0.1 if sys.platform == "win32" else None
CANCELLED_WITHIN = 5.0  # seconds in which a cancelled call has to end; one that saves something may take that. A guess
_END = object()


class BackgroundLoop:
    """An event loop in a daemon thread of its own."""

    def __init__(self) -> None:
        import asyncio

        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="p2pchat.sync", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """True unless this is a forked process, in which the thread does not run."""
        return self._pid == os.getpid()

    def run(self, function: Callable[[], Any], too_late: Callable[[Any], None] = lambda result: None) -> Any:
        """Call a function on the loop, wait for what it returns, and if that is awaitable for its result.

        Args:
            too_late: Called with a result that came when an exception in this thread (Ctrl-C) had ended the wait.
        Raises:
            PeerClosed: The process was forked. RuntimeError: The loop itself calls, and would wait for itself.
        """
        from concurrent.futures import Future

        if not self.is_here:
            raise PeerClosed("this peer belongs to the process that forked this one: make a peer after the fork")
        if get_ident() == self._thread.ident:
            return _without_waiting(function())
        outcome: Future[Any] = Future()
        tasks: list[Task[Any]] = []
        try:
            self._loop.call_soon_threadsafe(_begin, function, outcome, tasks)
            return _wait(outcome)
        except BaseException as error:  # KeyboardInterrupt too: a call that is given up must not go on in the loop
            if outcome.cancel() or (outcome.done() and outcome.exception() is error):
                raise  # the function was not called yet, and is not; or it raised this
            self._loop.call_soon_threadsafe(_cancel, tasks)
            if (result := _late_result(outcome)) is not None:
                too_late(result)
            raise


def _wait(outcome: Future[Any]) -> Any:
    while True:
        try:
            return outcome.result(SIGNALS_EVERY)
        except TimeoutError as error:
            if outcome.done() and outcome.exception() is error:
                raise  # it is that of the call


def _late_result(outcome: Future[Any]) -> Any:
    """Return the result of a call that was cancelled, when it has ended; None if it was cancelled in time."""
    try:
        return outcome.result(CANCELLED_WITHIN)
    except Exception:  # the caller gets what ended the wait, not what became of the call
        return None


def _begin(function: Callable[[], Any], outcome: Future[Any], tasks: list[Task[Any]]) -> None:
    """Call a function on the loop, where its result or error is stored in `outcome`."""
    from asyncio import ensure_future
    from inspect import isawaitable

    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = function()
        if isawaitable(result):
            tasks.append(ensure_future(_store(result, outcome)))
            return
    except BaseException as error:  # the thread that waits has to be woken, whatever it is
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


async def _store(call: Awaitable[Any], outcome: Future[Any]) -> None:
    from asyncio import CancelledError as Cancelled
    from concurrent.futures import CancelledError  # that of asyncio is no Exception, and means this thread

    try:
        result = await call
    except Cancelled:
        outcome.set_exception(CancelledError())
    except BaseException as error:  # of a program's function too: SystemExit would end the loop of all peers
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _cancel(tasks: list[Task[Any]]) -> None:
    for task in tasks:
        task.get_loop().call_soon(task.cancel)  # behind its first step: without that it could not say that it ended


def _without_waiting(result: Any) -> Any:
    if hasattr(result, "close") and hasattr(result, "send") and hasattr(result, "__await__"):
        result.close()
        raise RuntimeError("a function that p2pchat.sync calls back cannot wait for p2pchat.sync: use another thread")
    return result


_starting = Lock()
_background: BackgroundLoop | None = None


def background() -> BackgroundLoop:
    """Return the loop of this process; start it when it is first asked for."""
    global _background
    with _starting:
        if _background is None or not _background.is_here:
            _background = BackgroundLoop()
        return _background


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)


# ---- objects


class Wrapper:
    """An object of the asynchronous API, for callers without a loop. Two for the same object are equal.

    Attributes:
        _of: The module with the asynchronous class of the same name.
    """

    __slots__ = ("__weakref__", "_async", "_loop")
    _async: Any
    _loop: BackgroundLoop
    _of: ClassVar[str] = ""

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} is not made by a program: a TCPPeer returns it")

    def _make(self, *args: Any, **named: Any) -> None:
        """Make the asynchronous object, on the loop."""
        self._loop = background()
        self._async = self._loop.run(lambda: _async_class(type(self))(*args, **named))

    def _call(self, name: str, /, *args: Any, **named: Any) -> Any:
        """Call a method of the asynchronous object, and wait for its result."""
        try:
            return _wrapped(self._loop, self._loop.run(_call_of(self._async, name, args, named)))
        except (P2PChatError, TimeoutError) as error:
            raise error.with_traceback(None) from None  # the steps of the loop say nothing about the program

    def _get(self, name: str) -> Any:
        """Return an attribute of the asynchronous object, as it is between two steps of the loop."""
        return _wrapped(self._loop, self._loop.run(lambda: getattr(self._async, name)))

    if not TYPE_CHECKING:  # so that type checkers find a misspelt name

        def __getattr__(self, name: str) -> Any:
            """Return a field, which never changes: a class of classes.py has an annotation for each."""
            if name in _field_names(type(self)):
                return _wrapped(self._loop, getattr(self._async, name))
            raise AttributeError(f"a {type(self).__name__} of p2pchat.sync has no attribute {name!r}")

    def _iterate(self, name: str, /, *args: Any, **named: Any) -> Iterator[Any]:
        """Iterate over what an asynchronous generator yields."""
        generator = self._loop.run(_call_of(self._async, name, args, named))
        try:
            while (value := self._loop.run(lambda: anext(generator, _END))) is not _END:
                yield _wrapped(self._loop, value)
        finally:
            self._loop.run(generator.aclose)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Wrapper) and bool(self._async == other._async)

    def __hash__(self) -> int:
        return hash(self._async)

    def __str__(self) -> str:
        return str(self._loop.run(lambda: str(self._async)))

    def __repr__(self) -> str:
        if not self._loop.is_here:
            return f"<{type(self).__name__} of another process>"
        return str(self._loop.run(lambda: repr(self._async)))


class Closeable(Wrapper):
    """A Wrapper for `with`."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._call("__aenter__")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("__aexit__", kind, error, trace)


class EventIterator(Closeable, Iterator[T_co], Generic[T_co]):
    """The part of Events that has no like in the asynchronous API: waiting for the next event."""

    __slots__ = ("_late",)

    def next(self, timeout: float | None = None) -> T_co:
        """Return the next event; acknowledges the one before.

        Args:
            timeout: Seconds; None to wait without a limit.
        Raises:
            TimeoutError: There was none in time; nothing is lost.
            StopIteration: The iterator or the peer was closed.
        """
        late: list[Any] = getattr(self, "_late", [])
        self._late = late
        event = late.pop() if late else self._loop.run(lambda: _next(self._async, timeout), late.append)
        if event is _END:
            raise StopIteration
        found: T_co = _wrapped(self._loop, event)
        return found

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        return self.next()


async def _next(events: Any, timeout: float | None) -> Any:
    from asyncio import timeout as limit

    try:
        async with limit(timeout):
            return await anext(events, _END)
    except TimeoutError:
        raise TimeoutError(f"no event came within {timeout} s") from None


def call_function(module: str, name: str, /, *args: Any, **named: Any) -> Any:
    """Call a function of the asynchronous API, and wait for its result."""
    loop = background()
    return _wrapped(loop, loop.run(_call_of(import_module(module), name, args, named)))


def _call_of(owner: Any, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Callable[[], Any]:
    """Return what calls a function of a module, or a method of an object, with unwrapped arguments."""
    given, words = [_unwrapped(arg) for arg in args], {key: _unwrapped(value) for key, value in named.items()}
    return lambda: getattr(owner, name)(*given, **words)


def _unwrapped(value: Any) -> Any:
    """Return an argument as the asynchronous API takes it. A function gets wrapped arguments, on the loop."""
    if value is None or isinstance(value, str | int | bytes):
        return value
    if isinstance(value, Wrapper):
        return value._async
    if type(value) in (list, tuple):
        return type(value)(_unwrapped(one) for one in value)
    if isinstance(value, type):
        return _async_class(value) if issubclass(value, Wrapper) else value
    if callable(value):
        return lambda *args: value(*(_wrapped(background(), arg) for arg in args))
    return value


def _wrapped(loop: BackgroundLoop, value: Any) -> Any:
    """Return a result as p2pchat.sync shows it."""
    kind = type(value)
    if kind is list:
        return [_wrapped(loop, one) for one in value]
    if kind is tuple:
        return tuple([_wrapped(loop, one) for one in value])
    if kind is dict:
        return {_wrapped(loop, key): _wrapped(loop, one) for key, one in value.items()}
    if isinstance(value, type):
        return _wrapper_class(value.__module__, value.__name__) or value
    cls = _wrapper_class(kind.__module__, kind.__name__)
    if cls is None:
        return value
    wrapper = cls.__new__(cls)
    wrapper._async, wrapper._loop = value, loop
    return wrapper


@cache
def _field_names(cls: Any) -> frozenset[str]:
    from inspect import get_annotations

    mirrors = [base for base in cls.__mro__ if issubclass(base, Wrapper) and base is not Wrapper]
    return frozenset(name for base in mirrors for name in get_annotations(base))


@cache
def _wrapper_class(module: str, name: str) -> type[Wrapper] | None:
    """Return the class that wraps objects of an asynchronous class; None for classes that are not wrapped."""
    if not module.startswith("p2pchat."):
        return None
    from p2pchat.sync import classes

    found = getattr(classes, name, None)
    is_wrapper = isinstance(found, type) and issubclass(found, Wrapper) and found._of == module
    return found if is_wrapper else None


def _async_class(cls: type[Wrapper]) -> Any:
    """Return the asynchronous class behind a wrapper, or behind what a program derived from one."""
    mirror = next(base for base in cls.__mro__ if "_of" in vars(base))
    return getattr(import_module(cls._of), mirror.__name__)
