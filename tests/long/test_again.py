"""The rerun of what failed in the gate (.ci/again.py): what is forgiven and listed, and what stays red."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.mutant import ROOT

# Each fails in the run that is told here, beside others, and then does this alone.
TESTS = """
import os, pathlib, pytest
RUNS = pathlib.Path("runs")

def run():
    RUNS.write_text(RUNS.read_text() + "x" if RUNS.exists() else "x")
    return len(RUNS.read_text())

def test_passes(): run()
def test_fails(): assert False
def test_fails_in_the_third_run(): assert run() < 3
def test_is_skipped(): pytest.skip("alone")
def test_dies(): os._exit(0)
"""


def again(place: Path, *tests: str, error: str = "assert 1 == 2") -> tuple[int, str, str]:
    """Run again what failed; return the exit code, what was printed, and the rows of the list."""
    (place / "tests").mkdir(exist_ok=True)
    (place / "tests" / "test_some.py").write_text(TESTS)
    (place / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    listed, found = place / "tests" / "flaky.tsv", place / "found"
    listed.write_text("")
    found.mkdir(exist_ok=True)
    (found / "test.failed").write_text(json.dumps(dict.fromkeys(tests, True)))
    (found / "test.log").write_text("".join(f"FAILED {test} - {error}\n" for test in tests))
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "again.py"), str(found)], cwd=place,
        env=os.environ | {"P2PCHAT_CI_RECORD": str(place / "record")}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, listed.read_text()


def one(name: str) -> str:
    return f"tests/test_some.py::test_{name}"


def test_what_passes_three_times_alone_is_green_and_listed_with_its_error(tmp_path: Path) -> None:
    code, said, listed = again(tmp_path, one("passes"))
    assert code == 0 and (tmp_path / "runs").read_text() == "xxx", said
    assert said.splitlines()[-1].startswith(f"FLAKY {one('passes')} failed once, then passed 3 of 3 times alone")
    assert listed == f"{one('passes')}\tunknown\tassert 1 == 2\n"
    assert (tmp_path / "record").read_text().endswith(f"\t{one('passes')}\tassert 1 == 2\n")


@pytest.mark.parametrize("name", ["fails", "fails_in_the_third_run", "is_skipped", "dies", "is_gone"])
def test_what_does_not_pass_each_time_is_red(name: str, tmp_path: Path) -> None:
    code, said, listed = again(tmp_path, one("passes"), one(name))
    assert (code, listed, "FLAKY" in said) == (1, "", False), said


@pytest.mark.parametrize(
    "tests",
    [
        [],
        [f"{one('passes')}[{number}]" for number in range(13)],
        [f"tests/test_{number}.py::test_passes" for number in range(7)],
        ["tests/test_some.py"],
    ],
    ids=["none is known", "thirteen", "of seven files", "a file that cannot be imported"],
)
def test_what_is_no_chance_is_not_run_again(tests: list[str], tmp_path: Path) -> None:
    code, said, listed = again(tmp_path, *tests)
    assert (code, listed) == (1, "") and not (tmp_path / "runs").exists(), said
