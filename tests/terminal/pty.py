"""A terminal for tests: a program in a real pseudo-terminal, typed keys, and the screen that a user would see.

    ada = await terminal("0", "--name", "ada")        # fixture: `python -m p2pchat 0 --name ada`
    await ada.shows("ada listens on")
    await ada.type("hello\\r")
    await ada.shows_line(r"^\\d\\d:\\d\\d ada: hello")
    await ada.key("c-x", "c-e")
    assert await ada.ended() == 0

The screen is pyte's: it answers the queries of programs (cursor position), counts bells, has a title, and keeps rows
that scrolled away. There are no sleeps: each wait checks its condition when output arrives.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pyte
from wcwidth import wcwidth

from tests.deadlines import WAIT
from tests.processes.fork_server import ForkedProcess, ForkServer

_READ_BYTES = 65536

# Makes standard input the controlling terminal, so that Ctrl-C, Ctrl-Z and a hang-up are signals; then runs the rest.
_CONTROLLED = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])"""

_KEYS = {
    "enter": "\r",
    "tab": "\t",
    "s-tab": "\x1b[Z",
    "escape": "\x1b",
    "backspace": "\x7f",
    "delete": "\x1b[3~",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
}

# In a prompt the own name stands before the conversation, after what is unread: `[bob 2] ada to room> `.
_OWN_NAME = re.compile(r'^((?:\[.*?\] )?)(?:"[^"]*"|\S+) to (?=(?:"[^"]*"|\S+)>)')


def time_zone_of_the_morning() -> str:
    """Return a TZ in which it is nine o'clock now, so that no date changes during a test."""
    return f"HERE{datetime.now(UTC) - timedelta(hours=9):%H:%M:%S}"


def key_bytes(name: str) -> bytes:
    """Return the bytes that a terminal sends for a key: `c-x` with Control, `m-a` with Alt, a name, or a character."""
    if name in _KEYS:
        return _KEYS[name].encode()
    if name.startswith("c-") and len(name) == 3:
        return bytes([ord(name[2].upper()) & 0x1F])
    if name.startswith("m-"):
        return b"\x1b" + key_bytes(name[2:])
    return name.encode()


class Screen(pyte.Screen):
    """The visible rows, and in `scrolled` those that scrolled away, oldest first.

    Attributes:
        bells: The number of bells.
        titles: All titles set by the program, in order.
    """

    def __init__(self, columns: int, rows: int, answer: Callable[[bytes], None]) -> None:
        self.scrolled: list[str] = []
        self.bells = 0
        self.titles: list[str] = []
        self._answer = answer
        super().__init__(columns, rows)

    def index(self) -> None:
        """Scroll up when the cursor is in the last row; keep the row that leaves."""
        if self.margins is None and self.cursor.y == self.lines - 1:
            self.scrolled.append(self.row(0))
        super().index()

    def row(self, number: int) -> str:
        """Return one visible row without blanks at its end; `display` draws all of them."""
        drawn, cells = "", self.buffer[number]
        is_wide = False
        for x in range(self.columns):
            if not is_wide:
                drawn += cells[x].data
            is_wide = not is_wide and wcwidth(cells[x].data[0]) == 2
        return drawn.rstrip()

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Break rows that are too long for a narrower screen, and join them again, as most terminals do."""
        lines, columns = lines or self.lines, columns or self.columns
        wholes: list[dict[int, pyte.screens.Char]] = []  # what was one row before it was broken
        start, x, y = 0, 0, 0
        for number in range(self.lines if columns != self.columns else 0):
            row = self.buffer[number]
            start += self.columns
            if not wholes or not getattr(row, "continues", False):
                wholes.append({})
                start = 0
            wholes[-1].update({start + at: cell for at, cell in row.items() if cell.data != " "})
            if number == self.cursor.y:
                x, y = start + self.cursor.x, len(wholes) - 1
        rows: list[pyte.screens.StaticDefaultDict[int, pyte.screens.Char]] = []
        cursor = (0, 0)
        for number, whole in enumerate(wholes):
            last = max(0, x - 1)  # behind a full row the cursor stays there, as in tmux
            if number == y:
                cursor = x - last // columns * columns, len(rows) + last // columns
            for start in range(0, max([0, *whole, *([last] if number == y else [])]) + 1, columns):
                row = pyte.screens.StaticDefaultDict(self.default_char)
                row.update({at - start: whole[at] for at in range(start, start + columns) if at in whole})
                row.continues = start > 0  # type: ignore[attr-defined]
                rows.append(row)
        super().resize(lines, columns)
        while rows and not rows[-1] and len(rows) > cursor[1] + 1:
            rows.pop()
        if not rows:
            return
        gone = max(0, len(rows) - lines)
        self.scrolled += ["".join(row[at].data for at in range(columns)).rstrip() for row in rows[:gone]]
        self.buffer.clear()
        for number, row in enumerate(rows[gone:]):
            self.buffer[number] = row
        self.cursor.x, self.cursor.y = cursor[0], cursor[1] - gone

    def erase_in_display(self, how: int = 0, *args: object, **kwargs: object) -> None:
        """Keep the rows of a screen that is erased as a whole, as tmux does."""
        if how == 0 and (self.cursor.x, self.cursor.y) == (0, 0):
            rows = [row.rstrip() for row in self.display]
            self.scrolled += rows[: max((number for number, row in enumerate(rows, 1) if row), default=0)]
        super().erase_in_display(how, *args, **kwargs)
        for number in range(self.cursor.y + 1, self.lines):
            self.buffer[number].continues = False  # type: ignore[attr-defined]

    def bell(self, *_: object) -> None:
        self.bells += 1

    def set_title(self, param: str) -> None:
        self.titles.append(param)
        super().set_title(param)

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """One program in its own terminal.

    Args:
        command: The program and its words.
        env: All of its environment.
        fork_server: The fork server that starts it; `command` is then only the words of `p2pchat`.
    Attributes:
        raw: Every byte the program wrote.
        screen: The visible screen.
        process: The program; None before start().
        told_late: The longest time in seconds that the program heard of a size later than wanted: the machine was busy.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        columns: int = 80,
        rows: int = 24,
        fork_server: ForkServer | None = None,
    ) -> None:
        self._command = list(command)
        self._fork_server = fork_server
        self._env = {"TERM": "xterm-256color", **env}
        self._size = (columns, rows)
        self.raw = bytearray()
        self.screen = Screen(columns, rows, self._send)
        self._stream = pyte.ByteStream(self.screen)
        self.process: asyncio.subprocess.Process | ForkedProcess | None = None
        self._master = -1
        self._news = asyncio.Event()
        self._hung_up = False
        self._unsent = bytearray()
        self.told_late = 0.0
        self._resizes: list[asyncio.TimerHandle] = []

    # The screen

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without blanks at their ends and without empty rows at the bottom."""
        rows = [self.screen.row(number) for number in range(self.screen.lines)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def all_lines(self) -> list[str]:
        """The rows that scrolled away, and those of the screen."""
        return [*self.screen.scrolled, *self.lines]

    @property
    def text(self) -> str:
        return "\n".join(self.all_lines)

    @property
    def prompt(self) -> str:
        """The row with the cursor, without the own name in a prompt."""
        return _OWN_NAME.sub(r"\1", self.cursor_row)

    @property
    def cursor_row(self) -> str:
        """The row with the cursor, up to the cursor's end of it."""
        return self.screen.row(self.screen.cursor.y)

    @property
    def title(self) -> str:
        return self.screen.titles[-1] if self.screen.titles else ""

    # Waiting

    async def until(self, condition: Callable[[], object], what: str = "", timeout: float = WAIT) -> None:
        """Wait until a condition of the screen holds.

        Raises:
            AssertionError: It did not hold in time, or the program ended before. The text has the screen.
        """
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self._hung_up:
                        raise AssertionError(f"ended without {what or 'it'}:\n{self.text}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {timeout} s: {what or 'it'}; the screen:\n{self.text}") from None

    async def shows(self, text: str, timeout: float = WAIT) -> None:
        """Wait until a row contains `text`, on the screen or scrolled away."""
        await self.until(lambda: any(text in line for line in self.all_lines), repr(text), timeout)

    async def shows_line(self, pattern: str, timeout: float = WAIT) -> re.Match[str]:
        """Wait until a row matches (re.search); return the first match."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = [match for line in self.all_lines if (match := re.search(pattern, line))]
            return bool(found)

        await self.until(look, pattern, timeout)
        return found[0]

    async def prompts(self, text: str, timeout: float = WAIT) -> None:
        """Wait until the row with the cursor begins with `text`."""
        await self.until(lambda: self.prompt.startswith(text.rstrip()), f"the prompt {text!r}", timeout)

    async def ended(self, timeout: float = WAIT) -> int:
        """Wait for the end of the program, with all its output; return its exit code (-N: signal N)."""
        assert self.process is not None
        try:
            async with asyncio.timeout(timeout):
                code = await self.process.wait()
                while not self._hung_up:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"did not end within {timeout} s; the screen:\n{self.text}") from None
        return code

    # Keys

    async def type(self, text: str) -> None:
        """Type characters; Enter is a carriage return."""
        self._send(text.encode())

    async def key(self, *names: str) -> None:
        """Press keys: `c-x`, `m-a`, `enter`, `up`, .. (key_bytes)."""
        self._send(b"".join(map(key_bytes, names)))

    async def paste(self, text: str) -> None:
        """Paste, as a terminal with bracketed paste does."""
        self._send(b"\x1b[200~" + text.encode() + b"\x1b[201~")

    async def line(self, text: str) -> None:
        """Type a line and Enter."""
        await self.type(text + "\r")

    async def answers(self, text: str, *answers: str) -> None:
        """Type a line and Enter, and wait until rows contain these answers, one after the other."""
        await self.line(text)
        for answer in answers:
            await self.shows(answer)

    async def prompts_after(self, text: str, prompt: str) -> None:
        """Type a line and Enter, and wait for this prompt."""
        await self.line(text)
        await self.prompts(prompt)

    def resize(self, columns: int, rows: int, told_after: float = 0.0) -> None:
        """Resize the terminal; the program gets SIGWINCH, in tmux up to 0.25 s later."""
        self.screen.resize(rows, columns)
        if told_after:
            loop = asyncio.get_running_loop()
            self._resizes.append(loop.call_later(told_after, self._tell_size, columns, rows, loop.time() + told_after))
        else:
            _set_size(self._master, columns, rows)

    def _tell_size(self, columns: int, rows: int, due_at: float) -> None:
        self.told_late = max(self.told_late, asyncio.get_running_loop().time() - due_at)
        _set_size(self._master, columns, rows)

    async def quiet(self, seconds: float) -> None:
        """Wait until the program has written nothing for some time."""
        while True:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return

    def stand_still(self) -> None:
        """Stop reading the output, as a stalled connection does."""
        asyncio.get_running_loop().remove_reader(self._master)

    def go_on(self) -> None:
        """Read the output again."""
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        assert self.process is not None
        self.process.send_signal(number)

    # Life

    async def start(self) -> Terminal:
        """Run the program."""
        self._master, slave = _open_pty(*self._size)
        try:
            self.process = await self._run(slave)
        finally:
            os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def _run(self, slave: int) -> asyncio.subprocess.Process | ForkedProcess:
        if self._fork_server is not None:
            return await self._fork_server.start_in_terminal(self._command, self._env, slave)
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-ESc", _CONTROLLED, *self._command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._env,
            start_new_session=True,
        )

    async def taken_away(self, timeout: float = WAIT) -> int:
        """Close the terminal, as a closed window does, and wait for the program's end."""
        assert self.process is not None
        self._hang_up()
        os.close(self._master)
        self._master = -1
        async with asyncio.timeout(timeout):
            return await self.process.wait()

    async def close(self) -> None:
        """Kill everything in this terminal and close it."""
        if self.process is None:
            return
        if self.process.returncode is None:
            _kill_groups(self._master, self.process.pid)
            await self.process.wait()
        if self._master >= 0:
            self._hang_up()
            os.close(self._master)
        self.process = None

    # Bytes

    def _read(self) -> None:
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # Linux raises it when the last program is gone
            data = b""
        if not data:
            self._hang_up()
        self.raw += data
        self._stream.feed(data)
        self._news.set()

    def _hang_up(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        for resize in self._resizes:  # the number of the descriptor may soon mean another terminal
            resize.cancel()
        self._hung_up = True
        self._news.set()

    def _send(self, data: bytes) -> None:
        if self._hung_up:
            return
        self._unsent += data
        asyncio.get_running_loop().add_writer(self._master, self._write)

    def _write(self) -> None:
        try:
            del self._unsent[: os.write(self._master, self._unsent[:1024])]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        if not self._unsent:
            asyncio.get_running_loop().remove_writer(self._master)


def _open_pty(columns: int, rows: int) -> tuple[int, int]:
    """Return the terminal's side (non-blocking) and the program's."""
    if sys.platform == "win32":
        raise NotImplementedError
    master, slave = os.openpty()
    _set_size(master, columns, rows)
    os.set_blocking(master, False)
    return master, slave


def _set_size(master: int, columns: int, rows: int) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    import fcntl
    import termios

    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _kill_groups(master: int, pid: int) -> None:
    """Kill the program, its children, and the foreground job of a shell."""
    if sys.platform == "win32":
        raise NotImplementedError
    groups = {pid}
    try:
        groups.add(os.tcgetpgrp(master))
    except OSError:  # the terminal was closed
        pass
    for group in groups - {0, -1, os.getpgrp()}:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
