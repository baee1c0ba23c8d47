"""Labels, and what typed names mean."""

from __future__ import annotations

import tracemalloc

import pytest

from p2pchat import AmbiguousName, TCPPeer, UnknownName, Warned
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.names import base32, suffix
from p2pchat.messaging.conversations import GroupDirectory
from p2pchat.messaging.users import MIN_SWEEP, UserDirectory, UserFacts, id_of, is_misspelling
from p2pchat.testing import Mesh
from tests.messaging.texts import texts

ADA, BOB = "a1" * 32, "b0" * 32
OPS, OTHER = "ab" * 32, "cd" * 32


async def test_names_as_typed(net: Mesh) -> None:
    ada, bob, _ = net.peers
    dm = ada.find("bob")
    suffix = bob.me.id[:8]
    for typed in ("@bob", " bob ", "Bob", f"bob#{suffix}", f"bob#{suffix.lower()}", bob.me.id, dm.id):
        assert ada.find(typed) == dm
    assert ada.find("room") == ada.find("#room") == ada.room
    assert ada.find(ada.directory.find("bob")) == dm
    assert (dm.kind, dm.name, dm.user) == ("dm", "bob", bob.me)
    assert f"{bob.me}, {dm}" == "bob, bob"
    for nobody in ("dave", "bob#AAAAAAAA", "#ops", "b0b", "bob#" + suffix[:4]):
        with pytest.raises(UnknownName):
            ada.find(nobody)
    with pytest.raises(TypeError):
        ada.find(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("bbo", "bob"), ("bobb", "bob"), ("@Bo", "bob"), ("bxb", "bob"), ("b0b", "bob"), ("adad", "ada"), ("cyd1", None)],
)
async def test_a_name_one_letter_away_from_a_known_one_is_suggested(net: Mesh, typed: str, meant: str | None) -> None:
    with pytest.raises(UnknownName) as caught:
        net.peers[2].find(typed)
    hint = f"did you mean {meant}?" if meant else "known are ada, bob"
    assert str(caught.value) == f"nobody here is called '{typed}'; {hint}"


async def test_names_are_listed_in_quotes_if_they_have_blanks_and_with_how_many_more(net: Mesh) -> None:
    await net.add("Anna Maria")
    await net.settle()
    with pytest.raises(UnknownName, match=r'known are ada, "Anna Maria", bob$'):
        net.peers[2].find("zoe")
    with pytest.raises(UnknownName, match='did you mean "Anna Maria"'):
        net.peers[2].find("Ana Maria")
    net.peers[2]._lifecycle.directory.learn([(f"{number:064x}", f"user{number}") for number in range(7)])
    with pytest.raises(UnknownName, match=r"user4 and 2 more$"):
        net.peers[2].find("zoe")


@pytest.mark.parametrize(
    ("one", "other"), [("user1", "user2"), ("A", "B"), ("al", "bo"), ("bob", "bobby"), ("ab", "ba")]
)
def test_names_that_differ_on_purpose_are_no_misspellings(one: str, other: str) -> None:
    assert not is_misspelling(one, other) and not is_misspelling(other, one)


async def test_two_users_with_one_name_are_distinguished_by_their_ids(net: Mesh) -> None:
    ada, bob, _ = net.peers
    other = await net.add("B0b")  # looks like bob
    await net.settle()
    with pytest.raises(AmbiguousName) as caught:
        await ada.send("bob", "which?")
    assert caught.value.candidates == sorted([f"bob#{bob.me.id[:8]}", f"B0b#{other.me.id[:8]}"])
    assert ada.find(f"bob#{bob.me.id[:8]}").name == f"bob#{bob.me.id[:8]}"
    await (await ada.send(f"b0b#{other.me.id[:8]}", "you")).delivered(timeout=60)
    assert await texts(other, "ada") == ["you"]


async def test_a_user_called_room_is_shown_with_the_id(net: Mesh) -> None:
    ada, bob, _ = net.peers
    with pytest.raises(ValueError, match="everybody"):
        await bob.rename("Room")
    with pytest.raises(ValueError, match="everybody"):
        TCPPeer(0, name="r00m")
    bob.directory.learn([(ada.me.key, "room")])  # as a peer of another implementation may tell
    assert ada.me.label == "ada"
    assert bob.directory.user(ada.me.key).label == f"room#{ada.me.id[:8]}"
    assert bob.find("room") == bob.room
    assert bob.find(f"room#{ada.me.id[:8]}").user == ada.me


def test_former_names_leave_nothing_in_memory() -> None:
    people = UserDirectory(ADA, UserFacts())
    people.learn([(ADA, "ada"), (BOB, "bob")])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            people.learn([(BOB, f"bob {number}")])
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    people.learn([(BOB, "ada")])
    assert (people.label(ADA), people.label(BOB)) == ("ada#UGQ2DINB", "ada#WCYLBMFQ")
    people.learn([(BOB, "bob")])
    assert (people.label(ADA), people.find("bob").key) == ("ada", BOB)


def test_users_and_groups_whose_ids_begin_alike_have_other_labels_and_can_be_typed() -> None:
    """A label of 40 bits is shown, and many places take equal labels for one user: hours of work make such a key."""
    near = BOB[:10] + "7" * 54
    people = UserDirectory(ADA, UserFacts())
    people.learn([(BOB, "bob"), (near, "bob")])
    assert [people.label(id) for id in (BOB, near)] == [f"bob#{base32(id)}" for id in (BOB, near)]
    with pytest.raises(AmbiguousName) as caught:
        people.find(f"bob#{suffix(BOB)}")
    assert [people.find(text).key for text in caught.value.candidates] == sorted((BOB, near), key=base32)
    people.forget(near)
    assert people.label(BOB) == "bob"
    like = OPS[:10] + "7" * 54
    known = directory(**{OPS: "ops", like: "ops"})
    with pytest.raises(AmbiguousName) as caught:
        known.find(f"#ops#{suffix(OPS)}")
    assert [known.find(text) for text in caught.value.candidates] == sorted((OPS, like), key=base32)


async def test_of_equal_names_the_one_is_meant_to_whom_the_user_wrote(net: Mesh) -> None:
    """A member that took the name of another stopped every script that wrote to it by that name."""
    ada, bob, cyd = net.peers
    await ada.send("bob", "hello")
    await net.settle()
    warned = ada.events(Warned)
    await cyd.rename("bob")
    await net.settle()
    assert ada.directory.label(cyd.me.key).startswith("bob#")
    assert ada.find("bob").user == bob.me
    assert (await anext(warned)).text.endswith("; the name alone means the one that you know")
    with pytest.raises(AmbiguousName):
        bob.find("bob")
    await ada.send(f"bob#{cyd.me.id[:8]}", "and to you")
    with pytest.raises(AmbiguousName):
        ada.find("bob")


def view(talk: str, name: str) -> GroupView:
    return GroupView(talk[::-1], talk, name, ADA, {ADA: 1}, frozenset())


def directory(**names: str) -> GroupDirectory:
    """A directory of groups, by the id of their messages."""
    groups = {talk[::-1]: view(talk, name) for talk, name in names.items()}
    made = GroupDirectory(lambda: groups)
    made.load()
    return made


def test_a_group_is_found_by_its_name_however_it_is_typed() -> None:
    known = directory(**{OPS: "Ops"})
    assert [known.find(text) for text in ("#Ops", "ops", " #OPS ", f"#ops#{suffix(OPS)}")] == [OPS] * 4


def test_a_group_is_listed_when_it_can_be_found() -> None:
    """Its operation came, and is not stored yet: the name is told afterwards."""
    groups = {OPS[::-1]: view(OPS, "ops")}
    known = GroupDirectory(lambda: groups)
    assert known.all() == []
    known.learn(OPS, "ops")
    assert known.all() == [groups[OPS[::-1]]] and known.find("ops") == OPS


def test_a_name_of_two_groups_is_ambiguous_without_an_id() -> None:
    known = directory(**{OPS: "ops", OTHER: "Ops"})
    with pytest.raises(AmbiguousName) as caught:
        known.find("#ops")
    assert caught.value.candidates == sorted([f"#ops#{suffix(OPS)}", f"#Ops#{suffix(OTHER)}"])
    assert known.find(f"#ops#{suffix(OTHER)}") == OTHER
    assert known.same_name(OPS) and known.same_name(OTHER)


def test_a_name_that_only_looks_like_a_group_is_unknown() -> None:
    known = directory(**{OPS: "ops"})
    with pytest.raises(UnknownName, match="groups here are #ops"):
        known.find("#0ps")
    with pytest.raises(UnknownName, match='groups here are #"night shift"'):
        directory(**{OPS: "night shift"}).find("#ops")
    with pytest.raises(UnknownName, match="there are no groups here yet"):
        directory().find("#ops")


def test_a_renamed_group_is_found_by_its_new_name_only() -> None:
    known = directory(**{OPS: "ops", OTHER: "Ops"})
    known.learn(OPS, "deploys")
    assert (known.find("deploys"), known.find("ops")) == (OPS, OTHER)
    assert not known.same_name(OPS) and not known.same_name(OTHER)


@pytest.mark.parametrize(
    "text, id",
    [
        ("A" * 52, "00" * 32),
        ("a" * 52, "00" * 32),
        ("A" * 30 + "\n  " + "A" * 22 + "\r\n", "00" * 32),  # broken by mail
        ("A" * 51 + "B", ""),  # bits are set beyond the 32 bytes
        ("A" * 51, ""),
        ("1" * 52, ""),
        ("\u00e4" * 52, ""),
    ],
)
def test_a_user_never_met_is_named_by_the_full_id(text: str, id: str) -> None:
    assert id_of(text) == id


def people_of(**users: str) -> UserDirectory:
    people = UserDirectory(ADA, UserFacts())
    people.learn((id, name) for name, id in users.items())
    return people


def test_a_forgotten_user_leaves_nothing_behind() -> None:
    people = people_of(bob=BOB)
    assert people.find("bob") == people.user(BOB)
    people.forget(BOB)
    people.forget(BOB)
    assert (people.name(BOB), set(people.alike("bob")), BOB in people.known) == ("", set(), False)
    with pytest.raises(UnknownName):
        people.find("bob")


def test_user_objects_of_forgotten_users_are_dropped_in_time() -> None:
    people = people_of(bob=BOB)
    bob = people.user(BOB)
    for number in range(10 * MIN_SWEEP):
        people.user(f"{number:064x}")
    assert len(people._users) <= MIN_SWEEP and people.user(BOB) is bob
