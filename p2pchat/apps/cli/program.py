"""How this program is typed here, for the commands it tells people to paste: what works in their terminal, and no more.

Who has it on the path types `p2pchat`; who started it as `.venv/bin/python -m p2pchat` has to type that again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

NAME = "p2pchat"


def program(words: Sequence[str] | None = None) -> str:
    """Return what stands before the words of a command, quoted for a shell.

    Args:
        words: How this process was started; None: as it was.
    """
    words = sys.orig_argv if words is None else words
    if shutil.which(NAME):
        return NAME
    if NAME in words[1:3] and "-m" in words[:2]:
        return f"{quoted(words[0])} -m {NAME}"
    script = next((word for word in words[:2] if os.path.splitext(os.path.basename(word))[0] == NAME), NAME)
    return quoted(script)


def command(*words: str | int) -> str:
    """Return a command of this program as one line to paste into a shell of this machine."""
    return " ".join([program(), *map(quoted, map(str, words))])


def quoted(word: str) -> str:
    """Return one word as it stands in a command to be pasted."""
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)
