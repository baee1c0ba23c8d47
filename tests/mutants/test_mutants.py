"""Every mutant's patch fits the code. Those that are caught quickly are caught here, the others by `poe mutants`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.amounts import MUTANTS_HUNTED
from tests.mutants.hunting import Catch, hunt
from tests.mutants.patches import ROOT, Hunk, Mutant, PatchError, read, read_all

# Each is caught within a few histories; together they are the worst mistakes for a mesh.
QUICK = (
    "acknowledge-before-commit",
    "push-before-commit",
    "reuse-number-after-restart",
    "no-comparison-at-link-up",
    "no-anti-entropy",
    "go-without-n",
    "want-closed-by-any-have",
    "import-reported-before-commit",
    "receipts-not-loaded",
)[:MUTANTS_HUNTED]
MUTANTS = {mutant.name: mutant for mutant in read_all()}
PATCH = """Why: it says what is not
Caught by: simulation of 60 seeds: lost

--- a/words.py
+++ b/words.py
@@ -9,3 +9,3 @@
 one
-two
+three
 four
"""


@pytest.fixture(scope="module")
def hunts() -> Iterator[dict[str, Future[Catch]]]:
    """Start all quick hunts, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(hunt, MUTANTS[name]) for name in QUICK}


def test_there_are_more_than_forty_mutants() -> None:
    assert len(MUTANTS) > 40


def test_the_lines_of_each_patch_are_in_the_code() -> None:
    assert {name: fault for name, mutant in MUTANTS.items() if (fault := misfit(mutant))} == {}


def misfit(mutant: Mutant) -> str:
    """Return why a mutant does not fit the code, "" if it does."""
    for hunk in mutant.hunks:
        text = (ROOT / hunk.file).read_text("utf-8")
        try:
            changed = hunk.apply(text)
            compile(changed, hunk.file, "exec")
        except (PatchError, SyntaxError) as error:
            return str(error)
        if changed == text:
            return f"it changes nothing in {hunk.file}"
    file, _, name = mutant.test.partition("::")
    return f"there is no {name} in {file}" if name and f"def {name}(" not in (ROOT / file).read_text("utf-8") else ""


def test_the_page_has_a_row_for_each_mutant() -> None:
    """A new mutant needs a row in docs/guarantees.md; `poe mutants NAME` prints the number of histories."""
    page = (ROOT / "docs" / "guarantees.md").read_text("utf-8").partition("### Deliberate faults\n")[2]
    rows = [line.strip("| ").split(" | ") for line in page.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    said = {name: (why, by.strip("`").removeprefix("tests/")) for name, why, by, *_ in rows[1:]}
    assert said == {mutant.name: (mutant.why, mutant.caught_by) for mutant in MUTANTS.values()}


@pytest.mark.sampled
@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_caught(name: str, hunts: dict[str, Future[Catch]]) -> None:
    catch = hunts[name].result()
    assert catch.caught, f"{name} was not caught: {catch.said[:500] or 'no promise was broken'}"


def test_a_patch_is_located_by_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "it-lies.patch"
    path.write_text(PATCH, "utf-8")
    mutant = read(path)
    assert (mutant.name, mutant.why, mutant.rule, mutant.seeds) == ("it-lies", "it says what is not", "lost", 60)
    assert mutant.hunks == (Hunk("words.py", ("one", "two", "four"), ("one", "three", "four")),)
    assert mutant.hunks[0].apply("zero\none\ntwo\nfour\n") == "zero\none\nthree\nfour\n"


@pytest.mark.parametrize("text", ["one\ntwo\n", "one\ntwo\nfour\none\ntwo\nfour\n"])
def test_a_patch_fits_only_if_its_lines_occur_exactly_once(text: str) -> None:
    with pytest.raises(PatchError):
        Hunk("words.py", ("one", "two", "four"), ("one", "three", "four")).apply(text)


@pytest.mark.parametrize("text", ["--- a/x\n+++ b/x\n", PATCH.partition("---")[0]])
def test_an_incomplete_patch_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text(text, "utf-8")
    with pytest.raises(PatchError):
        read(tmp_path / "x.patch")
