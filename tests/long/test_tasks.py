"""Every task of pyproject.toml still runs, with its smallest input: also those that only a person starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.mutants.mutant import ROOT
from tests.mutants.table import MUTANTS
from tests.soak.parts import PARTS

A_MUTANT = next(mutant.name for mutant in MUTANTS if isinstance(mutant.caught_by, str))
TINY = ["--messages=40", "--rounds=1", "--dir=."]
SMALLEST = {
    "bench": ["frames", *TINY],
    "bench-compare": ["HEAD", "frames", *TINY],
    "bench-growth": ["sizes", "--quick", "--sizes=16", "--dir=.", "--json=found.json"],
    "bench-peers": ["pair", *TINY, "--seconds=0.01", "--warm-up=0", "--beside", "streams_json"],
    "bench-report": ["found.json", "--docs=docs"],
    "build": [],
    "demo": [],
    "explore": ["--minutes=0"],
    "fuzz": ["frames", "--minutes=0.01", "--seed=1"],
    "mutants": [A_MUTANT],
    "purse": [],
}
IN_EACH_GATE = {"test", "test-long", "lint", "types", "docs"}
ENDS_WITH = {"histories": r"\d+ histories, \d+ failed", "kills": r"\d+ kills in", "inputs": r"\d+ inputs, \d+ targets"}
LEFT_OUT = (".*", "build", "dist", "logs", "__pycache__")
FOUND = 1  # the exit code of what looks for faults and found one, which is no fault of the task

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project, in which tasks may write."""
    copy = tmp_path_factory.mktemp("project") / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    shutil.copytree(ROOT / "logs", copy / "logs", ignore=shutil.ignore_patterns("*.jsonl"))
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    return copy


def run(task: str, words: list[str], place: Path) -> tuple[int, str]:
    """Run a task; return its exit code and what it printed."""
    here = Path(sys.executable).parent
    path = os.pathsep.join((str(here), os.environ["PATH"]))
    done = subprocess.run(
        [str(here / "poe"), task, *words], cwd=place, env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_each_task_is_started_somewhere() -> None:
    tasks = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["poe"]["tasks"]
    assert {*SMALLEST, *IN_EACH_GATE, "soak"} == {*tasks}


@pytest.mark.parametrize("task", SMALLEST)
def test_a_task_runs(task: str, copy: Path) -> None:
    if task == "bench-compare":
        if not (ROOT / ".git").exists():
            pytest.skip("compares with a commit: there is no git here")
        code, said = run(task, [word.replace("--dir=.", f"--dir={copy}") for word in SMALLEST[task]], ROOT)
    else:
        code, said = run(task, SMALLEST[task], copy)
    assert code == 0 or (task == "explore" and code == FOUND and "FOUND" in said), said


@pytest.mark.parametrize("part", [part.name for part in PARTS if part.runs_here])
def test_a_part_of_the_soak_runs(part: str, copy: Path) -> None:
    """It may find a fault, which is none of the task."""
    _, said = run("soak", ["--only", part, "--minutes=0.02", "--jobs=1", "--seed=1"], copy)
    assert re.search(ENDS_WITH[part], said), said


def test_the_exploration_keeps_what_it_played(copy: Path) -> None:
    rows = (copy / "simulation" / "found.tsv").read_text("utf-8").splitlines()
    assert [row for row in rows if row.startswith("played\tunknown\t")]
