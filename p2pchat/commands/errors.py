"""Exit codes, and how an error becomes one line and a code. Other programs rely on both.

A usage error is told where it is made (Usage); what the library raises is translated here, once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from p2pchat.commands.wrap import fold, terminal_width
from p2pchat.safe_text import safe_line

DONE = 0  # everything sent was delivered: a DM to its user, a room message to every member online, at least one
FAILED = 1  # port, database, locked, refused by the network, a check found a fault
USAGE = 2  # option, endpoint, invite, name
KEPT = 3  # accepted but not so delivered: kept, and sent at the next start
NO_SUCH_NAME = 4  # or several
INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells count

_HANG = 2  # columns: what goes on in a further line passes for no line of its own
_WORST_FIRST = (INTERRUPTED, FAILED, NO_SUCH_NAME, USAGE, KEPT, DONE)


class UsageError(Exception):
    """What was asked for cannot be meant: one sentence that says what is wrong and what to do."""


class CommandError(Exception):
    """It was meant and did not work: one sentence that says what is wrong and what to do."""

    code = FAILED


def worst_code(one: int, other: int) -> int:
    """Return the code that says more, when two things went wrong."""
    return min(one, other, key=_WORST_FIRST.index)


def print_error(text: str) -> None:
    """Write what is wrong on stderr: one line, but on a terminal folded."""
    print_notice(f"p2pchat: {safe_line(text)}")


_sink: Callable[[str], None] | None = None


def redirect_notices(sink: Callable[[str], None] | None) -> None:
    """Hand everything told from now on to `sink`, from whatever thread it comes; None: to stderr again."""
    global _sink
    _sink = sink


def print_notice(text: str) -> None:
    """Write lines of our own on stderr; nothing in them may come from others unless made safe before.

    A closed stderr is nobody listening.
    """
    if _sink is not None:
        _sink(text)
        return
    try:
        print(fold(text, terminal_width(sys.stderr), _HANG), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error; raises it again when it is none of ours, which is a bug to be seen."""
    if isinstance(error, UsageError):
        return USAGE
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, OSError):
        return FAILED
    from p2pchat import AmbiguousName, InviteError, P2PChatError, TooLong, UnknownName

    if isinstance(error, (UnknownName, AmbiguousName)):
        return NO_SUCH_NAME
    if isinstance(error, (InviteError, TooLong)):
        return USAGE
    if isinstance(error, P2PChatError):
        return FAILED
    raise error


def error_code(error: BaseException) -> str:
    """Return the `code` of an error line: `UnknownName` is `unknown_name`; what has no name of its own is `error`."""
    from p2pchat import P2PChatError

    if isinstance(error, UsageError):
        return "usage"
    if type(error) is CommandError:
        return "failure"
    if type(error) is P2PChatError:
        return "error"
    name = type(error).__name__
    return "".join(("_" + c.lower()) if c.isupper() and i else c.lower() for i, c in enumerate(name))
