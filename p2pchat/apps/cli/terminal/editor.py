"""The text being typed, in somebody's editor: what $VISUAL or $EDITOR names, or the first that is there.

prompt_toolkit's own way runs the editor in a thread, which nobody can end: a chat told to leave (SIGTERM, a lost
session) would wait for the editor to be closed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prompt_toolkit.application import in_terminal

ANY_EDITOR = ("editor", "nano", "pico", "vi", "emacs", "notepad")  # prompt_toolkit's order; notepad for Windows
PATIENCE = 1.0  # seconds an editor told to end has for its own affairs; a guess


async def edit(text: str) -> str:
    """Return what somebody makes of a text in an editor; the text itself when the editor gives up (not exit code 0).

    Cancelled, it ends the editor first. Raises OSError when there is no editor, UnicodeDecodeError for no text.
    """
    with _written(text) as path:
        async with in_terminal():
            editor = await _start(path)
            try:
                done = await editor.wait() == 0
            except asyncio.CancelledError:
                await _end(editor)
                raise
        return path.read_text("utf-8").removesuffix("\n") if done else text


@contextmanager
def _written(text: str) -> Iterator[Path]:
    """Hold a text in a file that only its owner can read, and that goes afterwards."""
    descriptor, name = tempfile.mkstemp(".txt", "p2pchat-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        yield Path(name)
    finally:
        with suppress(OSError):  # the editor may have it still, on Windows, or have put it elsewhere
            os.unlink(name)


async def _start(path: Path) -> asyncio.subprocess.Process:
    chosen = [words for variable in ("VISUAL", "EDITOR") if (words := os.environ.get(variable))]
    for words in (*chosen, *ANY_EDITOR):
        with suppress(FileNotFoundError):
            return await asyncio.create_subprocess_exec(*shlex.split(words), str(path))
    raise OSError("there is none: name one in the variable EDITOR")


async def _end(editor: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        editor.terminate()
        try:
            await asyncio.wait_for(editor.wait(), PATIENCE)
        except TimeoutError:
            editor.kill()
            await editor.wait()
