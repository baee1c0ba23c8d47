"""What is printed above the prompt, and when.

Everything goes through one list, in the order it happened, and up in batches: the prompt is taken away, all lines that
wait are printed, the prompt is drawn again, and the terminal gets that in one piece. So nothing tears what somebody
types, and a thousand lines cost a few dozen redraws.

One's own lines stay below, in a region above the input, while it is open what becomes of them (screen.py); what comes
behind them is shown in that region too, until they go up. The scrollback is the terminal's own.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prompt_toolkit.application import Application
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Attrs, Style

from p2pchat.commands.columns import Fragment, Row, fold_row, lines_of
from p2pchat.commands.invites import INDENT, row_of_code

BATCH_INTERVAL = 0.02  # seconds between two batches: faster than anybody reads
MOST_AT_ONCE = 250  # lines printed in one turn of the loop, a few milliseconds
MOST_CHARACTERS_AT_ONCE = 16 * 1024  # of them; what somebody made to be slow takes 50 ms
MOST_WAITING = 1 << 20  # characters of lines not printed yet; then whoever has more waits
MOST_BACKLOG = 64 * 1024  # bytes the terminal has not taken: then lines wait here instead
_TO_BE_COPIED = re.compile(r" {4}(?!\| )\S")  # such a line of ours is wrapped by the terminal, and copied as one
_HANG = "  "  # as exits.tell folds


@dataclass(slots=True)
class _QueuedLine:
    """One line that waits. `fragments` as they are folded; `own` while its mark is open."""

    fragments: Sequence[Fragment] = ()
    own: PendingLine | None = None
    hang: str = ""  # as fold_row takes it
    whole: bool = False  # left to the terminal to wrap
    clear: bool = False
    folded: tuple[int, str, list[Row]] | None = None  # the rows, and for which width and mark

    @property
    def size(self) -> int:
        """Characters."""
        fragments = self.fragments if self.own is None else self.own.fragments
        return sum(len(text) for _, text in fragments)


def _as_it_is(line: str) -> list[Fragment]:
    """Return a line of ours that is not folded; a row of a QR code in the colours it must have."""
    row = row_of_code(line)
    return [("", line)] if row is None else [("", INDENT), (BLACK_ON_WHITE, row)]


class Screen:
    """One terminal's screen, up to the prompt.

    Args:
        went_up: Called with each own line that went up, with the mark it has.
    Attributes:
        closed: Set when the terminal has gone.
        app: The prompt's application, while there is one.
    """

    def __init__(
        self, output: Output, stream: TerminalStream | None, depth: ColorDepth, went_up: Callable[[PendingLine], None]
    ) -> None:
        self._output = output
        self._stream = stream
        self._depth = depth
        self._went_up = went_up
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lines: deque[_QueuedLine] = deque()
        self._waiting = 0  # characters in them
        self._all_in = False
        self._room = asyncio.Event()
        self._room.set()
        self._own: dict[str, PendingLine] = {}
        self._held = 0
        self._next: asyncio.TimerHandle | None = None
        self._next_at = 0.0  # when that comes, by the clock of the loop
        self._printed_at = 0.0
        self._drain: asyncio.Task[None] | None = None
        self._attrs: dict[str, Attrs] = {}
        self._style = Style([])
        self.closed = stream.closed if stream is not None else asyncio.Event()
        self.app: Application[str] | None = None

    @property
    def columns(self) -> int:
        return max(1, self._output.get_size().columns)

    @property
    def now(self) -> float:
        """Seconds of the clock that own lines are timed by."""
        return self._loop.time()

    # What there is to print

    def line(self, fragments: Sequence[Fragment]) -> None:
        """Print one line (of several rows, where it has newlines or is long)."""
        part: list[Fragment] = []
        size = 0
        for row in lines_of(fragments):  # in parts, so that no turn of the loop has to print all of a long one
            if size > MOST_CHARACTERS_AT_ONCE or len(part) > MOST_AT_ONCE:
                self._add(_QueuedLine(part))
                part, size = [], 0
            part += [*([("", "\n")] if part else []), *row]
            size += sum(len(text) for _, text in row)
        self._add(_QueuedLine(part))

    async def room(self) -> None:
        """Wait until so much is printed that there is room for more: a terminal may stand still for long."""
        if self._room.is_set():
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._room, self.closed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def let_all_in(self) -> None:
        """The end is near: nobody waits for room any more."""
        self._all_in = True
        self._room.set()

    def own(self, line: PendingLine) -> None:
        """Show a line of one's own, its mark still open."""
        self._own[line.id] = line
        self._add(_QueuedLine(own=line))

    def delivered(self, id: str, count: int, of: int) -> bool:
        """An own line got a better mark; False when it is not below any more."""
        own = self._own.get(id)
        if own is None:
            return False
        own.delivered(count, of)
        self._soon()
        return True

    def was_read(self, id: str, count: int, of: int) -> None:
        """An own line was read by somebody; nothing when it is not below any more."""
        own = self._own.get(id)
        if own is not None:
            own.was_read(count, of)
            self._soon()

    def tell(self, text: str) -> None:
        """Print what the program says beside the chat; from any thread."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.tell, text)
            return
        style = ERROR if text.startswith("p2pchat: ") and not text.startswith("p2pchat: warning: ") else DIM
        for line in text.split("\n"):
            if _TO_BE_COPIED.match(line):
                self._add(_QueuedLine(_as_it_is(line), whole=True))
            else:
                self._add(_QueuedLine([(style, line)], hang=_HANG))

    async def write(self, text: str) -> None:
        """Print lines made for people, as a command answers; texts of others in them are marked as they should be."""
        for line in text.split("\n"):
            whole = _TO_BE_COPIED.match(line) is not None
            self._add(_QueuedLine(_as_it_is(line) if whole else [("", line)], whole=whole))

    def clear(self) -> None:
        """Empty the screen, behind what is to be printed before."""
        self._add(_QueuedLine(clear=True))

    def _add(self, line: _QueuedLine) -> None:
        now = self._loop.time()
        for own in self._own.values():
            if own.overtaken_at is None:
                own.overtaken_at = now
        if line.own is not None:
            line.own.overtaken_at = None
        self._lines.append(line)
        self._waiting += line.size
        self._see_room()
        self._soon()

    def _see_room(self) -> None:
        if self._waiting <= MOST_WAITING or self._all_in:
            self._room.set()
        else:
            self._room.clear()

    # When

    def hold(self) -> None:
        """Print nothing until release(): the terminal is another program's."""
        self._held += 1

    def release(self) -> None:
        """Print what came meanwhile."""
        self._held -= 1
        self._soon()

    def _soon(self) -> None:
        if self._next is not None and self._next_at > self._loop.time() + BATCH_INTERVAL:
            self._next.cancel()
            self._next = None
        if self._next is None:
            self._come_at(max(self._loop.time(), self._printed_at + BATCH_INTERVAL))

    def _come_at(self, at: float) -> None:
        self._next, self._next_at = self._loop.call_at(at, self._update), at  # not every loop's handle knows its time

    def _update(self) -> None:
        """Print what is due, show the rest in the region, and come again when the next is due."""
        self._next = None
        if self._held or self.closed.is_set():
            return
        if self._stream is not None and self._stream.backlog > MOST_BACKLOG:
            if self._drain is None or self._drain.done():
                self._drain = asyncio.ensure_future(self._when_drained(self._stream))
            return
        due = list(self._take_due(MOST_AT_ONCE, MOST_CHARACTERS_AT_ONCE))
        self._see_room()
        if due:
            self._print(due)
        elif self.app is not None:
            self.app.invalidate()
        if self._lines:
            head = self._lines[0].own
            self._come_at(head.due_at if head is not None else 0.0)

    async def _when_drained(self, stream: TerminalStream) -> None:
        await stream.drained()
        self._soon()

    def _take_due(self, most: int, most_characters: int) -> Iterator[_QueuedLine]:
        """Take lines from the front, at least one that is due; about so many characters."""
        now = self._loop.time()
        while self._lines and most > 0 and most_characters > 0:
            own = self._lines[0].own
            if own is not None and not own.complete and own.due_at > now:
                return
            most -= 1
            line = self._lines.popleft()
            most_characters -= line.size
            self._waiting -= line.size
            if own is not None:
                self._release(own)
            yield line

    def _release(self, own: PendingLine) -> None:
        del self._own[own.id]
        self._went_up(own)

    def flush(self) -> None:
        """Print everything, also what waits for a mark."""
        if self.closed.is_set():
            return
        for line in self._lines:
            if line.own is not None:
                self._release(line.own)
        lines = list(self._lines)
        self._lines.clear()
        self._waiting = 0
        if lines:
            self._print(lines)

    # How

    def region(self, most: int) -> list[Row]:
        """Return the rows that wait for a mark, at most so many."""
        rows: list[Row] = []
        for line in self._lines:
            if len(rows) >= most or line.clear:
                break
            rows += self._rows(line)
        return rows[:most]

    def _rows(self, line: _QueuedLine) -> list[Row]:
        if line.whole:
            return [list(line.fragments)]
        own = line.own
        columns, mark = self.columns, "" if own is None else own.mark
        if line.folded is None or line.folded[:2] != (columns, mark):
            fragments = line.fragments if own is None else [*own.fragments, (DIM, f"  {mark}")]
            line.folded = columns, mark, fold_row(fragments, columns, hang=line.hang, style=DIM)
        return line.folded[2]

    def _print(self, lines: Sequence[_QueuedLine]) -> None:
        self._printed_at = self._loop.time()
        app = self.app if self.app is not None and self.app.is_running else None
        if self._stream is None:
            self._draw(app, lines)
            return
        with self._stream.together():
            self._draw(app, lines)

    def _draw(self, app: Application[str] | None, lines: Sequence[_QueuedLine]) -> None:
        output = self._output
        if app is not None:
            app.renderer.erase()
        else:
            output.write_raw("\r")
            output.erase_end_of_line()  # what was typed before there was a prompt: it comes again in the prompt
        for line in lines:
            if line.clear:
                output.erase_screen()
                output.cursor_goto(0, 0)
                continue
            for row in self._rows(line):
                self._draw_row(row, wrap=line.whole)
        output.enable_autowrap()
        output.flush()
        if app is not None:
            app.renderer.reset()
            app._redraw()

    def _draw_row(self, row: Row, *, wrap: bool) -> None:
        output = self._output
        if wrap:
            output.enable_autowrap()
        else:
            output.disable_autowrap()
        for style, text in row:
            output.set_attributes(self._attrs_of(style), self._depth)
            output.write(text)
        output.reset_attributes()
        output.write_raw("\r\n")

    def _attrs_of(self, style: str) -> Attrs:
        if style not in self._attrs:
            self._attrs[style] = self._style.get_attrs_for_style_str(style)
        return self._attrs[style]


# ---- stream
#
# The bytes to a terminal, written by a thread: a terminal that stands still (a stalled ssh, a paused window) holds up
# what is shown, and never the peer.
#
# Looks like a text file to prompt_toolkit. What is written inside `together()` leaves in one piece, so that a prompt
# that is taken away, lines above it, and the prompt again are one change of the screen.


class TerminalStream:
    """Writes to the terminal behind a file descriptor.

    Attributes:
        closed: Set when the terminal has gone; what is written then is dropped.
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
        self._corks = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.closed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    # As a file

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._buffer.append(text)
        return len(text)

    def flush(self) -> None:
        if self._corks or not self._buffer:
            return
        data = "".join(self._buffer).encode("utf-8", "backslashreplace")
        self._buffer.clear()
        with self._changed:
            self._pieces.append(data)
            self._backlog += len(data)
            self._changed.notify_all()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is written inside leave in one piece."""
        self._corks += 1
        try:
            yield
        finally:
            self._corks -= 1
            self.flush()

    # How far it is

    @property
    def backlog(self) -> int:
        """Bytes the terminal has not taken yet."""
        return self._backlog

    async def drained(self) -> None:
        """Return when the terminal has taken everything, or has gone."""
        while self._backlog:
            waiting = self._loop.create_future()
            self._waiting.append(waiting)
            if not self._backlog:  # the thread may have been quicker
                self._wake()
            await waiting

    def settle(self, timeout: float) -> None:
        """Wait for the same without the loop, at most so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._backlog, timeout)

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, at most so long; nothing may be written any more."""
        self.settle(timeout)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    # The thread

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
                self._call(self._wake)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self.closed.is_set():
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:  # somebody made the terminal non-blocking
                select.select([], [self._fd], [])
            except OSError:
                self._call(self.closed.set)
                return

    def _call(self, what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)


# ---- colours
#
# Colours that can be read on light and on dark terminals: only those of the terminal's own sixteen that people set
# so that they can, and never one that carries meaning alone. NO_COLOR (https://no-color.org) leaves weight and nothing
# else.


# Not white, black, yellow or the greys: one of the backgrounds swallows them. Not blue: too dark on black.
_NAMES = ("ansired", "ansigreen", "ansimagenta", "ansicyan", "ansibrightblue", "ansibrightmagenta")
DIM = "dim" if "dim" in Attrs._fields else ""  # prompt_toolkit knows it since 3.0.51
ME = "bold"
ERROR = "ansired"
UNREAD = "bold"
BLACK_ON_WHITE = "ansiblack bg:ansiwhite"  # a QR code, which says nothing by its colours but is only read in these


def name_style(user_id: str) -> str:
    """Return the style of somebody's name: the same on every day and every peer."""
    return _NAMES[zlib.crc32(user_id.encode()) % len(_NAMES)]


def colour_depth(environment: Mapping[str, str] = os.environ) -> ColorDepth:
    """Return what colours may be used."""
    return ColorDepth.DEPTH_1_BIT if environment.get("NO_COLOR") else ColorDepth.DEPTH_4_BIT


# ---- marks
#
# One's own lines while it is still open what becomes of them: `· kept`, then `✓ delivered 2/3`, `✓✓ read 1/3`.
#
# A mark says what is known, never more: kept is accepted, safe on this disk; delivered is on the disks of so many of
# those it is for; read is what so many of their programs have said. A line waits for its mark only for moments, and
# goes up with the one it has then.


SETTLED_AFTER = 5.0  # seconds: who has not answered by then is away
OVERTAKEN_AFTER = 0.3  # seconds a line may keep those behind it from going up; a receipt takes some milliseconds
SAVED = "· kept"


@dataclass(slots=True)
class PendingLine:
    """A line of one's own that is still below.

    Attributes:
        id: Of the message.
        direct: It is for one user alone.
        fragments: The line without its mark.
        shown_at: When it was shown first, seconds of the loop's clock.
        overtaken_at: When something came behind it; None: nothing did.
        count, of: So many of so many have it; 0 of 0 until somebody has.
        read: So many of them have read it.
    """

    id: str
    direct: bool
    fragments: list[Fragment]
    shown_at: float
    overtaken_at: float | None = None
    count: int = 0
    of: int = 0
    read: int = 0  # by so many of them

    @property
    def mark(self) -> str:
        if self.read:
            return "✓✓ read" if self.direct else f"✓✓ read {self.read}/{self.of}"
        if not self.count:
            return SAVED
        return "✓ delivered" if self.direct else f"✓ delivered {self.count}/{self.of}"

    @property
    def complete(self) -> bool:
        """Whether nothing better can be said of it."""
        return 0 < self.of <= self.read

    @property
    def due_at(self) -> float:
        """When it goes up whatever its mark."""
        by = self.shown_at + SETTLED_AFTER
        return by if self.overtaken_at is None else min(by, self.overtaken_at + OVERTAKEN_AFTER)

    def delivered(self, count: int, of: int) -> None:
        """So many have it now."""
        self.count, self.of = max(count, self.count), max(of, self.of)

    def was_read(self, count: int, of: int) -> None:
        """So many have read it now."""
        self.read, self.of = max(count, self.read), max(of, self.of)
