"""Reasons to leave: signals, the end of input, a reader that went away. The first one counts; a second signal is
somebody in a hurry.

signal.signal serves on every system (Windows' loops know no add_signal_handler). What was ignored when we started
stays ignored: `nohup` means SIGHUP, a shell's `&` means SIGINT.
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
    """The one decision to leave: `await wait()` returns why.

    Reasons: `input` (its end, or /quit), `output` (the reader went away), `interrupted` (Ctrl-C), `terminated`
    (SIGTERM, SIGHUP), `refused` (every endpoint refused us), `ended` (the peer itself).

    Attributes:
        before_exit: Called when somebody is in a hurry, before the process ends at once: restores the terminal.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reason: asyncio.Future[str] = self._loop.create_future()
        self._before: dict[int, Any] = {}
        self._hurried = 0
        self._deaf = False
        self.before_exit: Callable[[], None] = lambda: None

    def because(self, reason: str) -> None:
        """Decide to leave, if nobody did before."""
        if not self._reason.done():
            self._reason.set_result(reason)

    @property
    def decided(self) -> bool:
        return self._reason.done()

    async def wait(self) -> str:
        """Return the reason as soon as there is one."""
        return await asyncio.shield(self._reason)

    def take_signals(self) -> None:
        """Leave on signals from now on; only in the main thread."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._came)

    def give_signals_back(self) -> None:
        """Undo take_signals."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def deafen(self, deaf: bool) -> None:
        """Take Ctrl-C for somebody else's: of an editor that has the terminal meanwhile."""
        self._deaf = deaf

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._deaf and number == signal.SIGINT:
            return
        self._hurried += 1
        if self._hurried > 1:
            self.before_exit()
            os._exit(INTERRUPTED if number == signal.SIGINT else 128 + number)  # everything accepted is on the disk
        reason = "interrupted" if number == signal.SIGINT else "terminated"
        self._loop.call_soon_threadsafe(self.because, reason)
