"""Users whose peer is reached by a linked one, and not from here."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import PresenceChanged
from p2pchat.core.inputs import ListeningAt, Woke
from p2pchat.core.mesh.peer_exchange import SIGNED_EVERY, UNREACHABLE_AFTER, make_record
from p2pchat.core.mesh.presence_tracker import LINKED_AFTER
from p2pchat.protocol import PeerRecord, Peers
from tests.core.scripted_nodes import IDENTITIES, IDS, START, Author, N, Peer, World

BOB = IDS["bob"]
LOOK_AFTER = UNREACHABLE_AFTER / 2
CLAIM, GONE = Peers(linked=[BOB]), Peers(gone=[BOB])


def record(at: int) -> PeerRecord:
    """Return what bob's peer signed so many seconds after the start."""
    return make_record(N, BOB, IDENTITIES["bob"].sign, START + at * 1_000_000, [], None)


THERE = Peers([record(0)], linked=[BOB])


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
    assert told(ada) == [("unreachable", IDS["cyd"])]
    dan = ada.far("dan")
    dan.say(THERE)
    ada.world.pass_time(3 * LOOK_AFTER)
    cyd.say(GONE)
    ada.world.pass_time(1.1 * LOOK_AFTER)
    assert told(ada) == [("unreachable", IDS["dan"])]
    dan.say(GONE)
    ada.world.pass_time(1.1 * LOOK_AFTER)
    assert told(ada) == [("offline", "")]
    assert ada.node.presence.status(BOB) == ("offline", "", 0)  # not since now: nobody knows


def test_a_link_of_its_own_is_what_counts(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(THERE)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("unreachable", IDS["cyd"])]
    bob = ada.far("bob")
    assert [status for status, _ in told(ada)] == ["online"]
    ada.world.pass_time(3 * LOOK_AFTER)
    ada.drop(bob)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [status for status, _ in told(ada)] == ["offline"]
    since = ada.node.cause(ada.id, BOB)
    cyd.say(Peers([record(60)]))
    ada.world.pass_time(LOOK_AFTER)
    assert told(ada) == [("unreachable", IDS["cyd"])]
    assert ada.node.cause(ada.id, BOB) == ("unreachable", 0, IDS["cyd"])
    ada.drop(cyd)
    ada.world.pass_time(LOOK_AFTER)
    assert told(ada) == [("offline", "")]
    assert ada.node.cause(ada.id, BOB) == since != ("away", 0, "")


def test_who_names_a_peer_that_is_long_gone_is_not_believed(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(THERE)
    bob = ada.far("bob")
    ada.drop(bob)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [status for status, _ in told(ada)] == ["online", "offline"]
    cyd.say(GONE, THERE)  # nothing that bob signed since
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == []


def test_what_a_peer_signed_after_its_link_was_silent_counts(ada: Peer) -> None:
    cyd = ada.far("cyd")
    bob = ada.far("bob")
    ada.world.pass_time(LOOK_AFTER)
    cyd.say(Peers([record(90)], linked=[BOB]))
    ada.drop(bob)  # it learns only now
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [status for status, _ in told(ada)] == ["online", "offline", "unreachable"]


def test_who_gave_this_peer_no_place_may_block_it_and_is_away(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(THERE)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("unreachable", IDS["cyd"])]
    ada.node.links.dialer.on_busy(BOB)
    cyd.say(CLAIM)
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("offline", "")]


def test_a_peer_signs_a_record_for_those_that_only_others_reach(ada: Peer) -> None:
    cyd = ada.far("cyd")

    def signed() -> int:
        return ada.node.links.book.records[ada.id].at

    def passes(seconds: float) -> bool:
        """Return whether a record was signed in this time."""
        before = signed()
        ada.world.pass_time(seconds)
        return signed() > before

    ada.put(ListeningAt(()))
    cyd.say(Peers(linked=["ab" * 32]))
    assert not passes(3 * LOOK_AFTER)  # nobody is known by that id
    cyd.say(CLAIM)
    assert passes(3 * LOOK_AFTER)
    assert not passes(10 * SIGNED_EVERY)  # once for each time
    for _ in range(2):
        cyd.say(GONE)
        ada.world.pass_time(LOOK_AFTER)
        cyd.say(CLAIM)
        assert passes(SIGNED_EVERY)


def test_nothing_is_told_of_who_is_unknown_or_blocked(ada: Peer) -> None:
    cyd = ada.far("cyd")
    cyd.say(Peers([record(0)], linked=["ab" * 32, BOB]))
    ada.world.pass_time(3 * LOOK_AFTER)
    assert [one.user for one in ada.events if isinstance(one, PresenceChanged) and one.status == "unreachable"] == [BOB]
    ada.choose(f"blocked:{BOB}")
    assert told(ada)[-1] == ("offline", "")
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == []
    ada.choose(f"blocked:{BOB}", "")
    ada.world.pass_time(3 * LOOK_AFTER)
    assert told(ada) == [("unreachable", IDS["cyd"])]


def test_nothing_is_said_of_somebody_not_seen_yet_while_links_come_up_or_others_reach_it() -> None:
    ada = World().peer("ada", dead_after=1e6, ping_after=1e5)
    assert ada.node.cause(ada.id, BOB) is None
    cyd = ada.far("cyd")
    ada.world.pass_time(LINKED_AFTER)
    assert ada.node.cause(ada.id, BOB) == ("away", 0, "")
    cyd.say(CLAIM)
    assert ada.node.cause(ada.id, BOB) is None
    cyd.say(GONE)
    assert ada.node.cause(ada.id, BOB) == ("away", 0, "")


def test_however_many_addresses_are_told_of_a_peer_few_are_kept_and_all_are_taken(ada: Peer) -> None:
    """Each newer record had another address: the book kept one, the plan all, and those due were dropped by functions
    that called each other, as deep as there were: the process ended.
    """
    cyd, nobody = ada.far("cyd"), ada.world.peer("dan")
    nobody.up = False
    for number in range(2_000):  # twice as deep as calls may be
        endpoint = f"10.{number >> 8}.{number & 255}.9:2"
        told = make_record(N, BOB, IDENTITIES["bob"].sign, START + number * 1_000_000, [endpoint], None)
        cyd.say(Peers([told]))
    assert len(ada.node.links.dialer.endpoints(BOB)) == 1
    ada.world.seconds += 120.0  # all are due at once, as after the process stood still
    ada.put(Woke())
    ada.world.pass_time(120)
    assert ada.node.links.dialer.endpoints(BOB) == [endpoint]
