"""The process of a command: its event loop, open files, logs, the signals that end it, and how to start another one.

The loop is uvloop's or winloop's where installed (extra `fast`), else asyncio's own. The library itself runs in its
caller's loop.

A chat and a gateway shut down gracefully, on signals and for several other reasons (Shutdown). Most other commands are
cancelled by signals alone (run_until_signal). signal.signal works on every system (Windows' loops have no
add_signal_handler). Signals that were ignored at the start stay ignored: `nohup` ignores SIGHUP, a shell's `&` ignores
SIGINT.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, TypeVar

from p2pchat.commands.exit_codes import FAILED, INTERRUPTED, print_notice
from p2pchat.safe_text import safe_line, safe_text
from p2pchat.threads import stop_tasks

VARIABLE = "P2PCHAT_LOOP"  # "asyncio" selects asyncio's own loop
FASTER = "winloop" if sys.platform == "win32" else "uvloop"
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
SAME_SIGNAL = 0.5  # seconds in which a second signal counts as the first; a guess
WANTED_DESCRIPTORS = 1024  # the default of Linux
T = TypeVar("T")


# ---- the command line of another one


def own_command() -> list[str]:
    """Return the words that start p2pchat again: the same Python with the module, or with the file p2pchat.pyz."""
    loader = getattr(sys.modules["__main__"], "__loader__", None)
    archive = getattr(loader, "archive", "")  # of a zip file that Python runs; a script's own on Windows, p2pchat.exe
    runs = ["-m", "p2pchat"] if not archive or archive.endswith(".exe") else [os.path.abspath(archive)]
    return [sys.executable, *runs]


# ---- the event loop


def make_runner() -> asyncio.Runner:
    """Return a runner with the fastest loop that is installed."""
    return asyncio.Runner(loop_factory=_factory())


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if os.environ.get(VARIABLE) == "asyncio":
        return None
    try:
        module = import_module(FASTER)
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def run_until_signal(main: Coroutine[Any, Any, int], *, terminated: Callable[[], int] = lambda: FAILED) -> int:
    """Run a command, which the first signal cancels; return its exit code.

    Args:
        terminated: Returns the exit code after SIGTERM or SIGHUP.
    Raises:
        KeyboardInterrupt: Ctrl-C.
    """

    async def begun() -> Shutdown:
        return Shutdown()

    with ExitStack() as handlers, make_runner() as runner:
        shutdown = runner.run(begun())
        handlers.enter_context(shutdown.on_signals())
        code = runner.run(shutdown.until_signal(main))
        if code is not None:
            return code
        if runner.run(shutdown.wait()) == "interrupted":
            raise KeyboardInterrupt
        return terminated()


# ---- shutdown


STOP_REASONS = {  # as clients of the control socket learn them
    "input": "end of input",
    "quit": "quit",
    "output": "nobody reads the output",
    "interrupted": "interrupted",
    "terminated": "terminated",
    "refused": "refused by every endpoint",
    "ended": "failed",
}


class Shutdown:
    """The one shutdown of a process; wait() returns its reason, a key of STOP_REASONS.

    The first request decides the reason. A second signal ends the process at once, unless it comes within
    SAME_SIGNAL seconds: `timeout` signals its child and then the child's group.

    Reasons are the keys of STOP_REASONS: `input` is its end, `quit` the command; `terminated` SIGTERM or SIGHUP; with
    `ended` the peer stopped by itself.

    Attributes:
        ignores_interrupt: Ctrl-C counts for nothing, while an editor has the terminal.
        before_exit: Called before a second signal ends the process, to restore the terminal.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reason: asyncio.Future[str] = self._loop.create_future()
        self._signal: asyncio.Future[str] = self._loop.create_future()
        self._signalled_at: float | None = None
        self.ignores_interrupt: bool = False
        self.before_exit: Callable[[], None] = lambda: None

    def request(self, reason: str) -> None:
        """Request the shutdown; the first reason counts."""
        if not self._reason.done():
            self._reason.set_result(reason)

    async def wait(self) -> str:
        """Wait for the shutdown and return its reason."""
        return await asyncio.shield(self._reason)

    async def until_signal(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of `work`; None if a signal ended it, which is the shutdown's reason from then on."""
        task = asyncio.create_task(work)
        either: list[asyncio.Future[Any]] = [task, self._signal]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            await stop_tasks([task])
        self._reason = self._signal
        return None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Shut down on signals, inside `with`, except on those that are ignored; call in the main thread."""
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, former in before.items():
                signal.signal(number, former)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.ignores_interrupt and number == signal.SIGINT:
            return
        now = time.monotonic()
        self._signalled_at = self._signalled_at or now
        if now >= self._signalled_at + SAME_SIGNAL:
            try:
                self.before_exit()
            finally:
                os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)  # everything accepted is on disk
        reason = "interrupted" if number == signal.SIGINT else "terminated"
        self._loop.call_soon_threadsafe(self._on_signalled, reason)

    def _on_signalled(self, reason: str) -> None:
        self.request(reason)
        if not self._signal.done():
            self._signal.set_result(reason)


# ---- garbage collection


def freeze_started() -> None:
    """Keep what a start has made from the garbage collector: half of all objects later, and none of it is garbage.

    A search through all objects took up to 77 ms beside an attack, more than any other step of the event loop.
    """
    gc.freeze()


# ---- open files


def allow_descriptors(wanted: int = WANTED_DESCRIPTORS) -> None:
    """Raise the soft limit of open files to `wanted`, as far as the system allows. Windows has no such limit.

    A peer has up to 256 links and 64 strangers (Settings), its database and its standard streams; macOS allows a
    terminal's programs 256 in all.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS refuses values above its own maximum
        pass


# ---- logs of the library


class NoticeLogHandler(logging.Handler):
    """Prints log records as notices, above a prompt and not across it: one line each, tracebacks in several."""

    def __init__(self, line: str = "%(asctime)s %(name)s %(levelname)s %(message)s") -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(line))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # from formatting an argument; logging's own handlers catch it too
            self.handleError(record)
            return
        print_notice(safe_text(text) if record.exc_info else safe_line(text))


def show_library_logs(*, verbose: bool) -> None:
    """Print what the library logs as notices: errors, and everything when `verbose` (-v)."""
    logger = logging.getLogger("p2pchat")
    logger.addHandler(NoticeLogHandler())
    logger.setLevel(logging.DEBUG if verbose else logging.ERROR)
