"""The screen above the prompt: when lines are printed, and how.

All lines pass through one queue, in order, and are printed in batches: the prompt is erased, waiting lines are printed,
the prompt is drawn again, and the terminal gets that in one write. So output never tears the line being typed, and a
thousand lines cost a few dozen redraws. The next batch waits until the terminal has taken the one before.

Own lines stay in a region above the input while their delivery mark may still change; lines behind them are shown in
that region too, until the own line is printed. The scrollback is the terminal's own.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout.layout import Layout
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from p2pchat.cli.terminal.device import DIM, ERROR, TerminalStream, breaks_rows
from p2pchat.cli.terminal.pending_line import PendingLine
from p2pchat.commands.wrap import Fragment, Row, cut_row, fold_row, is_wide, plain_text

BATCH_INTERVAL = 0.02  # seconds: faster than anyone reads
MAX_BATCH_CHARACTERS = 16 * 1024  # text made to be slow takes 50 ms
SETTLED_AFTER = 5.0  # seconds: a recipient who has not answered by then is offline
OVERTAKEN_AFTER = 0.3  # seconds an own line may delay those behind it; a receipt takes some milliseconds
MAX_QUEUED = 500  # lines; above it wait_for_room() waits
_TO_BE_COPIED = re.compile(r" {4}(?!\| )\S")  # the terminal wraps such a line, so that it is copied as one
_WRAP, _NO_WRAP = ("[ZeroWidthEscape]", "\x1b[?7h"), ("[ZeroWidthEscape]", "\x1b[?7l")


@dataclass
class _QueuedLine:
    """One line to print."""

    fragments: Sequence[Fragment]
    own: PendingLine | None = None  # an own line whose mark may change
    hang: str = ""  # as fold_row takes it
    whole: bool = False  # the terminal wraps it


def _program_line(line: str, style: str = "", hang: str = "") -> _QueuedLine:
    """Return a line of the program."""
    if not _TO_BE_COPIED.match(line):
        return _QueuedLine([(style, line)], hang=hang)
    return _QueuedLine([("", line)], whole=True)


class Screen:
    """One terminal's screen, up to the prompt.

    Args:
        on_settled: Called with each own line that is printed, with its final mark.
    Attributes:
        closed: Set when the terminal is gone.
        app: The prompt's application, while there is one.
        may_draw: Returns False while the size of the window changes, or another program has the terminal;
            update_soon() must be called afterwards.
    """

    def __init__(
        self,
        output: Output,
        stream: TerminalStream | None,
        depth: ColorDepth,
        on_settled: Callable[[PendingLine], None],
    ) -> None:
        self._output = output
        self._stream = stream
        self._depth = depth
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lines: deque[_QueuedLine] = deque()
        self._own: dict[str, PendingLine] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._most: float = MAX_QUEUED
        self._changed = asyncio.Event()
        self.closed: asyncio.Event = stream.closed if stream is not None else asyncio.Event()
        self.app: Application[str] | None = None
        self.may_draw: Callable[[], bool] = lambda: True
        self._printing = asyncio.ensure_future(self._run())
        self._printing.add_done_callback(lambda task: task.cancelled() or task.result())  # a failure is logged

    @property
    def columns(self) -> int:
        return max(1, self._output.get_size().columns)

    def add_line(self, fragments: Sequence[Fragment]) -> None:
        """Print one line, of several rows if it has newlines or is long."""
        self._add(_QueuedLine(fragments))

    async def wait_for_room(self) -> None:
        """Wait while too much is queued: a terminal may stall for long."""
        await self._has_room.wait()

    def stop_waiting(self) -> None:
        """End all waiting for room: the chat ends."""
        self._most = math.inf
        self._has_room.set()

    async def wait_drained(self) -> None:
        """Wait until the terminal has taken everything, or is gone: another program may write there then."""
        if self._stream is not None:
            await self._stream.wait_drained()

    def add_pending(self, line: PendingLine) -> None:
        """Show an own line whose delivery mark may change."""
        line.due_at = self._loop.time() + SETTLED_AFTER
        self._add(_QueuedLine(line.fragments, own=line))
        self._own[line.id] = line

    def update(self, id: str, change: Callable[[PendingLine], None]) -> bool:
        """Change an own line, or its mark; return False if the line is printed already."""
        own = self._own.get(id)
        if own is None:
            return False
        change(own)
        self.update_soon()
        return True

    def print_notice(self, text: str) -> None:
        """Print a notice of the program; from any thread."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.print_notice, text)
            return
        style = ERROR if text.startswith("p2pchat: ") and not text.startswith("p2pchat: warning: ") else DIM
        for line in text.split("\n"):
            self._add(_program_line(line, style, hang="  "))

    async def write(self, text: str) -> None:
        """Print the lines of an answer; texts of others in them are safe already."""
        for line in text.split("\n"):
            self._add(_program_line(line))

    def clear(self) -> None:
        """Print what waits, and empty the screen."""
        self.flush()
        if self.app is not None:
            self.app.renderer.clear()
            self.update_soon()

    def _add(self, line: _QueuedLine) -> None:
        before = self._lines[-1].own if self._lines else None
        if before is not None:
            before.due_at = min(before.due_at, self._loop.time() + OVERTAKEN_AFTER)
        self._lines.append(line)
        if len(self._lines) > self._most:
            self._has_room.clear()
        self.update_soon()

    def update_soon(self) -> None:
        """Print what is due, and show the rest in the region."""
        self._changed.set()

    async def _run(self) -> None:
        """Print lines until the chat ends or the terminal is gone."""
        while not self.closed.is_set():
            await self._changed.wait()
            self._changed.clear()
            await self.wait_drained()
            if self._lines and self.may_draw():
                self._print(list(self._take_due()))
                if self._lines:
                    own = self._lines[0].own
                    self._loop.call_at(0.0 if own is None else own.due_at, self.update_soon)
            elif self.app is not None:
                self.app.invalidate()
            if len(self._lines) <= self._most:
                self._has_room.set()
            await asyncio.sleep(BATCH_INTERVAL)
        self.stop_waiting()

    def _take_due(self) -> Iterator[_QueuedLine]:
        """Remove due lines from the front of the queue: what is good for one batch, at least one if it is due."""
        characters = 0
        while self._lines and characters < MAX_BATCH_CHARACTERS:
            own = self._lines[0].own
            if own is not None and not own.complete and own.due_at > self._loop.time():
                return
            line = self._take()
            characters += sum(len(text) for _, text in line.fragments)
            yield line

    def _take(self) -> _QueuedLine:
        line = self._lines.popleft()
        if line.own is not None:
            del self._own[line.own.id]
            self._on_settled(line.own)
        return line

    def flush(self) -> None:
        """Print everything, own lines with the mark they have."""
        self._print([self._take() for _ in range(len(self._lines))])

    def close(self) -> None:
        """Print everything, and nothing afterwards."""
        self._printing.cancel()
        self.flush()

    def region(self, most: int) -> list[Row]:
        """Return the rows of own lines that wait for a mark, and of lines behind them, at most `most`."""
        rows: list[Row] = []
        for line in self._lines:
            if len(rows) >= most:
                break
            for row in self._rows(line):
                rows += cut_row(row, self.columns) if line.whole or is_wide(row, self.columns) else [row]
        return rows[:most]

    def _rows(self, line: _QueuedLine) -> list[Row]:
        if line.whole:
            return [list(line.fragments)]
        mark = "" if line.own is None else line.own.mark
        return fold_row(line.fragments, self.columns, hang=line.hang, style=DIM, tail=mark)

    def _print(self, lines: Sequence[_QueuedLine]) -> None:
        """Print lines above the prompt, and draw it again with all of its region: widths of texts may be guesses."""
        app = self.app if self.app is not None and self.app.is_running else None
        output = self._output
        if app is not None:
            app.renderer.erase()
        else:
            output.write_raw("\r")
            output.erase_end_of_line()  # typed before there was a prompt, and shown in it again
        printed: list[Fragment] = []
        for line in lines:
            for row in self._rows(line):
                # What surely fits wraps only where the terminal is narrower by now, as it breaks other rows then.
                text = plain_text(row)
                wraps = line.whole or (text.isascii() and len(text) < self.columns) or is_wide(row, self.columns)
                printed += [_WRAP if wraps else _NO_WRAP, *row, ("", "\n")]
        print_formatted_text(output, [*printed, _WRAP], Style([]), color_depth=self._depth)
        output.flush()
        if app is not None:
            app._redraw()


# ---- resized windows


SIZE_SETTLED_AFTER = 0.3  # seconds without a change; tmux tells a size up to 0.25 s after it has broken its rows


class ResizeGuard:
    """Draws nothing while the size of the window changes; afterwards it erases what surely is the prompt's.

    A terminal has its new size before the program hears of it, and breaks or joins the rows it shows. prompt_toolkit
    goes up as many rows as it drew: output in between would leave copies of the prompt, or overwrite messages.
    If the prompt was drawn shortly before a change, nobody knows at which width. Then only as many rows are
    erased as were drawn, the fewest it can have, and a part of the old prompt may stay.

    `on_settled` is called after the prompt was drawn again.
    """

    def __init__(self, app: Application[str], on_settled: Callable[[], None]) -> None:
        self._app = app
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._size = app.output.get_size
        self._latest = self._size()
        self._drawn_at = -SIZE_SETTLED_AFTER  # on the loop's clock
        self._is_sure = True
        self._timer: asyncio.TimerHandle | None = None
        renderer = app.renderer
        self._render, self._erase = renderer.render, renderer.erase
        renderer.render = self._render_if_settled  # type: ignore[method-assign]
        renderer.erase = self._find_and_erase  # type: ignore[method-assign]
        app._on_resize = self.is_settled  # type: ignore[method-assign,assignment]

    def is_settled(self) -> bool:
        """Return whether lines and the prompt may be drawn now."""
        size = self._size()
        if size != self._latest:
            if self._timer is None:
                self._is_sure = self._loop.time() - self._drawn_at > SIZE_SETTLED_AFTER
            else:
                self._timer.cancel()
            self._latest = size
            self._timer = self._loop.call_later(SIZE_SETTLED_AFTER, self._settle)
        return self._timer is None

    def _settle(self) -> None:
        if self._size() != self._latest:
            self.is_settled()  # it waits again
            return
        self._timer = None
        if self._app.renderer.last_rendered_screen is not None:  # not while another program has the terminal
            self._app.renderer.erase()
        self._is_sure = True
        self._app._redraw()
        self._on_settled()

    def _render_if_settled(self, app: Application[str], layout: Layout, is_done: bool = False) -> None:
        if self.is_settled():
            self._drawn_at = self._loop.time()
            self._render(app, layout, is_done)

    def _find_and_erase(self, leave_alternate_screen: bool = True) -> None:
        """Erase the prompt, from the first of the rows that the terminal made of it."""
        renderer = self._app.renderer
        size, screen, cursor = renderer._last_size, renderer.last_rendered_screen, renderer._cursor_pos
        width = max(1, self._size().columns)
        sure = self.is_settled() and self._is_sure and breaks_rows()
        if sure and size is not None and screen is not None and width < size.columns:
            above = 0
            for y in range(cursor.y):
                drawn = [x for x, cell in screen.data_buffer[y].items() if cell.char != " "]
                above += max(drawn, default=0) // width + 1
            above += max(0, cursor.x - 1) // width  # behind a full row some terminals begin another one
            renderer._cursor_pos = Point(width, above)  # up from there, and back to the first column
        self._erase(leave_alternate_screen)
