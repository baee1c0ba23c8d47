"""Typing indicators: limited in rate, sent only by a user's own peer to members' peers, and ended by time."""

from __future__ import annotations

import pytest

from p2pchat.core.inputs import CommitFailed, LinkDrained, LinkFilled, PresenceSet, TypingSet
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.protocol import ConversationId, Naming, TypingFrame
from tests.core.scripted_nodes import IDS, ROOM, Author, Far, Peer, World, dm


def types(peer: Peer, on: bool = True, to: ConversationId = ROOM) -> list[str]:
    peer.put(TypingSet(peer.id, to, on))
    return peer.take()


def after(world: World, seconds: float, peer: Peer) -> list[str]:
    """Let time pass; return the peer's effects about typing."""
    world.pass_time(seconds)
    return [line for line in peer.take() if "typ" in line]


def word(name: str, on: bool = True, to: ConversationId = ROOM) -> TypingFrame:
    """Return the typing frame of a user's peer."""
    naming = Naming(room=True) if to == ROOM else dm_naming(IDS["ada"], IDS["bob"])
    return TypingFrame(c=to, u=IDS[name], on=on, names=[naming])


# ---- sending


def test_who_goes_offline_types_no_more(ada: Peer) -> None:
    ada.far("bob")
    types(ada)
    ada.put(PresenceSet(ada.id, "idle"))
    assert not [line for line in ada.take() if "typing" in line]
    ada.put(PresenceSet(ada.id, "offline"))
    assert [line for line in ada.take() if "typing" in line] == ["to bob: typing room off"]


def test_typing_is_repeated_at_most_once_in_three_seconds(ada: Peer) -> None:
    ada.far("bob")
    frames = types(ada)
    for _ in range(100):  # ten seconds of typing
        frames += after(ada.world, 0.1, ada) + types(ada)
    assert frames == ["to bob: typing room on"] * 4


def test_a_change_is_sent_at_once(ada: Peer) -> None:
    ada.far("bob")
    for _ in range(3):
        assert types(ada) == ["to bob: typing room on"]
        assert types(ada) == []
        assert types(ada, on=False) == ["to bob: typing room off"]
        assert types(ada, on=False) == []
    assert after(ada.world, 10.0, ada) == []


def test_an_indicator_that_expired_elsewhere_needs_no_frame(ada: Peer) -> None:
    ada.far("bob")
    types(ada)
    ada.world.pass_time(6.1)
    assert types(ada, on=False) == []
    assert types(ada) == ["to bob: typing room on"]


def test_a_message_ends_typing_without_a_frame() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.take()
    assert types(ada) == ["to bob: typing room on"]
    assert "ada types in room" in bob.take()
    assert not [line for line in ada.say("hello") if "typ" in line]
    assert [line for line in bob.take() if "typ" in line] == ["ada types in room no more"]
    assert types(ada, on=False) == after(world, 10.0, ada) == []


def test_typing_the_next_message_is_sent_at_once(ada: Peer) -> None:
    ada.far("bob")
    types(ada)
    ada.say("hello")
    assert types(ada) == ["to bob: typing room on"]


def test_only_peers_of_members_get_typing_frames(ada: Peer) -> None:
    ada.far("bob"), ada.far("cyd")
    assert types(ada, to=ada.open("bob")) == ["to bob: typing dm on"]
    assert types(ada) == ["to bob cyd: typing room on"]


def test_a_conversation_is_named_once_on_each_link_and_the_room_never(ada: Peer) -> None:
    bob = ada.far("bob")
    types(ada)
    types(ada, to=ada.open("bob"))
    ada.world.pass_time(3.0)
    assert types(ada) == ["to bob: typing room on"]
    assert types(ada, to=dm("ada", "bob")) == ["to bob: typing dm on"]
    names = [naming for frame in bob.heard for naming in getattr(frame, "names", [])]
    assert names == [dm_naming(IDS["ada"], IDS["bob"])]


def test_a_full_link_gets_no_typing_frames_even_later(ada: Peer) -> None:
    bob = ada.far("bob")
    ada.put(LinkFilled(bob.link))
    assert types(ada) == []
    ada.put(LinkDrained(bob.link))
    assert [line for line in ada.take() if "typ" in line] == []


@pytest.mark.parametrize("to", [dm("bob", "cyd"), "ab" * 32], ids=["of others", "unknown"])
def test_typing_needs_membership(ada: Peer, to: ConversationId) -> None:
    ada.far("bob")
    assert types(ada, to=to) == []


# ---- receiving


def test_a_typing_user_is_reported_once_and_expires_after_six_seconds(ada: Peer) -> None:
    bob = ada.far("bob")
    assert bob.say(word("bob")) == ["bob types in room"]
    ada.world.pass_time(3.0)
    assert bob.say(word("bob")) == []
    assert after(ada.world, 5.9, ada) == []
    assert after(ada.world, 0.2, ada) == ["bob types in room no more"]


def test_each_expires_at_its_own_time(ada: Peer) -> None:
    bob, cyd = ada.far("bob"), ada.far("cyd")
    bob.say(word("bob"))
    ada.world.pass_time(2.0)
    cyd.say(word("cyd"))
    bob.say(word("bob", to=dm("ada", "bob")))
    assert after(ada.world, 4.1, ada) == ["bob types in room no more"]
    assert after(ada.world, 2.0, ada) == ["cyd types in room no more", "bob types in dm no more"]


def test_the_latest_word_wins() -> None:
    bob = World().peer("ada").far("bob")
    assert [bob.say(word("bob", on)) for on in (True, False, False, True)] == [
        ["bob types in room"], ["bob types in room no more"], [], ["bob types in room"]]  # fmt: skip


def test_the_end_of_a_link_ends_its_indicators(ada: Peer) -> None:
    bob, cyd = ada.far("bob"), ada.far("cyd")
    bob.say(word("bob")), cyd.say(word("cyd"))
    assert [line for line in ada.drop(bob) if "typ" in line] == ["bob types in room no more"]


def test_a_typing_frame_for_a_user_not_hosted_there_ends_the_link(ada: Peer) -> None:
    bob = ada.far("bob")
    ada.far("cyd")
    assert bob.say(word("cyd")) == ["close bob: host"]
    assert ada.counted["fault_host"] == 1


@pytest.mark.parametrize("to", [dm("bob", "cyd"), dm("ada", "cyd"), "ab" * 32], ids=["theirs", "ours", "unknown"])
def test_a_conversation_that_is_not_shared_is_ignored(ada: Peer, to: ConversationId) -> None:
    bob: Far = ada.far("bob")
    ada.open("cyd")
    assert bob.say(TypingFrame(c=to, u=IDS["bob"], on=True)) == []
    assert ada.counted["conversation_ignored"] == 1


def test_an_earlier_message_that_arrives_late_does_no_harm(ada: Peer) -> None:
    log = Author("bob", "b1")
    early = log.say("before")
    bob = ada.far("bob", log)
    bob.say(word("bob"))
    bob.say(early)
    ada.world.pass_time(3.0)
    assert bob.say(word("bob")) == ["bob types in room"]


def test_typing_ends_when_storage_fails(ada: Peer) -> None:
    bob = ada.far("bob")
    bob.say(word("bob"))
    ada.put(CommitFailed(0, "the disk is gone"))
    assert "bob types in room no more" in ada.take()
