"""Standard input: whether there is any, and its lines, read by a thread so that no loop ever waits for it.

Input that is /dev/null (NUL on Windows) or closed is no input: what runs under `&`, systemd or cron stays. So does a
peer put into the background of a terminal, which would be stopped if it read. The thread reads raw bytes and never
through sys.stdin's buffer, whose lock a blocked reader would still hold when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import BinaryIO

from p2pchat import InviteError, parse_invite
from p2pchat.commands.errors import UsageError, print_error
from p2pchat.commands.invites import looks_like_invite
from p2pchat.commands.json_commands import MAX_LINE_BYTES

_READ_BYTES = 64 * 1024
_WAITING_READS = 4  # chunks read and not yet taken: a fast producer waits


class InputKind(Enum):
    """What standard input is."""

    NONE = "none"
    TERMINAL = "terminal"
    PIPED = "piped"


def stdin_kind() -> InputKind:
    """Look at standard input once, at start."""
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
    if sys.platform == "win32":  # NUL is a character device that is no console
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


def split_lines(chunks: Iterator[bytes]) -> Iterator[bytes | None]:
    """Yield lines without their ends, the last also when it has none; None for one longer than MAX_LINE_BYTES."""
    rest = b""
    too_long = False
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield None if too_long or len(line) > MAX_LINE_BYTES else line.removesuffix(b"\r")
            too_long = False
        if len(rest) > MAX_LINE_BYTES:
            rest, too_long = b"", True
    if too_long or len(rest) > MAX_LINE_BYTES:
        yield None
    elif rest:
        yield rest.removesuffix(b"\r")


class LineReader:
    """The lines of a byte stream, for one asyncio loop: start it, then `await take()` until it returns [].

    Args:
        source: Raw and unbuffered; read() returns what there is, b"" at the end.
    """

    def __init__(self, source: BinaryIO, loop: asyncio.AbstractEventLoop) -> None:
        self._source = source
        self._loop = loop
        self._queue: asyncio.Queue[list[bytes | None]] = asyncio.Queue()
        self._room = threading.Semaphore(_WAITING_READS)

    def start(self) -> None:
        """Begin to read; the thread ends with the input or with the process."""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    async def take(self) -> list[bytes | None]:
        """Return all lines that came with one read, None for one that was too long; [] at the end of input."""
        lines = await self._queue.get()
        self._room.release()
        return lines

    def _read(self) -> None:
        pending: list[bytes | None] = []
        for line in split_lines(self._chunks(lambda: self._hand_over(pending))):
            pending.append(line)
        self._hand_over(pending)
        self._put([])

    def _chunks(self, before_read: Callable[[], None]) -> Iterator[bytes]:
        while True:
            before_read()
            try:
                chunk = self._source.read(_READ_BYTES)
            except (OSError, ValueError):  # a terminal that went away, a descriptor that was closed
                return
            if not chunk:
                return
            yield chunk

    def _hand_over(self, pending: list[bytes | None]) -> None:
        if pending:
            self._put(pending.copy())
            pending.clear()

    def _put(self, lines: list[bytes | None]) -> None:
        self._room.acquire()
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, lines)
        except RuntimeError:  # the loop is closed: nobody reads any more
            raise SystemExit from None


def raw_stdin() -> BinaryIO:
    """Return standard input without a buffer; on a Windows console it is UTF-8."""
    buffer = sys.stdin.buffer
    return getattr(buffer, "raw", buffer)


def read_first_line(source: BinaryIO) -> bytes:
    """Read one line byte by byte, so that what follows stays for the reader after us; b"" at the end of input."""
    line = bytearray()
    while len(line) < MAX_LINE_BYTES:
        byte = source.read(1)
        if not byte or byte == b"\n":
            break
        line += byte
    return bytes(line)


# ---- asking
#
# Questions to whoever sits at the terminal, before a chat begins: one line in, read without a buffer, so that what is
# typed ahead stays for the chat.
#
# They are asked on stderr; stdout carries chat.


MOST_PASTES = 3  # an invite that cannot be read is asked for again so often
PASTED_WITHIN = 0.2  # seconds between the lines of one paste


def can_ask() -> bool:
    """Whether somebody is there who sees a question and can answer it."""
    return stdin_kind() is InputKind.TERMINAL and sys.stderr is not None and sys.stderr.isatty()


def ask(prompt: str) -> str | None:
    """Return what was typed, without blanks around it; None at the end of input (Ctrl-D)."""
    _show(prompt)
    line = _line()
    if line is None:
        _show("\n")
    return line


def ask_hidden(prompt: str) -> str | None:
    """Return what was typed or pasted and not shown, all lines of one paste as one; None at the end of input."""
    if sys.platform == "win32":
        from getpass import getpass  # knows the console there, which gives a paste as one line

        return getpass(prompt, stream=sys.stderr)
    with echo_off():
        _show(prompt)
        lines = [_line()]
        while lines[-1] is not None and _more_comes():
            lines.append(_line())
    _show("\n")
    return None if lines[0] is None else " ".join(line for line in lines if line)


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _line() -> str | None:
    """Return one line without its end; None at the end of input. Ctrl-C leaves the prompt's line first."""
    source = raw_stdin()
    line = bytearray()
    try:
        while len(line) < MAX_LINE_BYTES:
            byte = source.read(1)
            if not byte and not line:
                return None
            if not byte or byte == b"\n":
                break
            line += byte
    except KeyboardInterrupt:
        _show("\n")
        raise
    return line.decode("utf-8", "replace").strip()


def _more_comes() -> bool:
    return bool(select.select([sys.stdin.fileno()], [], [], PASTED_WITHIN)[0])


@contextmanager
def echo_off() -> Iterator[None]:
    """Show nothing of what is typed, between questions either; what was typed ahead stays (getpass throws it away)."""
    if sys.platform == "win32":  # getpass does it for each question
        yield
        return
    import termios

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    hidden = [*before]
    hidden[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


class InputEnded(Exception):
    """Whoever was asked ended the input instead (Ctrl-D): leave without a word."""


def read_invite(given: str, kind: InputKind) -> str | None:
    """Return the invite's text, which can be read: asked for, from a file, or as it stands; None when none was given.

    Raises:
        Usage: There is no such file, or nothing to ask. InviteError: It is none; says what is wrong with it.
        NothingSaid: Who was asked for it ended the input.
    """
    if not given:
        return None
    if given == "-" and kind is InputKind.TERMINAL:
        return _ask_for_invite()
    text = given if looks_like_invite(given) else _written_down(given, kind)
    parse_invite(text)
    return text


def _written_down(given: str, kind: InputKind) -> str:
    if given == "-":
        if kind is InputKind.NONE:
            raise UsageError(
                "--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE"
            )
        return read_first_line(raw_stdin()).decode("utf-8", "replace")
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read the invite in {given}: {why}") from None


def _ask_for_invite() -> str:
    with echo_off():  # from the first question to the last answer: who is quick pastes before the next one stands
        for attempts_left in reversed(range(MOST_PASTES)):
            text = ask_hidden("Paste the invite (it is not shown), then Enter: ")
            if text is None:
                raise InputEnded
            try:
                parse_invite(text)
                return text
            except InviteError as error:
                if not attempts_left:
                    raise
                print_error("nothing was pasted; Ctrl-D leaves" if not text else str(error))
    raise AssertionError("the last attempt returns or raises")
