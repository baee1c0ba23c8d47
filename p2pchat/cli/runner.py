"""Event loop and signals of the commands.

The loop is uvloop's or winloop's where installed (extra `fast`), else asyncio's own. The library itself runs in its
caller's loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from types import FrameType
from typing import Any

VARIABLE = "P2PCHAT_LOOP"  # "asyncio" selects asyncio's own loop
FASTER = "winloop" if sys.platform == "win32" else "uvloop"
_SIGNALS = tuple(number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(signal, name, None)))


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


def run_until_signal(main: Coroutine[Any, Any, int], *, terminated: Callable[[], int]) -> int:
    """Run a command, which SIGTERM and SIGHUP end in good order; return its exit code.

    Args:
        terminated: Returns the exit code after such a signal.
    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    before: dict[int, Any] = {}
    signalled = False

    async def watched() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal signalled
            signalled = True
            loop.call_soon_threadsafe(task.cancel)

        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # keep what nohup asked for
                before[number] = signal.signal(number, stop)
        try:
            return await main
        except asyncio.CancelledError:
            if not signalled:
                raise
            return terminated()

    try:
        with make_runner() as runner:
            return runner.run(watched())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
