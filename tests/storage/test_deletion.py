"""Deletion in every storage: texts and places go, the log stays as it was for everything else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec import structs

from p2pchat.core.durable_changes import (
    Change,
    DeliveredMark,
    Fork,
    ForkStart,
    LateTexts,
    LogFacts,
    PruneKey,
    ShownKey,
    Start,
    Stretch,
    TextStart,
    WantStart,
)
from p2pchat.core.log import Batch, RawEntry, frame_of, is_gone, size_bytes, stub_of
from p2pchat.core.sync import pruner
from p2pchat.protocol import encode
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.conftest import SMALL
from tests.storage.writers import MORNING, ROOM, Author, is_sound, many, released, user

ALL = PruneKey(ROOM)


def delete(storage: SqlStorage, key: PruneKey = ALL) -> int:
    """Delete it, step by step; return how many messages were deleted."""
    messages, more = 0, True
    while more:
        plan = storage.prunable(key)
        storage.commit([Change(pruned=plan.pruned)])
        messages, more = messages + plan.messages, plan.more
    return messages


def facts_of(storage: SqlStorage, author: Author) -> LogFacts:
    key = author.lookup
    return storage.lookup([key])[key]


def test_the_texts_go_and_the_log_stays(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    storage.commit([released(ada.begins(*many(9)), 1), released(bob.begins("one", "two"), 10)])
    before, first = facts_of(storage, ada), storage.first_received_at(user("ada"))
    assert delete(storage, PruneKey(ROOM, user("ada"))) == 9
    assert facts_of(storage, ada) == before.replace(pruned=9)
    assert storage.load([]).tips[0] == before.replace(pruned=9)
    assert storage.load([]).sizes[user("ada")] == 9 * 64 and storage.load([]).missing == {}
    assert [one.log for one in storage.history(ROOM)] == [one.log for one in storage.places(0, 99)] == [bob.log] * 2
    assert storage.entry(ada.log, 9) is None and storage.first_received_at(user("ada")) == first
    assert [(part.user, part.messages, part.key[3]) for part in storage.deleted(ROOM)] == [(user("ada"), 9, 9)]
    assert storage.shown_by(ShownKey(9, (ada.log,))) == [(ada.log, 9, ada.mark_at(9).chain)]
    assert storage.load([]).next_place == 12
    assert storage.prunable(PruneKey(ROOM, user("ada"))).pruned == []


def test_places_are_not_given_again_after_the_newest_were_deleted(storage: SqlStorage) -> None:
    storage.commit([released(Author("ada", 1).begins(*many(5)), 1)])
    delete(storage)
    assert storage.load([]).next_place == 6


def test_a_log_goes_on_behind_what_was_deleted(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(9)), 1)])
    assert delete(storage, PruneKey(ROOM, before=1_700_000_000_000_005)) == 5
    storage.commit([released(ada.appends("ten", "eleven"), 10)])
    assert [one.seq for one in storage.history(ROOM)] == [6, 7, 8, 9, 10, 11]
    assert facts_of(storage, ada).seq == 11 and facts_of(storage, ada).chain == ada.chain
    served, more = storage.fetch(ROOM, user("ada"), WantStart(()), batches=9)
    assert (served[0].first, served[-1].last, more) == (1, 11, None) and all(map(is_sound, served))
    assert delete(storage) == 6
    storage.commit([released(ada.appends("twelve"), 12)])
    assert [one.seq for one in storage.history(ROOM)] == [12]


def test_own_entries_that_nobody_else_has_stay(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    storage.commit([released(ada.begins(*many(6)), 1), released(bob.begins("one"), 7)])
    own = PruneKey(ROOM, own=frozenset({user("ada")}))
    assert (storage.prunable(own).messages, storage.prunable(own).kept) == (1, 6)
    storage.commit([Change(delivered=[DeliveredMark(ada.log, user("bob"), 4)])])
    assert (storage.prunable(own).messages, storage.prunable(own).kept) == (5, 2)
    assert delete(storage, own) == 5
    assert [one.seq for one in storage.history(ROOM)] == [5, 6]


def test_entries_that_wait_stay(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins("one", "two"), 1), ada.appends("three")])
    delete(storage)
    assert [waiting.seq for waiting in storage.load([]).waiting] == [3]


def test_a_step_deletes_a_bounded_part(storage: SqlStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "PRUNED_ENTRIES", 4)
    ada, bob = Author("ada", 1), Author("bob", 2)
    storage.commit([released(ada.begins(*many(6)), 1), released(bob.begins(*many(5)), 7)])
    plan = storage.prunable(ALL)
    assert ([(each.log, each.upto) for each in plan.pruned], plan.more) == ([(ada.log, 4)], True)
    assert delete(storage) == 11 and storage.history(ROOM) == []
    assert [part.messages for part in storage.deleted(ROOM)] == [5, 6]  # in the order of history


def test_the_same_deletion_twice_changes_nothing_more(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(6)), 1)])
    plan = storage.prunable(ALL)
    storage.commit([Change(pruned=plan.pruned), Change(pruned=plan.pruned)])
    assert (facts_of(storage, ada).pruned, storage.load([]).sizes[user("ada")]) == (6, 6 * 64)


# ---- in a file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def test_a_deleted_text_is_in_no_file_and_the_check_finds_no_fault(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        storage.commit([released(ada.begins(*(f"xyzzy word {n} " + "x" * 900 for n in range(200))), 1)])
        storage.commit([released(ada.appends("plain"), 201)])
        delete(storage, PruneKey(ROOM, before=1_700_000_000_200_000))
        size = storage.size_on_disk()
        storage.compact(all=True)
        assert storage.empty_log()
        files = [file.read_bytes() for file in path.parent.iterdir()]
        assert not any(b"xyzzy" in data for data in files) and any(b"plain" in data for data in files)
        assert storage.size_on_disk() < size / 3
        assert storage.faults(9) == []
    with closing(SqlStorage(sqlite_url(path), SMALL)) as again:
        assert [one.seq for one in again.history(ROOM)] == [201] and again.faults(9) == []


def test_the_check_finds_a_fault_behind_a_deletion(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        storage.commit([released(ada.begins(*many(9)), 1)])
        delete(storage, PruneKey(ROOM, before=1_700_000_000_000_005))
    with closing(sqlite3.connect(path)) as database:
        database.execute("update gone set hash = zeroblob(32) where id & 16777215 = 3")
        database.commit()
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        assert storage.faults(9) == ["log 1 is not what its writer signed (entries up to 9)"]


# ---- stubs that come, and texts that come late


def test_a_deleted_part_is_served_as_stubs_that_are_proven(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(6)), 1)])
    delete(storage, PruneKey(ROOM, before=MORNING + 4))
    [served], _ = storage.fetch(ROOM, user("ada"), WantStart(()), batches=9)
    assert [is_gone(raw) for raw in served.raws] == [True] * 4 + [False] * 2 and is_sound(served)
    assert [storage.chain_at(ada.log, seq).hex() for seq in (3, 4)] == [ada.mark_at(seq).chain for seq in (3, 4)]


def late(author: Author, raws: list[RawEntry], place: int) -> Change:
    return Change(late=[LateTexts(Stretch(place, author.log, 1, len(raws), 5, True, gap=True), raws)])


def test_a_late_text_takes_the_place_of_the_stub_that_it_fits(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    change = released(ada.begins("one", "two"), 1)
    change.batches = [structs.replace(batch, raws=[(c, stub_of(str(text))) for c, text in batch.raws], entries=None)
                      for batch in change.batches]  # fmt: skip
    storage.commit([change, released(bob.begins("three"), 3)])
    assert storage.load([]).missing == {ada.log: 0b110} and [one.place for one in storage.places(0, 9)] == [3]
    [(c1, one), (c2, _)] = ada.raws
    storage.commit([late(ada, [(c1, one), (c2, "another")], 4)])
    assert [(each.place, each.seq, each.gap) for each in storage.places(0, 9)] == [(3, 1, False), (4, 1, True)]
    assert storage.load([]).missing == {ada.log: 0b100} and storage.faults(9) == []
    parts = TextStart(ada.log.run, ((1, 2),))
    [served], more = storage.fetch(ROOM, user("ada"), parts, batches=9)
    assert [is_gone(raw) for raw in served.raws] == [False, True] and is_sound(served) and more is None


def test_what_was_deleted_here_does_not_come_back(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(3)), 1)])
    delete(storage)
    storage.commit([late(ada, ada.raws, 4)])
    assert storage.history(ROOM) == [] and storage.faults(9) == []
    assert storage.fetch(ROOM, user("ada"), TextStart(ada.log.run, ((1, 3),)), batches=9) == ([], None)


# ---- late texts between two heads that fit in no batch


def with_stubs(batch: Batch) -> Batch:
    """Return a batch as it comes from who deleted its texts."""
    raws: list[RawEntry] = [(c, stub_of(str(text))) for c, text in batch.raws]
    return structs.replace(batch, raws=raws, entries=None, size=size_bytes(raws))


def overfull(storage: SqlStorage) -> Author:
    """Store six entries with one head as stubs, then a text of 60,000 bytes for each but the second."""
    ada = Author("ada", 1)
    change = released(ada.begins(*many(6, 60_000)), 1)
    change.batches = [with_stubs(batch) for batch in change.batches]
    storage.commit([change])
    for seq in (1, 3, 4, 5, 6):
        stretch = Stretch(6 + seq, ada.log, seq, 1, 5, True, gap=True)
        storage.commit([Change(late=[LateTexts(stretch, [ada.raws[seq - 1]])])])
    return ada


def given(storage: SqlStorage, start: Start, most: int) -> list[tuple[int, int, list[int]]]:
    """Return first, last and the numbers of the texts of all batches, after checking that each is sound and fits."""
    found: list[Batch] = []
    more: Start | None = start
    while more is not None:
        batches, more = storage.fetch(ROOM, user("ada"), more, batches=most)
        assert len(batches) <= most
        found += batches
    assert all(is_sound(batch) and encode(frame_of(batch)) for batch in found)
    return [
        (batch.first, batch.last, [seq for seq, raw in enumerate(batch.raws, batch.first) if not is_gone(raw)])
        for batch in found
    ]


@pytest.mark.parametrize("most", [1, 2, 9])
def test_late_texts_that_fit_in_no_batch_are_served_in_several(storage: SqlStorage, most: int) -> None:
    ada = overfull(storage)
    storage.commit([ada.appends("7")])
    parts = [(1, 6, [1]), (3, 6, [3]), (4, 6, [4]), (5, 6, [5]), (6, 6, [6])]
    assert given(storage, WantStart(()), most) == [*parts, (7, 7, [7])]
    assert given(storage, WantStart((ada.mark_at(3),)), most) == [*parts[2:], (7, 7, [7])]
    assert given(storage, TextStart(ada.log.run, ((1, 6),)), most) == parts
    assert given(storage, TextStart(ada.log.run, ((2, 3), (5, 5))), most) == [(3, 6, [3]), (5, 6, [5])]


def test_the_evidence_of_a_fork_fits_in_a_batch_whatever_came_late(storage: SqlStorage) -> None:
    ada, twin = overfull(storage), Author("ada", 1)
    storage.commit([Change(forks=[Fork(ada.log, None, twin.write("another"))])])
    assert given(storage, ForkStart(ada.log.run), 9) == [(1, 6, [1]), (1, 1, [1])]


def changed_by_late_text(storage: SqlStorage, heads: int) -> int:
    """Return how many rows a late text changes for the first of so many stubs, each with a head."""
    ada = Author("ada", heads)
    for at in range(heads):
        change = released(ada.appends("x") if at else ada.begins("x"), heads * 100 + at)
        change.batches = [with_stubs(batch) for batch in change.batches]
        storage.commit([change])
    driver = storage._write.driver
    if not isinstance(driver, sqlite3.Connection):
        pytest.skip("only SQLite counts changed rows")
    before = driver.total_changes
    storage.commit([late(ada, ada.raws[:1], heads * 100 + 50)])
    return int(driver.total_changes - before)


def test_a_late_text_costs_the_same_however_long_its_log_is(storage: SqlStorage) -> None:
    assert changed_by_late_text(storage, 3) == changed_by_late_text(storage, 30)


def test_late_texts_are_part_of_the_sizes_of_users(storage: SqlStorage) -> None:
    ada = overfull(storage)
    stored = [ada.raws[0], (0, stub_of(str(ada.raws[1][1]))), *ada.raws[2:]]
    assert storage.load([]).sizes == {user("ada"): size_bytes(stored)}
    storage.commit([ada.appends("7")])
    assert storage.load([]).sizes == {user("ada"): size_bytes([*stored, ada.raws[-1]])}
