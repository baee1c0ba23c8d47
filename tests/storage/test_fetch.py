"""Fetching batches: what the marks of a peer imply, the order of the rest, and the ends of batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pchat.core.durable_changes import Change, Fork, Start, TailStart, WantStart
from p2pchat.core.log import Batch
from p2pchat.protocol import Mark
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import DM, ROOM, Author, is_sound, many, user

NOTHING = WantStart(tips=())


def pages(storage: SqlStorage, start: Start, whose: str = "ada", batches: int = 3) -> Iterator[list[Batch]]:
    """Yield the batches of each fetch until the end."""
    more: Start | None = start
    while more is not None:
        served, more = storage.fetch(ROOM, user(whose), more, batches=batches)
        yield served


def served(storage: SqlStorage, start: Start, batches: int = 3) -> list[tuple[int, int, int]]:
    """Return (run, first, last) of all batches until the end, after checking that each is sound."""
    found = [batch for page in pages(storage, start, batches=batches) for batch in page]
    assert all(is_sound(batch) and batch.entries is None for batch in found)
    return [(int(batch.log.run, 16), batch.first, batch.last) for batch in found]


def test_a_newcomer_gets_a_log_written_one_by_one_in_full_batches(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1")])
    for number in range(2, 11):
        storage.commit([ada.appends(str(number))])
    assert served(storage, NOTHING) == [(1, 1, 4), (1, 5, 8), (1, 9, 10)]
    assert [raw for page in pages(storage, NOTHING) for batch in page for raw in batch.raws] == ada.raws


def test_a_log_written_in_one_commit_is_served_in_full_batches(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1")] + [ada.appends(str(number)) for number in range(2, 11)])
    assert served(storage, NOTHING) == [(1, 1, 4), (1, 5, 8), (1, 9, 10)]


def test_a_page_has_at_most_the_batches_asked_for_and_the_last_one_says_so(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins(*many(4)), ada.appends(*many(4)), ada.appends(*many(4))])
    assert [len(page) for page in pages(storage, NOTHING, batches=2)] == [2, 1]
    assert [len(page) for page in pages(storage, NOTHING, batches=3)] == [3]


def test_batches_stay_within_the_byte_limit(storage: SqlStorage) -> None:
    ada = Author("ada", 1)  # an entry of 800 is some 880 bytes: two fit into 2,000
    storage.commit([ada.begins("a" * 800)] + [ada.appends("é" * 400) for _ in range(4)])
    assert served(storage, NOTHING) == [(1, 1, 2), (1, 3, 4), (1, 5, 5)]


def test_a_batch_longer_than_the_limit_is_served_whole_since_it_has_one_head(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins(*many(6)), ada.appends("7")])
    assert served(storage, NOTHING) == [(1, 1, 6), (1, 7, 7)]


def test_a_peer_with_a_part_gets_the_rest(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    marks = []
    storage.commit([ada.begins("1")])
    for number in range(2, 10):
        marks.append(ada.mark)
        storage.commit([ada.appends(str(number))])
    assert served(storage, WantStart(tips=(marks[1],))) == [(1, 3, 4), (1, 5, 8), (1, 9, 9)]
    assert served(storage, WantStart(tips=(marks[5],))) == [(1, 7, 9)]
    assert served(storage, WantStart(tips=(ada.mark,))) == []


def test_the_higher_of_two_marks_on_one_log_counts(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1", "2"), ada.appends("3")])
    low, high = ada.mark_at(1), ada.mark_at(2)
    for want in (WantStart((low, high)), WantStart((high, low)), WantStart((high,), older=(low,))):
        assert served(storage, want) == [(1, 3, 3)]


def three_runs(storage: SqlStorage, count: int = 3) -> list[Author]:
    """Ada restarts twice, or more often; each log builds on the one before."""
    runs: list[Author] = []
    for run in range(1, count + 1):
        ada = Author("ada", run, before=[runs[-1].mark] if runs else [])
        begins = ada.begins("hello", "again")
        begins.covered = [runs[-1].log] if runs else []
        storage.commit([begins])
        runs.append(ada)
    return runs


def test_logs_are_served_in_stored_order_including_covered_ones(storage: SqlStorage) -> None:
    three_runs(storage)
    assert served(storage, NOTHING) == [(1, 1, 2), (2, 1, 2), (3, 1, 2)]
    assert served(storage, NOTHING, batches=1) == [(1, 1, 2), (2, 1, 2), (3, 1, 2)]


def test_a_known_tip_implies_everything_it_builds_on(storage: SqlStorage) -> None:
    first, second, third = three_runs(storage)
    assert served(storage, WantStart(tips=(third.mark,))) == []
    assert served(storage, WantStart(tips=(second.mark,))) == [(3, 1, 2)]
    assert served(storage, WantStart(tips=(first.mark,))) == [(2, 1, 2), (3, 1, 2)]
    assert served(storage, WantStart(tips=(second.mark_at(1),))) == [(2, 2, 2), (3, 1, 2)]


def test_unknown_tips_are_ignored_and_older_marks_count(storage: SqlStorage) -> None:
    _, second, _ = three_runs(storage)
    lost = Mark("ee" * 8, 9, "aa" * 32)
    assert served(storage, WantStart(tips=(lost,))) == [(1, 1, 2), (2, 1, 2), (3, 1, 2)]
    assert served(storage, WantStart(tips=(lost,), older=(lost, second.mark))) == [(3, 1, 2)]


def test_a_mark_above_the_stored_end_covers_the_whole_log(storage: SqlStorage) -> None:
    _, second, _ = three_runs(storage)
    assert served(storage, WantStart(tips=(second.mark_at(50),))) == [(3, 1, 2)]


def test_a_tip_of_one_device_implies_nothing_about_the_other(storage: SqlStorage) -> None:
    desk, phone = Author("ada", 1), Author("ada", 2)
    storage.commit([desk.begins("desk"), phone.begins("phone", whole=False)])
    later = Author("ada", 3, before=[phone.mark])
    storage.commit([later.begins("phone again", whole=False)])
    assert served(storage, WantStart(tips=(later.mark,))) == [(1, 1, 1)]
    assert served(storage, WantStart(tips=(desk.mark,))) == [(2, 1, 1), (3, 1, 1)]
    both = Author("ada", 4, before=[desk.mark, later.mark])
    storage.commit([both.begins("desk again")])
    assert served(storage, WantStart(tips=(both.mark,))) == []


def test_a_covered_log_that_grew_is_served_to_a_holder_of_the_later_one(storage: SqlStorage) -> None:
    first, second, third = three_runs(storage)
    grown = first.appends("from the other device")
    grown.uncovered = [first.log]
    storage.commit([grown])
    assert served(storage, WantStart(tips=(third.mark,))) == [(1, 3, 3)]
    assert served(storage, WantStart(tips=(second.mark,))) == [(1, 3, 3), (3, 1, 2)]
    assert [tip.log for tip in storage.load([]).tips] == [first.log, third.log]


def test_a_log_that_grew_and_was_covered_in_one_step_is_served_like_a_tip(storage: SqlStorage) -> None:
    first, second, third = three_runs(storage)
    grown = first.appends("from the other device")
    grown.uncovered = grown.covered = [first.log]
    storage.commit([grown])
    assert served(storage, WantStart(tips=(third.mark,))) == [(1, 3, 3)]
    assert served(storage, WantStart(tips=(second.mark,))) == [(1, 3, 3), (3, 1, 2)]
    assert [tip.log for tip in storage.load([]).tips] == [third.log]


def test_a_tail_start_serves_one_log_only(storage: SqlStorage) -> None:
    first, _, _ = three_runs(storage)
    storage.commit([first.appends(*many(4)), first.appends(*many(4))])
    assert served(storage, TailStart(first.log.run, 1), batches=1) == [(1, 2, 2), (1, 3, 6), (1, 7, 10)]
    assert served(storage, TailStart(first.log.run, 10)) == []
    assert served(storage, TailStart("ee" * 8, 0)) == []


def test_entries_written_during_a_fetch_are_served_too(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins(*many(4)), ada.appends(*many(2))])
    batches, more = storage.fetch(ROOM, user("ada"), NOTHING, batches=1)
    assert [batch.last for batch in batches] == [4] and more is not None
    storage.commit([ada.appends("superseding the head at 6")])
    assert served(storage, more) == [(1, 5, 7)]


def test_forked_logs_are_left_out(storage: SqlStorage) -> None:
    first, second, _ = three_runs(storage)
    twin = Author("ada", 2)
    storage.commit([Change(forks=[Fork(second.log, twin.write("one"), twin.write("other"))])])
    assert served(storage, NOTHING) == [(1, 1, 2), (3, 1, 2)]
    assert served(storage, TailStart(second.log.run, 0)) == []
    assert served(storage, WantStart(tips=(first.mark,))) == [(3, 1, 2)]


def test_a_log_below_a_forked_one_is_served_to_a_holder_of_logs_above_the_fork(storage: SqlStorage) -> None:
    """The holder took the later log without the forked one, and may have lost those below (seed 716432)."""
    first, second, third = three_runs(storage)
    assert served(storage, WantStart(tips=(third.mark,))) == []
    twin = Author("ada", 2)
    storage.commit([Change(forks=[Fork(second.log, twin.write("one"), twin.write("other"))])])
    assert served(storage, WantStart(tips=(third.mark,))) == [(1, 1, 2)]
    assert served(storage, WantStart(tips=(third.mark, first.mark))) == []


def fork(storage: SqlStorage, log: Author) -> None:
    storage.commit([Change(forks=[Fork(log.log, None, Author("ada", int(log.log.run, 16)).write("lie"))])])


def test_a_mark_below_what_a_forked_log_builds_on_counts_as_it_is(storage: SqlStorage) -> None:
    """The holder has another version of the forked log, which builds on less (seed 1350084 with --deletions)."""
    first, second, _ = three_runs(storage)
    fork(storage, second)
    fourth = Author("ada", 4, before=[second.mark])
    storage.commit([fourth.begins("later", whole=False)])
    assert served(storage, WantStart(tips=(fourth.mark, first.mark_at(1)))) == [(1, 2, 2), (3, 1, 2)]
    begins = Author("ada", 5, before=[first.mark, fourth.mark]).begins("later still", whole=False)
    begins.covered = [first.log, fourth.log]
    storage.commit([begins])
    assert served(storage, WantStart(tips=(fourth.mark, first.mark_at(1)))) == [(1, 2, 2), (3, 1, 2), (5, 1, 1)]


def test_who_holds_what_a_forked_log_builds_on_is_not_served_the_later_logs_again(storage: SqlStorage) -> None:
    first, second, *_, last = three_runs(storage, 6)
    fork(storage, second)
    assert served(storage, WantStart(tips=(last.mark, first.mark))) == []


def test_everything_below_a_forked_log_is_served_to_who_holds_none_of_it(storage: SqlStorage) -> None:
    """A later log is taken without it, so a mark of that one says nothing about what is below."""
    _, second, third, last = three_runs(storage, 4)
    fork(storage, third)
    assert served(storage, WantStart(tips=(last.mark,))) == [(1, 1, 2), (2, 1, 2)]
    assert served(storage, WantStart(tips=(third.mark, last.mark))) == []  # it does not know of the fork
    assert served(storage, WantStart(tips=(third.mark_at(9), last.mark))) == [(1, 1, 2), (2, 1, 2)]
    assert served(storage, WantStart(tips=(second.mark, last.mark))) == []


def test_a_log_that_covered_what_a_fork_uncovers_is_no_proof_that_later_logs_build_on_it(storage: SqlStorage) -> None:
    first, second, third = three_runs(storage)
    begins = Author("ada", 4, before=[first.mark, third.mark]).begins("by who knows of the fork")
    begins.covered = [third.log]
    storage.commit([begins])
    fork(storage, second)
    assert served(storage, WantStart(tips=(third.mark, first.mark_at(1)))) == [(1, 2, 2), (4, 1, 1)]


def test_a_mark_with_another_chain_gets_the_whole_log(storage: SqlStorage) -> None:
    """The peer finds the fork by comparing what it gets with what it holds."""
    first = three_runs(storage)[0]
    twin = Author("ada", 2, before=[first.mark])
    twin.write("one", "other")
    assert served(storage, WantStart(tips=(twin.mark,), older=(first.mark,))) == [(2, 1, 2), (3, 1, 2)]
    twin.write("another")
    assert served(storage, WantStart(tips=(twin.mark,))) == [(3, 1, 2)]  # a holder of more gets its own want


@pytest.mark.parametrize("whose", ["ada", "bob"])
def test_an_unknown_user_or_conversation_gets_nothing(storage: SqlStorage, whose: str) -> None:
    storage.commit([Author("ada", 1, DM).begins("secret")])
    assert storage.fetch(ROOM, user(whose), NOTHING, batches=8) == ([], None)
    assert storage.fetch("ab" * 32, user(whose), TailStart("01" * 8, 0), batches=8) == ([], None)


def test_writers_and_conversations_do_not_mix(storage: SqlStorage) -> None:
    here, there, bob = Author("ada", 1), Author("ada", 1, DM), Author("bob", 1)
    storage.commit([here.begins("1"), there.begins("2"), bob.begins("3"), here.appends("4")])
    assert [batch.log for page in pages(storage, NOTHING) for batch in page] == [here.log]
    assert [batch.log for page in pages(storage, NOTHING, "bob") for batch in page] == [bob.log]
