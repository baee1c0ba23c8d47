"""Causal delivery: no entry is shown before the entries it follows, or waits forever, and each gets a place."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import WarningIssued
from p2pchat.core.log import Ref
from p2pchat.core.sync import causal_order
from p2pchat.protocol import Have, Want
from tests.core.scripted_nodes import IDS, ROOM, START, Author, Far, Peer, World, dm, have
from tests.core.steps import count_steps
from tests.core.sync.test_appender import written

BEFORE = START - 3_600_000_000  # an hour before peers join


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
    far, dan = ada.far("cyd"), Author("dan", "d1")
    far.say(have(bob), cyd.say("because", re=bob.ref(1)))
    for number in range(37):
        frame = dan.say(str(number))
        far.say(have(dan))
        world.pass_time(1.5)
        far.say(frame)  # something that is wanted: the link is slow, and gives
        world.pass_time(6.5)
    assert len(ada.texts()) == 37 and "?because" not in ada.texts()
    world.pass_time(5.0)
    assert ada.texts()[-1] == "?because"


@pytest.mark.parametrize("answers", [False, True])
def test_who_gives_nothing_of_what_is_wanted_claims_it_in_vain(answers: bool) -> None:
    """Before: what follows a claim waited for 300 s. Wants may be answered with nothing, too."""
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    bob.say("never given")
    far = ada.far("cyd")
    far.say(have(bob), cyd.say("because", re=bob.ref(1)))
    for _ in range(20):
        world.pass_time(0.7)
        wanted = [frame.n for frame in far.heard if isinstance(frame, Want)]
        far.heard.clear()
        if answers:
            far.say(*(Have({}, end=n) for n in wanted))
    assert ada.texts() == ["?because"]


def test_what_follows_a_claim_is_bounded_also_of_contacts_and_by_their_links() -> None:
    ada = World().peer("ada", waiting_entries_a_contact=8)
    ada.node.contacts.add([IDS["eve"]])
    lost = Author("dan", "d1")
    lost.say("never given")
    far, other = ada.far("eve"), ada.far("bob")
    far.say(have(lost))

    def shown_of(link: Far, name: str, run: str) -> list[str]:
        author, before = Author(name, run), len(ada.texts())
        link.say(*(author.say(run, after=[lost.ref(1)]) for _ in range(6)))
        return ada.texts()[before:]

    assert not shown_of(far, "eve", "e1")
    assert shown_of(far, "cyd", "c1") == ["?c1"] * 6  # what a contact brings counts there
    assert shown_of(other, "eve", "e2") == ["?e2"] * 6  # and so does what others bring of it
    assert not shown_of(other, "bob", "b1")
    assert len([one for one in ada.effects if isinstance(one, WarningIssued) and one.code == "waiting"]) == 2


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


@pytest.mark.parametrize("which", ["itself", "a later one of its log", "a later one that is not here"])
def test_an_entry_that_follows_itself_holds_others_back_for_5_s_only(ada: Peer, which: str) -> None:
    """Cyd does not wait for what it follows, and goes on."""
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    follows = bob.ref(1 if which == "itself" else 2)
    odd, later = bob.say("odd", after=[follows]), bob.say("later")
    fars = ada.far("bob"), ada.far("cyd")
    fars[0].say(odd, *([have(bob)] if which == "a later one that is not here" else [later]))
    ada.world.pass_time(1.0)
    fars[1].say(cyd.say("because", after=[bob.ref(1)]), cyd.say("and so on"))
    ada.world.pass_time(4.9)
    assert [text for text in ada.texts() if text != "later"] == ["?odd", "because", "and so on"]


def test_what_waits_for_a_claim_holds_nobody_else_back_for_longer_than_5_s(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    dan = Author("dan", "d1")
    dan.say("never given")
    far = ada.far("bob")
    far.say(have(dan), bob.say("odd", after=[dan.ref(1)]))
    ada.far("cyd").say(cyd.say("because", after=[bob.ref(1)]))
    ada.world.pass_time(5.1)
    assert ada.texts() == ["?because"]


def test_what_was_written_before_a_peer_joined_is_old_and_later_entries_are_news() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("long", "ago", at=BEFORE), bob.say("now"))
    far.say(Author("bob", "b2", before=[bob.mark]).say("and later"))
    assert ada.texts() == ["*long", "*ago", "now", "and later"]


def test_one_batch_may_be_history_and_news() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("one", "two", "three", at=START - 2))
    assert ada.texts() == ["*one", "*two", "three"]


def test_direct_messages_and_own_ones_are_news_whenever_they_were_written() -> None:
    ada, mine, bob = World().peer("ada"), Author("ada", "99"), Author("bob", "b1", dm("ada", "bob"))
    far = ada.far("bob")
    far.say(mine.say("I came back", at=BEFORE), bob.say("are you there?", at=BEFORE))
    assert ada.texts() == ["I came back", "are you there?"]


def test_a_gap_names_the_last_holder_of_the_missing_entry() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    bob.say("never came")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    ada.far("cyd").say(cyd.say("yes", re=bob.ref(1)))
    ada.drop(ada.far("eve", bob))
    world.pass_time(6)
    assert [line for line in ada.take() if "gap c1" in line] == ["gap c1:1, 1 missing, last seen with eve"]


def test_history_that_waits_is_history_after_a_restart_too() -> None:
    """Each waits behind a missing message, one entry of a log that goes on after ada joined."""
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    question = bob.say("why?", at=BEFORE)
    ada.far("cyd").say(cyd.say("because", re=bob.ref(1), at=BEFORE), cyd.say("still because"))
    ada.world.seconds += 3600.0
    ada.start()
    assert ada.texts() == []
    ada.far("cyd").say(question, Author("bob", "b2", before=[bob.mark]).say("I see"))
    assert ada.texts() == ["*why?", "*because", "still because", "I see"]


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


def waiting_logs(far: Far, count: int) -> None:
    """Have one writer send this many logs whose entries follow others that nobody has."""
    for n in range(count):
        log = Author("cyd", f"{n:02x}")
        log.log = log.log._replace(run=f"{n:016x}")
        far.say(log.say("because", after=[Ref(f"{n:016x}" * 3, 1)]))


def test_an_entry_costs_the_same_beside_many_waiting_logs_and_so_does_the_end_of_a_link() -> None:
    def steps(count: int) -> tuple[int, int]:
        bob = Author("bob", "b1")
        ada = World().peer("ada")
        far, third = ada.far("cyd"), ada.far("dan")
        waiting_logs(far, count)
        assert len(ada.node.replicator.conversations[ROOM].waiting_logs.logs()) == count
        frame = bob.say("hello")
        return count_steps(lambda: third.say(frame)), count_steps(lambda: ada.drop(third))

    few, many = steps(2), steps(60)
    assert many[0] < few[0] + 20  # a lookup more or less
    assert many[1] < few[1] + 20


def test_entries_of_a_member_beyond_their_places_are_shown_at_once_with_a_gap_mark() -> None:
    ada = World().peer("ada", waiting_entries_a_member=8)
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


def test_history_that_a_contact_passes_on_waits_however_much_it_is() -> None:
    """A newcomer who had places for 2,048 entries of a gateway was shown 5,732 of 12,000 with a gap mark."""
    ada = World().peer("ada", waiting_entries_a_member=1)
    ada.node.contacts.add([IDS["eve"]])
    waiting_logs(ada.far("eve"), 10)
    assert ada.texts() == []


def test_own_entries_name_nothing_that_was_shown_without_what_it_follows() -> None:
    """Others may have room for it to wait, and would let the own entry wait too."""
    ada = World().peer("ada", waiting_entries_a_member=1)
    far, cyd, dan, lost = ada.far("cyd"), Author("cyd", "c1"), Author("dan", "d1"), Author("bob", "b1")
    far.say(dan.say("hello"))
    lost.say("one", "two")
    far.say(cyd.say("one", re=lost.ref(1)))
    far.say(cyd.say("two", re=lost.ref(2)))
    far.say(cyd.say("three"))
    assert ada.texts() == ["hello", "?one", "?two", "three"]
    ada.say("mine")
    assert written(far)[-1].after == (dan.ref(1),)


def test_what_waits_no_more_makes_room_and_all_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_order, "OF_ALL", 2)
    ada = World().peer("ada", waiting_entries_a_member=1)
    far, bob, lost = ada.far("cyd"), Author("bob", "b1"), Author("cyd", "c1")
    question = bob.say("why?")
    lost.say("lost")
    one, two, three = (Author("dan", f"d{number}") for number in range(3))
    far.say(one.say("as I said", re=bob.ref(1)))
    far.say(two.say("no room", re=bob.ref(1)))
    assert ada.texts() == ["?no room"]
    far.say(question)
    far.say(three.say("room now", re=lost.ref(1)))
    assert ada.texts() == ["?no room", "why?", "as I said"]
    for name in ("eve", "bob"):
        far.say(Author(name, "e1").say("as well", re=lost.ref(1)))
    assert ada.texts() == ["?no room", "why?", "as I said", "?as well"]


def test_a_log_without_a_place_comes_after_the_waiting_ones_it_builds_on() -> None:
    ada = World().peer("ada", waiting_entries_a_member=2)
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
    assert not ada.node.replicator.conversations[ROOM].waiting_logs
