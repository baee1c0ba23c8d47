"""Users who never wrote and are no contacts: what is known of them lives with the links that tell it, within limits."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import (
    Effect,
    PauseReading,
    UserNamed,
)
from p2pchat.core.inputs import Got, OwnStateSet, QuotaLifted
from p2pchat.core.mesh.handshake import DIGEST_BYTES, MAX_REMEMBERED, Certificates, make_cert
from p2pchat.core.mesh.peer_link import Keepalive, PeerLink
from p2pchat.core.mesh.presence_tracker import MAX_DEPARTED
from p2pchat.protocol import Here, Hosted, Naming, ReadFrame, TypingFrame
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key, admission_of
from tests.core.mesh.test_presence_tracker import BOB, GATE, NOW_MS, Here_, departures, joins, word
from tests.core.scripted_nodes import IDS, ROOM, START, Author, N, Peer, World, dm, passed

CERT_KEYS = {name: Key(name) for name in (f"guest {n}" for n in range(60))}
EVE = Key("eve")


def guests(host: Key, *numbers: int) -> list[Hosted]:
    keys = [CERT_KEYS[f"guest {n}"] for n in numbers]
    return [word(key, cert=make_cert(N, key.id, key.sign, host.id, NOW_MS)) for key in keys]


def place(ada: Here_, id: int, peer: Key, host: str) -> PeerLink:
    link = ada.link(id, peer)
    link.host = host
    return link


def of_gate(ada: Here_, id: int, peer: Key) -> PeerLink:
    """Return a link to a peer for which the gateway's member answers."""
    link = ada.link(id, peer)
    link.member = GATE.id
    ada.members[peer.id] = GATE.id
    return link


def crowded(places: int = 1000) -> Here_:
    ada = Here_(settings=Settings(max_hosted_users=places))
    ada.staying = set()
    return ada


# ---- places


def test_all_peers_of_a_member_tell_as_many_users_as_one_may_host() -> None:
    ada = crowded(10)
    gate, eve = of_gate(ada, 1, GATE), of_gate(ada, 2, EVE)
    assert len(joins(ada.here(gate, word(GATE), *guests(GATE, *range(6))))) == 7
    told = joins(ada.here(eve, *guests(EVE, *range(10, 15)), word(EVE)))
    assert len(told) == 4 and EVE.id in told  # its own user always has a place
    assert eve.omits_users and not gate.omits_users
    assert len(joins(ada.here(ada.link(3, BOB), *guests(BOB, *range(20, 29))))) == 9  # it counts by itself


def test_places_come_back_when_users_or_links_go() -> None:
    ada = crowded(4)
    gate, eve = of_gate(ada, 1, GATE), of_gate(ada, 2, EVE)
    ada.here(gate, *guests(GATE, 0, 1, 2, 3))
    assert joins(ada.here(eve, *guests(EVE, 4))) == []
    ada.here(gate, gone=[CERT_KEYS["guest 0"].id])
    assert len(joins(ada.here(eve, *guests(EVE, 4)))) == 1
    ada.down(gate, "left")
    assert len(joins(ada.here(eve, *guests(EVE, 5, 6, 7)))) == 3


def test_nothing_is_kept_of_them_when_their_links_end() -> None:
    ada = crowded()
    for round in range(3):
        gate = ada.link(round, GATE)
        users = guests(GATE, *range(20 * round, 20 * round + 20))
        ada.here(gate, *users, *([word(GATE)]))
        ada.here(gate, gone=[users[0].id])
        ada.down(gate, "lost")
        ada.wake(10.0 * round + 5)
    presence = ada.presence
    assert set(presence._reported) == {GATE.id}  # of one peer's own user a moment longer
    assert (presence.hosts, presence._here, presence._grace_timers) == ({}, {}, {})
    assert len(ada.gone) == 60


def test_own_users_of_peers_that_are_gone_are_few() -> None:
    ada = crowded()
    for number in range(MAX_DEPARTED + 10):
        key = Key(f"silent {number}")
        link = ada.link(number, key)
        ada.here(link, word(key))
        ada.down(link, "left")
    assert len(ada.presence._reported) == MAX_DEPARTED == len(ada.presence._departed._members)
    assert len(ada.gone) == 10


def test_users_of_replaced_links_are_forgotten_unless_told_again() -> None:
    ada = crowded(10)
    for round in range(6):
        gate = ada.link(round, GATE)
        ada.here(gate, *guests(GATE, *range(10 * round, 10 * round + 10)), more=True)
        ada.down(gate, "replaced")
        ada.wake(3.0 * round + 3)  # longer than the grace period
        assert len(ada.presence._here) <= 10 and ada.presence._here.keys() == ada.presence._reported.keys()
        assert len(ada.presence.expected_recipients(BOB.id)[0]) <= 10
    gate = ada.link(6, GATE)
    ada.wake(203.0)
    assert (ada.presence._here, ada.presence._reported, ada.presence._grace_timers) == ({}, {}, {})
    assert len(joins(ada.here(gate, *guests(GATE, *range(10))))) == 10


def test_replaced_twice_before_a_list_ended_no_silent_user_leaves() -> None:
    ada = crowded(10)
    users = guests(GATE, *range(10))
    ada.here(ada.link(0, GATE), *users)
    for round in range(3):
        ada.down(ada.presence._links[round], "replaced")
        gate = ada.link(round + 1, GATE)
        assert ada.here(gate, *users[:round], more=True) == []
    assert ada.here(gate, *users) == [] and not gate.omits_users
    assert ada.wake(300.0) == [] and ada.presence.online() == set(gate.users)
    assert len(departures(ada.down(gate, "left"))) == 10


# ---- the whole node


def guest_of(name: str, user: Key, called: str) -> Hosted:
    cert = make_cert(N, user.id, user.sign, IDS[name], START // 1000)
    return Hosted(user.id, called, "online", cert=cert)


def stored_names(peer: Peer) -> set[str]:
    return {user.name for user in peer.storage.load([]).users}


def test_the_name_of_a_silent_user_is_not_stored_and_goes_after_its_link() -> None:
    ada, guest = World().peer("ada"), Key("guest")
    far = ada.far("bob")
    far.say(Here([guest_of("bob", guest, "zoe"), Hosted(IDS["bob"], "bob", "online")]))
    assert set(ada.node.names.values()) == {"zoe", "bob"}
    ada.drop(far)
    ada.world.pass_time(5.0)
    assert set(ada.node.names.values()) == {"bob"}  # a peer's own user can be written to a while longer
    assert stored_names(ada) == set()
    ada.restart()
    assert ada.node.names == {}


def test_the_name_is_stored_once_somebody_here_chooses_the_user() -> None:
    for choice in (OwnStateSet(1, IDS["ada"], {f"ignored:{IDS['bob']}": "1"}), QuotaLifted(IDS["bob"])):
        ada = World().peer("ada")
        ada.far("bob")
        assert stored_names(ada) == set()
        ada.put(choice)
        ada.world.pass_time(5.0)
        assert stored_names(ada) == {"bob"}
        ada.restart()
        assert ada.node.names == {IDS["bob"]: "bob"}


def test_the_name_of_who_wrote_only_directly_is_stored_with_the_first_message(ada: Peer) -> None:
    far = ada.far("bob")
    far.say(Author("bob", "b1", dm("ada", "bob")).say("hello"))
    assert stored_names(ada) == {"bob"}


def test_a_new_name_of_a_silent_user_is_remembered_when_it_writes(ada: Peer) -> None:
    far = ada.far("bob")
    far.say(Here([Hosted(IDS["bob"], "robert", "online")]))
    far.say(Author("bob", "b1", dm("ada", "bob")).say("hello"))
    loaded = ada.storage.load([])
    assert ([user.name for user in loaded.users], [one.name for one in loaded.former_names]) == (["robert"], ["bob"])


def test_what_a_peer_says_about_users_without_a_place_is_no_fault() -> None:
    ada = World().peer("ada", max_hosted_users=2)
    far, guest = ada.far("bob"), Key("guest")
    ada.node.member_directory.line = lambda user, member="": ("gate", user)  # type: ignore[method-assign]
    ada.far("cyd").say(Here([guest_of("cyd", Key("another"), "yan"), Hosted(IDS["cyd"], "cyd", "online")]))
    for link in ada.node.links.up.values():
        link.member = "gate"
    far.say(Here([guest_of("bob", guest, "zoe")]))
    assert guest.id not in ada.node.names
    room = [Naming(room=True)]
    assert far.say(TypingFrame(c=ROOM, u=guest.id, on=True, names=room)) == []
    assert far.say(ReadFrame({ROOM: {guest.id: []}}, names=room)) == []


@pytest.mark.parametrize("writes", [False, True])
def test_renames_are_events_with_a_rate(writes: bool) -> None:
    ada = World().peer("ada", dead_after=1e6)
    far = ada.far("bob")
    if writes:
        far.say(Author("bob", "b1").say("hello"))
    effects: list[Effect] = []
    for number in range(400):
        frames = passed(Here([Hosted(IDS["bob"], f"bob {number}", "online")]))
        effects += ada.node.handle(Got(far.link, frames), ada.world.now)
    named = [effect for effect in effects if isinstance(effect, UserNamed)]
    assert len(named) == 400 and sum(not effect.old for effect in named) <= 300


# ---- tokens


def test_users_told_again_cost_tokens_and_the_first_telling_is_free() -> None:
    ada = Here_(settings=Settings(max_hosted_users=60, flood_burst=20, flood_a_second=10))
    gate = ada.link(1, GATE)
    keepalive = Keepalive(ada.ctx, {1: gate}, admission_of(ada.ctx)[0])
    keepalive.watch(gate)

    def paused(frame: Here) -> float:
        keepalive.charge(gate, [frame])
        ada.presence.here(gate, frame)
        return sum(effect.seconds for effect in ada.take() if isinstance(effect, PauseReading))

    assert paused(Here(guests(GATE, *range(50)))) == 0.0
    assert ada.ctx.work.left("frames", gate.id) == 19.0
    ada.at(100.0)
    assert paused(Here(guests(GATE, *range(50)))) == 0.0  # all of them may change at one moment
    assert paused(Here(guests(GATE, *range(50)))) == pytest.approx(3.0)  # 100 users, 70 tokens
    ada.at(200.0)
    paused(Here([], gone=list(gate.users)))
    assert gate.users == {}
    assert paused(Here(guests(GATE, *range(50)))) == pytest.approx(2.0)  # 10 more are free: 40 of 20 tokens


# ---- certificates


def test_certificates_are_remembered_as_digests() -> None:
    certificates, guest = Certificates(N), Key("guest")
    cert = make_cert(N, guest.id, guest.sign, GATE.id, NOW_MS)
    assert certificates.fault(guest.id, GATE.id, cert, NOW_MS) == ""
    assert len(certificates._good) == MAX_REMEMBERED * DIGEST_BYTES
    assert certificates.fault(guest.id, GATE.id, cert, NOW_MS) == ""
    assert certificates.fault(guest.id, EVE.id, cert, NOW_MS) != ""
