"""Questions to whoever sits at the terminal, before a chat begins: one line in, read without a buffer, so that what is
typed ahead stays for the chat.

They are asked on stderr; stdout carries chat.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from p2pchat import InviteError, parse_invite
from p2pchat.cli.stdin import Kind, kind_of_stdin, raw_stdin, read_first_line
from p2pchat.commands.errors import Usage, complain
from p2pchat.commands.invites import looks_like_invite
from p2pchat.commands.json_commands import MAX_LINE_BYTES

MOST_PASTES = 3  # an invite that cannot be read is asked for again so often
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


class NothingSaid(Exception):
    """Whoever was asked ended the input instead (Ctrl-D): leave without a word."""


def read_invite(given: str, kind: Kind) -> str | None:
    """Return the invite's text, which can be read: asked for, from a file, or as it stands; None when none was given.

    Raises:
        Usage: There is no such file, or nothing to ask. InviteError: It is none; says what is wrong with it.
        NothingSaid: Who was asked for it ended the input.
    """
    if not given:
        return None
    if given == "-" and kind is Kind.TERMINAL:
        return _ask_for_invite()
    text = given if looks_like_invite(given) else _written_down(given, kind)
    parse_invite(text)
    return text


def _written_down(given: str, kind: Kind) -> str:
    if given == "-":
        if kind is Kind.NONE:
            raise Usage("--invite - asks for the invite, and there is no input: name a file, or set P2PCHAT_INVITE")
        return read_first_line(raw_stdin()).decode("utf-8", "replace")
    try:
        with open(given, encoding="utf-8") as file:
            return file.read(65536)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Usage(f"cannot read the invite in {given}: {why}") from None


def _ask_for_invite() -> str:
    with nothing_shown():  # from the first question to the last answer: who is quick pastes before the next one stands
        for attempts_left in reversed(range(MOST_PASTES)):
            text = ask_hidden("Paste the invite (it is not shown), then Enter: ")
            if text is None:
                raise NothingSaid
            try:
                parse_invite(text)
                return text
            except InviteError as error:
                if not attempts_left:
                    raise
                complain("nothing was pasted; Ctrl-D leaves" if not text else str(error))
    raise AssertionError("the last attempt returns or raises")
