"""Long tests of `tests/vectors/test_vectors.py`."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.pages import ROOT


def test_the_generator_makes_the_same_files_again_without_code_of_p2pchat() -> None:
    words = [sys.executable, "-m", "tests.vectors.make", "--check"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
