"""Admission at its edges: former admins, frames that must fit, additions that are not durable yet, and its events."""

from __future__ import annotations

from typing import Any

import pytest

from p2pchat.core.effects import LinkChanged, MemberChanged, UserLeft
from p2pchat.core.inputs import Got, LinkAccepted, StatementsMade
from p2pchat.core.log import CLOCK_AHEAD
from p2pchat.core.members.statement import Statement, make_guest, make_statement, parse_statement
from p2pchat.protocol import Admit, Frame, Statements, UserId, encode
from tests.core.members.test_statement_exchange import ADMIN as ADMIN_KEY
from tests.core.members.test_statement_exchange import FOUNDER, NETWORK, STRANGER, USERS, Net
from tests.core.members.test_statement_exchange import said as statement
from tests.core.mesh.linked_peers import Key
from tests.core.scripted_nodes import IDS, Author, Far, passed
from tests.core.test_hosted_users import host
from tests.vectors.handshakes import HELLO, SERVER_HELLO, T_OF_BOB, WELCOME, dialler, listener, shown
from tests.vectors.material import ADMIN, BOB, MEMBER, SEEDS, T0, N
from tests.vectors.members import ADDED, INVITE, MAKER_KEY, guest_of, id_of, invite_proof, said
from tests.vectors.vector_node import HandshakeNode, decoded

LATER = 10**12  # microseconds: news to whoever joined before


def taken(*frames: dict[str, object], **given: object) -> HandshakeNode:
    """Return ada's node after these frames of bob's connection."""
    node = HandshakeNode(listener(**given), T0, MAKER_KEY.hex())
    for frame in frames:
        node.take_frame(decoded(frame))
    return node


def test_a_former_admin_refuses_its_invite() -> None:
    """The founder removed the admin and pardoned it: it is a plain member, and may add nobody."""
    made, out = said("founder", "admin", who=[ADMIN]), said("founder", "remove", 1, who=[ADMIN])
    again = [said("founder", "pardon", 2, ids=[id_of(out)]), said("founder", "add", 3, who=[ADMIN])]
    node = taken(HELLO, shown(s=None, invite=invite_proof(T_OF_BOB)), member=SEEDS["admin"].hex(),
                 statements=[made, out, *again])  # fmt: skip
    assert node.refused == "invite"


def test_the_removal_before_a_goodbye_fits_a_frame_before_go() -> None:
    """A removal that keeps 63 users has more than the 4 KiB of a frame before `go`."""
    out = said("founder", "remove", 1, who=[MEMBER], keep=[Key(f"user {n}").id for n in range(63)])
    node = taken(HELLO, shown(), statements=[ADDED, out])
    sizes = [len(encode(frame)) for frame in node._far.heard if isinstance(frame, Frame)]
    assert node.refused == "member" and max(sizes) <= 4 + 4096


def test_a_revoked_peer_is_refused_and_told_who_said_so() -> None:
    """By the member that it shows, or has shown before; what another member says of it means nothing."""
    revoked, others = said("member", "revoke", 1, who=[BOB]), said("founder", "revoke", 2, who=[BOB])
    node = taken(HELLO, shown(), statements=[ADDED, revoked])
    [told] = [frame for frame in node._far.heard if isinstance(frame, Statements)]
    assert node.refused == "member" and told.s == [tuple(revoked)]
    assert not taken(HELLO, shown(), statements=[ADDED, others]).refused


def test_whom_a_former_admin_added_gets_the_removal_of_that_admin_before_the_goodbye() -> None:
    made, out = said("founder", "admin", who=[ADMIN]), said("founder", "remove", 1, who=[ADMIN])
    added = said("admin", "add", 2, who=[MEMBER])
    node = taken(HELLO, shown(s=[added]), statements=[made, out])
    [told] = [frame for frame in node._far.heard if isinstance(frame, Statements)]
    assert node.refused == "member" and told.s == [tuple(out)]


def test_no_connection_of_a_newcomer_is_admitted_before_its_addition_is_durable() -> None:
    """An invite with two endpoints is dialled at both: two connections of one newcomer come at once."""
    node = taken(HELLO)
    node.holding = True  # commits
    show = decoded(shown(s=None, invite=invite_proof(T_OF_BOB)))
    node.take_frame(show)
    second = Far("bob")
    second.peer, second.link, node.links[2] = node, 2, second
    node.put(LinkAccepted(2, "192.0.2.1"))
    node.put(Got(2, [decoded(HELLO)]))
    node.put(Got(2, [show]))
    node.world.settle()
    assert not any(isinstance(frame, Admit) for far in (node._far, second) for frame in far.heard)
    node.holding = False
    node.commit()
    assert all(any(isinstance(frame, Admit) for frame in far.heard) for far in (node._far, second))


def test_a_removal_ends_links_and_takes_users_back_only_when_it_is_durable() -> None:
    """Not with another statement that is durable before it."""
    net = Net("ada")
    ada, bob = net.peers["ada"], net.add("bob", member=STRANGER)
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id))
    net.link("ada", "bob")
    ada.holding = True
    net.say("ada", statement(FOUNDER, "add", USERS[0]))
    net.say("ada", statement(FOUNDER, "remove", STRANGER.peer_id))
    (second,) = [commit for commit in ada.held if commit.change.statements][1:]
    ada.take()
    ada.held.remove(second)
    ada.commit()
    assert bob.id in ada.node.links.by_peer and not [one for one in ada.events if isinstance(one, UserLeft)]
    ada.held = [second]
    assert "close bob: member" in ada.commit() and bob.id not in ada.node.links.by_peer
    assert [(one.user, one.reason) for one in ada.events if isinstance(one, UserLeft)] == [(bob.id, "expelled")]


@pytest.mark.parametrize("is_pardoned", [False, True])
def test_a_removal_that_is_not_durable_yet_refuses_no_connection(is_pardoned: bool) -> None:
    """Who is refused dials once an hour, and hears nothing of a removal that was lost or taken back meanwhile."""
    net = Net("ada")
    ada, bob = net.peers["ada"], net.add("bob", member=STRANGER)
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id))
    removal = statement(FOUNDER, "remove", STRANGER.peer_id)
    ada.holding = True
    net.say("ada", removal)
    net.link("ada", "bob")
    assert not [line for line in ada.take() if line.startswith("close")] and bob.id not in ada.node.links.by_peer
    if is_pardoned:
        net.say("ada", statement(FOUNDER, "pardon", ids=[removal.id]))
    ada.holding = False
    ada.commit()
    net.world.settle()
    assert (bob.id in ada.node.links.by_peer) is is_pardoned


def test_a_peer_that_is_pardoned_hears_again_of_users_that_it_took_for_expelled() -> None:
    """They are on a link that came up before the pardon was here: what they wrote was never compared."""
    net = Net("ada")
    bob, cyd = net.add("bob", member=STRANGER), net.add("cyd", member=ADMIN_KEY)
    removal = statement(FOUNDER, "remove", STRANGER.peer_id)
    added = statement(FOUNDER, "add", STRANGER.peer_id, ADMIN_KEY.peer_id)
    net.say("cyd", added)
    net.say("bob", added, removal)
    net.say("ada", added, removal, statement(FOUNDER, "pardon", ids=[removal.id]))
    host(cyd, "dan")
    bob.node.member_directory.on_shown(IDS["dan"], STRANGER.peer_id)
    cyd.holding = True  # it has not taken the removal yet when the pardon comes
    net.link("cyd", "bob")
    net.world.settle()
    assert IDS["dan"] in bob.node.links.by_peer[cyd.id].blocked
    net.link("ada", "bob")
    net.world.settle()
    cyd.holding = False
    cyd.commit()
    net.world.pass_time(60.0)
    assert IDS["dan"] in bob.node.links.by_peer[cyd.id].users


def test_who_is_pardoned_is_admitted_once_that_is_durable() -> None:
    net = Net("ada")
    ada, bob = net.peers["ada"], net.add("bob", member=STRANGER)
    removal = statement(FOUNDER, "remove", STRANGER.peer_id)
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id), removal)
    ada.holding = True
    net.say("ada", statement(FOUNDER, "pardon", ids=[removal.id]))
    net.link("ada", "bob")
    assert bob.id not in ada.node.links.by_peer
    ada.holding = False
    ada.commit()
    net.world.settle()
    assert bob.id in ada.node.links.by_peer


def test_a_member_shows_the_statement_that_fits() -> None:
    """The founder expelled an admin, kept the 40 people whom that had added, and added one of them anew."""
    kept = [MEMBER, *(Key(f"user {n}").id for n in range(39))]
    out = said("founder", "remove", 1, who=[ADMIN], keep=kept)
    node = HandshakeNode(dialler(statements=[out, ADDED]), T0, MAKER_KEY.hex())
    for frame in (SERVER_HELLO, WELCOME):
        node.take_frame(decoded(frame))
    assert [frame["show"].get("s") for frame in node.sent if frame["t"] == "show"] == [[ADDED]]


def test_a_certificate_for_another_user_admits_nobody() -> None:
    """Whoever knows K may have seen the certificate of a member's program."""
    node = taken(HELLO, shown(guest=guest_of("member", "cyd")))
    assert node.refused == "member" and not any(isinstance(frame, Admit) for frame in node._far.heard)


def test_an_invite_that_was_taken_back_admits_nobody() -> None:
    node = taken(HELLO)
    text, signature = said("founder", "close", 1, invites=[INVITE["id"]])
    node.put(StatementsMade([parse_statement(N.hex(), text, bytes.fromhex(signature))]))
    node.take_frame(decoded(shown(s=None, invite=invite_proof(T_OF_BOB))))
    assert node.refused == "revoked"


def test_an_invite_is_refused_once_what_closes_it_is_durable() -> None:
    """A crash may take that back, and who was refused comes no more."""
    node = taken(HELLO)
    node.holding = True  # commits
    text, signature = said("founder", "close", 1, invites=[INVITE["id"]])
    node.put(StatementsMade([parse_statement(N.hex(), text, bytes.fromhex(signature))]))
    node.take_frame(decoded(shown(s=None, invite=invite_proof(T_OF_BOB))))
    early = node.refused
    node.holding = False
    node.commit()
    assert (early, node.refused) == ("", "revoked")


def test_an_invite_that_has_ended_admits_nobody() -> None:
    node = taken(HELLO, shown(s=None, invite=invite_proof(T_OF_BOB, until=1)))
    assert node.refused == "late"


# ---- what changed


def at(moment: int, by: Any, kind: str, *who: UserId, **fields: Any) -> Statement:
    return make_statement(NETWORK, by.peer_id, by.sign, kind, moment, {**({"who": who} if who else {}), **fields})


def told(net: Net, name: str) -> list[tuple[str, str, int]]:
    """Return what one heard of members since this was asked: whom, what, and how many."""
    events = net.peers[name].events
    found = [(one.user, one.change, one.count) for one in events if isinstance(one, MemberChanged)]
    events.clear()
    return found


def test_what_somebody_shows_who_is_refused_is_no_event() -> None:
    """An expelled admin says that it had expelled a member, and admitted somebody."""
    held = [said("founder", "admin", who=[ADMIN]), ADDED, said("founder", "remove", 1, who=[ADMIN])]
    made_up = [said("admin", "remove", LATER, who=[MEMBER]), said("admin", "add", LATER, who=["5a" * 32])]
    node = taken(HELLO, shown(guest=guest_of("admin", "bob"), s=made_up), member=SEEDS["founder"].hex(),
                 statements=held)  # fmt: skip
    assert node.refused == "member" and not any(isinstance(one, MemberChanged) for one in node.events)


def test_what_was_said_before_a_profile_was_made_is_no_news_to_it() -> None:
    net = Net("ada")
    now = net.peers["ada"].node._ctx.now.utc
    net.say("ada", at(now - 9, FOUNDER, "add", USERS[0], USERS[1]), at(now - 8, FOUNDER, "admin", ADMIN_KEY.peer_id))
    net.say("ada", at(now - 7, FOUNDER, "remove", USERS[0]), at(now - 6, FOUNDER, "remove", ADMIN_KEY.peer_id))
    net.add("cyd")
    net.link("ada", "cyd")
    assert net.kept("cyd") == net.kept("ada") and told(net, "cyd") == []
    net.say("ada", at(now + 1, FOUNDER, "remove", USERS[1]))
    assert told(net, "cyd") == [(USERS[1], "expelled", 1)]


def test_whom_a_former_admin_made_up_is_out_in_one_event_and_in_by_none() -> None:
    net = Net("ada", "bob")
    net.hear_all()
    net.link("ada", "bob")
    net.say("ada", at(1, FOUNDER, "admin", ADMIN_KEY.peer_id), at(1, FOUNDER, "add", USERS[0]))
    net.say("ada", *(at(2 + n, ADMIN_KEY, "add", *USERS[n : n + 8]) for n in range(8, 40, 8)),
            at(3, ADMIN_KEY, "remove", USERS[0], *(Key(f"user {n}").id for n in range(15))),
            at(3, ADMIN_KEY, "remove", Key("made up").id))  # fmt: skip
    told(net, "bob")
    net.say("ada", at(9, FOUNDER, "remove", ADMIN_KEY.peer_id))
    assert sorted(told(net, "bob")) == sorted([
        (ADMIN_KEY.peer_id, "expelled", 1), (min(USERS[8:40]), "dropped", 32), (USERS[0], "restored", 1),
    ])  # fmt: skip


def test_an_admin_s_word_is_not_older_than_its_role_nor_of_the_future() -> None:
    """Its closing of an invite makes nobody late who came by it."""
    net = Net("ada")
    ada = net.peers["ada"].node
    made = ada._ctx.now.utc
    net.say("ada", at(made, FOUNDER, "admin", ADMIN_KEY.peer_id),
            at(made + 1, FOUNDER, "add", USERS[0], invite="00000001"))  # fmt: skip
    told(net, "ada")
    closing, added = (
        at(0, ADMIN_KEY, "close", invites=["00000001"]),
        at(1 << 52, ADMIN_KEY, "add", USERS[1], invite="00000001"),
    )
    net.say("ada", closing)
    net.say("ada", added)
    assert told(net, "ada") == [(USERS[1], "admitted", 1)]
    ahead = CLOCK_AHEAD
    assert [ada.replicator.statements.time_of(one) for one in (closing, added)] == [made, ada._ctx.now.utc + ahead]


def test_a_machine_of_another_member_with_the_key_of_the_own_user_is_told_once() -> None:
    """Not again over a restart; and nobody is a user of that member by it."""
    net = Net("ada")
    ada, bob = net.peers["ada"], net.add("bob", member=STRANGER)
    net.hear_all()
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id))
    host(bob, "ada")
    told(net, "ada")
    net.link("ada", "bob")
    net.world.pass_time(60.0)
    assert told(net, "ada") == [(ada.id, "shared", 1)]
    assert ada.id in ada.node.links.by_peer[bob.id].users
    assert ada.id not in ada.node.member_directory.users_of(STRANGER.peer_id)
    ada.restart()
    told(net, "ada")
    net.link("ada", "bob")
    net.world.pass_time(60.0)
    assert told(net, "ada") == [] and ada.id in ada.node.links.by_peer[bob.id].users


def test_a_log_of_the_own_user_for_which_another_member_answers_is_told_once() -> None:
    """What is written later says it again, and a member that nobody names says nothing."""
    net = Net("ada")
    net.hear_all()
    ada = net.peers["ada"]
    bob = net.add("bob", member=STRANGER)
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id))
    net.link("ada", "bob")
    told(net, "ada")
    link = next(link for link, other in ada.links.items() if isinstance(other, tuple) and other[0] is bob)
    for number, member in enumerate((STRANGER, ADMIN_KEY, STRANGER)):
        by = make_guest(NETWORK, member.peer_id, member.sign, ada.id)
        ada.put(Got(link, passed(Author("ada", f"e{number}", ada.node.room, by=by).say("hello"))))
        net.world.settle()
    assert told(net, "ada") == [(ada.id, "shared", 1)]
    assert ada.node.member_directory.speaker(STRANGER.peer_id) == bob.id


def test_who_is_blocked_is_a_machine_of_ones_own_only_by_the_own_member() -> None:
    """Of whom a thief says that it is one, another member answers: that shows before the link is up, and so who is
    silent then keeps none. A thief takes back that another machine is one.
    """
    net = Net("ada")
    net.hear_all()
    ada = net.peers["ada"]
    net.say("ada", statement(FOUNDER, "add", STRANGER.peer_id))
    others = [net.add("bob", member=STRANGER), net.add("dan", member=STRANGER), net.add("cyd")]
    for peer in others:
        ada.choose(f"device:{peer.id}", "0 x")
        ada.choose(f"device:{peer.id}", "")
        ada.choose(f"blocked:{peer.id}", "1")
    for one, other in (("ada", "bob"), ("dan", "ada"), ("ada", "cyd")):
        net.link(one, other)
    assert [one.peer for one in ada.events if isinstance(one, LinkChanged) and one.state == "up"] == [others[-1].id]
