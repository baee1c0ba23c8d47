"""Users whose peer is reached by a linked one, and not from here."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import PresenceChanged
from p2pchat.core.inputs import UserBlocked
from p2pchat.core.mesh.peer_exchange import UNREACHABLE_AFTER
from p2pchat.protocol import Peers
from tests.core.scripted_nodes import IDS, Author, Peer, World

BOB = IDS["bob"]
LOOK_AFTER = UNREACHABLE_AFTER / 2
THERE, GONE = Peers(linked=[BOB]), Peers(gone=[BOB])


@pytest.fixture
def ada() -> Peer:
    """Return ada's peer, which has something that bob wrote."""
    ada = World().peer("ada", dead_after=1e6, ping_after=1e5)
    far = ada.far("eve")
    far.say(Author("bob", "b1").say("hi"))
    ada.drop(far)
    ada.world.pass_time(10 * LOOK_AFTER)
    ada.events.clear()
    return ada


def told(peer: Peer) -> list[tuple[str, str]]:
    """Return which statuses of bob were told since the last call."""
    events, peer.events = peer.events, []
    return [(one.status, one.text) for one in events if isinstance(one, PresenceChanged) and one.user == BOB]


def test_who_reaches_a_user_is_told_after_two_looks_and_until_nobody_does(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(THERE)
    ada.world.pass_time(1.5 * LOOK_AFTER)
    assert told(ada) == []  # a dial takes a moment
    ada.world.pass_time(LOOK_AFTER)
    assert told(ada) == [("unreachable", "cyd")]
    dan = ada.far("dan")
    dan.say(THERE)
    ada.world.pass_time(3 * LOOK_AFTER)
    cyd.say(GONE)
    ada.world.pass_time(1.1 * LOOK_AFTER)
    assert told(ada) == [("unreachable", "dan")]
    dan.say(GONE)
    ada.world.pass_time(1.1 * LOOK_AFTER)
    assert told(ada) == [("offline", "")]


def test_a_link_of_its_own_is_what_counts(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(THERE)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("unreachable", "cyd")]
    bob = ada.far("bob")
    assert [status for status, _ in told(ada)] == ["online"]
    ada.world.pass_time(3 * LOOK_AFTER)
    ada.drop(bob)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [status for status, _ in told(ada)] == ["offline", "unreachable"]


def test_nothing_is_told_of_who_is_unknown_or_blocked(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(Peers(linked=["ab" * 32, BOB]))
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [one.user for one in ada.events if isinstance(one, PresenceChanged) and one.status == "unreachable"] == [BOB]
    ada.put(UserBlocked(ada.id, BOB, True))
    assert told(ada)[-1] == ("offline", "")
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == []
    ada.put(UserBlocked(ada.id, BOB, False))
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("unreachable", "cyd")]
