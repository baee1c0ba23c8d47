"""Two revisions of p2pchat in temporary directories, each with the current benchmarks.

The older revision comes from `git archive`, so nothing is checked out and no worktree is left. The working tree is
copied, committed or not, so editing can continue during the measurement. The repository is only read.
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

PATIENCE = 150.0  # seconds for one round of one work; the longest take ten
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc")


class NoTree(Exception):
    """A revision is not available; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One revision, ready to run: its directory, and its description."""

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
    """End a round that is still running, with the workers it started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()  # its workers end at the end of their input
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def cause(complained: str) -> str:
    """Return the line of a process's stderr that explains a failure; "" if there is none.

    That is the error of the first traceback, which causes the others; without a traceback, the last line.
    """
    lines = [line for line in complained.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("Traceback "):
            return next((after for after in lines[number + 1 :] if not after.startswith(" ")), line)
    return lines[-1].strip() if lines else ""


def old_tree(repository: Path, revision: str, above: Path) -> Tree:
    """Extract a revision from a repository. Raises NoTree."""
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
    """Copy the working tree."""
    directory = above / "now"
    shutil.copytree(repository / "p2pchat", directory / "p2pchat", ignore=_NOT_COPIED)
    at = _git(repository, "rev-parse", "--short", "HEAD")
    changed = len(_git(repository, "status", "--porcelain", "--", "p2pchat").splitlines())
    more = f", and {changed} {'file' if changed == 1 else 'files'} not committed" if changed else ""
    return _ready(Tree("now", directory, f"the working tree: {at}{more}"))


def _ready(tree: Tree) -> Tree:
    """Add the current benchmarks and compile everything, so that the first round is not slower."""
    shutil.copytree(ROOT / "benchmarks", tree.directory / "benchmarks", ignore=_NOT_COPIED)
    compileall.compile_dir(tree.directory, quiet=2)
    return tree


def _commit(repository: Path, revision: str) -> str:
    """Return the full id of the commit that a revision names."""
    if not _git(repository, "rev-parse", "--git-dir"):
        raise NoTree(f"{repository} is not a git repository: there is nothing to compare with")
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit:
        return commit
    if _git(repository, "rev-parse", "--is-shallow-repository") == "true":
        raise NoTree(f"there is no revision {revision!a} in this shallow clone: fetch the rest, git fetch --unshallow")
    raise NoTree(f"there is no revision {revision!a}: git log lists them; a commit, a branch, a tag, or HEAD~3")


def _git(repository: Path, *words: str) -> str:
    """Run a git query; return "" if it fails."""
    try:
        said = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, encoding="utf-8", check=True)
    except FileNotFoundError:
        raise NoTree("git is not installed, and is needed to get the other revision") from None
    except subprocess.CalledProcessError:
        return ""
    return said.stdout.strip()
