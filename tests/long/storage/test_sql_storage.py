"""Long tests of `tests/storage/test_sql_storage.py`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.test_sql_storage import all_entries, opened
from tests.storage.test_sql_storage import path as path  # fixture
from tests.storage.writers import Author, many

FILL = """
import sys
from pathlib import Path
from p2pchat.settings import Settings
from p2pchat.errors import StorageError
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import Author, many
directory, kept = Path(sys.argv[1]), 0
storage = SqlStorage(sqlite_url(directory / "chat.db"), Settings(wal_warm_bytes=1 << 18))
ballast = directory / "ballast"
ballast.write_bytes(bytes(1 << 20))
ada = Author("ada", 1)
change = ada.begins("1")
try:
    while True:
        storage.commit([change])
        kept = ada.seq
        change = ada.appends(*many(10, 1000))
except StorageError as error:
    print(error)
ballast.unlink()
storage.commit([change])
storage.close()
again = SqlStorage(sqlite_url(directory / "chat.db"), Settings(wal_warm_bytes=0))
(tip,) = again.load([]).tips
assert (tip.seq, tip.chain, ada.seq) == (kept + 10, ada.chain, kept + 10)
again.close()
print("went on")
"""


@pytest.fixture(scope="module")
def may_mount() -> None:
    probe = ["unshare", "--mount", "--map-root-user", "true"]
    if sys.platform != "linux" or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk here")


@pytest.mark.usefixtures("may_mount")
def test_a_full_disk(tmp_path: Path) -> None:
    """On a disk of 4 MiB earlier commits stay, and the next commit works once there is space."""
    mounted = 'mount -t tmpfs -o size=4m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, FILL]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    full, went_on = done.stdout.splitlines()
    assert "is full: free some space; nothing of this was kept" in full and went_on == "went on"


WRITE = """
import sys
from p2pchat.settings import Settings
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import Author, many, released
storage = SqlStorage(sys.argv[1], Settings(wal_warm_bytes=0))
ada = Author("ada", int(sys.argv[2]))
place = storage.load([]).next_place
change = released(ada.begins("1"), place)
while True:
    storage.commit([change])
    print(ada.seq, flush=True)
    place += len(change.batches[0].raws)
    change = released(ada.appends(*many(1 + ada.seq % 7, 300)), place)
"""


def kill_while_writing(path: Path, run: int, commits: int) -> int:
    """Kill a process after so many commits; return the last seq whose commit had returned."""
    command = [sys.executable, "-c", WRITE, sqlite_url(path), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(commits)]
        writer.kill()
        lines += writer.stdout.readlines()
    whole = [line for line in lines if line.endswith("\n")]
    return int(whole[-1])


def spans_of(storage: SqlStorage) -> Iterator[tuple[int, int]]:
    for tip in storage.load([]).tips:
        yield int(tip.log.run, 16), tip.seq


def test_a_killed_process_loses_no_commit_that_returned_and_leaves_none_in_part(path: Path) -> None:
    durable = {run: kill_while_writing(path, run, commits) for run, commits in ((1, 1), (2, 40), (3, 90))}
    with closing(opened(path)) as storage:
        found = dict(spans_of(storage))
        for run, seq in durable.items():
            ada = Author("ada", run)
            ada.write("1")
            while ada.seq < found[run]:
                ada.write(*many(1 + ada.seq % 7, 300))
            assert found[run] in (seq, ada.seq) and found[run] >= seq  # or one commit more
            facts = storage.lookup([ada.lookup])[ada.lookup]
            assert (facts.seq, facts.chain, facts.released) == (ada.seq, ada.chain, ada.seq)
        assert len(all_entries(storage, "ada")) == sum(found.values())
        assert [shown.place for shown in storage.places(0, 10**6)] == list(range(1, sum(found.values()) + 1))
