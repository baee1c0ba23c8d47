"""Plans of statements: what somebody says to expel, to take that back, and to make admins."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.removal import Plan, make_statements, plan_pardon, plan_removal
from p2pchat.protocol import UserId
from tests.core.members.test_member_list import ADA, BEN, CAT, FOUNDER, NETWORK, ZOE, Author, list_of


def carried_out(members: MemberList, signer: UserId, plans: Sequence[Plan]) -> None:
    """Add the statements of a plan."""
    at = len(members.statements())
    members.add(make_statements(NETWORK, signer, lambda data: bytes(64), at, plans))


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
    carried_out(members, FOUNDER, plan_removal(members, FOUNDER, [ADA]))
    assert members.members == {FOUNDER, BEN, ZOE} and members.removed == {ADA, CAT}


@pytest.mark.parametrize(("pardoned", "other"), [(ADA, CAT), (CAT, ADA)])
def test_a_pardon_is_of_one_of_those_whom_a_statement_removed(
    members: MemberList, pardoned: UserId, other: UserId
) -> None:
    carried_out(members, FOUNDER, plan_removal(members, FOUNDER, [ADA], hide=True))
    carried_out(members, FOUNDER, plan_pardon(members, FOUNDER, [pardoned]))
    assert members.members == {FOUNDER, BEN, ZOE, pardoned} and members.removed == {other}
    assert [one.hide for one in members.removals(other)] == [True]
    carried_out(members, FOUNDER, plan_pardon(members, FOUNDER, [other]))
    assert members.members == {FOUNDER, ADA, BEN, CAT, ZOE} and not members.removed and not members.admins


def test_an_admin_takes_back_its_own_removals_alone(members: MemberList) -> None:
    carried_out(members, FOUNDER, plan_removal(members, FOUNDER, [ZOE]))
    with pytest.raises(ValueError, match="ask the founder"):
        plan_pardon(members, ADA, [ZOE])
    carried_out(members, ADA, plan_pardon(members, ADA, [CAT]))
    assert members.removed == {ZOE}
    with pytest.raises(ValueError, match="nobody has expelled"):
        plan_pardon(members, ADA, [CAT])
