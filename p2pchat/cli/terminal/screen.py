"""The screen above the prompt: when lines are printed, and how.

All lines pass through one queue, in order, and are printed in batches: the prompt is erased, all waiting lines are
printed, the prompt is drawn again, and the terminal gets that in one write. So output never tears the line being typed,
and a thousand lines cost a few dozen redraws.

Own lines stay in a region above the input while their delivery mark may still change; lines behind them are shown in
that region too, until the own line is printed. The scrollback is the terminal's own.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.layout.layout import Layout
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Attrs, Style

from p2pchat.cli.terminal.chat_lines import PendingLine
from p2pchat.cli.terminal.device import BLACK_ON_WHITE, DIM, ERROR, TerminalStream
from p2pchat.commands.qr_code import INDENT, row_of_code
from p2pchat.commands.wrap import Fragment, Row, cut_row, fold_row, is_wide, plain_text, split_rows

BATCH_INTERVAL = 0.02  # seconds: faster than anyone reads
MAX_BATCH_LINES = 250  # a few milliseconds
MAX_BATCH_CHARACTERS = 16 * 1024  # text made to be slow takes 50 ms
MAX_QUEUED = 1 << 20  # characters; above it wait_for_room() waits
MAX_BACKLOG = 64 * 1024  # bytes the terminal has not taken; above it lines stay queued
_TO_BE_COPIED = re.compile(r" {4}(?!\| )\S")  # the terminal wraps such a line, so that it is copied as one
_HANG = "  "  # as print_notice folds
_OF_UNSURE_WIDTH = re.compile("[\u200d\ufe0f\U0001f3fb-\U0001f3ff]")  # joined and modified emoji


@dataclass(slots=True)
class _QueuedLine:
    """One line to print."""

    fragments: Sequence[Fragment] = ()
    own: PendingLine | None = None  # an own line whose mark may change
    hang: str = ""  # as fold_row takes it
    whole: bool = False  # the terminal wraps it
    clear: bool = False  # no line: empty the screen
    folded: tuple[int, str, list[Row]] | None = None  # width, mark, and the rows for these

    @property
    def size(self) -> int:
        """The number of characters."""
        fragments = self.fragments if self.own is None else self.own.fragments
        return sum(len(text) for _, text in fragments)


def _whole_line(line: str) -> list[Fragment]:
    """Return an unfolded line; a row of a QR code gets the colours it needs."""
    row = row_of_code(line)
    return [("", line)] if row is None else [("", INDENT), (BLACK_ON_WHITE, row)]


class Screen:
    """One terminal's screen, up to the prompt.

    Args:
        on_settled: Called with each own line that is printed, with its final mark.
    Attributes:
        closed: Set when the terminal is gone.
        app: The prompt's application, while there is one.
        may_draw: Returns False while the size of the window changes; update_soon() must be called afterwards.
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
        self._queued = 0  # characters in them
        self._unlimited = False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._own: dict[str, PendingLine] = {}
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # on the loop's clock
        self._printed_at = 0.0
        self._drain: asyncio.Task[None] | None = None
        self._attrs: dict[str, Attrs] = {}
        self._style = Style([])
        self.closed: asyncio.Event = stream.closed if stream is not None else asyncio.Event()
        self.app: Application[str] | None = None
        self.may_draw: Callable[[], bool] = lambda: True

    @property
    def columns(self) -> int:
        return max(1, self._output.get_size().columns)

    @property
    def now(self) -> float:
        """Seconds of the clock for own lines."""
        return self._loop.time()

    def add_line(self, fragments: Sequence[Fragment]) -> None:
        """Print one line, of several rows if it has newlines or is long."""
        part: list[Fragment] = []
        size = 0
        for row in split_rows(fragments):  # in parts: no batch may be too long
            if size > MAX_BATCH_CHARACTERS or len(part) > MAX_BATCH_LINES:
                self._add(_QueuedLine(part))
                part, size = [], 0
            part += [*([("", "\n")] if part else []), *row]
            size += sum(len(text) for _, text in row)
        self._add(_QueuedLine(part))

    async def wait_for_room(self) -> None:
        """Wait while too much is queued: a terminal may stall for long."""
        if self._has_room.is_set():
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._has_room, self.closed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def wait_drained(self) -> None:
        """Wait until the terminal has taken everything, or is gone: another program may write there then."""
        if self._stream is not None:
            await self._stream.wait_drained()

    def stop_waiting(self) -> None:
        """End all waiting for room: the chat ends."""
        self._unlimited = True
        self._has_room.set()

    def add_pending(self, line: PendingLine) -> None:
        """Show an own line whose delivery mark may change."""
        self._own[line.id] = line
        self._add(_QueuedLine(own=line))

    def on_delivered(self, id: str, count: int, of: int) -> bool:
        """Update the mark of an own line; return False if it is printed already."""
        own = self._own.get(id)
        if own is None:
            return False
        own.on_delivered(count, of)
        self._draw_anew(own)
        return True

    def on_read(self, id: str, count: int, of: int) -> None:
        """Update the mark of an own line, unless it is printed already."""
        own = self._own.get(id)
        if own is not None:
            own.on_read(count, of)
            self._draw_anew(own)

    def on_file(self, id: str, root: str, count: int) -> bool:
        """Update how many have a file of an own line; return False if the line is printed already."""
        own = self._own.get(id)
        if own is None:
            return False
        own.on_file(root, count)
        self._draw_anew(own)
        return True

    def _draw_anew(self, own: PendingLine) -> None:
        """Show the new mark; where the width of the text before it is a guess, with all of the row."""
        if self.app is not None and any(_OF_UNSURE_WIDTH.search(text) for _, text in own.fragments):
            self.app.renderer._last_screen = None
        self.update_soon()

    def print_notice(self, text: str) -> None:
        """Print a notice of the program; from any thread."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.print_notice, text)
            return
        style = ERROR if text.startswith("p2pchat: ") and not text.startswith("p2pchat: warning: ") else DIM
        for line in text.split("\n"):
            if _TO_BE_COPIED.match(line):
                self._add(_QueuedLine(_whole_line(line), whole=True))
            else:
                self._add(_QueuedLine([(style, line)], hang=_HANG))

    async def write(self, text: str) -> None:
        """Print the lines of an answer; texts of others in them are safe already."""
        for line in text.split("\n"):
            whole = _TO_BE_COPIED.match(line) is not None
            self._add(_QueuedLine(_whole_line(line) if whole else [("", line)], whole=whole))

    def clear(self) -> None:
        """Empty the screen once everything queued before is printed."""
        self._add(_QueuedLine(clear=True))

    def _add(self, line: _QueuedLine) -> None:
        now = self._loop.time()
        for own in self._own.values():
            if own.overtaken_at is None:
                own.overtaken_at = now
        if line.own is not None:
            line.own.overtaken_at = None
        self._lines.append(line)
        self._queued += line.size
        self._update_room()
        self.update_soon()

    def _update_room(self) -> None:
        if self._queued <= MAX_QUEUED or self._unlimited:
            self._has_room.set()
        else:
            self._has_room.clear()

    def hold(self) -> None:
        """Print nothing until release(): another program has the terminal."""
        self._held += 1

    def release(self) -> None:
        self._held -= 1
        self.update_soon()

    def update_soon(self) -> None:
        """Print what is due."""
        if self._timer is not None and self._timer_at > self._loop.time() + BATCH_INTERVAL:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._update_at(max(self._loop.time(), self._printed_at + BATCH_INTERVAL))

    def _update_at(self, at: float) -> None:
        self._timer, self._timer_at = self._loop.call_at(at, self._update), at  # not every loop has TimerHandle.when()

    def _update(self) -> None:
        """Print what is due, show the rest in the region, and schedule the next update."""
        self._timer = None
        if self._held or self.closed.is_set() or (self.app is not None and not self.may_draw()):
            return
        if self._stream is not None and self._stream.backlog > MAX_BACKLOG:
            if self._drain is None or self._drain.done():
                self._drain = asyncio.ensure_future(self._update_when_drained(self._stream))
            return
        due = list(self._take_due(MAX_BATCH_LINES, MAX_BATCH_CHARACTERS))
        self._update_room()
        if due:
            self._print(due)
        elif self.app is not None:
            self.app.invalidate()
        if self._lines:
            head = self._lines[0].own
            self._update_at(head.due_at if head is not None else 0.0)

    async def _update_when_drained(self, stream: TerminalStream) -> None:
        await stream.wait_drained()
        self.update_soon()

    def _take_due(self, most: int, most_characters: int) -> Iterator[_QueuedLine]:
        """Remove due lines from the front of the queue, at least one if it is due; `most_characters` is approximate."""
        now = self._loop.time()
        while self._lines and most > 0 and most_characters > 0:
            own = self._lines[0].own
            if own is not None and not own.complete and own.due_at > now:
                return
            most -= 1
            line = self._lines.popleft()
            most_characters -= line.size
            self._queued -= line.size
            if own is not None:
                self._release(own)
            yield line

    def _release(self, own: PendingLine) -> None:
        del self._own[own.id]
        self._on_settled(own)

    def flush(self) -> None:
        """Print everything, own lines with the mark they have."""
        if self.closed.is_set():
            return
        for line in self._lines:
            if line.own is not None:
                self._release(line.own)
        lines = list(self._lines)
        self._lines.clear()
        self._queued = 0
        if lines:
            self._print(lines)

    def region(self, most: int) -> list[Row]:
        """Return the rows of own lines that wait for a mark, and of lines behind them, at most `most`."""
        rows: list[Row] = []
        for line in self._lines:
            if len(rows) >= most or line.clear:
                break
            for row in self._rows(line):
                rows += cut_row(row, self.columns) if line.whole or is_wide(row, self.columns) else [row]
        return rows[:most]

    def _rows(self, line: _QueuedLine) -> list[Row]:
        if line.whole:
            return [list(line.fragments)]
        own = line.own
        columns, mark = self.columns, "" if own is None else own.mark
        if line.folded is None or line.folded[:2] != (columns, mark):
            fragments = line.fragments if own is None else own.fragments
            line.folded = columns, mark, fold_row(fragments, columns, hang=line.hang, style=DIM, tail=mark)
        return line.folded[2]

    def _print(self, lines: Sequence[_QueuedLine]) -> None:
        self._printed_at = self._loop.time()
        app = self.app if self.app is not None and self.app.is_running else None
        if self._stream is None:
            self._draw(app, lines)
            return
        with self._stream.batch():
            self._draw(app, lines)

    def _draw(self, app: Application[str] | None, lines: Sequence[_QueuedLine]) -> None:
        output = self._output
        if app is not None:
            app.renderer.erase()
        else:
            output.write_raw("\r")
            output.erase_end_of_line()  # typed before there was a prompt, and shown in it again
        for line in lines:
            if line.clear:
                output.erase_screen()
                output.cursor_goto(0, 0)
                continue
            for row in self._rows(line):
                self._draw_row(row, wrap=line.whole or is_wide(row, self.columns) or self._surely_fits(row))
        output.enable_autowrap()
        output.flush()
        if app is not None:
            app.renderer.reset()
            app._redraw()

    def _surely_fits(self, row: Row) -> bool:
        """Return whether a row wraps only where the terminal is narrower by now, as it breaks other rows then."""
        text = plain_text(row)
        return text.isascii() and len(text) < self.columns

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


# ---- resized windows


SIZE_SETTLED_AFTER = 0.3  # seconds without a change; tmux tells a size up to 0.25 s after it has broken its rows


class ResizeGuard:
    """Draws nothing while the size of the window changes; afterwards it erases what surely is the prompt's.

    A terminal has its new size before the program hears of it, and breaks or joins the rows it shows. prompt_toolkit
    goes up as many rows as it drew: output in between would leave copies of the prompt, or overwrite messages.
    If the prompt was drawn shortly before a change, nobody knows at which width. Then only as many rows are
    erased as were drawn, the fewest it can have, and a part of the old prompt may stay.

    Args:
        size: Returns the size of the terminal.
        breaks: The terminal breaks rows that no longer fit, as device.breaks_rows() says; others cut them.
        on_settled: Called after the prompt was drawn again.
    """

    def __init__(
        self, app: Application[str], size: Callable[[], Size], *, breaks: bool, on_settled: Callable[[], None]
    ) -> None:
        self._app = app
        self._size = size
        self._breaks = breaks
        self._on_settled = on_settled
        self._latest: Size | None = None
        self._changed_at = self._drawn_at = -SIZE_SETTLED_AFTER  # on the loop's clock
        self._is_sure = True
        self._timer: asyncio.TimerHandle | None = None
        renderer = app.renderer
        self._render, self._erase = renderer.render, renderer.erase
        renderer.render = self._render_if_settled  # type: ignore[method-assign]
        renderer.erase = self._find_and_erase  # type: ignore[method-assign]
        app._on_resize = self.is_settled  # type: ignore[method-assign,assignment]

    def is_settled(self) -> bool:
        """Return whether lines and the prompt may be drawn now."""
        loop, size = asyncio.get_running_loop(), self._size()
        now = loop.time()
        if self._latest is None:
            self._latest = size
        if size != self._latest:
            if self._timer is None:
                self._is_sure = now - self._drawn_at > SIZE_SETTLED_AFTER
                self._timer = loop.call_later(SIZE_SETTLED_AFTER, self._settle)
            self._latest, self._changed_at = size, now
        return self._timer is None

    def cancel(self) -> None:
        """Wait no longer: the prompt ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle(self) -> None:
        self.is_settled()
        loop = asyncio.get_running_loop()
        due_at = self._changed_at + SIZE_SETTLED_AFTER
        if loop.time() < due_at:
            self._timer = loop.call_at(due_at, self._settle)
            return
        self._timer = None
        if self._app.renderer.last_rendered_screen is not None:  # not while another program has the terminal
            self._app.renderer.erase()
        self._is_sure = True
        self._app._redraw()
        self._on_settled()

    def _render_if_settled(self, app: Application[str], layout: Layout, is_done: bool = False) -> None:
        if self.is_settled():
            self._drawn_at = asyncio.get_running_loop().time()
            self._render(app, layout, is_done)

    def _find_and_erase(self, leave_alternate_screen: bool = True) -> None:
        self._find()
        self._erase(leave_alternate_screen)

    def _find(self) -> None:
        """Tell the renderer in which of the rows that the terminal made of the prompt the cursor is."""
        renderer = self._app.renderer
        size, screen, cursor = renderer._last_size, renderer.last_rendered_screen, renderer._cursor_pos
        width = max(1, self._size().columns)
        settled = self.is_settled()
        if size is None or screen is None or width >= size.columns:
            return
        if not (self._breaks and self._is_sure and settled):
            return
        above = 0
        for y in range(cursor.y):
            drawn = [x for x, cell in screen.data_buffer[y].items() if cell.char != " "]
            above += max(drawn, default=0) // width + 1
        renderer._cursor_pos = Point(cursor.x % width, above + cursor.x // width)
