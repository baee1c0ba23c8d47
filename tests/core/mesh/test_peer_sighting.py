"""Members seen on the local network: dialled with their id as the pin, trusted like addresses from other peers."""

from __future__ import annotations

from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Dial, Effect
from p2pchat.core.inputs import DialFailed, PeerSighted, Stop
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import START, Meeting, Post, peers_in_order, record_of

ADA, BOB = peers_in_order("ada", "bob")
HERE, THERE = "10.0.0.1:8080", "10.0.0.2:8080"


def dials(effects: list[Effect]) -> list[str]:
    return [effect.endpoint for effect in effects if isinstance(effect, Dial)]


def known(post: Post, peer: str) -> list[str]:
    return [address.endpoint for address in post.links.book.addresses(peer)]


def dial(post: Post, after: float) -> Dial:
    (found,) = [effect for effect in post.wake(after) if isinstance(effect, Dial)]
    return found


def test_a_sighted_peer_is_dialled_soon_with_its_key_as_pin() -> None:
    ada = Post(ADA)
    ada.handle(PeerSighted(BOB.id, (HERE,)))
    first = dial(ada, 1.0)
    assert first.endpoint == HERE
    target = ada.links.dialer.address_of(first.dial)
    assert target is not None and target.pin == BOB.id


def test_a_linked_peer_is_not_dialled() -> None:
    met = Meeting(Post(ADA), Post(BOB))
    met.connect(met.b)
    met.a.handle(PeerSighted(BOB.id, (HERE,)))
    assert dials(met.a.wake(9.0)) == []
    assert HERE in known(met.a, BOB.id)


def test_oneself_is_not_dialled() -> None:
    ada = Post(ADA)
    ada.handle(PeerSighted(ADA.id, (HERE,)))
    assert dials(ada.wake(100.0)) == []


def test_a_peer_that_vanished_and_never_answered_is_forgotten() -> None:
    ada = Post(ADA)
    ada.handle(PeerSighted(BOB.id, (HERE, THERE)))
    ada.handle(PeerSighted(BOB.id, (THERE,)))
    assert known(ada, BOB.id) == [THERE]
    ada.handle(PeerSighted(BOB.id))
    assert known(ada, BOB.id) == []
    assert dials(ada.wake(1000.0)) == []


def test_what_discovery_says_is_not_stored_until_the_peer_signs_it() -> None:
    ada = Post(ADA)
    ada.handle(PeerSighted(BOB.id, (HERE, THERE)))
    assert ada.ctx.change.addresses == []
    ada.links.book.take(record_of(BOB, HERE), [HERE])
    assert ada.ctx.change.addresses == [Address(BOB.id, HERE, told=True)]
    assert known(ada, BOB.id) == [HERE]


def test_verified_and_learned_addresses_stay_known() -> None:
    addresses = [Address(BOB.id, HERE, START), Address(BOB.id, THERE, told=True)]
    ada = Post(ADA, addresses=addresses, records=[record_of(BOB, THERE)])
    ada.start()
    ada.handle(PeerSighted(BOB.id, (HERE, THERE)))
    ada.handle(PeerSighted(BOB.id))
    assert known(ada, BOB.id) == [HERE, THERE]


def test_a_peer_seen_again_is_dialled_at_once() -> None:
    ada = Post(ADA, addresses=[Address(BOB.id, HERE, START)])
    effects = ada.start()
    for step in range(1, 400):
        for one in [effect for effect in effects if isinstance(effect, Dial)]:
            ada.handle(DialFailed(one.dial, "nobody"))
        effects = ada.wake(step * 1.0)
    for one in [effect for effect in effects if isinstance(effect, Dial)]:
        ada.handle(DialFailed(one.dial, "nobody"))
    ada.handle(PeerSighted(BOB.id, (HERE,)))
    assert dials(ada.wake(400.0)) == [HERE]


def test_a_moved_peer_is_dialled_while_the_dial_to_its_old_address_hangs() -> None:
    ada = Post(ADA, addresses=[Address(BOB.id, HERE, START)])
    ada.start()
    assert dials(ada.wake(0.2)) == [HERE]  # which neither answers nor refuses for 10 s
    ada.handle(PeerSighted(BOB.id, (THERE,)))
    assert dials(ada.wake(2.0)) == [THERE]
    ada.handle(PeerSighted(BOB.id, (THERE, "10.0.0.3:1", "10.0.0.4:1")))
    assert dials(ada.wake(9.0)) == []  # two at once at most


def test_two_addresses_of_one_peer_are_not_dialled_at_once_when_one_of_them_answers() -> None:
    met = Meeting(Post(ADA), Post(BOB))
    first = met.a.handle(PeerSighted(BOB.id, (HERE, THERE))) + met.a.wake(0.2)
    met.reach(met.a, next(effect for effect in first if isinstance(effect, Dial)))
    assert dials(met.a.wake(9.0)) == []


def test_a_new_address_has_room_also_when_that_peer_has_been_in_many_networks() -> None:
    full = [Address(BOB.id, f"10.0.{n}.1:1", START) for n in range(Settings().max_endpoints_a_peer)]
    ada = Post(ADA, addresses=full)
    ada.handle(PeerSighted(BOB.id, (HERE,)))
    assert HERE in known(ada, BOB.id) and len(known(ada, BOB.id)) == len(full)


def test_addresses_that_may_not_be_shared_are_ignored_when_sighted() -> None:
    ada = Post(ADA)
    ada.handle(
        PeerSighted(BOB.id, ("127.0.0.1:1", "224.0.0.251:1", "[fe80::1]:1", "169.254.0.1:1", "0.0.0.0:1", "nonsense"))
    )
    assert known(ada, BOB.id) == []


def test_nothing_is_dialled_after_the_end() -> None:
    ada = Post(ADA)
    ada.handle(Stop())
    ada.handle(PeerSighted(BOB.id, (HERE,)))
    assert dials(ada.wake(100.0)) == []
