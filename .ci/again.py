"""Run again, alone, the tests that failed in this run. The exit code is 0 if each of them passed each time.

    .venv/bin/python .ci/again.py FOLDER

FOLDER has, of each run, NAME.failed, what pytest remembers of the failed tests, and NAME.log, what it printed.
A test that fails beside hundreds of others on a machine that is not idle, and passes TIMES times alone, says more about
the machine than about the change. It is listed, with its error, in the last lines of the log, and the run is green.
What has no clock in it fails again: a history, a mutant, a pure function. A test that is skipped alone did not pass. Of
more than MOST_FILES files, or MOST_TESTS tests, none is run again: so much is no chance.

A listed test is kept as a row of tests/flaky.tsv (test, revision, first line of its error), and in the file that
$P2PCHAT_CI_RECORD names. Whoever submits the change commits the row. What stands there twice is mended:
tests/test_flaky.py is red until then.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

TIMES = 3  # of a fault that shows in half of all runs: red in 7 of 16, listed in 1; once alone would list 4
MOST_TESTS = 12
MOST_FILES = 6
WITHIN = 600.0  # seconds for all; a test that hangs alone is no chance
LISTED = Path("tests/flaky.tsv")


def reasons(logs: Iterable[Path]) -> dict[str, str]:
    """Return the first line of the error of each failed test, from the short summaries of pytest."""
    found: dict[str, str] = {}
    for log in logs:
        for line in log.read_text("utf-8", "replace").splitlines():
            said = re.match(r"(?:FAILED|ERROR) (tests/.*?)(?: - (.*))?$", line)
            if said:
                found.setdefault(said[1], said[2] or "")
    return found


def passes(tests: list[str], seconds: float) -> str:
    """Run the tests alone, in one process; return "" if each passed, else what pytest printed at its end."""
    options = ["-n", "0", "-q", "-o", "norecursedirs=.*", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests], env=os.environ | {"P2PCHAT_TEST_LONG": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=seconds,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"did not end in {seconds:.0f} s"
    passed = re.search(r"\b(\d+) passed", done.stdout)  # a process that died says nothing
    if done.returncode == 0 and passed and int(passed[1]) == len(tests):
        return ""
    return f"{done.stdout[-6000:]}\nexit code {done.returncode}, {len(tests)} were to pass"


def keep(tests: list[str], why: dict[str, str]) -> None:
    """List the tests that failed once, where the next reader sees them."""
    found = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], stdout=subprocess.PIPE, text=True, check=False)
    revision = found.stdout.strip() or "unknown"
    record = os.environ.get("P2PCHAT_CI_RECORD")
    for test in tests:
        error = " ".join(why.get(test, "").split())
        with LISTED.open("a", encoding="utf-8") as listed:
            listed.write(f"{test}\t{revision}\t{error}\n")
        if record:
            with open(record, "a", encoding="utf-8") as lines:
                lines.write(f"{time.strftime('%F %T')}\t{test}\t{error}\n")
        print(f"FLAKY {test} failed once, then passed {TIMES} of {TIMES} times alone: {error}", flush=True)


def main(folder: Path) -> int:
    remembered = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.failed")]
    tests = sorted({test for some in remembered for test in some})
    files = {test.partition("::")[0] for test in tests}
    why = reasons(folder.glob("*.log"))
    if not tests:
        print("again: tests failed, but none is known that did", flush=True)
        return 1
    for test in tests:
        print(f"again: failed beside others: {test}: {why.get(test, '')}", flush=True)
    if len(tests) > MOST_TESTS or len(files) > MOST_FILES or any("::" not in test for test in tests):
        print(f"again: {len(tests)} tests of {len(files)} files are too many for chance", flush=True)
        return 1
    until = time.monotonic() + WITHIN
    for number in range(1, TIMES + 1):
        left = until - time.monotonic()
        said = passes(tests, left) if left > 1 else f"no time is left of {WITHIN:.0f} s"
        if said:
            print(f"again: alone, in run {number} of {TIMES}:\n{said}", flush=True)
            return 1
    keep(tests, why)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
