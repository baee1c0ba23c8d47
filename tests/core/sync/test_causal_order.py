"""Causal delivery: no entry is shown before the entries it follows, or waits forever, and each gets a place."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.log import LogId, Ref
from p2pchat.core.sync.history_boundary import MAX_OLD_MARKS, HistoryBoundary
from p2pchat.protocol import Mark
from tests.core.scripted_nodes import ROOM, Author, Far, Peer, World, have
from tests.core.steps import count_steps
from tests.core.sync.test_appender import written


def test_a_reply_waits_for_its_message() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("cyd")
    question = bob.say("why?")
    assert far.say(cyd.say("because", re=bob.ref(1))) == [
        "commit c1:1..1",
        "to cyd: have room cyd c1:1",
    ]
    assert far.say(question)[0] == "commit b1:1..1, show b1:1..1, show c1:1..1"
    assert ada.texts() == ["why?", "because"]


def test_later_entries_of_a_log_wait_and_earlier_ones_do_not() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("cyd")
    question = bob.say("why?")
    far.say(cyd.say("hello"), cyd.say("because", after=[bob.ref(1)]), cyd.say("bye"))
    assert ada.texts() == ["hello"]
    far.say(question)
    assert ada.texts() == ["hello", "why?", "because", "bye"]


def test_an_unavailable_entry_is_awaited_for_5_s_then_a_gap_is_shown(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    bob.say("lost")
    ada.far("cyd").say(cyd.say("because", re=bob.ref(1)), cyd.say("bye"))
    ada.world.pass_time(4.9)
    assert ada.texts() == []
    ada.take()
    ada.world.pass_time(0.2)
    assert [line for line in ada.take() if "gap" in line] == [
        "gap c1:1, 1 missing", "commit show c1:1..1 gap, show c1:2..2"]  # fmt: skip
    assert ada.texts() == ["?because", "bye"]


def test_an_entry_on_its_way_is_awaited_for_five_minutes() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    bob.say("slow")
    far = ada.far("cyd")
    far.say(have(bob), cyd.say("because", re=bob.ref(1)))
    world.pass_time(299.0)
    assert ada.texts() == []
    world.pass_time(2.0)
    assert ada.texts() == ["?because"]


def test_a_restart_restarts_the_wait_and_loses_nothing(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    question = bob.say("why?")
    ada.far("cyd").say(cyd.say("because", re=bob.ref(1)), cyd.say("bye"))
    ada.world.pass_time(4.0)
    ada.start()
    ada.world.pass_time(4.0)
    assert ada.texts() == []
    ada.far("cyd").say(question)
    assert ada.texts() == ["why?", "because", "bye"]


def test_a_new_log_waits_for_the_logs_it_builds_on() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("cyd")
    question = bob.say("why?")
    far.say(cyd.say("because", re=bob.ref(1)))
    again = Author("cyd", "c2", before=[cyd.mark])
    far.say(again.say("still because"))
    assert ada.texts() == []
    far.say(question)
    assert ada.texts() == ["why?", "because", "still because"]


def test_a_followed_entry_may_be_in_a_covered_log() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("cyd")
    far.say(bob.say("why?"))
    far.say(Author("bob", "b2", before=[bob.mark]).say("hm"))
    ada.start()
    far = ada.far("cyd")
    assert far.say(cyd.say("because", re=bob.ref(1))) == [
        "commit c1:1..1, show c1:1..1",
        "to cyd: have room cyd c1:1",
    ]


def test_an_entry_that_a_covered_log_lacks_is_not_awaited_for_ever(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("cyd")
    far.say(bob.say("why?"))
    far.say(Author("bob", "b2", before=[bob.mark]).say("hm"))
    ada.start()
    far = ada.far("cyd")
    far.say(cyd.say("because", re=Ref(bob.ref(1).log, 99)))
    ada.world.pass_time(6)
    assert ada.texts() == ["why?", "hm", "?because"]


def test_two_entries_that_wait_for_each_other_are_shown_in_the_end() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    ada.far("cyd").say(cyd.say("you first", re=bob.ref(1)), bob.say("no, you", re=cyd.ref(1)))
    world.pass_time(301)
    assert len(ada.texts()) == 2


def test_entries_before_a_newcomer_are_old_and_later_ones_are_news() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    history = bob.say("long", "ago")
    far = ada.far("bob", bob)
    far.say(history, bob.say("now"))
    later = Author("bob", "b2", before=[bob.mark])
    far.say(later.say("and later"))
    assert ada.texts() == ["*long", "*ago", "now", "and later"]


def test_logs_that_an_old_log_builds_on_are_old() -> None:
    ada, first = World().peer("ada"), Author("bob", "b1")
    history = [first.say("long ago")]
    second = Author("bob", "b2", before=[first.mark])
    history.append(second.say("yesterday"))
    far = ada.far("bob", second)
    far.say(*(msgspec.structs.replace(batch, n=1) for batch in history), second.say("now"))
    assert ada.texts() == ["*long ago", "*yesterday", "now"]


def test_a_false_mark_does_not_make_news_old() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    history, lie = bob.say("long ago"), Author("bob", "ee")
    lie.say("never was")
    far = ada.far("eve", bob, lie)
    far.say(history, bob.say("now"))
    far.say(Author("bob", "b2", before=[bob.mark]).say("later"))
    assert ada.texts() == ["*long ago", "now", "later"]


def test_a_mark_beyond_what_its_writer_has_does_not_make_news_old() -> None:
    """Whoever linked with a newcomer first made all that others wrote later look like the past."""
    ada, bob, lie = World().peer("ada"), Author("bob", "b1"), Author("bob", "b1")
    history = bob.say("long ago")
    lie.say(*["never", "was", "so", "much"])
    ada.far("eve", lie)
    far = ada.far("bob", bob)
    far.say(history, bob.say("now"))
    far.say(bob.say("later"))
    assert ada.texts() == ["*long ago", "now", "later"]
    assert ada.storage.load([]).meta["old_marks"] == ""


def test_first_marks_are_limited_in_all() -> None:
    boundary = HistoryBoundary()
    for user in range(400):
        boundary.add_marks(f"{user:064x}", [Mark(f"{run:016x}", 9, "") for run in range(64)], 64)
    assert MAX_OLD_MARKS <= sum(map(len, boundary.marks.values())) < MAX_OLD_MARKS + 64


def test_a_pushed_log_is_news_if_what_links_it_to_an_announced_one_came_later() -> None:
    """Its first entries came with an answer, its third was pushed, and then the log came on which it builds."""
    boundary, (first, second, third) = HistoryBoundary(), (LogId(ROOM, "bob", run * 8) for run in ("b1", "b2", "b3"))
    on_first, on_second = [Mark(first.run, 9, "")], [Mark(second.run, 4, "")]
    boundary.add_marks("bob", on_first, 64)
    boundary.on_pushed(third, on_second, 3)
    assert boundary.split_by_age(third, on_second, 1, 3) == (2, True)
    assert boundary.split_by_age(second, on_first, 1, 4) == (4, False)
    assert boundary.split_by_age(third, on_second, 1, 3) == (3, False)


class ComparedUser(str):
    """A user id that counts what it is compared with."""

    compared = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.compared += 1
        return super().__eq__(other)


def test_first_marks_of_a_writer_cost_the_same_after_a_large_import() -> None:
    """Before, the marks of a room with 3,600 writers, of which a file had brought 700, took 0.4 s more."""
    boundary = HistoryBoundary()
    for number in range(100):
        user = f"{number:064x}"
        boundary.on_imported(LogId(ROOM, user, "a1" * 8), 1, [], 64)
    listed = ComparedUser(f"{50:064x}")
    boundary.on_listed(listed, {"b2" * 8})
    assert listed not in boundary.marks and len(boundary.marks) == 99
    assert listed.compared < 10


def test_a_gap_names_the_last_holder_of_the_missing_entry() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    bob.say("never came")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    ada.far("cyd").say(cyd.say("yes", re=bob.ref(1)))
    ada.drop(ada.far("eve", bob))
    world.pass_time(6)
    assert [line for line in ada.take() if "gap c1" in line] == ["gap c1:1, 1 missing, last seen with eve"]


@pytest.mark.parametrize("covered", [False, True])
def test_old_entries_stay_old_after_a_newcomer_restarts(covered: bool) -> None:
    """The peer is killed during its first sync."""
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    first, second, history = bob.say("one"), bob.say("two"), cyd.say("three")
    far = ada.far("bob", bob, cyd)
    far.say(first, second) if covered else far.say(first)
    later = Author("bob", "b2", before=[bob.mark])
    if covered:
        far.say(later.say("news"))
    ada.start()
    far = ada.far("bob", bob, cyd)
    far.say(second, history)
    far.say(cyd.say("now"), Author("bob", "b3", before=[later.mark if covered else bob.mark]).say("more"))
    news = ["news"] if covered else []
    assert ada.texts() == ["*one", "*two", *news, "*three", "now", "more"]
    assert ada.storage.load([]).meta["old_marks"] == ""


def test_news_stays_news_after_a_restart_while_old_entries_are_missing() -> None:
    ada, bob, lie = World().peer("ada"), Author("bob", "b1"), Author("bob", "ee")
    history = bob.say("long ago")
    lie.say("never was")
    far = ada.far("eve", bob, lie)
    second = Author("bob", "b2", before=[bob.mark])
    far.say(history, second.say("now"))
    ada.start()
    ada.far("eve").say(Author("bob", "b3", before=[second.mark]).say("later"))
    assert ada.texts() == ["*long ago", "now", "later"]


def test_places_continue_after_a_restart(ada: Peer) -> None:
    bob = Author("bob", "b1")
    ada.far("bob").say(bob.say("one", "two"))
    ada.start()
    ada.far("bob").say(bob.say("three"))
    assert [shown.place for shown in ada.storage.places(0, 10)] == [1, 2, 3]


def test_a_returned_earlier_log_is_shown_before_its_writer_s_next_entry() -> None:
    ada, mine, lost = World().peer("ada"), Author("ada", "99"), Author("cyd", "c1")
    lost.say("nobody has this any more")
    ada.far("bob").say(mine.say("earlier", after=[lost.ref(1)]))
    assert ada.texts() == []
    ada.say("later")
    assert ada.texts() == ["?earlier", "later"]


@pytest.mark.parametrize("runs", [("b1", "b1"), ("b1", "b2")])
def test_imported_entries_are_old_even_if_few_logs_are_remembered(runs: tuple[str, str]) -> None:
    """The entries that wait are shown only when this peer is no newcomer any more."""
    ada, first, cyd = World().peer("ada", max_tips=1), Author("bob", "b1"), Author("cyd", "c1")
    far, question = ada.far("eve", compared=False), cyd.say("why?")
    for run in ("e1", "e2", "e3"):
        lie = Author("bob", run)
        lie.say("never was")
        far.say(have(lie))
    ada.drop(far)
    ada.carry(first.say("because", re=cyd.ref(1)))
    last = first if runs[1] == "b1" else Author("bob", "b2", before=[first.mark])
    ada.carry(last.say("still because"))
    ada.far("cyd", last, cyd).say(question, last.say("now"))
    assert ada.texts() == ["*why?", "*because", "*still because", "now"]


@pytest.mark.parametrize("max_tips", [1, 64])
def test_the_rest_of_a_partly_imported_log_and_logs_on_it_are_old(max_tips: int) -> None:
    """The imported entry waits, so its mark is remembered when the first marks arrive."""
    ada, first, cyd = World().peer("ada", max_tips=max_tips), Author("bob", "b1"), Author("cyd", "c1")
    question = cyd.say("why?")
    ada.carry(first.say("because", re=cyd.ref(1)))
    rest = first.say("still because")
    then = Author("bob", "b2", before=[first.mark])
    after = then.say("at last")
    ada.far("cyd", then, cyd).say(question, rest, after, then.say("now"))
    assert ada.texts() == ["*why?", "*because", "*still because", "*at last", "now"]


def test_a_log_begun_before_all_first_marks_arrived_is_old() -> None:
    """The first link broke before all marks arrived; meanwhile bob restarted."""
    ada, first = World().peer("ada", max_tips=1), Author("bob", "b1")
    history = [first.say("one")]
    far = ada.far("bob", compared=False)
    far.say(have(first))
    ada.drop(far)
    second = Author("bob", "b2", before=[first.mark])
    history.append(second.say("two"))
    far = ada.far("bob", second)
    far.say(*(msgspec.structs.replace(batch, n=1) for batch in history), second.say("now"))
    assert ada.texts() == ["*one", "*two", "now"]


def test_an_imported_log_that_was_shown_has_no_old_entries_left() -> None:
    """The first marks name only the first of bob's logs, which is in storage only."""
    ada, first = World().peer("ada"), Author("bob", "b1")
    ada.carry(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    ada.carry(second.say("two"))
    ada.far("cyd", first)
    third = Author("bob", "b3", before=[second.mark])
    ada.far("eve").say(third.say("now"))
    assert ada.texts() == ["*one", "*two", "now"]


def test_a_log_on_an_announced_one_is_news_if_only_its_end_is_pushed() -> None:
    """The beginning came from another peer; the log it builds on waits, so it waits too."""
    ada, first, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    question = cyd.say("why?")
    because = first.say("because", re=cyd.ref(1))
    eve = ada.far("eve", first)
    eve.say(because)
    then = Author("bob", "b2", before=[first.mark])
    eve.say(then.say("now"))
    ada.far("bob").say(then.say("later"))
    eve.say(question)
    assert ada.texts() == ["why?", "*because", "now", "later"]


def test_a_new_log_is_news_even_after_a_mark_of_an_invented_log() -> None:
    ada, bob, lie = World().peer("ada"), Author("bob", "b1"), Author("bob", "ee")
    lie.say("never was")
    ada.far("eve", lie)
    far = ada.far("bob")
    far.say(bob.say("now"))
    ada.start()
    ada.far("bob").say(bob.say("later"))
    assert ada.texts() == ["now", "later"]


# ---- many logs that wait


def waiting_logs(far: Far, count: int) -> None:
    """Have one writer send this many logs whose entries follow others that nobody has."""
    for n in range(count):
        log = Author("cyd", f"{n:02x}")
        log.log = log.log._replace(run=f"{n:016x}")
        far.say(log.say("because", after=[Ref(f"{n:016x}" * 2, 1)]))


def test_an_entry_costs_the_same_beside_many_waiting_logs_and_so_does_the_end_of_a_link() -> None:
    def steps(count: int) -> tuple[int, int]:
        bob = Author("bob", "b1")
        ada = World().peer("ada")
        far, third = ada.far("cyd"), ada.far("dan")
        waiting_logs(far, count)
        assert len(ada.node.sync.conversations.by_id[ROOM].waiting_logs.logs()) == count
        frame = bob.say("hello")
        return count_steps(lambda: third.say(frame)), count_steps(lambda: ada.drop(third))

    few, many = steps(2), steps(60)
    assert many[0] < few[0] + 20  # a lookup more or less
    assert many[1] < few[1] + 20


def test_entries_of_unknown_users_beyond_their_places_are_shown_at_once_with_a_gap_mark() -> None:
    ada = World().peer("ada", max_waiting_entries=12, waiting_entries_a_branch=8)
    far, other = ada.far("cyd", host="10.0.0.9"), ada.far("dan", host="10.1.0.9")
    waiting_logs(far, 10)
    assert ada.texts() == ["?because"] * 2
    assert ada.counted["waiting_full"] == 2
    bob, dan = Author("bob", "b1"), Author("dan", "d1")
    question = bob.say("why?")
    other.say(dan.say("as I said", re=bob.ref(1)))
    assert ada.texts() == ["?because"] * 2  # there is room for others
    other.say(question)
    assert ada.texts() == ["?because"] * 2 + ["why?", "as I said"]


def test_own_entries_name_nothing_that_was_shown_without_what_it_follows() -> None:
    """Others may have room for it to wait, and would let the own entry wait too."""
    ada = World().peer("ada", max_waiting_entries=1, waiting_entries_a_branch=1)
    far, cyd, dan, lost = ada.far("cyd"), Author("cyd", "c1"), Author("dan", "d1"), Author("bob", "b1")
    far.say(dan.say("hello"))
    lost.say("one", "two")
    far.say(cyd.say("one", re=lost.ref(1)))
    far.say(cyd.say("two", re=lost.ref(2)))
    far.say(cyd.say("three"))
    assert ada.texts() == ["hello", "?one", "?two", "three"]
    ada.say("mine")
    assert written(far)[-1].after == (dan.ref(1),)


def test_when_all_places_to_wait_are_taken_the_newest_of_the_fullest_branch_goes() -> None:
    ada = World().peer("ada", max_waiting_entries=8, waiting_entries_a_branch=8)
    far, other = ada.far("cyd", host="10.0.0.9"), ada.far("dan", host="10.1.0.9")
    waiting_logs(far, 8)
    bob, dan = Author("bob", "b1"), Author("dan", "d1")
    question = bob.say("why?")
    other.say(dan.say("as I said", re=bob.ref(1)))
    assert ada.texts() == ["?because"]
    other.say(question)
    assert ada.texts() == ["?because", "why?", "as I said"]


def test_a_log_without_a_place_comes_after_the_waiting_ones_it_builds_on() -> None:
    ada = World().peer("ada", max_waiting_entries=2, waiting_entries_a_branch=2)
    far, bob, cyd = ada.far("cyd"), Author("bob", "b1"), Author("cyd", "c1")
    bob.say("lost")
    far.say(cyd.say("first", re=bob.ref(1)))
    again = Author("cyd", "c2", before=[cyd.mark])
    far.say(again.say("second"))
    assert ada.texts() == []
    third = Author("cyd", "c3", before=[again.mark])
    far.say(third.say("third"))
    assert ada.texts() == ["?first", "?second", "?third"]


def test_what_waits_for_a_place_in_a_log_is_found_by_it() -> None:
    ada, bob, cyd, dan = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1"), Author("dan", "d1")
    far = ada.far("bob")
    far.say(cyd.say("to the second", after=[Ref(bob.ref(1).log, 2)]))
    far.say(dan.say("to the third", after=[Ref(bob.ref(1).log, 3), cyd.ref(1)]))
    for text, shown in [("one", 1), ("two", 3), ("three", 5)]:
        far.say(bob.say(text))
        assert len(ada.texts()) == shown
    assert ada.texts() == ["one", "two", "to the second", "three", "to the third"]
    assert not ada.node.sync.conversations.by_id[ROOM].waiting_logs
