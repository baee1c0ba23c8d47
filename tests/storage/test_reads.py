"""Read marks in every kind of storage, and how far logs had been shown when a place was given."""

from __future__ import annotations

from p2pchat.core.records import Change, ReadMark, ShownKey
from p2pchat.storage.base import Storage
from tests.storage.writers import DM, Author, released, user


def test_read_marks_only_rise_and_are_told_to_readers_and_writers_at_the_next_start(storage: Storage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([ada.begins("1", "2", "3"), bob.begins("1")])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 2), ReadMark(bob.log, user("ada"), 1)])])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 1), ReadMark(ada.log, user("eve"), 3)])])
    storage.commit([Change(reads=[ReadMark(Author("ada", 9).log, user("eve"), 1)])])  # not held here: nothing
    everything = [
        ReadMark(bob.log, user("ada"), 1),
        ReadMark(ada.log, user("bob"), 2),
        ReadMark(ada.log, user("eve"), 3),
    ]
    assert sorted(storage.load([user("ada")]).reads, key=lambda mark: mark.seq) == everything
    assert storage.load([user("eve")]).reads == everything[2:]
    assert storage.load([]).reads == []
    assert storage.readers(ada.log, 2) == sorted([(user("bob"), 2), (user("eve"), 3)])
    assert storage.readers(ada.log, 3) == [(user("eve"), 3)]


def test_of_logs_that_are_covered_only_the_reader_is_told(storage: Storage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2"), Change(reads=[ReadMark(first.log, user("bob"), 2)])])
    second = Author("ada", 2, before=[first.mark])
    begins = second.begins("3")
    begins.covered = [first.log]
    storage.commit([begins])
    assert storage.load([user("ada")]).reads == []
    assert storage.load([user("bob")]).reads == [ReadMark(first.log, user("bob"), 2)]


def test_a_read_mark_that_is_not_needed_any_more_is_gone(storage: Storage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1"), Change(reads=[ReadMark(ada.log, user("bob"), 1)])])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 0), ReadMark(ada.log, user("eve"), 0)])])
    assert storage.load([user("bob")]).reads == []


def test_who_has_read_a_later_log_has_read_what_it_builds_on(storage: Storage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2", "3")])
    later = Author("ada", 2, before=[first.mark_at(2)])
    storage.commit([later.begins("4", whole=False), Change(reads=[ReadMark(later.log, user("bob"), 1)])])
    assert storage.readers(first.log, 2) == [(user("bob"), 2)]
    assert storage.readers(first.log, 3) == []


def test_how_far_logs_were_shown_by_a_place(storage: Storage) -> None:
    ada, bob, letter = Author("ada", 1), Author("bob", 1), Author("ada", 1, DM)
    storage.commit([released(ada.begins("1", "2", "3"), 1), released(bob.begins("1"), 4)])
    storage.commit([released(ada.goes_on("4", "5"), 5), released(letter.begins("1"), 7)])
    logs = (ada.log, bob.log)

    def shown_by(place: int) -> list[tuple[str, int]]:
        return sorted((log.user, seq) for log, seq in storage.shown_by(ShownKey(place, logs)))

    def both(by_ada: int, by_bob: int = 0) -> list[tuple[str, int]]:
        return sorted((user(name), seq) for name, seq in (("ada", by_ada), ("bob", by_bob)) if seq)

    assert [shown_by(place) for place in (1, 3, 4, 5, 6, 7, 99)] == [
        both(1), both(3), both(3, 1), both(4, 1), both(5, 1), both(5, 1), both(5, 1)]  # fmt: skip


def test_of_a_log_not_shown_by_then_that_is_told_which_it_builds_on(storage: Storage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins("1", "2"), 1)])
    second = Author("ada", 2, before=[first.mark])
    storage.commit([released(second.begins("3"), 3)])
    third = Author("ada", 3, before=[second.mark])
    storage.commit([released(third.begins("4"), 4)])
    tips = (third.log,)
    assert [storage.shown_by(ShownKey(place, tips)) for place in (0, 1, 2, 3, 4)] == [
        [], [(first.log, 1)], [(first.log, 2)], [(second.log, 1)], [(third.log, 1)]]  # fmt: skip
