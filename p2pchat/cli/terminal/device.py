"""The terminal as a device: output that never blocks, modes, focus reports, alerts, colours.

Alerts are the bell, desktop notifications and the window title.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Attrs

from p2pchat.safe_text import safe_line

# ---- output


class TerminalStream:
    """A terminal as a text file for prompt_toolkit, written by a thread.

    A stalled terminal (a hanging ssh, a paused window) delays the output, and never the peer. What is written in one
    step of the event loop leaves in one piece, so that erasing the prompt, printing lines and drawing the prompt are
    one change.

    Attributes:
        closed: Set when the terminal is gone; output is dropped then.
    """

    encoding = "utf-8"

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._loop = loop
        self._buffer: list[str] = []
        self._pieces: SimpleQueue[bytes | asyncio.Event | None] = SimpleQueue()
        self.closed: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._buffer.append(text)
        return len(text)

    def flush(self) -> None:
        if self._buffer:
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        if self._buffer:
            data = "".join(self._buffer).encode("utf-8", "backslashreplace")
            self._buffer.clear()
            self._pieces.put(data)

    async def wait_drained(self) -> None:
        """Wait until the terminal has taken everything, or is gone."""
        self._send()
        drained = asyncio.Event()
        self._pieces.put(drained)
        await drained.wait()

    def close(self, timeout: float = 1.0) -> None:
        """Write the remaining output, for up to `timeout` seconds."""
        self._send()
        self._pieces.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, bytes):
                self._write(piece)
            else:
                self._call(piece.set)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.closed.is_set():
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # another program made the terminal non-blocking
                select.select([], [self._fd], [])
            except OSError:
                self._call(self.closed.set)
                return

    def _call(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(what)


def create_terminal_output(stream: TerminalStream | None) -> Output:
    """Return prompt_toolkit's output; without a stream on standard output, as on Windows."""
    if stream is None:
        return create_output(sys.stdout)
    return _TerminalOutput.from_pty(stream, term=os.environ.get("TERM"))  # type: ignore[arg-type]


class _TerminalOutput(Vt100_Output):
    responds_to_cpr = False  # late answers to cursor position requests would be taken for keys

    def erase_down(self) -> None:
        """Erase what is behind the cursor, in two parts: tmux would keep a whole screen erased at once."""
        self.write_raw("\x1b7\x1b[K\x1b[C\x1b[J\x1b8")


def breaks_rows() -> bool:
    """Return whether the terminal breaks rows that no longer fit a narrower window; xterm and a few others cut them."""
    environment = os.environ
    if environment.get("TMUX"):
        return True
    cuts = environment.get("TERM", "").startswith(("linux", "st", "putty", "screen"))
    return not (cuts or environment.get("XTERM_VERSION") or environment.get("STY"))


# ---- modes

# Bracketed paste and focus reports off; wrapping and cursor on; no colours.
_DEFAULT_MODES = b"\x1b[?2004l\x1b[?1004l\x1b[?7h\x1b[?25h\x1b[0m\r\n"


def reset_modes() -> None:
    """Undo what a prompt changes, before an immediate exit."""
    with suppress(OSError, ValueError):  # the terminal is gone
        os.write(sys.stdout.fileno(), _DEFAULT_MODES)


# ---- focus reports
#
# xterm's FocusIn and FocusOut, which most terminals have. They are on only while there is a prompt to interpret them,
# and off while another program or the shell has the terminal. A terminal without them ignores both requests, and its
# window counts as focused.
#
# Source: https://invisible-island.net/xterm/ctlseqs/ctlseqs.html, "FocusIn/FocusOut".


# prompt_toolkit has no such keys and would take their letters for typed ones; these two exist on no keyboard.
_FOCUS_IN, _FOCUS_OUT = Keys.ControlF23, Keys.ControlF24


def bind_focus(keys: KeyBindings, on_focus: Callable[[bool], None]) -> None:
    """Call `on_focus` with whether the window has the keyboard, in every state of the prompt."""
    ANSI_SEQUENCES.update({"\x1b[I": _FOCUS_IN, "\x1b[O": _FOCUS_OUT})
    keys.add(_FOCUS_IN)(lambda event: on_focus(True))
    keys.add(_FOCUS_OUT)(lambda event: on_focus(False))


def report_focus(output: Output, on: bool) -> None:
    """Ask the terminal for reports, or for none."""
    if sys.platform != "win32":  # its console might print the request
        output.write_raw("\x1b[?1004h" if on else "\x1b[?1004l")
        output.flush()


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


# ---- colours
#
# Only colours of the terminal's own sixteen that are readable on light and dark backgrounds, and none that carries
# meaning alone. With NO_COLOR (https://no-color.org) only bold and dim remain.


# Not white, black, yellow or the greys: one of the backgrounds swallows them. Not blue: too dark on black.
_NAMES = ("ansired", "ansigreen", "ansimagenta", "ansicyan", "ansibrightblue", "ansibrightmagenta")
DIM = "dim" if "dim" in Attrs._fields else ""  # prompt_toolkit knows it since 3.0.51
ME = "bold"
ERROR = "ansired"
UNREAD = "bold"


def name_style(user_id: str) -> str:
    """Return the style of a user's name: the same on all days and all peers."""
    return _NAMES[zlib.crc32(user_id.encode()) % len(_NAMES)]
