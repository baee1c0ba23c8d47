"""Who writes just now: told to who can read it, seldom, by nobody but their own peer, and over by itself."""

from __future__ import annotations

import pytest

from p2pchat.core.inputs import CommitFailed, LinkDrained, LinkFilled, TypingSet
from p2pchat.core.sync.conversations import dm_naming
from p2pchat.protocol import ConversationId, Naming, TypingFrame
from tests.core.world import IDS, ROOM, Author, Far, Peer, World, dm


def types(peer: Peer, on: bool = True, to: ConversationId = ROOM) -> list[str]:
    peer.put(TypingSet(peer.id, to, on))
    return peer.take()


def after(world: World, seconds: float, peer: Peer) -> list[str]:
    """What a peer does in the next so many seconds, as far as it is about typing."""
    world.pass_time(seconds)
    return [line for line in peer.take() if "typ" in line]


def word(name: str, on: bool = True, to: ConversationId = ROOM) -> TypingFrame:
    """Return what somebody's peer says of its user."""
    naming = Naming(room=True) if to == ROOM else dm_naming(IDS["ada"], IDS["bob"])
    return TypingFrame(c=to, u=IDS[name], on=on, names=[naming])


# ---- telling


def test_a_frame_in_three_seconds_and_no_more_however_often_keys_are_hit() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob")
    frames = types(ada)
    for _ in range(100):  # ten seconds of keys
        frames += after(world, 0.1, ada) + types(ada)
    assert frames == ["to bob: typing room on"] * 4


def test_who_stops_within_three_seconds_is_told_to_have_stopped_when_they_are_over() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob")
    assert types(ada) == ["to bob: typing room on"]
    world.pass_time(1.0)
    assert types(ada, on=False) == []
    assert after(world, 1.9, ada) == []
    assert after(world, 0.2, ada) == ["to bob: typing room off"]
    assert types(ada) == []
    assert after(world, 3.0, ada) == ["to bob: typing room on"]


def test_who_stops_and_goes_on_within_three_seconds_is_told_nothing() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob")
    types(ada)
    assert types(ada, on=False) == types(ada) == []
    assert after(world, 5.0, ada) == []


def test_what_is_over_for_the_others_is_not_told_to_be() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob")
    types(ada)
    world.pass_time(6.1)
    assert types(ada, on=False) == []
    assert types(ada) == ["to bob: typing room on"]


def test_a_message_ends_it_without_a_frame_of_its_own() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.take()
    assert types(ada) == ["to bob: typing room on"]
    assert "ada types in room" in bob.take()
    assert not [line for line in ada.say("hello") if "typ" in line]
    assert [line for line in bob.take() if "typ" in line] == ["ada types in room no more"]
    assert types(ada, on=False) == after(world, 10.0, ada) == []


def test_the_next_message_is_told_to_be_written_when_three_seconds_are_over() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob")
    types(ada)
    ada.say("hello")
    assert types(ada) == []
    assert after(world, 3.0, ada) == ["to bob: typing room on"]


def test_only_peers_of_members_hear_of_it() -> None:
    world = World()
    ada = world.peer("ada")
    ada.far("bob"), ada.far("cyd")
    assert types(ada, to=ada.open("bob")) == ["to bob: typing dm on"]
    assert sorted(types(ada)) == ["to bob: typing room on", "to cyd: typing room on"]


def test_a_conversation_is_named_once_on_each_link_and_then_one_frame_serves_all() -> None:
    world = World()
    ada = world.peer("ada")
    bob, cyd = ada.far("bob"), ada.far("cyd")
    types(ada)
    world.pass_time(3.0)
    assert types(ada) == ["to bob cyd: typing room on"]
    for far in (bob, cyd):
        names = [naming for frame in far.heard for naming in getattr(frame, "names", [])]
        assert names == [Naming(room=True)]


def test_a_link_that_is_full_hears_nothing_of_it_not_later_either() -> None:
    world = World()
    ada = world.peer("ada")
    bob = ada.far("bob")
    ada.put(LinkFilled(bob.link))
    assert types(ada) == []
    ada.put(LinkDrained(bob.link))
    assert [line for line in ada.take() if "typ" in line] == []


@pytest.mark.parametrize("to", [dm("bob", "cyd"), "ab" * 32], ids=["of others", "unknown"])
def test_nobody_types_where_nobody_here_may_write(to: ConversationId) -> None:
    ada = World().peer("ada")
    ada.far("bob")
    assert types(ada, to=to) == []


# ---- hearing


def test_who_types_is_told_once_and_expires_after_six_seconds() -> None:
    world = World()
    ada = world.peer("ada")
    bob = ada.far("bob")
    assert bob.say(word("bob")) == ["bob types in room"]
    world.pass_time(3.0)
    assert bob.say(word("bob")) == []
    assert after(world, 5.9, ada) == []
    assert after(world, 0.2, ada) == ["bob types in room no more"]


def test_each_expires_at_its_own_time() -> None:
    world = World()
    ada = world.peer("ada")
    bob, cyd = ada.far("bob"), ada.far("cyd")
    bob.say(word("bob"))
    world.pass_time(2.0)
    cyd.say(word("cyd"))
    bob.say(word("bob", to=dm("ada", "bob")))
    assert after(world, 4.1, ada) == ["bob types in room no more"]
    assert after(world, 2.0, ada) == ["cyd types in room no more", "bob types in dm no more"]


def test_the_latest_word_wins() -> None:
    bob = World().peer("ada").far("bob")
    assert [bob.say(word("bob", on)) for on in (True, False, False, True)] == [
        ["bob types in room"], ["bob types in room no more"], [], ["bob types in room"]]  # fmt: skip


def test_a_link_that_is_gone_ends_what_it_said() -> None:
    ada = World().peer("ada")
    bob, cyd = ada.far("bob"), ada.far("cyd")
    bob.say(word("bob")), cyd.say(word("cyd"))
    assert [line for line in ada.drop(bob) if "typ" in line] == ["bob types in room no more"]


def test_whoever_speaks_for_a_user_it_does_not_host_is_sent_away() -> None:
    ada = World().peer("ada")
    bob = ada.far("bob")
    ada.far("cyd")
    assert bob.say(word("cyd")) == ["close bob: host"]
    assert ada.counted["fault_host"] == 1


@pytest.mark.parametrize("to", [dm("bob", "cyd"), dm("ada", "cyd"), "ab" * 32], ids=["theirs", "ours", "unknown"])
def test_a_conversation_that_is_not_shared_is_ignored(to: ConversationId) -> None:
    ada = World().peer("ada")
    bob: Far = ada.far("bob")
    ada.open("cyd")
    assert bob.say(TypingFrame(c=to, u=IDS["bob"], on=True)) == []
    assert ada.counted["conversation_ignored"] == 1


def test_what_somebody_wrote_earlier_and_comes_only_now_does_no_harm() -> None:
    world = World()
    ada = world.peer("ada")
    log = Author("bob", "b1")
    early = log.say("before")
    bob = ada.far("bob", log)
    bob.say(word("bob"))
    bob.say(early)
    world.pass_time(3.0)
    assert bob.say(word("bob")) == ["bob types in room"]


def test_nobody_types_for_ever_when_storage_fails() -> None:
    ada = World().peer("ada")
    bob = ada.far("bob")
    bob.say(word("bob"))
    ada.put(CommitFailed(0, "the disk is gone"))
    assert "bob types in room no more" in ada.take()
