"""What a typed name of a group means."""

from __future__ import annotations

import pytest

from p2pchat.core.groups.group import GroupView
from p2pchat.errors import AmbiguousName, UnknownName
from p2pchat.identity.names import suffix
from p2pchat.messaging.groups import GroupDirectory
from p2pchat.messaging.users import id_of

OPS, OTHER = "ab" * 32, "cd" * 32
ADA = "11" * 32


def book(**names: str) -> GroupDirectory:
    """A book of groups, by the id of their talks."""
    groups = {
        talk[::-1]: GroupView(talk[::-1], talk, name, ADA, 1, {ADA: 1}, frozenset()) for talk, name in names.items()
    }
    made = GroupDirectory(lambda: groups)
    made.load()
    return made


def test_a_group_is_found_by_its_name_however_it_is_typed() -> None:
    known = book(**{OPS: "Ops"})
    assert [known.find(text) for text in ("#Ops", "ops", " #OPS ", f"#ops#{suffix(OPS)}")] == [OPS] * 4


def test_two_groups_of_one_name_are_told_apart_by_their_ids() -> None:
    known = book(**{OPS: "ops", OTHER: "Ops"})
    with pytest.raises(AmbiguousName) as caught:
        known.find("#ops")
    assert caught.value.candidates == sorted([f"#ops#{suffix(OPS)}", f"#Ops#{suffix(OTHER)}"])
    assert known.find(f"#ops#{suffix(OTHER)}") == OTHER
    assert known.same_name(OPS) and known.same_name(OTHER)


def test_what_only_looks_like_a_group_is_none() -> None:
    known = book(**{OPS: "ops"})
    with pytest.raises(UnknownName, match="groups here are #ops"):
        known.find("#0ps")
    with pytest.raises(UnknownName, match="there are no groups here yet"):
        book().find("#ops")


def test_a_group_that_is_renamed_is_found_by_its_new_name_alone() -> None:
    known = book(**{OPS: "ops", OTHER: "Ops"})
    known.learn(OPS, "deploys")
    assert (known.find("deploys"), known.find("ops")) == (OPS, OTHER)
    assert not known.same_name(OPS) and not known.same_name(OTHER)


@pytest.mark.parametrize(
    "text, id",
    [
        ("A" * 52, "00" * 32),
        ("a" * 52, "00" * 32),
        ("A" * 51 + "B", ""),  # bits beyond the 32 bytes
        ("A" * 51, ""),
        ("1" * 52, ""),
        ("\u00e4" * 52, ""),
    ],
)
def test_who_was_never_met_is_named_by_the_full_id(text: str, id: str) -> None:
    assert id_of(text) == id
