"""Plans of statements: what somebody says to expel, to take that back, and to make admins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from p2pchat.core.members import member_list
from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.removal import Plan, make_statements, plan_pardon, plan_removal
from p2pchat.core.members.statement import MAX_KEPT
from p2pchat.protocol import UserId
from tests.core.members.test_member_list import ADA, BEN, CAT, FOUNDER, NETWORK, ZOE, Author, key, list_of


def carried_out(members: MemberList, signer: UserId, plans: Sequence[Plan]) -> None:
    """Add the statements of a plan."""
    at = len(members.statements())
    members.add(make_statements(NETWORK, signer, lambda data: bytes(64), at, plans))


def removal(members: MemberList, signer: UserId, *who: UserId, **options: Any) -> list[Plan]:
    return plan_removal(members, signer, who, lambda user: bool(members.against(user, ())), **options)


def pardon(members: MemberList, signer: UserId, who: UserId) -> list[Plan]:
    return plan_pardon(members, signer, [who], members.removals(who))


@pytest.fixture
def members() -> MemberList:
    """ada is an admin, who added ben and removed cat; zoe is a member."""
    author = Author()
    for by, kind, who in (
        (FOUNDER, "add", ADA), (FOUNDER, "add", CAT), (FOUNDER, "add", ZOE), (FOUNDER, "admin", ADA),
        (ADA, "add", BEN), (ADA, "remove", CAT),
    ):  # fmt: skip
        author.say(by, kind, who)
    return list_of(author.said)


def test_an_expelled_admin_leaves_whom_it_added_and_removed_as_they_were(members: MemberList) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.members == {FOUNDER, BEN, ZOE} and members.removed == {ADA, CAT}


@pytest.mark.parametrize(("pardoned", "other"), [(ADA, CAT), (CAT, ADA)])
def test_a_pardon_is_of_one_of_those_whom_a_statement_removed(
    members: MemberList, pardoned: UserId, other: UserId
) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA, hide=True))
    carried_out(members, FOUNDER, pardon(members, FOUNDER, pardoned))
    assert members.members == {FOUNDER, BEN, ZOE, pardoned} and members.removed == {other}
    assert members.removals(other)[-1].hide == (other == ADA)  # each as it was
    carried_out(members, FOUNDER, pardon(members, FOUNDER, other))
    assert members.members == {FOUNDER, ADA, BEN, CAT, ZOE} and not members.removed and not members.admins


def test_an_admin_takes_back_its_own_removals_alone(members: MemberList) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ZOE))
    with pytest.raises(ValueError, match="ask the founder"):
        pardon(members, ADA, ZOE)
    carried_out(members, ADA, pardon(members, ADA, CAT))
    assert members.removed == {ZOE}
    with pytest.raises(ValueError, match="nobody has expelled"):
        pardon(members, ADA, CAT)


def test_what_an_expelled_admin_had_added_is_listed_as_added_by_it(members: MemberList) -> None:
    """A spare of its own stays, as everybody does whom it had added; and nobody takes it for one of the founder's."""
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    said = members.addition(BEN)
    assert said is not None and (said.kind, said.who[0]) == ("remove", ADA)
    carried_out(members, FOUNDER, pardon(members, FOUNDER, ADA))
    assert members.addition(BEN) == said and BEN in members.members


def test_more_than_a_statement_keeps_are_listed_as_added_by_the_former_admin(members: MemberList) -> None:
    many = [key(f"user {number}") for number in range(MAX_KEPT + 20)]
    carried_out(members, ADA, [("add", {"who": [user]}) for user in many])
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.members >= {*many, BEN}
    assert {said.of or said.who[0] for user in many if (said := members.addition(user))} == {ADA}


def test_nobody_is_in_or_out_for_a_moment_while_an_admin_goes(members: MemberList) -> None:
    """Others take a plan in parts, each in a frame."""
    carried_out(members, ADA, [("add", {"who": [key(f"user {number}")]}) for number in range(MAX_KEPT + 20)])
    was_in, was_out = members.members - {ADA}, {*members.removed}
    for plan in removal(members, FOUNDER, ADA):
        carried_out(members, FOUNDER, [plan])
        assert members.members >= was_in and members.removed >= was_out


def test_a_former_admin_s_word_has_not_more_effect_after_it_goes_than_before(members: MemberList) -> None:
    """It removed another admin, and the founder's own profiles: the founder's word would put them out."""
    carried_out(members, FOUNDER, [("admin", {"who": [ZOE]})])
    carried_out(members, ADA, [("remove", {"who": [ZOE, key("profile")]})])
    is_out = {ZOE: (ZOE,), key("profile"): (FOUNDER,)}
    plans = plan_removal(members, FOUNDER, [ADA], lambda user: bool(members.against(user, is_out.get(user, ()))))
    carried_out(members, FOUNDER, plans)
    assert ZOE in members.admins and members.admits(key("profile"), FOUNDER) and members.removed == {ADA, CAT}


def test_whom_an_admin_admitted_goes_with_it(members: MemberList) -> None:
    plans = removal(members, FOUNDER, BEN) + removal(members, FOUNDER, ADA, without=[BEN])
    carried_out(members, FOUNDER, plans)
    assert members.removed == {ADA, BEN, CAT} and members.members == {FOUNDER, ZOE}


def test_a_removal_closes_the_invites_by_which_its_people_came(members: MemberList) -> None:
    carried_out(
        members, ADA, [("add", {"who": [key("dan")], "invite": "0a0b0c0d"}), ("close", {"invites": ["01020304"]})]
    )
    assert members.closing("0a0b0c0d") is None
    carried_out(members, FOUNDER, removal(members, FOUNDER, key("dan")))
    assert members.closing("0a0b0c0d") is not None
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.closing("01020304") is not None  # what a former admin closed stays closed
    carried_out(members, FOUNDER, pardon(members, FOUNDER, key("dan")))
    assert members.closing("0a0b0c0d") is None


def test_what_does_not_fit_is_known_before_it_is_said(members: MemberList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", 4000)
    many = [("add", {"who": [key(f"user {number}")]}) for number in range(13)]
    made = [*make_statements(NETWORK, ADA, lambda data: bytes(64), 100, many)]
    assert members.fits(made[:12]) and not members.fits(made)
    members.add(made)
    out = [*make_statements(NETWORK, ADA, lambda data: bytes(64), 200, removal(members, ADA, ZOE))]
    assert members.fits(out) and members.add(out).dropped == [] and ZOE in members.removed
