"""Questions to whoever sits at the terminal, before a chat begins: one line in, read without a buffer, so that what is
typed ahead stays for the chat.

They are asked on stderr; stdout carries chat.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from p2pchat.apps.cli.stdin import MAX_LINE_BYTES, Kind, kind_of_stdin, raw_stdin

PASTED_WITHIN = 0.2  # seconds between the lines of one paste


def can_ask() -> bool:
    """Whether somebody is there who sees a question and can answer it."""
    return kind_of_stdin() is Kind.TERMINAL and sys.stderr is not None and sys.stderr.isatty()


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
    with nothing_shown():
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
def nothing_shown() -> Iterator[None]:
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
