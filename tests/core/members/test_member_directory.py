"""Which members answer for users: what they named in headers and on links, how much of that is
remembered, and whose place a newcomer takes where members share them.
"""

from __future__ import annotations

from random import Random
from time import process_time

import pytest

from p2pchat.core.effects import MemberChanged
from p2pchat.core.members import member_directory
from p2pchat.core.members.member_directory import MemberDirectory, MemberShares
from p2pchat.core.members.statement import make_statement
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.node_context import HostedIdentities, NetworkCredentials, NodeContext
from p2pchat.settings import Settings
from tests.core.members.test_member_list import ADA, BEN, FOUNDER, ZOE, key
from tests.core.members.test_statement_exchange import FOUNDER as FOUNDING
from tests.core.members.test_statement_exchange import NETWORK, USERS, Net, said
from tests.core.steps import count_steps


class NamingAll:
    """Statements that name everybody."""

    def is_named(self, user: str) -> bool:
        return True


def made() -> MemberDirectory:
    return MemberDirectory("0a" * 16, key("me"), FOUNDER, HostedIdentities([]), {}, NamingAll())  # type: ignore[arg-type]


def test_what_a_user_named_on_links_is_stored_once_it_writes() -> None:
    users = made()
    users.on_shown(ZOE, ADA)
    users.on_shown(ZOE, BEN)
    assert {*users.members_of(ZOE)} == {ADA, BEN}
    assert {*users.note(ZOE, BEN)} == {ADA, BEN} and users.note(ZOE, BEN) == ()
    users.load([(ZOE, ADA)], {})
    assert ADA in users.members_of(ZOE)


def test_a_user_that_names_many_members_costs_no_start_its_time() -> None:
    """With 30,000 it took 15 s, as each was looked for among all before it."""
    users, named = made(), [key(f"made up {number}") for number in range(30_000)]
    before = process_time()
    users.load([(ZOE, member) for member in named], {})
    assert process_time() - before < 2.0 and users.members_of(ZOE) == tuple(named)


def test_a_member_with_many_keys_displaces_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_directory, "MAX_REMEMBERED", 8)
    users = made()
    for name in ("first", "second", "third"):
        users.on_shown(key(name), ADA)
    for number in range(100):
        users.on_shown(key(f"{number} of many"), BEN)
    assert all(users.members_of(key(name)) == (ADA,) for name in ("first", "second", "third"))
    assert users.members_of(key("99 of many")) == (BEN,) and users.members_of(key("0 of many")) == ()


def test_since_when_somebody_is_out_is_found_at_once_however_often_it_was_removed() -> None:
    net = Net("ada")
    net.say("ada", said(FOUNDING, "add", USERS[0]))
    users, steps = net.peers["ada"].node.member_directory, []
    for number in (1, 400):
        for at in range(2, 2 + number):
            net.say("ada", make_statement(NETWORK, FOUNDING.peer_id, FOUNDING.sign, "remove", at, {"who": [USERS[0]]}))
        first = users.since(USERS[0])
        steps.append(count_steps(lambda: users.since(USERS[0])))
        assert first == 2
    assert steps[0] == steps[1] and users.is_out(USERS[0])
    net.say("ada", *(said(FOUNDING, "pardon", ids=[one.id]) for one in users.removals(USERS[0])))
    assert users.since(USERS[0]) is None and not users.is_out(USERS[0])


def test_a_key_that_nobody_added_has_no_places_of_its_own_though_it_was_removed() -> None:
    net = Net("ada")
    net.say("ada", said(FOUNDING, "add", USERS[0]), said(FOUNDING, "remove", *USERS[:2]))
    users = net.peers["ada"].node.member_directory
    founder = FOUNDING.peer_id
    assert [users.share(user) for user in (*USERS[:2], founder)] == [USERS[0], "", founder]


def test_users_count_with_their_member_and_own_ones_by_themselves() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    net.say("ada", said(FOUNDING, "add", *USERS[:2]))
    users = net.peers["bob"].node.member_directory
    users.on_shown(USERS[2], USERS[0])
    assert users.line(USERS[2]) == (USERS[0], USERS[2]) and users.line(USERS[1]) == (USERS[1], USERS[1])
    assert users.line(USERS[3]) == ("", USERS[3])
    users.on_shown(ZOE, FOUNDING.peer_id)
    assert users.line(ZOE) == (ZOE,)


def test_users_count_with_their_member_before_anybody_told_who_founded_the_network() -> None:
    ctx = NodeContext(Settings(), key("me"), lambda size: bytes(size))
    exchange = StatementExchange(ctx, NetworkCredentials("0a" * 16, "0b" * 32))
    users = MemberDirectory("0a" * 16, key("me"), FOUNDER, HostedIdentities([]), {}, exchange)
    assert exchange.members is None and users.line(ZOE, ADA) == (ADA, ZOE)


def test_who_is_out_does_not_speak_for_the_member_that_expelled_it() -> None:
    net = Net("ada")
    users = net.peers["ada"].node.member_directory
    admin, left, stays = USERS[:3]
    net.say("ada", said(FOUNDING, "add", admin), said(FOUNDING, "remove", left))
    users.note(left, admin)
    assert users.speaker(admin) == admin
    users.note(stays, admin)
    assert users.speaker(admin) == stays
    net.say("ada", said(FOUNDING, "remove", admin))
    assert users.is_out(stays) and users.speaker(admin) in {left, stays}  # the name of who is out is better than none


def test_a_guest_of_the_founder_belongs_to_the_founder_when_a_member_is_out_that_it_named_too() -> None:
    """It is not out with that one, so nobody could expel it if it belonged there."""
    net, founder = Net("ada"), FOUNDING.peer_id
    users = net.peers["ada"].node.member_directory
    net.say("ada", said(FOUNDING, "add", *USERS[:2]))
    for user, named in ((ZOE, (founder, USERS[0])), (BEN, (USERS[1], USERS[0]))):
        for member in named:
            users.note(user, member)
    net.say("ada", said(FOUNDING, "remove", USERS[0]))
    assert [(users.is_out(user), users.member_of(user)) for user in (ZOE, BEN)] == [(False, founder), (True, USERS[0])]


def test_a_stolen_machine_belongs_to_a_member_that_has_not_revoked_it() -> None:
    net = Net("ada")
    users = net.peers["ada"].node.member_directory
    net.say("ada", said(FOUNDING, "add", USERS[0]))
    for member in (USERS[0], FOUNDING.peer_id):
        users.on_shown(ZOE, member)
    assert users.member_of(ZOE) == FOUNDING.peer_id
    net.say("ada", said(FOUNDING, "revoke", ZOE))
    assert users.member_of(ZOE) == USERS[0]
    users.names = {ZOE: "a person, who has another key for each machine now"}
    assert users.member_of(ZOE) == FOUNDING.peer_id


def test_a_removal_of_many_keys_that_nobody_knows_is_one_event() -> None:
    net = Net("ada", "bob")
    net.hear_all()
    net.link("ada", "bob")
    bob = net.peers["bob"]
    net.say("ada", said(FOUNDING, "add", USERS[0]))
    bob.events.clear()
    net.say("ada", said(FOUNDING, "remove", *USERS[:16]))
    [told] = [one for one in bob.events if isinstance(one, MemberChanged)]
    assert (told.user, told.change, len(told.users), told.count) == (USERS[0], "expelled", 10, 15)


# ---- places that members share


def fill(shares: MemberShares[str], member: str, *items: str) -> None:
    for item in items:
        shares.add(item, member)


def test_what_has_a_place_takes_no_second_one() -> None:
    shares: MemberShares[str] = MemberShares(most=3)
    fill(shares, "n", "a", "b", "b")
    assert (len(shares._members), shares.has_room) == (2, True)
    fill(shares, "m", "c")
    assert not shares.has_room and shares.take("a", "n", shares.remove) and len(shares._members) == 3


def test_what_is_removed_leaves_nothing() -> None:
    shares: MemberShares[str] = MemberShares(most=9)
    fill(shares, "n", "a", "b")
    for item in ("a", "a", "never"):
        shares.remove(item)
    assert (list(shares._members), dict(shares.taken)) == (["b"], {"n": 1})
    shares.remove("b")
    assert dict(shares.taken) == {} and len(shares._members) == 0


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


def test_room_is_made_when_all_is_full_and_not_for_the_fullest() -> None:
    shares, gone = MemberShares[str](most=5), list[str]()
    fill(shares, "n", "a", "b", "c")
    fill(shares, "m", "d", "e")
    assert not shares.take("f", "n", gone.append) and (len(shares._members), gone) == (5, [])
    assert shares.take("f", "x", gone.append) and (list(shares._members), gone) == (["a", "b", "d", "e", "f"], ["c"])
    assert not shares.take("g", "x", gone.append) and len(shares._members) == 5


@pytest.mark.parametrize("seed", range(20))
def test_all_honest_members_get_in_and_stay_in(seed: int) -> None:
    """One member holds all places; honest ones come; then those that gave way come back."""
    chance = Random(seed)
    shares: MemberShares[str] = MemberShares(most=192)
    fill(shares, "evil", *(f"m{number}" for number in range(192)))
    honest = [f"h{number}" for number in range(150)]
    for name in honest:
        member = f"member {chance.randrange(60)}"
        assert shares.take(name, member, shares.remove)
    for number in range(2000):
        shares.take(f"again {number}", "evil", shares.remove)
    assert [name for name in honest if name not in shares] == []
    assert len(shares._members) == 192
