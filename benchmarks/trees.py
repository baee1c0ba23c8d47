"""Two revisions of p2pchat in directories of their own, each with the benchmarks of now beside it.

An older revision comes out of `git archive`, so that nothing is checked out and no worktree stays behind. What lies in
the working tree is copied, committed or not: editing goes on while it is measured. Git is only ever asked.
"""

from __future__ import annotations

import compileall
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.workers import ROOT, WorkFailed

PATIENCE = 150.0  # seconds for one round of one work: the longest take ten
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")


class NoTree(Exception):
    """A revision cannot be had: one sentence that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One revision, ready to run: where it lies, and what it is in words."""

    name: str
    directory: Path
    words: str

    def once(self, work: str, setting: dict[str, Any]) -> list[dict[str, Any]]:
        """Run one round of a work; return its rows. Raises WorkFailed with what went wrong there."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.once", work],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
            cwd=self.directory, env={**environment, "PYTHONPATH": str(self.directory)},
            start_new_session=True,
        )  # fmt: skip
        try:
            said, complained = process.communicate(json.dumps(setting), PATIENCE)
        except subprocess.TimeoutExpired:
            raise WorkFailed(f"it did not end within {PATIENCE:.0f} s") from None
        finally:
            _end(process)
        if process.returncode:
            raise WorkFailed(
                cause(complained).replace(f"{self.directory}{os.sep}", "") or f"it ended with {process.returncode}"
            )
        rows: list[dict[str, Any]] = json.loads(said.splitlines()[-1])["rows"]
        return rows


def _end(process: subprocess.Popen[str]) -> None:
    """End a round that still runs, with the workers it has started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()  # its workers are at the end of their input then, and end by themselves
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def cause(complained: str) -> str:
    """Return the line of what a process wrote on stderr that says what went wrong; "" when it wrote nothing.

    Of several tracebacks the first one counts, for the others follow from it; without any the last line.
    """
    lines = [line for line in complained.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("Traceback "):
            return next((after for after in lines[number + 1 :] if not after.startswith(" ")), line)
    return lines[-1].strip() if lines else ""


def old_tree(repository: Path, revision: str, above: Path) -> Tree:
    """Take a revision out of a repository. Raises NoTree."""
    commit = _commit(repository, revision)
    directory = above / "base"
    try:
        packed = subprocess.run(
            ["git", "-C", str(repository), "archive", "--format=zip", commit, "p2pchat"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
    except subprocess.CalledProcessError:
        raise NoTree(f"{revision} has no directory p2pchat: name a commit of this project") from None
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        archive.extractall(directory)
    return _ready(Tree("base", directory, _git(repository, "log", "-1", "--format=%h of %cs: %s", commit)))


def tree_of_now(repository: Path, above: Path) -> Tree:
    """Copy what lies in the working tree."""
    directory = above / "now"
    shutil.copytree(repository / "p2pchat", directory / "p2pchat", ignore=_NOT_COPIED)
    at = _git(repository, "rev-parse", "--short", "HEAD")
    changed = len(_git(repository, "status", "--porcelain", "--", "p2pchat").splitlines())
    more = f", and {changed} {'file' if changed == 1 else 'files'} not committed" if changed else ""
    return _ready(Tree("now", directory, f"the working tree: {at}{more}"))


def _ready(tree: Tree) -> Tree:
    """Put the benchmarks of now beside it, and compile all: the first round is like the others then."""
    shutil.copytree(ROOT / "benchmarks", tree.directory / "benchmarks", ignore=_NOT_COPIED)
    compileall.compile_dir(tree.directory, quiet=2)
    return tree


def _commit(repository: Path, revision: str) -> str:
    """Return the full id of the commit that a revision names."""
    if not _git(repository, "rev-parse", "--git-dir"):
        raise NoTree(f"{repository} is no git repository: there is nothing to compare with")
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit:
        return commit
    if _git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise NoTree(f"there is no revision {revision!a} in this shallow clone: fetch the rest, git fetch --unshallow")
    raise NoTree(f"there is no revision {revision!a}: git log lists them; a commit, a branch, a tag, or HEAD~3")


def _git(repository: Path, *words: str) -> str:
    """Ask git something; "" where it knows no answer."""
    try:
        said = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, encoding="utf-8", check=True)
    except FileNotFoundError:
        raise NoTree("git is not installed here, and it has the other revision") from None
    except subprocess.CalledProcessError:
        return ""
    return said.stdout.strip()
