"""Contacts: who becomes known by what is done here, and who stays known after a restart."""

from __future__ import annotations

import pytest

from p2pchat.core.contacts import CONTACT
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import (
    CommitFailed,
    ConversationOpened,
    DiskLow,
    GroupChangeRequest,
    GroupCreateRequest,
    Loaded,
    QuotaLifted,
    UserHosted,
    WriteRequest,
)
from p2pchat.core.node_context import HostedIdentity
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.scripted_nodes import IDENTITIES, IDS, NAMINGS, Author, Peer, World, dm, have


def contacts(peer: Peer) -> set[str]:
    return {name for name, id in IDS.items() if id in peer.node.contacts}


def test_who_is_written_to_is_a_contact_and_stays_one(ada: Peer) -> None:
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


def test_who_writes_to_the_room_or_is_read_there_is_none(ada: Peer) -> None:
    ada.far("bob").say(Author("bob", "b1").say("hello"))
    ada.say("hello all")
    assert contacts(ada) == set()


def test_a_conversation_that_was_only_opened_makes_no_contact(ada: Peer) -> None:
    ada.open("bob")
    assert contacts(ada) == set()


def test_members_of_an_own_group_are_contacts_and_stay_so(ada: Peer) -> None:
    ada.put(GroupCreateRequest(1, IDS["ada"], "ops", (IDS["bob"],)))
    ada.take()
    (group,) = ada.node.groups
    ada.put(GroupChangeRequest(2, IDS["ada"], group, add=(IDS["cyd"],)))
    ada.take()
    assert contacts(ada) == {"bob", "cyd"}
    ada.restart()
    assert contacts(ada) == {"bob", "cyd"}


def test_a_lifted_limit_makes_a_contact(ada: Peer) -> None:
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


def test_contacts_survive_a_failure_of_storage_that_lost_them(ada: Peer) -> None:
    ada.put(QuotaLifted(IDS["bob"]))
    ada.put(CommitFailed(0, "disk"))
    ada.storage = TemporaryStorage()
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert ada.storage.meta().get(CONTACT + IDS["bob"]) == "1"


# ---- accounts


def with_account(storage: TemporaryStorage | None = None, **settings: float) -> Peer:
    """Return ada's peer, on which dan has an account, as anybody could."""
    ada = World().peer("ada", storage, **settings)
    ada.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    ada.take()
    return ada


def account_writes(ada: Peer, to: str) -> None:
    ada.put(ConversationOpened(NAMINGS[dm("dan", to)]))
    ada.put(WriteRequest(7, IDS["dan"], dm("dan", to), "text", ["hello"]))
    ada.take()


def account_groups(ada: Peer, to: str) -> None:
    ada.put(GroupCreateRequest(8, IDS["dan"], "ops", (IDS[to],)))
    ada.take()


CHOICES = {"writes": account_writes, "makes a group": account_groups}


@pytest.mark.parametrize("choice", CHOICES)
def test_whom_an_account_chooses_is_known_to_it_alone(choice: str) -> None:
    """Before: with open sign-up anybody made any key a contact of the peer: with links, turns and disk space of one."""
    ada = with_account(member_bytes=1_000)
    far = ada.far("bob", host="10.0.1.9")
    CHOICES[choice](ada, "bob")
    link = ada.node.links.by_peer[IDS["bob"]]
    for storage in (None, ada.storage):
        ada = ada if storage is None else with_account(storage)
        assert ada.node.contacts.are_known(IDS["dan"], IDS["bob"])
        assert contacts(ada) == set() and not ada.node.contacts.are_known(IDS["cyd"], IDS["bob"])
    assert not link.known and IDS["bob"] in far.peer.node.links.places._others


@pytest.mark.parametrize("choice", CHOICES)
def test_whom_an_account_chooses_pays_for_bytes_and_yields_on_a_full_disk(choice: str) -> None:
    ada = with_account(member_bytes=1_000)
    far, bob = ada.far("bob", host="10.0.1.9"), Author("bob", "b1")
    CHOICES[choice](ada, "bob")
    assert "warn full" in far.say(bob.say("x" * 2_000))
    ada.put(DiskLow(DiskLevel.OWN_ONLY))
    ada.take()
    assert not any("commit b1" in line for line in far.say(Author("bob", "b2").say("x")))


@pytest.mark.parametrize("choice", CHOICES)
def test_whom_an_account_chooses_needs_no_place_there_and_one_elsewhere(choice: str) -> None:
    first = with_account()
    CHOICES[choice](first, "bob")
    ada = with_account(first.storage, max_unanswered=0)
    far = ada.far("bob")
    for user, pen in (("dan", Author("bob", "d1", dm("bob", "dan"))), ("ada", Author("bob", "a1", dm("ada", "bob")))):
        pen.say("never sent")
        far.say(have(pen))
        assert (dm("bob", user) in ada.node.replicator.conversations) is (user == "dan")


def test_a_contact_of_the_peer_s_own_user_is_known_to_its_accounts_too() -> None:
    ada = with_account()
    ada.say("hello bob", to=ada.open("bob"))
    assert ada.node.contacts.are_known(IDS["dan"], IDS["bob"])


def test_a_name_that_an_account_chose_outlives_its_link() -> None:
    ada = with_account()
    far = ada.far("bob")
    account_writes(ada, "bob")
    assert ada.node.names[IDS["bob"]] == "bob"
    ada.drop(far)
    ada.world.pass_time(30.0)
    assert ada.node.names[IDS["bob"]] == "bob"
