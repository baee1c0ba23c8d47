"""Standard input: its kind and its lines, questions before a chat begins; and the progress of long work, on stderr.

/dev/null (NUL on Windows) and closed input count as no input, so a peer under `&`, systemd or cron goes on. So does a
peer in the background of a terminal, which would be stopped if it read. A thread reads the lines, so that no event loop
waits for them. It reads raw bytes, never through sys.stdin's buffer: a blocked reader would still hold its lock when
the interpreter ends.

Questions and progress are on stderr, because stdout carries the chat. Questions too read without a buffer, so that
what is typed ahead is left for the chat. A question for yes or no drops it.
"""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Self

from p2pchat import InviteError, parse_invite
from p2pchat.commands.event_text import format_size
from p2pchat.commands.exit_codes import CommandError, UsageError, print_error, print_notice
from p2pchat.commands.invite_screen import is_cut, looks_like_invite
from p2pchat.commands.json_commands import MAX_LINE_BYTES, LineBuffer, decode_line
from p2pchat.threads import in_thread

_READ_BYTES = 64 * 1024
_MAX_QUEUED_READS = 4  # a fast producer waits
_STOP_AFTER = 0.1  # seconds in which a stopped reader takes what is in the pipe already; a guess


class InputKind(Enum):
    """The kind of standard input."""

    NONE = "none"
    TERMINAL = "terminal"
    PIPED = "piped"


def is_binary(lines: Iterable[bytes | None]) -> bool:
    """Return whether the first lines of an input are of a picture, an archive or the like: NUL, and no UTF-8.

    A log may have one of the two in some line, which costs that line alone.
    """
    read = [line for line in lines if line is not None]
    return any(b"\0" in line for line in read) and not all(decode_line(line)[1] for line in read)


def stdin_kind() -> InputKind:
    """Return the kind of standard input, as it is at start."""
    try:
        fd = sys.stdin.fileno() if sys.stdin is not None else -1
        if fd < 0 or _is_null(fd):
            return InputKind.NONE
        if os.isatty(fd):
            return InputKind.NONE if _in_background(fd) else InputKind.TERMINAL
        os.fstat(fd)
    except (OSError, ValueError):
        return InputKind.NONE
    return InputKind.PIPED


def _is_null(fd: int) -> bool:
    if sys.platform == "win32":  # NUL is a character device but not a console
        import ctypes
        import msvcrt

        mode = ctypes.c_ulong()
        handle = msvcrt.get_osfhandle(fd)
        return os.isatty(fd) and not ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode))
    return os.path.samestat(os.fstat(fd), os.stat(os.devnull))


def _in_background(fd: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:
        return False


class LineReader:
    """Reads the lines of a byte stream in a thread: call start(), then `await take()` until it returns [].

    stop() ends it early, after the lines that were read.

    Args:
        source: Raw and unbuffered; read() returns the bytes there are, b"" at the end.
    """

    def __init__(self, source: BinaryIO, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._queue: asyncio.Queue[list[bytes | None]] = asyncio.Queue()
        self._room = threading.Semaphore(_MAX_QUEUED_READS)

    def start(self) -> None:
        """Start the thread, which ends with the input or the process."""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def take(self) -> list[bytes | None]:
        """Return the lines of one read, None for one that was too long; [] at the end of input."""
        lines = await self._queue.get()
        self._room.release()
        return lines

    def stop(self) -> None:
        """End the input after what is there now."""
        self._loop.call_later(_STOP_AFTER, self._queue.put_nowait, [])

    @property
    def has_more(self) -> bool:
        """True if lines were read and not taken; call it after the end."""
        while not self._queue.empty():
            if self._queue.get_nowait():  # else a second end: of the input, or by stop()
                return True
        return False

    def _read(self) -> None:
        lines = LineBuffer(MAX_LINE_BYTES)
        while chunk := self._read_chunk():
            if (found := lines.feed(chunk)) and not self._put(found):
                return
        if found := lines.end():
            self._put(found)
        self._put([])

    def _read_chunk(self) -> bytes:
        try:
            return self._source.read(_READ_BYTES)
        except (OSError, ValueError):  # the terminal is gone, or the descriptor was closed
            return b""

    def _put(self, lines: list[bytes | None]) -> bool:
        """Hand lines over; return False if the loop is closed, so that nobody will take any."""
        self._room.acquire()
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, lines)
        except RuntimeError:
            return False
        return True


def raw_stdin() -> BinaryIO:
    """Return standard input without a buffer; a Windows console gives UTF-8."""
    buffer = sys.stdin.buffer
    return getattr(buffer, "raw", buffer)


def read_line(source: BinaryIO) -> bytes | None:
    """Return one line without its end, or None at the end of input. The rest is left for the next reader."""
    line = bytearray()
    while len(line) < MAX_LINE_BYTES:
        byte = source.read(1)
        if not byte and not line:
            return None
        if not byte or byte == b"\n":
            break
        line += byte
    return bytes(line)


# ---- questions

MAX_ATTEMPTS = 3  # to paste a valid invite
PASTE_GAP = 0.2  # seconds between the lines of one paste
_LOCAL_MODES = 3  # index in tcgetattr's list


def can_ask() -> bool:
    """Return whether a user can see a question and answer it."""
    return stdin_kind() is InputKind.TERMINAL and sys.stderr is not None and sys.stderr.isatty()


def ask(prompt: str) -> str | None:
    """Ask; return the answer without blanks around it, or None at the end of input (Ctrl-D)."""
    _show(prompt)
    line = _ask_line()
    if line is None:
        _show("\n")
    return line


async def confirm(question: str) -> bool:
    """Ask a question; return whether the answer is yes or y. Anything else, and the end of input, is a no."""
    _drop_typed()
    answer = await in_thread(ask, f"{question} yes/no ")
    return answer is not None and answer.casefold() in ("yes", "y")


def agreed(what: str, question: str, yes: bool) -> bool:
    """Return whether a person agrees to what cannot be undone, now or by --yes; UsageError if nobody can be asked."""
    if not yes and not can_ask():
        raise UsageError(f"{what}, and nobody can be asked here: add --yes")
    if yes or asyncio.run(confirm(f"{what}. {question}")):
        return True
    print_notice("-- nothing was changed")
    return False


def _drop_typed() -> None:
    """Drop what was typed before a question, which it cannot answer."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
    elif sys.stdin.isatty():
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def ask_hidden(prompt: str) -> str | None:
    """Ask without echo; return the answer, with the lines of one paste joined, or None at the end of input."""
    if sys.platform == "win32":
        from getpass import getpass  # reads the console there, which gives a paste as one line

        return getpass(prompt, stream=sys.stderr)
    with echo_off():
        _show(prompt)
        lines = [_ask_line()]
        while lines[-1] is not None and _is_more_pasted():
            lines.append(_ask_line())
    _show("\n")
    return None if lines[0] is None else " ".join(line for line in lines if line)


def _is_more_pasted() -> bool:
    """Return whether more was pasted. The terminal would keep a last line without an end for itself until Enter."""
    with _mode_off("ICANON"):
        return bool(select.select([sys.stdin.fileno()], [], [], PASTE_GAP)[0])


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _ask_line() -> str | None:
    """Return one line without blanks around it; None at the end of input. Ctrl-C ends the prompt's line first."""
    try:
        line = read_line(raw_stdin())
    except KeyboardInterrupt:
        _show("\n")
        raise
    return None if line is None else line.decode("utf-8", "replace").strip()


def echo_off() -> AbstractContextManager[None]:
    """Turn echo off, and restore all modes of the terminal afterwards; do nothing where there is none, or on Windows.

    Input typed ahead is kept; getpass would discard it.
    """
    return _mode_off("ECHO")


@contextmanager
def _mode_off(name: str) -> Iterator[None]:
    if sys.platform == "win32":  # getpass does it for each question
        yield
        return
    import termios

    def change(modes: list[Any]) -> None:
        with suppress(OSError, termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSANOW, modes)

    try:
        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (OSError, ValueError, termios.error):
        yield
        return
    change([*before[:_LOCAL_MODES], before[_LOCAL_MODES] & ~getattr(termios, name), *before[_LOCAL_MODES + 1 :]])
    try:
        yield
    finally:
        change(before)


class InputEnded(Exception):
    """The user answered a question with the end of input (Ctrl-D): leave without a message."""


def read_invite(given: str, kind: InputKind) -> str | None:
    """Return the text of a valid invite: typed, from a file, or `given` itself; None when none was given.

    Args:
        given: The value of --invite; "-" asks for the invite.
    Raises:
        UsageError: The file cannot be read, or there is no input. InviteError: The invite is invalid.
        InputEnded: The user ended the input instead.
    """
    if not given:
        return None
    if given == "-" and kind is InputKind.TERMINAL:
        return _ask_for_invite()
    text = given if looks_like_invite(given) else _read_invite_text(given, kind)
    parse_invite(text)
    return text


def _read_invite_text(given: str, kind: InputKind) -> str:
    if given == "-":
        if kind is InputKind.NONE:
            raise UsageError(
                "--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE"
            )
        return _read_piped_invite()
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"cannot read the invite in {given}: {why}") from None


def _read_piped_invite() -> str:
    """Return the first line of a pipe, and those behind it into which mail broke the invite."""
    text = ""
    while (line := read_line(raw_stdin())) is not None:
        text += line.decode("utf-8", "replace")
        if text.strip() and not is_cut(text):
            break
    return text


def _ask_for_invite() -> str:
    pasted, attempts_left = "", MAX_ATTEMPTS
    with echo_off():  # also between attempts: a user may paste before the next question
        while True:
            text = ask_hidden("Paste the invite (it is not shown), then Enter: ")
            if text is None:
                raise InputEnded
            pasted = text if looks_like_invite(text) else pasted + text
            with suppress(InviteError):
                parse_invite(pasted)
                return pasted
            attempts_left -= not is_cut(pasted)  # its lines may come one by one
            try:
                parse_invite(text)
            except InviteError as error:
                if not attempts_left:
                    raise
                print_error("nothing was pasted; Ctrl-D leaves" if not text else str(error))


async def copy_stdin(path: Path) -> None:
    """Copy standard input, which may never end, into a new file; cancelling this does not wait for its end.

    Raises:
        CommandError: The file cannot be written.
    """

    def copy() -> None:
        with path.open("xb", buffering=0) as file:
            shutil.copyfileobj(raw_stdin(), file)

    try:
        await in_thread(copy)
    except OSError as error:
        raise CommandError(f"cannot keep standard input beside the profile: {error.strerror or error}") from None


# ---- progress

FIRST_AFTER = 0.5  # seconds: shorter work needs no line
AGAIN_AFTER = 0.1  # seconds between updates


class Progress:
    """A line on stderr while work goes on; `with` removes it at the end. May be used from any thread."""

    def __init__(self) -> None:
        self._shown = ""
        self._next_at = time.monotonic() + FIRST_AFTER
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._write("")

    def show(self, text: str) -> None:
        """Show the text, if the last update is long enough ago."""
        if self._is_terminal and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + AGAIN_AFTER
            self._write(text)

    def entries(self, count: int) -> None:
        self.show(f"-- {count:,} entries")

    def indexed(self, done: int, of: int) -> None:
        self.show(f"-- the first search: {done:,} of {of:,} messages are indexed")

    def rows(self, done: int, total: int) -> None:
        self.show(f"-- {done:,} of {total:,} rows")

    def bytes(self, done: int, total: int) -> None:
        self.show(f"-- {format_size(done)} of {format_size(total)}")

    def _write(self, text: str) -> None:
        if text != self._shown:
            sys.stderr.write(f"\r{text.ljust(len(self._shown))}" if text else f"\r{' ' * len(self._shown)}\r")
            sys.stderr.flush()
            self._shown = text
