"""The modes of a terminal: no echo until there is a prompt, and everything as it was at the end, however that comes.

What is typed before the prompt is there stands in it then; echoed before, it would stand there twice. Windows has no
such modes.
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

# No marks around pastes, no word on the window (modes.py), wrapping, a cursor, no colours.
_AS_USUAL = b"\x1b[?2004l\x1b[?1004l\x1b[?7h\x1b[?25h\x1b[0m\r\n"
_LOCAL = 3  # which of tcgetattr's fields has the local modes


class TerminalModes:
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


# ---- focus
#
# Which window has the keyboard, where the terminal tells: xterm's focus events, which most others have too.
#
# They are switched on while there is a prompt to take them for what they are, and off whenever another program or the
# shell gets the terminal. A terminal that does not know them ignores both and never tells: its window counts as in
# front.
#
# Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, "FocusIn/FocusOut".


SWITCH_OFF = "\x1b[?1004l"
_SWITCH_ON = "\x1b[?1004h"
# prompt_toolkit knows no such keys and would take their letters for typed ones: so they are two that no keyboard has.
_CAME, _WENT = Keys.ControlF23, Keys.ControlF24
_SEQUENCES = {"\x1b[I": _CAME, "\x1b[O": _WENT}


class FocusReporter:
    """One terminal's word on its window.

    Args:
        output: None where nothing is to be asked for: a Windows console might print it.
        tell: Takes whether the window has the keyboard now.
    """

    def __init__(self, output: Output | None, tell: Callable[[bool], None]) -> None:
        self._output = output
        self._tell = tell
        ANSI_SEQUENCES.update(_SEQUENCES)

    def bind(self, keys: KeyBindings) -> None:
        """Take the events, whatever the prompt is doing."""
        keys.add(_CAME)(lambda event: self._tell(True))
        keys.add(_WENT)(lambda event: self._tell(False))

    def ask(self) -> None:
        """Have the terminal tell from now on."""
        self._write(_SWITCH_ON)

    def stop(self) -> None:
        """Have it tell nothing any more. What is not known counts as in front."""
        self._write(SWITCH_OFF)

    def _write(self, sequence: str) -> None:
        if self._output is not None:
            self._output.write_raw(sequence)
            self._output.flush()


# ---- notices
#
# What reaches somebody who does not look: the bell, a notice on the desktop, the title of the window.
#
# All of it is text of others: on one line, made safe, and with words of ours in front, since some terminals take
# orders where the text of a notice begins.


BELL_EVERY = 2.0  # seconds; more often it is noise
MOST_CHARACTERS = 120  # of a notice: what desktops show of one
_PUSH_TITLE, _POP_TITLE = "\x1b[22;0t", "\x1b[23;0t"  # xterm's; others ignore them


class TerminalAlerts:
    """One terminal's bell, notices and title.

    Args:
        clock: Seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float]) -> None:
        self._output = output
        self._clock = clock
        self._rang_at: float | None = None
        self._title: str | None = None

    def ring(self, text: str, *, bell: bool, desktop: bool) -> None:
        """Draw attention to a message, unless that was just done."""
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
        """Name the window after the conversation, with how much is unread elsewhere."""
        title = _short((f"({unread}) " if unread else "") + f"{where} - p2pchat")
        if title == self._title:
            return
        if self._title is None:
            self._output.write_raw(_PUSH_TITLE)
        self._title = title
        self._output.set_title(title)
        self._output.flush()

    def close(self) -> None:
        """Leave the title as it was, or empty where the terminal cannot."""
        if self._title is not None:
            self._output.clear_title()
            self._output.write_raw(_POP_TITLE)
            self._output.flush()


def _short(text: str) -> str:
    line = safe_line(text.replace("\n", " "))
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"
