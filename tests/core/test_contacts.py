"""Contacts: who becomes known by what is done here, and who stays known after a restart."""

from __future__ import annotations

from p2pchat.core.contacts import CONTACT
from p2pchat.core.inputs import CommitFailed, GroupChangeRequest, GroupCreateRequest, Loaded, QuotaLifted
from p2pchat.storage.memory import MemoryStorage
from tests.core.scripted_nodes import IDS, Author, Peer, World, dm


def contacts(peer: Peer) -> set[str]:
    return {name for name, id in IDS.items() if id in peer.node.contacts}


def test_who_is_written_to_is_a_contact_and_stays_one() -> None:
    ada = World().peer("ada")
    far = ada.far("bob")
    link = ada.node.links.by_peer[IDS["bob"]].id
    far.say(Author("bob", "b1", dm("ada", "bob")).say("hello"))
    assert (contacts(ada), ada.node.is_known(link)) == (set(), False)
    ada.say("hello bob", to=ada.open("bob"))
    assert (contacts(ada), ada.node.is_known(link)) == ({"ada", "bob"}, True)
    ada.restart()
    assert contacts(ada) == {"ada", "bob"}
    ada.far("bob")
    assert ada.node.is_known(ada.node.links.by_peer[IDS["bob"]].id)


def test_who_writes_to_the_room_or_is_read_there_is_none() -> None:
    ada = World().peer("ada")
    ada.far("bob").say(Author("bob", "b1").say("hello"))
    ada.say("hello all")
    assert contacts(ada) == set()


def test_a_conversation_that_was_only_opened_makes_no_contact() -> None:
    ada = World().peer("ada")
    ada.open("bob")
    assert contacts(ada) == set()


def test_members_of_an_own_group_are_contacts_and_stay_so() -> None:
    ada = World().peer("ada")
    ada.put(GroupCreateRequest(1, IDS["ada"], "ops", (IDS["bob"],)))
    ada.take()
    (group,) = ada.node.groups
    ada.put(GroupChangeRequest(2, IDS["ada"], group, add=(IDS["cyd"],)))
    ada.take()
    assert contacts(ada) == {"bob", "cyd"}
    ada.restart()
    assert contacts(ada) == {"bob", "cyd"}


def test_a_lifted_limit_makes_a_contact() -> None:
    ada = World().peer("ada")
    ada.put(QuotaLifted(IDS["bob"]))
    ada.take()
    ada.restart()
    assert contacts(ada) == {"bob"}


def test_the_peer_at_an_endpoint_that_a_user_named_is_a_contact_but_not_the_one_that_dialled() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.take()
    bob.take()
    assert (contacts(ada), contacts(bob)) == ({"bob"}, set())
    ada.restart()
    assert contacts(ada) == {"bob"}


def test_contacts_survive_a_failure_of_storage_that_lost_them() -> None:
    ada = World().peer("ada")
    ada.put(QuotaLifted(IDS["bob"]))
    ada.put(CommitFailed(0, "disk"))
    ada.storage = MemoryStorage()
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert ada.storage.meta().get(CONTACT + IDS["bob"]) == "1"
