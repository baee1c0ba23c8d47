"""`p2pchat`: which command is meant, and what every one of them has in common: one line for an error, one exit code.

Everything heavy is imported by the command that needs it; `--version` and `--help` need nothing.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from p2pchat import __version__
from p2pchat.cli.command_table import CHAT, COMMANDS, EVERY_COMMAND, LATER, Command, Option
from p2pchat.commands.errors import INTERRUPTED, UsageError, exit_code, print_error
from p2pchat.commands.wrap import USUAL_WIDTH, fold

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
        code = exit_code(error)
        print_error(str(error) or type(error).__name__)
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


# ---- words
#
# The first look at a command line: a port, a command, or neither.
#
# `--version` must answer at once, so this file imports nothing but the standard library and the list of commands, and
# click only where words are parsed (options.py).


def split_first_word(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Return the first word that is no option or value of one, and the rest; ("", all) when there is none."""
    valued = {flag for option in _every_option() if option.takes for flag in option.flags}
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--":
            break
        elif word.startswith("-") and word != "-":
            skip = word in valued
        else:
            return word, [*argv[:index], *argv[index + 1 :]]
    return "", list(argv)


def _every_option() -> list[Option]:
    return [option for command in (CHAT, *COMMANDS.values()) for option in command.options]


def refuse_first_word(word: str) -> UsageError:
    """Say what is wrong with a first word that is neither a port nor a command."""
    if word in LATER:
        return UsageError(f"this version does not have the command {word} yet; --help lists what it has")
    if word.lstrip("-").isdecimal():
        return UsageError(f"{word!a} is no port: 0 to 65535, where 0 is any free one with a temporary profile")
    near = get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.5)
    if near:
        return UsageError(f"{word!a} is neither a port nor a command: did you mean {near[0]}?")
    if ":" in word:
        return UsageError(f"{word!a} is where to connect; before it stands the port to listen on: p2pchat 8081 {word}")
    return UsageError(f"{word!a} is neither a port nor a command ({', '.join(COMMANDS)}); try: p2pchat 8080")


# ---- help
#
# The help screens, made of the pages in registry/: written out there, so that --help reads like a page.


WIDEST = 100  # columns; longer lines are hard to read
_LEFT = 24  # columns of what stands left of its explanation


def help_screen(name: str = "", width: int = USUAL_WIDTH) -> str:
    """Return the help of a command, or of p2pchat itself, for so many columns."""
    command = COMMANDS.get(name, CHAT)
    options = (*command.options, *(EVERY_COMMAND if command is CHAT else ()))
    left = [(f"{', '.join(option.flags)} {option.takes}".rstrip(), option.summary) for option in options]
    commands = [(one.name, one.summary) for one in COMMANDS.values()]
    return fold(command.page.format(options=_rows(left), commands=_rows(commands)), min(width, WIDEST))


def help_width() -> int:
    """Return the columns of standard output, or what COLUMNS says; 80 where nobody tells."""
    return shutil.get_terminal_size((USUAL_WIDTH, 24)).columns


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {left:<{_LEFT}}{right}" for left, right in rows)
