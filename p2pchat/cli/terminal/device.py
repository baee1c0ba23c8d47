"""The terminal as a device: output that never blocks, modes, focus reports, alerts, colours.

Alerts are the bell, desktop notifications and the window title.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from prompt_toolkit.data_structures import Size
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Attrs

from p2pchat.safe_text import safe_line

_DEFAULT_SIZE = Size(rows=24, columns=80)

# ---- output


class TerminalStream:
    """A terminal as a text file for prompt_toolkit, written by a thread.

    A stalled terminal (a hanging ssh, a paused window) delays the output, and never the peer. Writes inside
    batch() leave in one piece, so that erasing the prompt, printing lines and drawing the prompt are one change.

    Attributes:
        closed: Set when the terminal is gone; output is dropped then.
    """

    encoding = "utf-8"

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self._fd = fd
        self._loop = loop
        self._changed = threading.Condition()
        self._pieces: list[bytes] = []
        self._backlog = 0
        self._ended = False
        self._buffer: list[str] = []
        self._batches = 0
        self._waiters: list[asyncio.Future[None]] = []
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
        if self._batches or not self._buffer:
            return
        data = "".join(self._buffer).encode("utf-8", "backslashreplace")
        self._buffer.clear()
        with self._changed:
            self._pieces.append(data)
            self._backlog += len(data)
            self._changed.notify_all()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Send all writes inside in one piece."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            self.flush()

    @property
    def backlog(self) -> int:
        """Bytes the terminal has not taken yet."""
        return self._backlog

    async def wait_drained(self) -> None:
        """Wait until the terminal has taken everything, or is gone."""
        while self._backlog:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            if not self._backlog:  # the thread may have been faster
                self._wake_waiters()
            await waiter

    def wait_drained_blocking(self, timeout: float) -> None:
        """Wait for the same outside the loop, for up to `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._backlog, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write the remaining output, for up to `timeout` seconds; write nothing afterwards."""
        self.wait_drained_blocking(timeout)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                if self._ended and not self._pieces:
                    return
                data = b"".join(self._pieces)
                self._pieces.clear()
            self._write(data)
            with self._changed:
                self._backlog -= len(data)
                self._changed.notify_all()
            if not self._backlog:
                self._call(self._wake_waiters)

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

    def _call(self, what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed
            pass

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for each in waiters:
            if not each.done():
                each.set_result(None)


def create_terminal_output(stream: TerminalStream | None) -> Output:
    """Return prompt_toolkit's output; without a stream on standard output, as on Windows."""
    if stream is None:
        return create_output(sys.stdout)

    def size() -> Size:
        try:
            found = os.get_terminal_size(stream.fileno())
        except OSError:
            return _DEFAULT_SIZE
        return Size(rows=found.lines or _DEFAULT_SIZE.rows, columns=found.columns or _DEFAULT_SIZE.columns)

    # Without cursor position requests: late answers would be taken for keys.
    return _TerminalOutput(stream, size, term=os.environ.get("TERM"), enable_cpr=False)  # type: ignore[arg-type]


class _TerminalOutput(Vt100_Output):
    def erase_down(self) -> None:
        """Erase what is behind the cursor, in two parts: tmux would keep a whole screen erased at once."""
        self.write_raw("\x1b7\x1b[K\x1b[C\x1b[J\x1b8")


def breaks_rows(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal breaks rows that no longer fit a narrower window; xterm and a few others cut them."""
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


@contextmanager
def on_continued(call: Callable[[], object]) -> Iterator[None]:
    """Call this whenever the process goes on after a stop, also one from outside: the shell has changed the modes."""
    if sys.platform == "win32":  # it has no such signal
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCONT, call)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCONT)


def stop_process() -> None:
    """Stop, as Ctrl-Z does; return when the shell's `fg` continues the process, without a call by on_continued()."""
    if sys.platform == "win32":
        return
    handler = signal.signal(signal.SIGCONT, signal.SIG_DFL)
    try:
        os.kill(0, signal.SIGTSTP)
    finally:
        signal.signal(signal.SIGCONT, handler)


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
BLACK_ON_WHITE = "ansiblack bg:ansiwhite"  # a QR code is readable in these only


def name_style(user_id: str) -> str:
    """Return the style of a user's name: the same on all days and all peers."""
    return _NAMES[zlib.crc32(user_id.encode()) % len(_NAMES)]


def colour_depth(environment: Mapping[str, str] = os.environ) -> ColorDepth:
    """Return the colour depth to use."""
    return ColorDepth.DEPTH_1_BIT if environment.get("NO_COLOR") else ColorDepth.DEPTH_4_BIT
