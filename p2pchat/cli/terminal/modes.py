"""Terminal state outside of the text: echo, focus reports, and alerts (bell, desktop notification, window title).

Echo is off until there is a prompt: what was typed before appears in the prompt, and echoed it would appear twice. At
the end, however it comes, everything is restored. Windows has no such modes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import Output

from p2pchat.safe_text import safe_line

# Bracketed paste and focus reports off; wrapping and cursor on; no colours.
_DEFAULT_MODES = b"\x1b[?2004l\x1b[?1004l\x1b[?7h\x1b[?25h\x1b[0m\r\n"
_LOCAL = 3  # index of the local modes in tcgetattr's list


class TerminalModes:
    """The modes of the terminal on standard input, and those to restore."""

    def __init__(self) -> None:
        self._before = self._now()

    def disable_echo(self) -> None:
        if sys.platform != "win32" and self._before is not None:
            import termios

            modes = [*self._before]
            modes[_LOCAL] &= ~termios.ECHO
            self._set(modes)

    def restore(self) -> None:
        if self._before is not None:
            self._set(self._before)

    def restore_at_once(self) -> None:
        """Restore the modes, and those a prompt changes, before an immediate exit."""
        self.restore()
        try:
            os.write(sys.stdout.fileno(), _DEFAULT_MODES)
        except (OSError, ValueError):  # the terminal is gone
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
        except (OSError, ValueError, termios.error):  # the terminal is gone
            pass


# ---- focus reports
#
# xterm's FocusIn and FocusOut, which most terminals have. They are on only while there is a prompt to interpret them,
# and off while another program or the shell has the terminal. A terminal without them ignores both requests, and its
# window counts as focused.
#
# Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, "FocusIn/FocusOut".


FOCUS_OFF = "\x1b[?1004l"
_FOCUS_ON = "\x1b[?1004h"
# prompt_toolkit has no such keys and would take their letters for typed ones; these two exist on no keyboard.
_FOCUS_IN, _FOCUS_OUT = Keys.ControlF23, Keys.ControlF24
_SEQUENCES = {"\x1b[I": _FOCUS_IN, "\x1b[O": _FOCUS_OUT}


class FocusReporter:
    """Focus reports of one terminal.

    Args:
        output: None: never request reports; a Windows console might print the request.
        on_focus: Called with whether the window has the keyboard.
    """

    def __init__(self, output: Output | None, on_focus: Callable[[bool], None]) -> None:
        self._output = output
        self._on_focus = on_focus
        ANSI_SEQUENCES.update(_SEQUENCES)

    def bind(self, keys: KeyBindings) -> None:
        """Handle the reports in every state of the prompt."""
        keys.add(_FOCUS_IN)(lambda event: self._on_focus(True))
        keys.add(_FOCUS_OUT)(lambda event: self._on_focus(False))

    def enable(self) -> None:
        self._write(_FOCUS_ON)

    def disable(self) -> None:
        self._write(FOCUS_OFF)

    def _write(self, sequence: str) -> None:
        if self._output is not None:
            self._output.write_raw(sequence)
            self._output.flush()


# ---- alerts
#
# Text of others in an alert is one safe line behind words of ours: some terminals interpret the beginning of a
# notification as a command.


BELL_EVERY = 2.0  # seconds
MAX_CHARACTERS = 120  # of a notification: what desktops show of one
_PUSH_TITLE, _POP_TITLE = "\x1b[22;0t", "\x1b[23;0t"  # xterm's; others ignore them


class TerminalAlerts:
    """Bell, desktop notifications and window title of one terminal. `clock` returns seconds."""

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        self._output = output
        self._clock = clock
        self._rang_at: float | None = None
        self._title: str | None = None

    def ring(self, text: str, *, bell: bool, desktop: bool) -> None:
        """Ring the bell and show a desktop notification, at most once in BELL_EVERY seconds."""
        now = self._clock()
        if not (bell or desktop) or (self._rang_at is not None and now - self._rang_at < BELL_EVERY):
            return
        self._rang_at = now
        if desktop:
            self._output.write_raw(f"\x1b]9;p2pchat: {_short(text)}\x07")
        if bell:
            self._output.write_raw("\a")
        self._output.flush()

    def title(self, where: str, unread: int) -> None:
        """Set the window title: the conversation, and the number of unread messages elsewhere."""
        title = _short((f"({unread}) " if unread else "") + f"{where} - p2pchat")
        if title == self._title:
            return
        if self._title is None:
            self._output.write_raw(_PUSH_TITLE)
        self._title = title
        self._output.set_title(title)
        self._output.flush()

    def close(self) -> None:
        """Restore the title; a terminal that cannot gets an empty one."""
        if self._title is not None:
            self._output.clear_title()
            self._output.write_raw(_POP_TITLE)
            self._output.flush()


def _short(text: str) -> str:
    line = safe_line(text.replace("\n", " "))
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"
