"""Commands that end in good order on SIGTERM and SIGHUP as they do on Ctrl-C: a peer they run may have to be closed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

from p2pchat.cli.loop import make_runner

_SIGNALS = tuple(number for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if (number := getattr(signal, name, None)))


def run_until_signal(main: Coroutine[Any, Any, int], *, terminated: Callable[[], int]) -> int:
    """Run a command; return its exit code, or what `terminated` says when a signal ended it before.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    before: dict[int, Any] = {}
    came = False

    async def watched() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal came
            came = True
            loop.call_soon_threadsafe(task.cancel)

        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                before[number] = signal.signal(number, stop)
        try:
            return await main
        except asyncio.CancelledError:
            if not came:
                raise
            return terminated()

    try:
        with make_runner() as runner:
            return runner.run(watched())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
