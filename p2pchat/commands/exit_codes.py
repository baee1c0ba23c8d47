"""Exit codes, and the mapping from errors to exit codes and error lines. Other programs rely on both.

A usage error is worded where it is raised (UsageError). Errors of the library are translated here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from p2pchat import AmbiguousName, InviteError, P2PChatError, TooLong, UnknownName
from p2pchat.commands.wrap import fold, terminal_width
from p2pchat.safe_text import safe_line

DONE = 0  # everything sent was delivered: to the user, all members of the group, all who are in the room, at least one
FAILED = 1  # port, database, locked, refused by the network, a check found a fault
USAGE = 2  # option, endpoint, invite, name
KEPT = 3  # accepted but not delivered: saved, and sent at the next start
NO_SUCH_NAME = 4  # unknown or ambiguous
INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells count

HANG = 2  # columns: a wrapped row is indented, so that it cannot pass for a line of its own
_WORST_FIRST = (INTERRUPTED, FAILED, NO_SUCH_NAME, USAGE, KEPT, DONE)


class UsageError(Exception):
    """The request makes no sense. The text is one sentence: what is wrong, and what to do."""


class OperatorOnly(UsageError):
    """A user that a peer hosts asks for what concerns all of its users."""


class CommandError(Exception):
    """The request was valid and failed. The text is one sentence: what is wrong, and what to do."""

    code = FAILED

    def __reduce__(self) -> tuple[Any, ...]:
        return P2PChatError.__reduce__(self)  # type: ignore[arg-type]  # it needs nothing but an exception


def worst_code(one: int, other: int) -> int:
    """Return the more serious of two exit codes."""
    return min(one, other, key=_WORST_FIRST.index)


def print_error(text: str) -> None:
    """Print an error or a warning on stderr as one line, folded on a terminal."""
    print_notice(f"p2pchat: {safe_line(text)}")


_sink: Callable[[str], None] | None = None


def redirect_notices(sink: Callable[[str], None] | None) -> None:
    """Pass all further notices to `sink`, from any thread; None restores stderr."""
    global _sink
    _sink = sink


def print_notice(text: str) -> None:
    """Print lines of the program on stderr. Text of others in them must be made safe first.

    A closed stderr is ignored.
    """
    if _sink is not None:
        _sink(text)
        return
    try:
        print(fold(text, terminal_width(sys.stderr), HANG), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error; raise the error again if it is a bug."""
    if isinstance(error, UsageError | InviteError | TooLong):
        return USAGE
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, UnknownName | AmbiguousName):
        return NO_SUCH_NAME
    if isinstance(error, OSError | P2PChatError):
        return FAILED
    raise error


_OF_LINES = dict.fromkeys(("usage", "too_long", "invite_error", "malformed", "unknown_command"), USAGE)
_OF_LINES |= dict.fromkeys(("unknown_name", "ambiguous_name"), NO_SUCH_NAME)


def line_exit_code(line: Mapping[str, object]) -> int:
    """Return the exit code for an error line, of a peer or of a gateway."""
    return _OF_LINES.get(str(line.get("code")), FAILED)


def error_code(error: BaseException) -> str:
    """Return the `code` of an error line: the class name in snake case, `error` for a plain P2PChatError."""
    if isinstance(error, UsageError):
        return "usage"
    if type(error) is CommandError:
        return "failure"
    if type(error) is P2PChatError:
        return "error"
    name = type(error).__name__
    return "".join(("_" + c.lower()) if c.isupper() and i else c.lower() for i, c in enumerate(name))
