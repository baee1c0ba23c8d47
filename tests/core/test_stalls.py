"""A disk that does not answer is told once, and once more when it does; nothing is said or done meanwhile that it
would have to keep.
"""

from __future__ import annotations

from p2pchat.core.inputs import CommitFailed, Loaded, Woke
from p2pchat.protocol import Ping
from tests.core.world import Author, Far, Peer, World, have

SLOW = "warn storage_slow"
WORKS = "warn storage_works"


def warnings(peer: Peer) -> list[str]:
    return [line for line in peer.take() if line.startswith("warn")]


def stalled() -> tuple[World, Peer, Far]:
    world = World()
    ada = world.peer("ada")
    far = ada.far("bob")
    ada.holding = True
    return world, ada, far


def test_a_commit_that_does_not_come_back_is_told_once_and_its_return_once() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.pass_time(4.9)
    assert warnings(ada) == []
    world.pass_time(0.2)
    assert warnings(ada) == [SLOW]
    ada.say("still there?")
    world.pass_time(60.0)
    assert warnings(ada) == []
    assert [line for line in ada.commit() if line.startswith("warn")] == [WORKS]
    world.pass_time(60.0)
    assert warnings(ada) == []


def test_it_stalls_again_and_is_told_again() -> None:
    world, ada, _ = stalled()
    for text in ("one", "two"):
        ada.say(text)
        world.pass_time(6.0)
        assert warnings(ada) == [SLOW]
        assert WORKS in ada.commit()


def test_a_busy_disk_that_answers_is_no_news() -> None:
    world, ada, _ = stalled()
    for text in ("one", "two", "three"):
        ada.say(text)
        world.pass_time(3.0)
        ada.commit()
        world.pass_time(1.0)
    assert warnings(ada) == []


def test_what_is_ordered_while_others_are_overdue_is_watched_too() -> None:
    world, ada, _ = stalled()
    ada.say("one")
    world.pass_time(4.0)
    ada.say("two")
    world.pass_time(4.5)
    later = ada.held.pop()
    assert warnings(ada) == [SLOW] and WORKS in ada.commit()
    ada.held = [later]
    world.pass_time(1.0)
    assert warnings(ada) == [SLOW]


def test_while_it_stalls_nothing_is_acknowledged_and_pings_are_answered() -> None:
    world, ada, far = stalled()
    bob = Author("bob", "b1")
    assert far.say(bob.say("one"), have(bob)) == ["commit b1:1..1, show b1:1..1"]
    for _ in range(3):
        world.pass_time(9.0)
        far.heard.clear()
        far.say(Ping())
        assert [type(frame).__name__ for frame in far.heard][-1] == "Pong"
    assert not any("have" in line or "close" in line for line in ada.lines)
    assert "to bob: have room bob b1:1" in ada.commit()


def test_a_process_that_stood_still_itself_blames_no_disk() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.seconds += 40.0
    ada.put(Woke())
    assert warnings(ada) == []
    world.pass_time(4.9)
    assert warnings(ada) == []
    world.pass_time(0.2)
    assert warnings(ada) == [SLOW]


def test_a_stall_that_ends_in_a_failure_is_told_as_one() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.pass_time(6.0)
    ada.put(CommitFailed(0, "the disk is gone"))
    ada.held = []
    assert warnings(ada) == [SLOW, "warn storage"]
    world.pass_time(60.0)
    assert warnings(ada) == []
    ada.holding = False
    ada.put(Loaded(ada.storage.load([ada.id])))
    assert warnings(ada) == [WORKS]
