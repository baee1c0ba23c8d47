"""Users who never wrote and are no contacts: what is known of them lives with the links that tell it, within limits."""

from __future__ import annotations

import pytest

from p2pchat.config import Settings
from p2pchat.core.effects import (
    Effect,
    LinkChanged,
    ManyChanged,
    PauseReading,
    UserNamed,
)
from p2pchat.core.inputs import Got, NameKept, QuotaLifted
from p2pchat.core.mesh.handshake import DIGEST_BYTES, MAX_REMEMBERED, Certificates, make_cert
from p2pchat.core.mesh.peer_link import Keepalive, PeerLink
from p2pchat.core.mesh.presence import MAX_DEPARTED
from p2pchat.protocol import Here, Hosted, Naming, ReadFrame, TypingFrame
from tests.core.mesh.linked_peers import Key
from tests.core.mesh.test_presence import BOB, GATE, NOW_MS, Here_, departures, joins, word
from tests.core.scripted_nodes import IDS, ROOM, START, Author, Peer, World, dm, passed

CERT_KEYS = {name: Key(name) for name in (f"guest {n}" for n in range(60))}
EVE = Key("eve")


def guests(host: Key, *numbers: int) -> list[Hosted]:
    keys = [CERT_KEYS[f"guest {n}"] for n in numbers]
    return [word(key, cert=make_cert(key.id, key.sign, host.id, NOW_MS)) for key in keys]


def place(ada: Here_, id: int, peer: Key, host: str) -> PeerLink:
    link = ada.link(id, peer)
    link.host = host
    return link


def crowded(places: int = 10, events: int = 10_000) -> Here_:
    ada = Here_(settings=Settings(max_unwritten_users=places, unknown_events_a_second=events))
    ada.stays, ada.contacts = set(), set()
    return ada


# ---- places


def test_one_unknown_peer_may_tell_as_many_users_as_there_are_places() -> None:
    ada = crowded(10)
    gate = place(ada, 1, GATE, "10.0.0.1")
    assert len(joins(ada.here(gate, *guests(GATE, *range(10))))) == 10
    assert not gate.omits_users
    assert joins(ada.here(gate, *guests(GATE, 10))) == [] and gate.omits_users
    assert len(gate.users) == 10


def test_a_newcomer_from_another_branch_takes_the_place_of_the_newest_user_of_the_fullest() -> None:
    ada = crowded(10)
    eve, bob = place(ada, 1, EVE, "10.0.0.1"), place(ada, 2, BOB, "10.0.1.1")
    ada.here(eve, *guests(EVE, *range(10)))
    effects = ada.here(bob, word(BOB))
    newest = CERT_KEYS["guest 9"].id
    assert (joins(effects), departures(effects)) == ([BOB.id], [(newest, "left")])
    assert newest in ada.gone and eve.omits_users and not bob.omits_users
    assert joins(ada.here(eve, *guests(EVE, 9))) == []  # it does not come back in the same way
    assert BOB.id in ada.presence.online()


def test_places_come_back_when_users_or_links_go() -> None:
    ada = crowded(4)
    gate = place(ada, 1, GATE, "10.0.0.1")
    ada.here(gate, *guests(GATE, 0, 1, 2, 3))
    ada.here(gate, gone=[CERT_KEYS["guest 0"].id])
    assert len(joins(ada.here(gate, *guests(GATE, 4)))) == 1
    ada.down(gate, "left")
    again = place(ada, 2, GATE, "10.0.0.1")
    assert len(joins(ada.here(again, *guests(GATE, 5, 6, 7, 8)))) == 4


def test_users_of_known_peers_and_those_who_wrote_take_no_place() -> None:
    ada = crowded(1)
    gate = place(ada, 1, GATE, "10.0.0.1")
    gate.known = True
    assert len(joins(ada.here(gate, *guests(GATE, *range(5))))) == 5
    eve = place(ada, 2, EVE, "10.0.1.1")
    writers = guests(EVE, 6, 7, 8)
    ada.stays = {user.id for user in writers}
    assert len(joins(ada.here(eve, *writers))) == 3
    assert len(joins(ada.here(eve, *guests(EVE, 9)))) == 1


def test_who_wrote_meanwhile_keeps_its_presence_and_gives_its_place() -> None:
    ada = crowded(3)
    eve, bob = place(ada, 1, EVE, "10.0.0.1"), place(ada, 2, BOB, "10.0.1.1")
    ada.here(eve, *guests(EVE, 0, 1, 2))
    ada.stays = {CERT_KEYS["guest 2"].id}
    assert departures(ada.here(bob, word(BOB))) == []
    assert set(eve.users) == {CERT_KEYS[f"guest {n}"].id for n in range(3)}


def test_the_status_of_who_wrote_meanwhile_is_told_in_full() -> None:
    ada = crowded(3)
    bob = place(ada, 1, BOB, "10.0.1.1")
    ada.here(bob, word(BOB, text="z" * 100))
    assert bob.users[BOB.id].text == "z" * 64
    ada.stays = {BOB.id}
    ada.here(bob, word(BOB, text="y" * 100))
    assert (bob.users[BOB.id].text, list(bob.unwritten)) == ("y" * 100, [])


def test_nothing_is_kept_of_them_when_their_links_end() -> None:
    ada = crowded(1000)
    for round in range(3):
        gate = place(ada, round, GATE, "10.0.0.1")
        users = guests(GATE, *range(20 * round, 20 * round + 20))
        ada.here(gate, *users, *([word(GATE)]))
        ada.here(gate, gone=[users[0].id])
        ada.down(gate, "lost")
        ada.wake(10.0 * round + 5)
    presence = ada.presence
    assert set(presence._reported) == {GATE.id}  # of one peer's own user a moment longer
    assert (presence.hosts, presence._here, presence._familiar, presence._grace_timers) == ({}, {}, set(), {})
    assert len(presence._places) == 0 and len(ada.gone) == 60


def test_own_users_of_peers_that_are_gone_are_few() -> None:
    ada = crowded(1000)
    for number in range(MAX_DEPARTED + 10):
        key = Key(f"silent {number}")
        link = place(ada, number, key, f"10.{number % 200}.0.{number // 200}")
        ada.here(link, word(key))
        ada.down(link, "left")
    assert len(ada.presence._reported) == MAX_DEPARTED == len(ada.presence._departed)
    assert len(ada.gone) == 10


def test_users_of_replaced_links_keep_their_places_and_are_few() -> None:
    ada = crowded(10)
    for round in range(6):
        gate = place(ada, round, GATE, "10.0.0.1")
        ada.here(gate, *guests(GATE, *range(10 * round, 10 * round + 10)), more=True)
        ada.down(gate, "replaced")
        ada.wake(3.0 * round + 3)  # longer than the grace period
        assert len(ada.presence._here) <= 10 and ada.presence._here.keys() == ada.presence._reported.keys()
        assert len(ada.presence.expected_recipients(BOB.id)[0]) <= 10
    gate = place(ada, 6, GATE, "10.0.0.1")
    ada.wake(200.0)  # it never ends its list
    ada.wake(203.0)
    assert (ada.presence._here, ada.presence._reported, ada.presence._awaited) == ({}, {}, {})
    assert len(joins(ada.here(gate, *guests(GATE, *range(10))))) == 10


def test_replaced_twice_before_a_list_ended_no_silent_user_leaves() -> None:
    ada = crowded(10)
    users = guests(GATE, *range(10))
    ada.here(place(ada, 0, GATE, "10.0.0.1"), *users)
    for round in range(3):
        ada.down(ada.presence._links[round], "replaced")
        gate = place(ada, round + 1, GATE, "10.0.0.1")
        assert ada.here(gate, *users[:round], more=True) == []
    assert ada.here(gate, *users) == [] and not gate.omits_users
    assert ada.wake(300.0) == [] and ada.presence.online() == set(gate.users)
    assert len(departures(ada.down(gate, "left"))) == 10 and len(ada.presence._places) == 0


def test_a_newcomer_takes_the_place_of_a_user_of_a_replaced_link() -> None:
    ada = crowded(10)
    eve, bob = place(ada, 1, EVE, "10.0.0.1"), place(ada, 2, BOB, "10.0.1.1")
    ada.here(eve, *guests(EVE, *range(10)))
    ada.down(eve, "replaced")
    effects = ada.here(bob, word(BOB))
    assert (joins(effects), departures(effects)) == ([BOB.id], [(CERT_KEYS["guest 9"].id, "left")])
    assert len(ada.presence._here) == 10


# ---- events


def test_many_who_come_at_once_are_told_one_by_one() -> None:
    """Programs of a mesh of 32 peers that started together were told of half of them."""
    ada = crowded(1000, events=20)
    assert len(joins(ada.here(place(ada, 1, GATE, "10.0.0.1"), *guests(GATE, *range(60))))) == 60


def test_events_about_them_have_a_rate_and_the_others_are_counted() -> None:
    ada = crowded(1000, events=4)
    gate = place(ada, 1, GATE, "10.0.0.1")
    effects = ada.here(gate, *guests(GATE, *range(50)))
    assert len(effects) == 60 and len(joins(effects)) == 30
    assert ada.wake(1.0) == [ManyChanged(20, 0, 20, 0)]
    lines = 60 + 1
    for second in range(1, 61):  # they come and go all the time
        ada.at(second)
        ada.ctx.run_due()
        ada.here(gate, gone=list(gate.users))
        effects = ada.take() + ada.here(gate, *guests(GATE, *range(50)))
        lines += len(effects)
        ada.at(second + 0.5)
        ada.ctx.run_due()
        lines += len(ada.take())
    assert lines <= 60 + 61 * 5
    assert {user.id for user in guests(GATE, *range(50))} <= ada.presence.online()


def test_events_about_contacts_and_users_of_known_peers_have_none() -> None:
    ada = crowded(1000, events=1)
    gate, eve = place(ada, 1, GATE, "10.0.0.1"), place(ada, 2, EVE, "10.0.1.1")
    gate.known = True
    assert len(joins(ada.here(gate, *guests(GATE, *range(20))))) == 20
    assert len(departures(ada.down(gate, "left"))) == 20
    ada.here(eve, *guests(EVE, *range(20)))
    ada.stays = ada.contacts = {BOB.id}
    assert joins(ada.here(place(ada, 3, BOB, "10.0.2.1"), word(BOB))) == [BOB.id]


def test_events_about_unknown_users_who_wrote_have_a_rate_too() -> None:
    """To write once costs a member nothing, and it may come and go all the time."""
    ada = crowded(1000, events=20)
    gate = place(ada, 1, GATE, "10.0.0.1")
    users = guests(GATE, *range(50))
    ada.stays = {user.id for user in users}
    lines = len(ada.here(gate, *users))
    assert lines == 100  # a gateway's users may all come at once
    for second in range(1, 61):
        ada.at(second)
        ada.ctx.run_due()
        lines += len(ada.take() + ada.here(gate, gone=list(gate.users)) + ada.here(gate, *users))
    assert lines <= 300 + 61 * 21
    assert {user.id for user in users} <= ada.presence.online()


def test_what_was_counted_of_a_user_is_told_before_what_follows() -> None:
    """A user left, which was counted, wrote meanwhile, and came again: programs were told that it joined twice."""
    ada = crowded(1000, events=1)
    gate = place(ada, 1, GATE, "10.0.0.1")
    users = guests(GATE, *range(10))
    first = users[0].id
    assert first in joins(ada.here(gate, *users))
    assert ada.here(gate, gone=[first]) == []
    ada.stays = {first}
    assert ada.here(gate, users[0]) == []
    assert ada.wake(1.0) == [ManyChanged(3, 1, 5, 0)]
    assert departures(ada.here(gate, gone=[first])) == [(first, "left")]


# ---- the whole node


def test_links_of_unknown_peers_have_the_same_rate_and_each_contact_has_its_own(ada: Peer) -> None:
    """One party may come and go all the time, with a new key each time."""
    for _ in range(10):
        for name in ("cyd", "dan", "eve") * 20:
            ada.drop(ada.far(name))
        ada.world.pass_time(1.0)
    ada.world.pass_time(3.0)
    links = [event for event in ada.events if isinstance(event, LinkChanged)]
    counts = [event for event in ada.events if isinstance(event, ManyChanged)]
    shown = [event for event in links if not event.counted]
    assert len(links) == 1200 == len(shown) + sum(event.links for event in counts)
    others = [event for event in ada.events if not isinstance(event, LinkChanged)]
    assert len(shown) > 0 and len(shown) + len(others) <= 300 + 13 * 21
    ada.put(QuotaLifted(IDS["bob"]))
    for _ in range(10):  # in a second in which others come and go too
        ada.drop(ada.far("cyd"))
        ada.drop(ada.far("bob"))
    links = [event for event in ada.events if isinstance(event, LinkChanged) and event.peer == IDS["bob"]]
    assert len(links) == 20 and not any(event.counted for event in links)


def guest_of(name: str, user: Key, called: str) -> Hosted:
    cert = make_cert(user.id, user.sign, IDS[name], START // 1000)
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
    for choice in (NameKept(IDS["bob"]), QuotaLifted(IDS["bob"])):
        ada = World().peer("ada")
        ada.far("bob")
        assert stored_names(ada) == set()
        ada.put(choice)
        ada.take()
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
    ada = World().peer("ada", max_unwritten_users=1)
    far, guest = ada.far("bob"), Key("guest")
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
    keepalive = Keepalive(ada.ctx, {1: gate}, lambda link: None)
    keepalive.watch(gate)

    def paused(frame: Here) -> float:
        keepalive.charge(gate, [frame])
        ada.presence.here(gate, frame)
        return sum(effect.seconds for effect in ada.take() if isinstance(effect, PauseReading))

    assert paused(Here(guests(GATE, *range(50)))) == 0.0
    assert gate.bucket.tokens == 19.0
    ada.at(100.0)
    assert paused(Here(guests(GATE, *range(50)))) == 0.0  # all of them may change at one moment
    assert paused(Here(guests(GATE, *range(50)))) == pytest.approx(3.0)  # 100 users, 70 tokens
    ada.at(200.0)
    paused(Here([], gone=list(gate.users)))
    assert gate.users == {}
    assert paused(Here(guests(GATE, *range(50)))) == pytest.approx(2.0)  # 10 more are free: 40 of 20 tokens


# ---- certificates


def test_certificates_are_remembered_as_digests() -> None:
    certificates, guest = Certificates(), Key("guest")
    cert = make_cert(guest.id, guest.sign, GATE.id, NOW_MS)
    assert certificates.fault(guest.id, GATE.id, cert, NOW_MS) == ""
    assert len(certificates._good) == MAX_REMEMBERED * DIGEST_BYTES
    assert certificates.fault(guest.id, GATE.id, cert, NOW_MS) == ""
    assert certificates.fault(guest.id, EVE.id, cert, NOW_MS) != ""
