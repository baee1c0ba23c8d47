"""Command lines of this program, to paste into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "p2pchat"
SCRIPTS = (NAME, "p2pchat-mesh")  # the second is run by uvx and pipx, which put no `p2pchat` on the path


def program(words: Sequence[str] | None = None) -> str:
    """Return how this program is typed in any terminal, quoted for a shell: p2pchat, or the way it was started.

    A terminal in which no virtual environment was activated, or that is in another directory, finds it by its path.

    Args:
        words: The command line of this process; None: sys.orig_argv.
    """
    words = sys.orig_argv if words is None else words
    if found := shutil.which(NAME):
        activated = os.environ.get("VIRTUAL_ENV")
        is_everywhere = not activated or os.path.abspath(activated) not in map(str, Path(found).absolute().parents)
        return NAME if is_everywhere else quoted(os.path.abspath(found))
    if NAME in words[1:3] and "-m" in words[:2]:
        return f"{_located(words[0])} -m {NAME}"
    if words[1:] and words[1].endswith(".pyz"):
        return " ".join(map(_located, words[:2]))
    script = next((word for word in words[:2] if os.path.splitext(os.path.basename(word))[0] in SCRIPTS), "")
    return _located(script) if script else NAME


def _located(word: str) -> str:
    """Return a program or file that was named relative to this directory so that other terminals find it, quoted."""
    return quoted(os.path.abspath(word) if os.path.dirname(word) else word)


def command(*words: str | int) -> str:
    """Return a command of this program to paste into a shell of this machine."""
    return " ".join([program(), *map(quoted, map(str, words))])


def quoted(word: str) -> str:
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)
