"""Write-ahead logs of SQLite that a disk changed, and those that end in the middle of a commit."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.storage.dialects.sqlite_dialect import damage_of, sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.conftest import SMALL
from tests.storage.writers import Author, released

PAGE = 4096 + 24
COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return the database of a process that was killed after six commits."""
    ada, path = Author("ada", 1), tmp_path / "chat.db"
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        storage.check_writable()  # which empties the log, and leaves more in it than what follows needs
        storage.commit([released(ada.begins("0"), 1)])
        for number in range(1, COMMITS):
            storage.commit([released(ada.appends(f"{number}" * 3000), number + 1)])
        copy = tmp_path / "killed"
        copy.mkdir()
        for file in tmp_path.glob("chat.db*"):
            shutil.copy(file, copy)
    return copy / "chat.db"


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def ends(log: bytes | bytearray) -> list[int]:
    """Return where each commit of the current log ends, the last one of what was there before not counted."""
    found = []
    for start in range(32, len(log) - PAGE + 1, PAGE):
        if log[start + 8 : start + 16] == log[16:24] and log[start + 4 : start + 8] != bytes(4):
            found.append(start + PAGE)
    return found


def reopened(path: Path) -> tuple[int, str]:
    """Return how many entries the database has when it is opened again, and what it says about lost ones."""
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        return storage.last_place(), storage.lost()


def test_a_whole_log_lost_nothing(killed: Path) -> None:
    assert reopened(killed) == (COMMITS, "") and not list(killed.parent.glob("*.damaged"))


def test_a_changed_frame_is_told_with_the_commits_behind_it_and_kept(killed: Path) -> None:
    log = log_of(killed)
    content = bytearray(log.read_bytes())
    content[ends(content)[2] + 24 + 100] ^= 4  # in the fourth commit
    log.write_bytes(content)
    places, lost = reopened(killed)
    assert places == 3 and "the last 3 commits before" in lost
    assert log_of(killed).with_name("chat.db-wal.damaged").read_bytes() == content
    assert "the last 3 commits before" in reopened(killed)[1]  # until the copy is deleted


@pytest.mark.parametrize("place", [0, 3, 9, 17, 25])
def test_a_changed_header_is_told_too(killed: Path, place: int) -> None:
    log = log_of(killed)
    content = bytearray(log.read_bytes())
    content[place] ^= 1
    log.write_bytes(content)
    assert "commits before" in reopened(killed)[1]


def test_an_unfinished_last_commit_is_nothing_lost(killed: Path) -> None:
    """Nobody was told of a commit that was not synced: any part of it may be missing, its beginning too."""
    log, chance = log_of(killed), random.Random(7)
    content = log.read_bytes()
    *_, begin, end = ends(content)
    assert end - begin > 2 * PAGE
    for _ in range(50):
        torn = bytearray(content)
        for start in range(begin, end, 512):
            if chance.random() < 0.3:
                torn[start : start + 512] = chance.randbytes(512)
        assert damage_of(bytes(torn)) is None and damage_of(bytes(torn[: chance.randrange(begin, end)])) is None


def test_every_changed_bit_before_the_last_commits_is_noticed(killed: Path) -> None:
    content, chance = log_of(killed).read_bytes(), random.Random(8)
    begin = ends(content)[-3]
    assert damage_of(content) is None
    for place in [*range(32), *(chance.randrange(32, begin) for _ in range(100))]:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        assert damage_of(bytes(changed)), place
