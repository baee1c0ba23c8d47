"""Import of files: entries are checked as on a link, counted instead of answered, and announced like all others."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.inputs import CommitFailed, DiskLow, Loaded
from tests.core.world import START, Author, World, dm


def test_imported_entries_are_stored_then_counted_and_shown() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.holding = True
    assert ada.carry(bob.say("one"), bob.say("two", "three")) == ["commit b1:1..1, b1:2..3, show b1:1..3 old"]
    assert ada.commit() == ["imported 3 new"]
    assert ada.texts() == ["*one", "*two", "*three"]  # no peer has announced what there is, so they are old


def test_nothing_comes_twice() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    one, two = bob.say("one"), bob.say("two")
    ada.far("bob").say(one)
    assert ada.carry(one, two) == [
        "commit b1:2..2, show b1:2..2", "imported 1 new 1 known", "to bob: have room bob b1:2"]  # fmt: skip
    assert ada.carry(one, two) == ["imported 2 known"]
    assert ada.texts() == ["one", "two"]


def test_entries_not_on_disk_yet_are_not_reported_as_known() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    said = bob.say("one")
    ada.holding = True
    ada.far("bob").say(said)
    assert ada.carry(said) == []
    assert ada.commit() == ["imported 1 known", "to bob: have room bob b1:1"]


@pytest.mark.parametrize("field", ["head", "e", "prev"])
def test_a_bad_frame_affects_only_what_builds_on_it(field: str) -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    good, bad, later = bob.say("one"), bob.say("two"), bob.say("three")
    wrong = {"head": good.head, "e": good.e, "prev": "00" * 32}[field]
    said = ada.carry(good, msgspec.structs.replace(bad, **{field: wrong}), later, cyd.say("mine"))
    assert said == ["commit b1:1..1, c1:1..1, show b1:1..1 old, show c1:1..1 old", "imported 2 new 1 head 1 gap"]
    assert ada.texts() == ["*one", "*mine"]


def test_an_imported_batch_behind_a_gap_is_not_kept_or_fetched() -> None:
    world, bob = World(), Author("bob", "b1")
    ada = world.peer("ada")
    ada.far("cyd")
    bob.say("lost")
    assert ada.carry(bob.say("two")) == ["imported 1 gap"]
    world.pass_time(5.0)
    assert [line for line in ada.take() if "want" in line] == []


@pytest.mark.parametrize(
    ("entry", "code"), [('{"k":"text"}', "malformed"), (f'{{"k":"text","at":1,"c":1,"b":"{"x" * 32769}"}}', "limit")]
)
def test_entries_over_a_limit_are_refused(entry: str, code: str) -> None:
    ada = World().peer("ada")
    assert ada.carry(Author("bob", "b1").write(entry)) == [f"imported 1 {code}"]


def test_direct_conversations_of_others_are_foreign() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1", dm("ada", "bob")), Author("cyd", "c1", dm("cyd", "bob"))
    assert ada.carry(bob.say("psst"), cyd.say("not for ada")) == [
        "commit b1:1..1, show b1:1..1", "imported 1 new 1 foreign"]  # fmt: skip
    assert set(ada.node.namings) == {ada.node.room, dm("ada", "bob")}


def test_a_writer_who_does_not_belong_there_is_refused() -> None:
    ada, eve = World().peer("ada"), Author("eve", "e1", dm("ada", "bob"))
    assert ada.carry(eve.say("let me in")) == ["imported 1 member"]
    assert dm("ada", "bob") not in ada.node.namings  # nothing of what it named is here


def test_logs_of_earlier_runs_are_found_in_storage() -> None:
    world = World()
    ada, first = world.peer("ada"), Author("bob", "b1")
    one = first.say("one")
    second = Author("bob", "b2", before=[first.mark])
    ada.carry(one, second.say("two"))
    third = Author("bob", "b3", before=[second.mark])
    said = ada.carry(one, third.say("three"))  # b1 is covered and left memory
    assert said[-2:] == ["commit b3:1..1, show b3:1..1 old", "imported 1 new 1 known"]
    assert ada.texts() == ["*one", "*two", "*three"]


def test_an_imported_log_beyond_the_tips_limit_is_refused() -> None:
    ada = World().peer("ada", max_tips=2)
    logs = [Author("bob", f"b{n}") for n in range(3)]
    assert ada.carry(*(log.say("word") for log in logs))[-1] == "imported 2 new 1 full"


def test_a_fork_in_a_file_is_found_and_later_logs_are_accepted() -> None:
    ada, bob, twin = World().peer("ada"), Author("bob", "b1"), Author("bob", "b1")
    assert "warn fork" in ada.carry(bob.say("one"), twin.say("another"))
    cyd = World().peer("cyd")
    evidence = [msgspec.structs.replace(author.say("more"), fork=True) for author in (bob, twin)]
    later = Author("bob", "b2", before=[bob.mark])
    assert cyd.carry(later.say("new"))[-1] == "imported 1 gap"
    assert cyd.carry(*evidence, Author("bob", "b2", before=[bob.mark]).say("new"))[-1] == "imported 1 new"


def test_marks_go_to_links_as_after_any_commit() -> None:
    world, bob = World(), Author("bob", "b1")
    ada = world.peer("ada")
    ada.far("cyd")
    ada.carry(bob.say("from afar"))
    world.pass_time(1.0)
    assert "to cyd: have room bob b1:1" in ada.take()


def test_own_entries_of_a_lost_disk_come_back_from_a_file() -> None:
    ada, before = World().peer("ada"), Author("ada", "0f")
    ada.carry(before.say("remember"))
    assert ada.texts() == ["remember"]
    ada.say("I do")
    assert ada.texts() == ["remember", "I do"]


def test_imported_entries_that_wait_are_stored_and_shown_later() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    ada = world.peer("ada")
    question = cyd.say("why?")
    assert ada.carry(bob.say("because", re=cyd.ref(1)))[-1] == "imported 1 new"
    assert ada.texts() == []
    ada.carry(question)
    assert ada.texts() == ["*why?", "*because"]


def test_nothing_is_imported_while_nothing_can_be_stored() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.put(DiskLow(True))
    ada.take()
    assert ada.carry(bob.say("one")) == ["imported the disk is nearly full: make room, then import again"]
    ada.put(DiskLow(False))
    ada.take()
    ada.holding = True
    ada.carry(bob.say("two"))
    bob = Author("bob", "b1")
    ada.carry(bob.say("one"))
    ada.put(CommitFailed(0, "no disk"))
    assert "imported no disk" in ada.take()
    assert ada.carry(bob.say("two")) == ["imported storage does not work: nothing is accepted"]
    ada.held.clear()
    ada.holding = False
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert ada.carry(Author("bob", "b1").say("one", at=START))[-1] == "imported 1 new"


def test_entries_that_a_link_brought_count_as_known_when_durable() -> None:
    first = Author("bob", "b1")
    ada = World().peer("ada")
    far = ada.far("bob")
    far.say(first.say("one"))
    far.say(Author("bob", "b2", before=[first.mark]).say("two"))
    ada.start()  # b1 is covered, and in storage only
    second = Author("bob", "b3", before=[first.mark])
    said = second.say("three")
    ada.hold_lookups = ada.holding = True
    ada.far("bob").say(said)
    ada.carry(said)
    assert not any("imported" in line for line in ada.answer_lookups())
    assert "imported 1 known" in ada.commit()
