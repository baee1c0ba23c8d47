"""Relayed endpoints in the core: told and kept for their own peer only, dialled after direct ones, and replaced."""

from __future__ import annotations

import pytest

from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Dial, Effect, LinkChanged, Resolve, Send
from p2pchat.core.inputs import Connect, DialFailed, LinkDown, ListeningAt, RelayChanged
from p2pchat.core.mesh.addressbook import RELAY_HOST, relay_endpoint
from tests.core.mesh.linked_peers import START, Key, Meeting, Post, link_changes, peers_in_order, record_of, told

DIRECT = "198.51.100.7:8080"


def dials(effects: list[Effect]) -> list[str]:
    return [effect.endpoint for effect in effects if isinstance(effect, Dial)]


def known(key: Key, *endpoints: str) -> list[Address]:
    """Return the addresses of a peer that answered there once."""
    return [Address(key.id, endpoint, verified_at=START) for endpoint in endpoints]


def relayed(post: Post) -> str:
    return relay_endpoint(post.key.id)


def hosts(post: Post) -> list[str]:
    return [link.host for link in post.links.by_peer.values()]


def test_a_relayed_endpoint_is_told_on_and_stored_for_the_peer_that_it_names() -> None:
    ada, bob = (Post(key) for key in peers_in_order("ada", "bob"))
    meeting = Meeting(ada, bob)
    for post in (ada, bob):
        post.handle(ListeningAt((relayed(post),)))
    meeting.connect(bob, "10.0.0.9:8080")
    assert [address.endpoint for address in ada.links.book.addresses(bob.key.id)] == [relayed(bob)]
    cyd = Post(Key("cyd"))
    other = Meeting(ada, cyd)
    other._links = 100
    other.connect(cyd)
    assert relayed(bob) in [address.endpoint for address in cyd.links.book.addresses(bob.key.id)]


def test_a_relayed_endpoint_of_somebody_else_is_ignored() -> None:
    ada, bob = (Post(key) for key in peers_in_order("ada", "bob"))
    meeting = Meeting(ada, bob)
    link = meeting.connect(bob)
    wrong = relay_endpoint(Key("victim").id)
    ada.got(link, told(record_of(bob.key, wrong), record_of(Key("cyd"), wrong)))
    assert not ada.links.dialer.knows(wrong)


def test_a_relayed_link_tells_no_neighbours() -> None:
    """Nobody knows where the far end is: 192.168.1.1 would be our router."""
    ada, bob = (Post(key) for key in peers_in_order("ada", "bob"))
    meeting = Meeting(ada, bob)
    bob.handle(ListeningAt(("192.168.1.1:80", DIRECT)))
    meeting.connect(bob, relayed(ada), host=RELAY_HOST)
    assert [address.endpoint for address in ada.links.book.addresses(bob.key.id)] == [DIRECT]


def test_a_direct_address_is_dialled_first_and_the_relayed_one_while_that_dial_hangs() -> None:
    ada, bob = peers_in_order("ada", "bob")
    post = Post(ada, addresses=known(bob, relay_endpoint(bob.id), DIRECT))
    assert dials(post.handle(RelayChanged(True))) == []
    effects = post.start()
    effects += post.wake(0.29)
    assert dials(effects) == [DIRECT]
    assert dials(post.wake(0.5)) == [relay_endpoint(bob.id)]
    assert dials(post.wake(9.0)) == []  # one of each kind


def test_without_the_engine_a_relayed_address_waits_and_does_not_fail() -> None:
    ada, bob = peers_in_order("ada", "bob")
    post = Post(ada, addresses=known(bob, relay_endpoint(bob.id)))
    assert dials(post.start() + post.wake(600.0)) == []
    effects = post.handle(RelayChanged(True))
    effects += post.wake(601.0)
    assert dials(effects) == [relay_endpoint(bob.id)]
    post.handle(DialFailed(1, "nobody listens there", "nobody"))
    post.handle(RelayChanged(False))
    assert dials(post.wake(900.0)) == []


def test_a_relayed_endpoint_that_a_user_named_is_pinned_and_dialled_at_once() -> None:
    ada, bob = peers_in_order("ada", "bob")
    post = Post(ada)
    assert dials(post.handle(Connect(relay_endpoint(bob.id)))) == [relay_endpoint(bob.id)]
    assert post.links.book.get(bob.id, relay_endpoint(bob.id)) is not None
    (change,) = (e for e in post.handle(Connect(relay_endpoint(ada.id))) if isinstance(e, LinkChanged))
    assert (change.state, change.code) == ("refused", "self")


def test_a_told_relayed_endpoint_is_dialled_and_not_looked_up() -> None:
    ada, bob = (Post(key) for key in peers_in_order("ada", "bob"))
    ada.handle(RelayChanged(True))
    meeting = Meeting(ada, bob)
    cyd = Key("cyd")
    link = meeting.connect(bob)
    effects = ada.got(link, told(record_of(cyd, relay_endpoint(cyd.id)))) + ada.wake(5.0)
    assert dials(effects) == [relay_endpoint(cyd.id)]
    assert not any(isinstance(effect, Resolve) for effect in effects)


@pytest.mark.parametrize("dialler", [0, 1])
def test_a_direct_link_takes_the_place_of_a_relayed_one_without_a_word_to_people(dialler: int) -> None:
    posts = [Post(key) for key in peers_in_order("ada", "bob")]
    one, two = posts[dialler], posts[1 - dialler]
    meeting = Meeting(one, two)
    one.handle(RelayChanged(True))
    meeting.connect(one, relayed(two), host=RELAY_HOST)
    meeting.wake(20.0)
    assert hosts(one) == hosts(two) == [RELAY_HOST]
    for post in posts:
        meeting.take(post)
    for _ in range(5):  # a copied key would be suspected the third time
        (dial,) = (effect for effect in one.handle(Connect(DIRECT, two.key.id)) if isinstance(effect, Dial))
        meeting.reach(one, dial, host="198.51.100.7")
        assert hosts(one) == hosts(two) == ["198.51.100.7"]
        for post in posts:
            assert ("up", "") not in link_changes(meeting.take(post))[1:]
        assert dials(one.wake(one.ctx.now.mono + 1.0)) == []  # nothing is better than a direct link
        two.at(one.ctx.now.mono)
        link = one.links.by_peer[two.key.id].id
        meeting.carry(one, one.handle(LinkDown(link, "lost")))
        meeting.carry(two, two.handle(LinkDown(link, "lost")))
        (again,) = (effect for effect in one.handle(Connect(relayed(two))) if isinstance(effect, Dial))
        meeting.reach(one, again, host=RELAY_HOST)
        for post in posts:
            meeting.take(post)
            post.at(post.ctx.now.mono + 2.0)  # two links that cross are closer to each other


def test_while_the_link_is_relayed_direct_addresses_are_dialled_and_their_failures_not_told() -> None:
    ada, bob = (Post(key) for key in peers_in_order("ada", "bob"))
    meeting = Meeting(ada, bob)
    ada.handle(RelayChanged(True))
    ada.handle(Connect(DIRECT, bob.key.id))
    ada.handle(DialFailed(1, "no answer", "no_answer"))
    meeting.connect(ada, relayed(bob), host=RELAY_HOST)
    assert hosts(ada) == [RELAY_HOST]
    meeting.take(ada)
    effects = ada.wake(2.0)
    assert dials(effects) == [DIRECT]
    (dial,) = (effect for effect in effects if isinstance(effect, Dial))
    assert not any(isinstance(e, LinkChanged) for e in ada.handle(DialFailed(dial.dial, "no answer", "no_answer")))
    effects = ada.wake(10.0)
    again = next(effect for effect in effects if isinstance(effect, Dial))
    assert again.endpoint == DIRECT
    bob.at(10.0)
    meeting.reach(ada, again, host="198.51.100.7")
    assert hosts(ada) == hosts(bob) == ["198.51.100.7"]
    assert not any(isinstance(effect, Send) and effect.links == [1] for effect in ada.wake(11.0))
