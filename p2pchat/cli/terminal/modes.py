"""The modes of a terminal: no echo until there is a prompt, and everything as it was at the end, however that comes.

What is typed before the prompt is there stands in it then; echoed before, it would stand there twice. Windows has no
such modes.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# No marks around pastes, no word on the window (focus.py), wrapping, a cursor, no colours.
_AS_USUAL = b"\x1b[?2004l\x1b[?1004l\x1b[?7h\x1b[?25h\x1b[0m\r\n"
_LOCAL = 3  # which of tcgetattr's fields has the local modes


class Modes:
    """The modes of the terminal on standard input, as they are now."""

    def __init__(self) -> None:
        self._before = self._now()

    def hush(self) -> None:
        """Echo nothing from now on."""
        if sys.platform != "win32" and self._before is not None:
            import termios

            modes = [*self._before]
            modes[_LOCAL] &= ~termios.ECHO
            self._set(modes)

    def give_back(self) -> None:
        """Make them what they were."""
        if self._before is not None:
            self._set(self._before)

    def give_back_at_once(self) -> None:
        """The same for an end that waits for nobody, with what a prompt changes otherwise."""
        self.give_back()
        try:
            os.write(sys.stdout.fileno(), _AS_USUAL)
        except (OSError, ValueError):  # it has gone
            pass

    def _now(self) -> list[Any] | None:
        if sys.platform == "win32":
            return None
        import termios

        try:
            return termios.tcgetattr(sys.stdin.fileno())
        except (OSError, ValueError, termios.error):
            return None

    def _set(self, modes: list[Any]) -> None:
        if sys.platform == "win32":
            return
        import termios

        try:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)
        except (OSError, ValueError, termios.error):  # it has gone
            pass
