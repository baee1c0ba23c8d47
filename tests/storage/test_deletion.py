"""Deletion in every storage: texts and places go, the log stays as it was for everything else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.core.durable_changes import (
    Change,
    DeliveredMark,
    Fork,
    ForkStart,
    LogFacts,
    PruneKey,
    ShownKey,
    StoredStart,
    TailStart,
    WantStart,
)
from p2pchat.core.sync import pruner
from p2pchat.protocol import Mark
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
    assert storage.load([]).sizes.get(user("ada"), 0) == 0 < storage.load([]).sizes.get(user("bob"), 0)
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
    served, more = storage.fetch(ROOM, user("ada"), StoredStart(), batches=9)
    assert (served[0].first, served[-1].last, more) == (6, 11, None) and all(map(is_sound, served))
    assert delete(storage) == 6
    storage.commit([released(ada.appends("twelve"), 12)])
    assert [one.seq for one in storage.history(ROOM)] == [12]


def test_who_lacks_what_was_deleted_is_served_nothing_of_it_and_of_what_builds_on_it(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins(*many(6)), 1)])
    second, other = Author("ada", 2, before=[first.mark]), Author("ada", 3)
    change = released(second.begins("new"), 7)
    change.covered = [first.log]
    storage.commit([change, released(other.begins("alone", whole=False), 8)])
    delete(storage, PruneKey(ROOM, before=1_700_000_000_000_000 + 4))

    def served(start: WantStart | TailStart) -> list[tuple[str, int]]:
        return [(one.log.run, one.first) for one in storage.fetch(ROOM, user("ada"), start, batches=9)[0]]

    assert served(WantStart(())) == []  # of `other` the first entry was deleted too
    assert served(WantStart((first.mark_at(4),))) == [(first.log.run, 5)]
    assert served(WantStart((first.mark_at(3),))) == []
    assert served(TailStart(first.log.run, 3)) == [] and served(TailStart(first.log.run, 4)) == [(first.log.run, 5)]


def test_what_builds_on_a_forked_log_is_served_to_who_lacks_what_was_deleted_below(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins(*many(6)), 1)])
    second = Author("ada", 2, before=[first.mark])
    third = Author("ada", 3, before=[second.mark])
    storage.commit([second.begins("two"), Author("ada", 3, before=[second.mark]).begins("three")])
    storage.commit([Change(forks=[Fork(second.log, None, Author("ada", 2).write("lie"))])])
    delete(storage, PruneKey(ROOM, before=MORNING + 4))
    batches, _ = storage.fetch(ROOM, user("ada"), WantStart(()), batches=9)
    assert [(one.log.run, one.first) for one in batches] == [(third.log.run, 1)]


def test_what_builds_on_a_deleted_part_is_served_to_who_holds_that_part(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins(*many(6)), 1)])
    second, other = Author("ada", 2, before=[first.mark]), Author("ada", 3)
    late = 1_800_000_000_000_000
    change = released(second.begins("new", c=late), 7)
    change.covered = [first.log]
    storage.commit([change, released(other.begins("alone", whole=False, c=late), 8)])
    delete(storage, PruneKey(ROOM, before=late))

    def served(*marks: object) -> list[str]:
        return [one.log.run for one in storage.fetch(ROOM, user("ada"), WantStart(marks), batches=9)[0]]  # type: ignore[arg-type]

    assert served() == [other.log.run]
    assert served(first.mark) == [second.log.run, other.log.run]
    assert served(first.mark_at(2)) == [other.log.run]  # its chain there is not known here any more


def test_who_holds_another_version_of_what_was_deleted_is_served_the_rest(storage: SqlStorage) -> None:
    """It finds the fork by comparing that with what it holds (seed 1324147 with --deletions)."""
    first = Author("ada", 1)
    storage.commit([released(first.begins(*many(6)), 1)])
    second, twin = Author("ada", 2, before=[first.mark]), Author("ada", 1)
    change = released(second.begins("new", c=MORNING + 9), 7)
    change.covered = [first.log]
    storage.commit([change])
    delete(storage, PruneKey(ROOM, before=MORNING + 4))
    twin.write(*many(3), "another", *many(4))

    def served(*marks: Mark) -> list[tuple[str, int]]:
        page, more = storage.fetch(ROOM, user("ada"), WantStart((), marks), batches=1)
        while more is not None:
            batches, more = storage.fetch(ROOM, user("ada"), more, batches=1)
            page += batches
        return [(one.log.run, one.first) for one in page]

    rest = [(first.log.run, 5), (second.log.run, 1)]
    assert served(twin.mark_at(4)) == served(twin.mark_at(6)) == rest
    assert served(twin.mark_at(3)) == []  # nobody knows here whether that is another version
    assert served(twin.mark_at(8)) == [(second.log.run, 1)]  # a holder of more gets its own want
    assert served(first.mark_at(5), twin.mark_at(6)) == [(first.log.run, 6), (second.log.run, 1)]
    assert served(second.mark, twin.mark_at(6)) == []  # who holds that holds the version it builds on


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
    assert (facts_of(storage, ada).pruned, storage.load([]).sizes.get(user("ada"), 0)) == (6, 0)


def test_a_fork_behind_a_deletion_is_proven_with_what_is_left(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(6)), 1)])
    other = Author("ada", 1)
    other.write(*many(6))
    delete(storage)
    storage.commit([released(ada.appends("seven"), 7)])
    storage.commit([Change(forks=[Fork(ada.log, None, other.write("another seven"))])])
    one, two = storage.fetch(ROOM, user("ada"), ForkStart(ada.log.run), batches=9)[0]
    assert (one.first, one.last, two.first) == (7, 7, 7) and is_sound(one) and one.prev == two.prev


def test_a_fork_of_a_log_that_was_deleted_whole_is_not_kept(storage: SqlStorage) -> None:
    """Half of its evidence is nowhere any more."""
    ada, twin = Author("ada", 1), Author("ada", 1)
    storage.commit([released(ada.begins(*many(6)), 1)])
    delete(storage)
    before = facts_of(storage, ada)
    storage.commit([Change(forks=[Fork(ada.log, None, twin.write("another"))])])
    assert storage.fetch(ROOM, user("ada"), ForkStart(ada.log.run), batches=9) == ([], None)
    assert facts_of(storage, ada) == before and storage.load([]).forked == []


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


def test_evidence_without_entries_is_no_evidence(path: Path) -> None:
    """A version of before stored it (seed 1322418); no peer takes it, and the disk is not damaged."""
    ada, twin = Author("ada", 1), Author("ada", 1)
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        storage.commit([released(ada.begins("one"), 1)])
        storage.commit([Change(forks=[Fork(ada.log, None, twin.write("another"))])])
    with closing(sqlite3.connect(path)) as database:
        database.execute("update forks set one = json_set(one, '$[1]', json('[]'))")
        database.commit()
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        assert storage.fetch(ROOM, user("ada"), ForkStart(ada.log.run), batches=9) == ([], None)


def test_the_check_finds_a_fault_behind_a_deletion(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        storage.commit([released(ada.begins(*many(9)), 1)])
        delete(storage, PruneKey(ROOM, before=1_700_000_000_000_005))
    with closing(sqlite3.connect(path)) as database:
        database.execute("update pruned set chain = zeroblob(32)")
        database.commit()
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        assert storage.faults(9) == ["log 1 is not what its writer signed (entries up to 9)"]


def test_no_chain_is_known_inside_of_what_was_deleted(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins(*many(6)), 1)])
    delete(storage, PruneKey(ROOM, before=1_700_000_000_000_004))
    chains = [ada.mark_at(seq).chain if seq > 3 else "" for seq in (3, 4, 5)]
    assert [storage.chain_at(ada.log, seq).hex() for seq in (3, 4, 5)] == chains
