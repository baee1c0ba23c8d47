"""`p2pchat`: which command is meant, and what every one of them has in common: one line for an error, one exit code.

Everything heavy is imported by the command that needs it; `--version` and `--help` need nothing.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence

from p2pchat import __version__
from p2pchat.apps.cli.registry import CHAT, COMMANDS
from p2pchat.apps.cli.words import refuse_first_word, split_first_word
from p2pchat.cli.command_table import Command
from p2pchat.commands.errors import INTERRUPTED, code_of, complain

HELP = {"--help", "-h"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    if argv is None:  # the process is ours: at its end nobody looks for garbage, which took a fifth of a short command
        atexit.register(gc.freeze)
        _fill_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    _speak_utf8()
    try:
        return _run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _stdout_closed()
    except Exception as error:  # what is none of ours is raised again by code_of()
        code = code_of(error)
        complain(str(error) or type(error).__name__)
        return code


def _fill_standard_streams() -> None:
    """Put the null device where 0, 1 or 2 is closed: a socket or a file that got such a number would be written into.

    libuv, so uvloop, ends the process rather than close one that has.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _speak_utf8() -> None:
    """In every command, as chat lines are, and never an error; a pipe on Windows would get cp1252 otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _run(words: list[str]) -> int:
    options = words[: words.index("--")] if "--" in words else words
    first, rest = split_first_word(words)
    if HELP & set(options):
        return _help(first)
    if "--version" in options:
        return _say(f"p2pchat {__version__}\n")
    if first in COMMANDS:
        return _load(COMMANDS[first])(rest)
    if first and not (first.isascii() and first.isdecimal() and int(first) <= 65535):
        raise refuse_first_word(first)
    return _load(CHAT)(words)


def _load(command: Command) -> Callable[[Sequence[str]], int]:
    """Import what does it. Nothing of it is garbage, and to look for some meanwhile took a seventh of a start."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return command.load()
    finally:
        if collects:
            gc.enable()


def _help(first: str) -> int:
    from p2pchat.apps.cli.help import help_screen, help_width

    if first and first not in COMMANDS and not first.isdecimal():
        raise refuse_first_word(first)
    return _say(help_screen(first, help_width()))


def _say(text: str) -> int:
    if sys.stdout is not None:
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0


def _stdout_closed() -> int:
    """The reader of our stdout has gone: nothing more to say, and no complaint from the interpreter at exit."""
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass
    return 0
