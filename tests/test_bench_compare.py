"""Comparison of two revisions, in a small repository. No time is ever asserted."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import compare, disk, trees
from benchmarks.compare import Figure

if shutil.which("git") is None:
    pytest.skip("git is not installed here", allow_module_level=True)

STARTS = {"__init__.py": "TCPPeer = None\n", "__main__.py": ""}  # everything that the work `startup` needs


def _git(repository: Path, *words: str) -> str:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    git = ["git", "-C", str(repository), *who, "-c", "commit.gpgsign=false", "-c", "protocol.file.allow=always"]
    return subprocess.run([*git, *words], check=True, capture_output=True, encoding="utf-8").stdout


def _write(repository: Path, files: dict[str, str]) -> None:
    (repository / "p2pchat").mkdir(parents=True, exist_ok=True)
    for name, source in files.items():
        (repository / "p2pchat" / name).write_text(source, "utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory on a disk. Skip if pytest's own is in memory: nothing durable can run there."""
    if disk.file_system(tmp_path) in disk.IN_MEMORY:
        pytest.skip(f"{tmp_path} is in memory: give --basetemp on a disk")
    (tmp_path / "works").mkdir()
    return tmp_path


@pytest.fixture
def repository(place: Path) -> Path:
    """Create one commit of a package that starts, and does nothing more."""
    repository = place / "repository"
    _write(repository, STARTS)
    _git(repository, "init")
    _git(repository, "add", ".")
    _git(repository, "commit", "-m", "It starts")
    return repository


def test_figures_of_both_are_shown_and_missing_works_left_out_with_the_reason(
    place: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(repository, {"__init__.py": "TCPPeer = None  # not committed\n"})
    found = place / "found.json"
    given = ["HEAD", "startup", "durable", "--rounds=1", f"--dir={place / 'works'}", f"--json={found}"]
    assert compare.main(given, repository) == 0
    said, told = capsys.readouterr().out, json.loads(found.read_text("utf-8"))
    assert told["failed"] == {}
    assert list(told["left_out"]) == ["durable"]
    assert told["left_out"]["durable"].startswith("ImportError: cannot import name 'Message' from 'p2pchat'")
    assert [figure["work"] for figure in told["figures"]] == [
        "python -m p2pchat --version",
        "import p2pchat",
        "from p2pchat import TCPPeer",
    ]
    assert all(len(figure["base"]) == len(figure["now"]) == 1 for figure in told["figures"])
    assert all(figure["mark"] == "" for figure in told["figures"]), "one round proves nothing"
    for words in ("It starts", "1 file not committed", "--version", "left out: durable"):
        assert words in said
    assert list((place / "works").iterdir()) == [], "the trees are gone"
    assert len(_git(repository, "worktree", "list").splitlines()) == 1


def test_a_broken_working_tree_is_a_failure_with_its_reason(
    place: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(repository, {"__init__.py": "raise RuntimeError('half a change')\n"})
    assert compare.main(["main", "startup", "--rounds=1", f"--dir={place / 'works'}"], repository) == 1
    assert "failed: startup, which the working tree cannot do: RuntimeError: half a change" in capsys.readouterr().err
    assert list((place / "works").iterdir()) == []


def test_an_unavailable_revision_is_one_sentence(
    place: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(revision: str, where: Path) -> str:
        assert compare.main([revision, f"--dir={place / 'works'}"], where) == 1
        return capsys.readouterr().err.strip()

    assert "there is no revision 'nowhere': git log lists them" in complaint("nowhere", repository)
    assert "is not a git repository" in complaint("HEAD", place)
    _git(repository, "commit", "--allow-empty", "-m", "Another")
    _git(place, "clone", "--depth=1", repository.as_uri(), "shallow")
    assert "git fetch --unshallow" in complaint("HEAD~1", place / "shallow")
    _git(repository, "rm", "-r", "--quiet", "p2pchat")
    _git(repository, "commit", "-m", "Nothing is left")
    assert "HEAD has no directory p2pchat" in complaint("HEAD", repository)


@pytest.mark.parametrize(
    "unit, base, now, mark",
    [
        ("/s", [100, 110, 105], [90, 99, 95], "worse"),
        ("/s", [100, 110, 105], [90, 101, 95], ""),
        ("/s", [100, 110, 105], [111, 120, 115], "better"),
        ("us", [100, 110, 105], [111, 120, 115], "worse"),
        ("KiB", [100, 110, 105], [90, 99, 95], "better"),
        ("us", [100, 110], [211, 220], ""),
    ],
)
def test_worse_means_beyond_every_round_of_the_other(unit: str, base: list[float], now: list[float], mark: str) -> None:
    assert Figure("a work", unit, base, now).mark == mark


def test_the_first_of_several_tracebacks_is_the_cause() -> None:
    first = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    b()\nKeyError: 1\n'
    second = "Traceback (most recent call last):\n  ...\nWorkFailed: ended with 1\n"
    assert trees.cause(f"a warning\n{first}{second}") == "KeyError: 1"
    assert trees.cause("durable.read ended with 1\n") == "durable.read ended with 1"
    assert trees.cause("") == ""


@pytest.mark.parametrize("given", [[], ["HEAD", "nothing"], ["HEAD", "--rounds=0"], ["HEAD", "--peers=1"]])
def test_invalid_arguments_exit_with_code_2(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.arguments(given)
    assert ended.value.code == 2
