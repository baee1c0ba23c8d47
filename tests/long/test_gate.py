"""The gate (.ci/run, .ci/again.py): what fails by chance is forgiven and listed, and all else stays red."""

from __future__ import annotations

import json
import os
import shutil
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


# A project whose tests are a few, with the gate as it is.
README = (
    "python3 -m venv --without-pip .venv && rm .venv/bin/python && cp poe python .venv/bin/ && .venv/bin/poe test\n"
)
PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
POE = f"""#!/bin/sh
case $1 in test|test-long) exec {sys.executable} -W ignore -m pytest -q -ra "tests/$1";; esac
"""
PASSES = "def test_passes(): pass\n"
FLAKY = """
import pathlib
def test_flaky():
    seen = pathlib.Path(__file__).with_suffix(".seen")
    was = seen.exists()
    seen.touch()
    assert was
"""
IMPORTS = "import a_module_that_is_gone\n"


def gate(place: Path, quick: dict[str, str], long: dict[str, str]) -> tuple[int, list[str]]:
    """Run the gate of a project with these quick and long tests; return its exit code and its lines."""
    shutil.copytree(ROOT / ".ci", place / ".ci")
    for name, text in {"README.md": README, "poe": POE, "python": PYTHON, "pytest.ini": "[pytest]\n"}.items():
        (place / name).write_text(text)
    for name in ("poe", "python"):
        (place / name).chmod(0o755)
    for folder, tests in (("test", quick), ("test-long", long)):
        (place / "tests" / folder).mkdir(parents=True)
        for name, text in tests.items():
            (place / "tests" / folder / f"test_{name}.py").write_text(text)
    (place / "tests" / "flaky.tsv").touch()
    (place / "tests" / "weekly.tsv").write_text("2026-11-30\tabc\t7 passed\n")
    programs = place / "programs"  # without apt-get: the gate installs nothing here
    programs.mkdir()
    for path in (found for folder in os.environ["PATH"].split(os.pathsep) for found in Path(folder).glob("*")):
        if path.name != "apt-get" and not (programs / path.name).is_symlink():
            (programs / path.name).symlink_to(path)
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=place, env={**os.environ, "PATH": str(programs)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None or sys.platform == "win32", reason="the gate is a script of bash")
@pytest.mark.parametrize(
    ("quick", "long", "flaky", "failed"),
    [
        ({"one": PASSES}, {"one": PASSES}, 0, " nothing"),
        ({"one": FLAKY}, {"one": PASSES, "two": FLAKY}, 2, " nothing"),
        ({"one": FLAKY}, {"one": PASSES, "two": "def test_fails(): assert False"}, 0, " test test-long"),
        ({"one": PASSES}, {"one": PASSES, "two": FLAKY, **{f"n{n}": IMPORTS for n in range(4)}}, 0, " test-long"),
        ({"one": PASSES}, {}, 0, " test-long"),
        ({"one": PASSES}, {"one": "import os\ndef test_dies(): os._exit(9)"}, 0, " test-long"),
    ],
    ids=["all pass", "two are flaky", "one is broken", "four cannot be imported", "nothing is collected", "one dies"],
)
def test_the_gate(quick: dict[str, str], long: dict[str, str], flaky: int, failed: str, tmp_path: Path) -> None:
    code, lines = gate(tmp_path, quick, long)
    said = "\n".join(lines)
    assert f"failed:{failed}. The tests ended with:" in lines, said
    assert (code == 0) is (failed == " nothing"), said
    assert sum(line.startswith("FLAKY ") for line in lines[-flaky:]) == flaky if flaky else "FLAKY" not in said, said
    assert "the weekly tests ran last (poe soak --only weekly): 2026-11-30\tabc\t7 passed" in lines, said
