"""Conversations that unknown users begin: their places, who gives way, and that they never close the door."""

from __future__ import annotations

from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.conversations import dm_naming
from p2pchat.core.sync.requests import REQUEST
from p2pchat.protocol import Have, Here, Hosted
from tests.core.scripted_nodes import IDENTITIES, IDS, START, Author, Far, Peer, World, dm, have


def gateway(ada: Peer, name: str, *users: str) -> Far:
    """Link with a peer that hosts further users."""
    far = ada.far(name)
    certs = [make_cert(IDS[user], IDENTITIES[user].sign, IDS[name], START // 1000) for user in users]
    hosted = [Hosted(IDS[user], user, "online", cert=cert) for user, cert in zip(users, certs, strict=True)]
    far.say(Here(hosted))
    return far


def author(name: str) -> Author:
    return Author(name, name[0] + "1", dm("ada", name))


def mention(far: Far, *names: str) -> None:
    """Let a peer mention conversations of which nothing is stored here."""
    for name in names:
        pen = author(name)
        pen.say("never sent")
        far.say(have(pen))


def writes(far: Far, *names: str) -> None:
    for name in names:
        far.say(author(name).say(f"I am {name}"))


def open_at(ada: Peer) -> list[str]:
    """Return who has a conversation with ada."""
    return [name for name in IDS if dm("ada", name) in ada.node.namings]


def test_unknown_users_of_one_peer_have_few_places_and_those_of_another_their_own() -> None:
    ada = World().peer("ada", max_requests_a_peer=2)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd", "dan", "eve")
    assert ada.texts() == ["I am cyd", "I am dan"]
    writes(ada.far("bob"), "bob")
    assert ada.texts()[-1] == "I am bob"


def test_no_conversation_of_an_unknown_user_counts_against_the_hosted_one() -> None:
    ada = World().peer("ada", max_conversations_a_user=2, max_requests_a_peer=3)
    writes(gateway(ada, "eve", "cyd", "dan"), "cyd", "dan", "eve")
    writes(ada.far("bob"), "bob")
    assert len(ada.texts()) == 4


def test_a_conversation_without_a_place_is_opened_when_it_is_mentioned_and_there_is_one() -> None:
    ada = World().peer("ada", max_requests_a_peer=2)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd", "dan")
    pen = author("eve")
    frame = pen.say("I am eve")
    eve.say(frame)
    assert open_at(ada) == ["cyd", "dan"]
    ada.say("who are you?", to=dm("ada", "cyd"))
    frame.names = []  # a peer names a conversation once on each link
    eve.say(frame)
    assert ada.texts()[-1] == "I am eve"


def test_the_newest_conversation_of_the_fullest_peer_gives_way_and_is_named_no_more() -> None:
    ada = World().peer("ada", max_requests=2)
    mention(gateway(ada, "eve", "cyd"), "cyd", "eve")
    assert open_at(ada) == ["cyd", "eve"]
    writes(ada.far("bob"), "bob")
    assert (open_at(ada), ada.texts()) == (["bob", "cyd"], ["I am bob"])
    writes(ada.far("dan"), "dan")  # all have one now
    assert open_at(ada) == ["bob", "cyd"]


def test_what_was_stored_keeps_its_place_through_a_restart() -> None:
    first = World().peer("ada", max_requests_a_peer=2)
    writes(gateway(first, "eve", "cyd", "dan"), "cyd", "dan")
    ada = World().peer("ada", first.storage, max_requests_a_peer=2)
    writes(gateway(ada, "eve", "cyd", "dan"), "eve")
    assert open_at(ada) == ["cyd", "dan"]
    writes(ada.far("bob"), "bob")
    assert open_at(ada) == ["bob", "cyd", "dan"]


def test_what_was_stored_before_there_were_places_closes_nothing() -> None:
    first = World().peer("ada")
    writes(gateway(first, "eve", "cyd", "dan"), "cyd", "dan", "eve")
    for name in ("cyd", "dan", "eve"):
        del first.storage._tables.meta[REQUEST + dm("ada", name)]
    ada = World().peer("ada", first.storage, max_conversations_a_user=1, max_requests=1)
    writes(ada.far("bob"), "bob")
    assert ada.texts()[-1] == "I am bob"


def test_peers_that_are_gone_hold_no_place_against_one_that_is_here() -> None:
    ada = World().peer("ada", max_requests=2)
    eve, dan = ada.far("eve"), ada.far("dan")
    writes(eve, "eve")
    writes(dan, "dan")
    cyd = ada.far("cyd")
    writes(cyd, "cyd")
    assert "cyd" not in open_at(ada)
    ada.drop(eve)
    writes(cyd, "cyd")
    assert ada.texts()[-1] == "I am cyd"


def test_who_is_written_to_needs_no_place() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    eve = gateway(ada, "eve", "cyd", "dan")
    writes(eve, "cyd")
    ada.say("hello", to=dm("ada", "cyd"))
    assert ada.storage.meta()[REQUEST + dm("ada", "cyd")] == ""
    writes(eve, "dan")
    assert ada.texts()[-1] == "I am dan"


def test_an_own_entry_that_comes_back_makes_a_contact() -> None:
    ada = World().peer("ada", max_requests_a_peer=1)
    bob = ada.far("bob")
    bob.say(Author("ada", "c1", dm("ada", "bob")).say("written before the disk was lost"))
    assert IDS["bob"] in ada.node.contacts


def test_a_name_without_a_place_is_remembered_for_some_conversations() -> None:
    ada = World().peer("ada", max_requests_a_peer=0)
    far = ada.far("eve")
    far.say(Have({}, names=[dm_naming(IDS["ada"], IDS["eve"])]))
    assert open_at(ada) == [] and ada.counted["conversation_refused"] == 1
