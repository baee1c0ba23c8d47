"""Temporary storage only: one connection for all threads, and snapshots for simulated disks."""

from __future__ import annotations

import gc
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2pchat.core.durable_changes import Change, KnownUser, WantStart
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.storage.conftest import SMALL
from tests.storage.writers import ROOM, Author, released, user


def test_restore_returns_to_the_state_of_the_snapshot() -> None:
    storage, ada = TemporaryStorage(SMALL), Author("ada", 1)
    storage.commit([released(ada.begins("1", "2"), 1)])
    before = (storage.load([]), storage.places(0, 9), storage.history(ROOM))
    copy = storage.snapshot()
    second = Author("ada", 2, before=[ada.mark])
    later = released(second.begins("3"), 3)
    later.covered, later.users = [ada.log], [KnownUser(user("ada"), "ada", 1)]
    storage.commit([released(ada.appends("4"), 4), later])
    for _ in range(2):  # what happens after a restore does not touch the copy
        storage.restore(copy)
        assert (storage.load([]), storage.places(0, 9), storage.history(ROOM)) == before
        other = Author("ada", 3, before=[ada.mark])
        storage.commit([released(other.begins("5"), 3), Change(covered=[ada.log], meta={"a": "b"})])
        served, _ = storage.fetch(ROOM, user("ada"), WantStart(()), batches=9)
        assert [batch.log for batch in served] == [ada.log, other.log]


def test_a_snapshot_can_be_restored_into_another_storage() -> None:
    storage, twin, ada = TemporaryStorage(SMALL), TemporaryStorage(SMALL), Author("ada", 1)
    storage.commit([ada.begins("1")])
    twin.restore(storage.snapshot())
    change = ada.appends("2")
    storage.commit([change])
    assert [tip.seq for each in (storage, twin) for tip in each.load([]).tips] == [2, 1]
    twin.commit([change])
    assert twin.load([]) == storage.load([])


def test_one_that_is_forgotten_closes_its_connection() -> None:
    storage = TemporaryStorage(SMALL)
    driver = storage._read.driver
    del storage
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("select 1")


def test_commits_and_reads_of_several_threads_take_turns() -> None:
    storage, ada = TemporaryStorage(SMALL), Author("ada", 1)
    changes = [released(ada.begins("1"), 1), *(released(ada.appends(str(n)), n) for n in range(2, 200))]
    with ThreadPoolExecutor(3) as threads:
        reads = [threads.submit(lambda: [len(storage.places(0, 999)) for _ in changes]) for _ in range(2)]
        threads.submit(lambda: [*map(storage.commit, zip(changes, strict=True))]).result()
        assert all(counts == sorted(counts) for counts in (read.result() for read in reads))
    assert len(storage.places(0, 999)) == len(changes)
