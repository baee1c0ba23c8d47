"""Which members answer for users: what they named in headers and on links, and how much of that is remembered."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import MemberChanged
from p2pchat.core.members import user_members
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.node_context import HostedIdentities, NetworkCredentials, NodeContext
from p2pchat.settings import Settings
from tests.core.members.test_member_list import ADA, BEN, FOUNDER, ZOE, key
from tests.core.members.test_statement_exchange import FOUNDER as FOUNDING
from tests.core.members.test_statement_exchange import USERS, Net, said


def made() -> UserMembers:
    return UserMembers("0a" * 16, key("me"), FOUNDER, HostedIdentities([]), {}, None)  # type: ignore[arg-type]


def test_what_a_user_named_on_links_is_stored_once_it_writes() -> None:
    users = made()
    users.on_shown(ZOE, ADA)
    users.on_shown(ZOE, BEN)
    assert {*users.members_of(ZOE)} == {ADA, BEN}
    assert {*users.note(ZOE, BEN)} == {ADA, BEN} and users.note(ZOE, BEN) == ()
    users.load([(ZOE, ADA)], {})
    assert ADA in users.members_of(ZOE)


def test_a_member_with_many_keys_displaces_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_members, "MAX_REMEMBERED", 8)
    users = made()
    for name in ("first", "second", "third"):
        users.on_shown(key(name), ADA)
    for number in range(100):
        users.on_shown(key(f"{number} of many"), BEN)
    assert all(users.members_of(key(name)) == (ADA,) for name in ("first", "second", "third"))
    assert users.members_of(key("99 of many")) == (BEN,) and users.members_of(key("0 of many")) == ()


def test_users_count_with_their_member_and_own_ones_by_themselves() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    net.say("ada", said(FOUNDING, "add", *USERS[:2]))
    users = net.peers["bob"].node.user_members
    users.on_shown(USERS[2], USERS[0])
    assert users.line(USERS[2]) == (USERS[0], USERS[2]) and users.line(USERS[1]) == (USERS[1], USERS[1])
    assert users.line(USERS[3]) == ("", USERS[3])
    users.on_shown(ZOE, FOUNDING.peer_id)
    assert users.line(ZOE) == (ZOE,)


def test_users_count_with_their_member_before_anybody_told_who_founded_the_network() -> None:
    ctx = NodeContext(Settings(), key("me"), lambda size: bytes(size))
    exchange = StatementExchange(ctx, NetworkCredentials("0a" * 16, "0b" * 32))
    users = UserMembers("0a" * 16, key("me"), FOUNDER, HostedIdentities([]), {}, exchange)
    assert exchange.members is None and users.line(ZOE, ADA) == (ADA, ZOE)


def test_a_removal_of_many_keys_that_nobody_knows_is_one_event() -> None:
    net = Net("ada", "bob")
    net.hear_all()
    net.link("ada", "bob")
    bob = net.peers["bob"]
    net.say("ada", said(FOUNDING, "add", USERS[0]))
    bob.events.clear()
    net.say("ada", said(FOUNDING, "remove", *USERS))
    [told] = [one for one in bob.events if isinstance(one, MemberChanged)]
    assert (told.user, told.change, len(told.users), told.count) == (USERS[0], "expelled", 10, len(USERS) - 1)
