"""Shutdown requests: signals, the end of input, a reader that went away. The first one decides the reason; a second
signal ends the process at once.

signal.signal works on every system (Windows' loops have no add_signal_handler). Signals that were ignored at the start
stay ignored: `nohup` ignores SIGHUP, a shell's `&` ignores SIGINT.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from p2pchat.commands.errors import INTERRUPTED

SIGNALS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if (number := getattr(signal, name, None)) is not None
)


class Shutdown:
    """The one shutdown of a process; wait() returns its reason.

    Reasons: `input` (its end, or /quit), `output` (the reader went away), `interrupted` (Ctrl-C), `terminated`
    (SIGTERM, SIGHUP), `refused` (every endpoint refused us), `ended` (the peer itself).

    Attributes:
        before_exit: Called before a second signal ends the process, to restore the terminal.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reason: asyncio.Future[str] = self._loop.create_future()
        self._handlers: dict[int, Any] = {}  # those before ours
        self._signals = 0
        self._ignores_interrupt = False
        self.before_exit: Callable[[], None] = lambda: None

    def request(self, reason: str) -> None:
        """Request the shutdown; the first reason counts."""
        if not self._reason.done():
            self._reason.set_result(reason)

    @property
    def is_requested(self) -> bool:
        return self._reason.done()

    async def wait(self) -> str:
        """Wait for the shutdown and return its reason."""
        return await asyncio.shield(self._reason)

    def install_handlers(self) -> None:
        """Shut down on signals from now on; call in the main thread."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_signal)

    def restore_handlers(self) -> None:
        """Undo install_handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def ignore_interrupt(self, ignored: bool) -> None:
        """Ignore Ctrl-C while an editor has the terminal."""
        self._ignores_interrupt = ignored

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._ignores_interrupt and number == signal.SIGINT:
            return
        self._signals += 1
        if self._signals > 1:
            self.before_exit()
            os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)  # everything accepted is on disk
        reason = "interrupted" if number == signal.SIGINT else "terminated"
        self._loop.call_soon_threadsafe(self.request, reason)
