"""Places that members share: bounds of one and of all, and whose place a newcomer takes."""

from __future__ import annotations

from random import Random

import pytest

from p2pchat.core.members.member_shares import MemberShares


def fill(shares: MemberShares[str], member: str, *items: str) -> None:
    for item in items:
        shares.add(item, member)


def test_one_member_and_all_together_have_a_limit() -> None:
    shares: MemberShares[str] = MemberShares(most=3, each=2)
    fill(shares, "n", "a", "b", "b")
    assert (len(shares), shares.has_room("n"), shares.has_room("m")) == (2, False, True)
    fill(shares, "m", "c")
    assert not shares.has_room("m")


def test_what_is_removed_leaves_nothing() -> None:
    shares: MemberShares[str] = MemberShares(most=9)
    fill(shares, "n", "a", "b")
    for item in ("a", "a", "never"):
        shares.remove(item)
    assert (list(shares), dict(shares.taken)) == (["b"], {"n": 1})
    shares.remove("b")
    assert dict(shares.taken) == {} and len(shares) == 0


def test_the_newest_of_the_fullest_member_gives_way() -> None:
    shares: MemberShares[str] = MemberShares(most=4)
    fill(shares, "mallory", "m1", "m2")
    fill(shares, "honest", "a")
    fill(shares, "mallory", "m3")
    assert shares.giving_way("other") == "m3"
    assert shares.giving_way() == "m3"


def test_a_newcomer_takes_no_place_of_a_member_that_is_as_full() -> None:
    """If it did, the other one would come back in the same way, and so on for ever."""
    shares: MemberShares[str] = MemberShares(most=4)
    fill(shares, "n", "a", "b")
    fill(shares, "m", "c")
    assert shares.giving_way("m") is None
    assert shares.giving_way("n") is None
    fill(shares, "n", "d")
    assert shares.giving_way("x") == "d"


def test_where_nobody_is_nobody_gives_way() -> None:
    shares: MemberShares[str] = MemberShares(most=1)
    assert shares.giving_way("n") is None and shares.giving_way() is None


def test_room_is_made_when_all_is_full_and_not_when_the_own_member_is() -> None:
    shares: MemberShares[str] = MemberShares(most=5, each=3)
    fill(shares, "n", "a", "b", "c")
    assert not shares.make_room("n", shares.remove) and len(shares) == 3
    fill(shares, "m", "d", "e")
    assert shares.make_room("x", shares.remove) and list(shares) == ["a", "b", "d", "e"]
    fill(shares, "x", "f")
    assert not shares.make_room("x", shares.remove) and len(shares) == 5


@pytest.mark.parametrize("seed", range(20))
def test_all_honest_members_get_in_and_stay_in(seed: int) -> None:
    """One member holds all places; honest ones come; then those that gave way come back."""
    chance = Random(seed)
    shares: MemberShares[str] = MemberShares(most=192)
    fill(shares, "evil", *(f"m{number}" for number in range(192)))
    honest = [f"h{number}" for number in range(150)]
    for name in honest:
        member = f"member {chance.randrange(60)}"
        assert shares.make_room(member, shares.remove)
        fill(shares, member, name)
    for number in range(2000):
        if shares.make_room("evil", shares.remove):
            fill(shares, "evil", f"again {number}")
    assert [name for name in honest if name not in shares] == []
    assert len(shares) == 192
