"""Command `p2pchat`, the same as `python -m p2pchat`: standard streams, one line for an error, one exit code.

`--version` imports the standard library only. Everything else is imported by the command that needs it.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence

from p2pchat import __version__
from p2pchat.commands.exit_codes import DONE, FAILED, INTERRUPTED, exit_code, print_error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    if argv is None:  # the process is ours: garbage at its end is not collected, which took a fifth of a short command
        atexit.register(gc.freeze)
        _open_missing_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    _use_utf8()
    try:
        return _run(words)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _silence_stdout()
    except RuntimeError as error:
        if "start new thread" not in str(error):
            raise
        print_error("the system lets this user start no more threads: raise the limit of processes (ulimit -u)")
        return FAILED
    except Exception as error:  # exit_code() raises what is not an error of p2pchat again
        code = exit_code(error)
        print_error(str(error) or type(error).__name__)
        return code


def _run(words: list[str]) -> int:
    options = words[: words.index("--")] if "--" in words else words
    if "--version" in options and not {"--help", "-h"} & set(options):
        print(f"p2pchat {__version__}", flush=True)
        return DONE
    if words[:2] == ["agent", "hook"] and not any(word.startswith("-") for word in words):
        from p2pchat.cli.agent_hook import answer_hook

        return answer_hook(words[2:])
    from p2pchat.cli.program import run

    return run(words)


def _open_missing_streams() -> None:
    """Open the null device as 0, 1 or 2 where it is closed, so that no socket or file gets that number.

    libuv, so uvloop, ends the process rather than close one that has.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _use_utf8() -> None:
    """Write UTF-8 without errors, as chat lines are; a pipe on Windows would get cp1252 otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _silence_stdout() -> int:
    """Discard further output after the reader of stdout has gone, so that the interpreter reports no error at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError:
        pass
    return DONE


if __name__ == "__main__":
    raise SystemExit(main())
