"""Reading a profile on a medium that nobody can write, as a copy on a disc is. It needs the right to mount."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.conftest import SMALL
from tests.storage.test_sql_storage import all_entries
from tests.storage.writers import Author


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    """A directory with the database of a peer that was killed: its last commits are in the write-ahead log alone."""
    ada, place, made = Author("ada", 1), tmp_path / "medium", tmp_path / "made"
    place.mkdir()
    made.mkdir()
    with closing(SqlStorage(sqlite_url(made / "history.db"), SMALL)) as storage:
        storage.commit([ada.begins("1")])
        storage.commit([ada.appends("2")])
        shutil.copytree(made, place, dirs_exist_ok=True)
    for words in (["--bind", place, place], ["-o", "remount,bind,ro", place]):
        done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("index", ["there", "missing"])
def test_a_database_is_read_with_its_log(medium: Path, index: str) -> None:
    if index == "missing":
        subprocess.run(["mount", "-o", "remount,bind,rw", str(medium)], check=True)
        (medium / "history.db-shm").unlink()
        subprocess.run(["mount", "-o", "remount,bind,ro", str(medium)], check=True)
    with pytest.raises(OSError):
        (medium / "x").touch()
    with closing(SqlStorage(sqlite_url(medium / "history.db"), SMALL, read_only=True)) as storage:
        assert [str(text).rpartition('"b":')[2] for _, text in all_entries(storage, "ada")] == ['"1"}', '"2"}']
