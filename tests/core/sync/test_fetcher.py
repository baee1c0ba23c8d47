"""Fetching: the choice of a link for a want, its timeout, and the next choice."""

from __future__ import annotations

from p2pchat.protocol import Have
from tests.core.scripted_nodes import ROOM, Author, Peer, World, have, page


def wants(lines: list[str]) -> list[str]:
    return [line for line in lines if "want" in line]


def end(n: int, *authors: Author) -> Have:
    """Return the `have` that ends want n with these marks."""
    marks = have(*authors).marks or {ROOM: {}}
    return Have(marks, end=n)


def test_a_difference_is_wanted_at_once_and_only_once() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    cyd, dan = ada.far("cyd"), ada.far("dan")
    bob.say("one")
    assert cyd.say(page(bob)) == ["to cyd: want 1 room bob from nothing"]
    assert dan.say(page(bob)) == []


def test_a_want_has_the_marks_held() -> None:
    ada, first = World().peer("ada"), Author("bob", "b1")
    far = ada.far("cyd")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    second.say("three")
    assert far.say(page(second)) == ["to cyd: want 1 room bob from b2:1, older b2:1 b1:1"]


def test_the_writer_s_peer_is_asked_first(ada: Peer) -> None:
    bob = Author("bob", "b1")
    far, host = ada.far("cyd"), ada.far("bob")
    bob.say("one")
    far.say(have(bob))
    host.say(have(bob))
    ada.world.pass_time(1.1)
    assert wants(ada.take()) == ["to bob: want 1 room bob from nothing"]


def test_who_gives_nearly_nothing_for_ten_seconds_is_given_up_for_the_next(ada: Peer) -> None:
    bob = Author("bob", "b1")
    cyd, dan = ada.far("cyd"), ada.far("dan")
    one, _ = bob.say("one"), bob.say("two")
    cyd.say(page(bob))
    dan.say(page(bob))
    ada.world.pass_time(6.0)
    cyd.say(one)
    ada.take()
    ada.world.pass_time(3.9)
    assert wants(ada.take()) == []
    ada.world.pass_time(0.2)
    assert wants(ada.take()) == ["to dan: want 1 room bob from b1:1"]


def test_a_slow_link_is_not_given_up_if_there_is_no_other() -> None:
    ada, bob = World().peer("ada", dead_after=1e6, ping_after=1e5), Author("bob", "b1")
    cyd = ada.far("cyd")
    batches = [bob.say(f"{n}") for n in range(20)]
    cyd.say(page(bob))
    for batch in batches[:5]:
        ada.world.pass_time(6.0)
        assert wants(cyd.say(batch)) == []
    ada.world.pass_time(9.9)
    assert wants(ada.take()) == []
    ada.world.pass_time(1.2)
    assert wants(ada.take()) == ["to cyd: want 2 room bob from b1:5"]


def test_who_was_given_up_is_asked_last() -> None:
    world, bob, eve = World(), Author("bob", "b1"), Author("eve", "e1")
    ada = world.peer("ada", dead_after=1e6, ping_after=1e5)
    cyd, dan = ada.far("cyd"), ada.far("dan")
    bob.say("one")
    eve.say("two")
    cyd.say(page(bob))
    dan.say(page(bob))
    world.pass_time(10.1)
    assert wants(ada.take())[-1] == "to dan: want 1 room bob from nothing"
    ada.far("eve")
    cyd.say(have(eve))
    dan.say(have(eve))
    world.pass_time(1.1)
    assert wants(ada.take()) == ["to dan: want 2 room eve from nothing"]


def test_when_a_link_ends_the_next_is_asked_at_once() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    cyd, dan = ada.far("cyd"), ada.far("dan")
    bob.say("one")
    cyd.say(page(bob))
    dan.say(page(bob))
    assert wants(ada.drop(cyd)) == ["to dan: want 1 room bob from nothing"]


def test_a_peer_that_ends_a_want_without_entries_is_skipped() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    cyd, dan = ada.far("cyd"), ada.far("dan")
    bob.say("one")
    cyd.say(page(bob))
    dan.say(page(bob))
    assert wants(cyd.say(end(1))) == ["to dan: want 1 room bob from nothing"]
    assert dan.say(end(1)) == []


def test_a_peer_that_holds_no_more_is_not_asked_again(ada: Peer) -> None:
    bob = Author("bob", "b1")
    far = ada.far("cyd")
    bob.say("one")
    far.say(page(bob))
    far.say(Have({ROOM: {bob.log.user: []}}, end=1))
    ada.world.pass_time(100)
    assert wants(ada.take()) == []


def test_a_peer_that_is_ahead_but_gives_nothing_is_asked_less_often() -> None:
    ada, bob = World().peer("ada", dead_after=1e6, ping_after=1e5), Author("bob", "b1")
    far = ada.far("eve")
    bob.say("one")
    far.say(page(bob))
    asked = []
    for n in range(1, 9):
        far.say(end(n, bob))
        while not wants(ada.take()):
            ada.world.pass_time(0.5)
        asked.append(ada.world.seconds)
    waits = [later - sooner for sooner, later in zip([0.0, *asked], asked, strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]


def test_progress_resets_the_wait_after_fruitless_wants(ada: Peer) -> None:
    bob = Author("bob", "b1")
    far = ada.far("bob")
    first = bob.say("one")
    bob.say("two")
    far.say(page(bob))
    far.say(first, end(1, bob))
    ada.world.pass_time(1.1)
    assert wants(ada.take()) == ["to bob: want 2 room bob from b1:1"]


def test_64_wants_are_open_at_once_and_a_closed_one_starts_the_next() -> None:
    authors = [Author(name, f"{n:02x}") for n, name in enumerate(("bob", "cyd", "dan"))]
    ada = World().peer("ada", max_wants=2)
    far = ada.far("eve")
    for author in authors:
        author.say("word")
    opened = wants(far.say(page(*authors)))
    assert len(opened) == 2
    by_name = sorted(authors, key=lambda author: author.log.user)
    third = by_name[2]
    assert wants(far.say(Have({ROOM: {by_name[0].log.user: []}}, end=1))) == [
        f"to eve: want 3 room {third.name} from nothing"]  # fmt: skip


def test_what_a_known_user_wrote_is_wanted_before_what_waits_of_unknown_ones() -> None:
    """A contact that was killed would otherwise read thousands of made-up users first."""
    authors = sorted((Author(name, name[0] + "1") for name in ("bob", "cyd", "dan")), key=lambda one: one.log.user)
    ada = World().peer("ada", max_wants=1)
    known = authors[-1]
    ada.choose(f"contact:{known.log.user}")
    far = ada.far("eve")
    for author in authors:
        author.say("word")
    assert len(wants(far.say(page(*authors)))) == 1
    assert wants(far.say(end(1))) == [f"to eve: want 2 room {known.name} from nothing"]
    assert wants(far.say(end(2))) == [f"to eve: want 3 room {authors[1].name} from nothing"]


def test_a_want_given_up_counts_as_open_until_it_is_closed() -> None:
    world = World()
    authors = [Author(name, f"{n:02x}") for n, name in enumerate(("bob", "cyd", "dan"))]
    ada = world.peer("ada", max_wants=2, dead_after=1e6, ping_after=1e5)
    far = ada.far("eve")
    for author in authors:
        author.say("word")
    far.say(page(*authors))
    world.pass_time(60)
    (remote,) = ada.node.replicator.context.remotes.values()
    assert len(remote.wants.by_number) == 2


def test_a_late_answer_keeps_a_want_from_being_repeated(ada: Peer) -> None:
    bob = Author("bob", "b1")
    cyd = ada.far("cyd")
    one, _, _ = bob.say("one"), bob.say("two"), bob.say("three")
    assert cyd.say(page(bob)) == ["to cyd: want 1 room bob from nothing"]
    ada.world.pass_time(10.5)  # given up; no other link is left, so cyd is asked again a little later
    ada.take()
    cyd.say(one)
    ada.world.pass_time(5.0)
    assert wants(ada.take()) == []


def test_who_gives_one_entry_now_and_then_is_given_up_for_the_writer_s_peer(ada: Peer) -> None:
    bob = Author("bob", "b1")
    slow, host = ada.far("cyd"), ada.far("bob")
    batches = [bob.say(f"{n}") for n in range(20)]
    slow.say(page(bob))
    ada.world.pass_time(0.5)
    slow.say(batches[0])
    ada.take()
    host.say(page(bob))
    ada.world.pass_time(9.0)
    slow.say(batches[1])
    assert wants(ada.take()) == []
    ada.world.pass_time(1.0)
    assert wants(ada.take()) == ["to bob: want 1 room bob from b1:2"]


def test_who_announces_a_log_that_is_not_in_memory_and_gives_nothing_of_it_is_asked_less_often() -> None:
    ada, first = World().peer("ada", dead_after=1e6, ping_after=1e5), Author("bob", "b1")
    far = ada.far("cyd")
    far.say(first.say("one"))
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    deleted = Author("bob", "b3", before=[second.mark])  # storage may hold b3: others build on what came before
    deleted.say("three")
    far.say(page(deleted))
    asked = []
    for n in range(1, 9):
        far.say(end(n, deleted))
        while not wants(ada.take()):
            ada.world.pass_time(0.5)
        asked.append(ada.world.seconds)
    waits = [later - sooner for sooner, later in zip([0.0, *asked], asked, strict=False)]
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]
