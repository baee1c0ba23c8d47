"""The exchange of statements between nodes: all have the same in the end, and nothing is told before it is stored."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import DiskLow, Got, StatementsMade
from p2pchat.core.log import NO_SUM, hash_of
from p2pchat.core.members import member_list, statement, statement_exchange
from p2pchat.core.members.statement import (
    Statement,
    make_guest,
    make_statement,
    network_id,
    parse_statement,
    room_id,
)
from p2pchat.core.members.statement_exchange import ASKED_AFTER, MAX_REFUTED, SUM_TAG, file_frames
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.identity.identity import Identity
from p2pchat.protocol import MAX_FRAME_BYTES, Entries, Ping, Statements, UserId, encode
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.scripted_nodes import IDS, Author, K, Peer, World, have, page, passed

FOUNDER, ADMIN, STRANGER = (Identity.from_seed(letter * 32) for letter in (b"f", b"a", b"s"))
NETWORK = network_id(FOUNDER.peer_id)
USERS = [Identity.from_seed(bytes([number]) * 32).peer_id for number in range(40)]


def said(by: Identity, kind: str, *who: UserId, **fields: Any) -> Statement:
    if who:
        fields["who"] = who
    return make_statement(NETWORK, by.peer_id, by.sign, kind, 1, fields)


class Net:
    """Peers of one network. Only those called founders know its founder's key at the start."""

    def __init__(self, *names: str, founders: Iterable[str] | None = None) -> None:
        self.world = World()
        knowing = names if founders is None else founders
        self.peers: dict[str, Peer] = {}
        for name in names:
            self.add(name, founder=FOUNDER.peer_id if name in knowing else "")

    def add(self, name: str, member: Identity = FOUNDER, founder: UserId = FOUNDER.peer_id) -> Peer:
        """Add a peer for which this member answers."""
        settings = Settings(log_bytes=0, auto_fetch_bytes=0)
        network = NetworkCredentials(NETWORK, K, founder, member=member.peer_id, sign=member.sign)
        peer = Peer(self.world, name, TemporaryStorage(), settings, network=network)
        self.world.peers.append(peer)
        self.peers[name] = peer
        return peer

    def hear_all(self) -> None:
        """Have all peers take statements of any time as news."""
        for peer in self.peers.values():
            peer.node.replicator.conversations[peer.node.room].history_until = 0

    def link(self, one: str, other: str) -> None:
        self.world.link(self.peers[one], self.peers[other])

    def say(self, name: str, *statements: Statement) -> None:
        self.peers[name].put(StatementsMade(list(statements)))
        self.world.settle()

    def kept(self, name: str) -> set[str]:
        members = self.peers[name].node.replicator.statements.members
        return set() if members is None else {one.id for one in members.statements()}

    def file(self, name: str) -> list[Statements]:
        """Return the frames with which a file of a peer begins."""
        return file_frames(self.peers[name].load().statements, self.peers[name].node.room)

    def stored(self, name: str) -> set[str]:
        return {said for said, _ in self.peers[name].load().statements}


def test_what_one_says_all_have_and_keep_over_a_restart() -> None:
    net = Net("ada", "bob", "cyd")
    first = said(FOUNDER, "add", USERS[0])
    net.say("ada", first)
    net.link("ada", "bob")
    net.link("bob", "cyd")
    second = said(FOUNDER, "admin", ADMIN.peer_id)
    net.say("cyd", second)
    assert all(net.kept(name) == {first.id, second.id} for name in net.peers)
    assert all(net.stored(name) == {first.text, second.text} for name in net.peers)
    net.peers["bob"].restart()
    members = net.peers["bob"].node.replicator.statements.members
    assert members is not None and members.members >= {USERS[0], ADMIN.peer_id} and net.kept("bob") == net.kept("ada")


def test_who_joined_learns_the_founder_from_a_member_and_only_the_right_one() -> None:
    net = Net("ada", "bob", founders=["ada"])
    net.say("ada", said(FOUNDER, "add", USERS[0]))
    net.link("ada", "bob")
    assert net.kept("bob") == net.kept("ada") != set()
    net.peers["bob"].restart()
    assert net.kept("bob") == net.kept("ada")


def test_a_log_is_stored_only_once_somebody_named_its_member_and_then_asked_for_again() -> None:
    """Neither by who is given it, nor by a third, and it comes when the statement does."""
    net = Net("ada", "bob", "cyd")
    net.link("ada", "bob")
    net.link("ada", "cyd")
    ada = net.peers["ada"]
    link = next(link for link, other in ada.links.items() if isinstance(other, tuple) and other[0] is net.peers["bob"])
    by = make_guest(NETWORK, STRANGER.peer_id, STRANGER.sign, IDS["eve"])
    log = Author("eve", "e1", ada.node.room, by=by)
    said_early, forged = log.say("hello"), Author("eve", "e2", ada.node.room).say("as a member of her own")
    ada.put(Got(link, passed(said_early, forged)))
    net.world.settle()
    assert ada.counted["unnamed_log"] == 2 and [peer.texts() for peer in net.peers.values()] == [[], [], []]
    ada.put(Got(link, passed(have(log))))
    net.world.pass_time(60.0)
    assert len([line for line in ada.take() if "want" in line]) == 1
    net.say("bob", said(FOUNDER, "add", STRANGER.peer_id))
    assert "to bob: digest" in ada.take()
    ada.put(Got(link, passed(said_early, forged)))
    net.world.pass_time(60.0)
    assert [peer.texts() for peer in net.peers.values()] == [["hello"]] * 3


def test_no_evidence_is_stored_of_a_log_whose_member_nobody_named() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    ada, bob = net.peers["ada"], net.peers["bob"]
    link = next(link for link, other in ada.links.items() if isinstance(other, tuple) and other[0] is bob)
    by = make_guest(NETWORK, STRANGER.peer_id, STRANGER.sign, IDS["eve"])
    one, other = (Author("eve", "e1", ada.node.room, by=by) for _ in range(2))
    one.say("hello"), other.say("hello")
    evidence = [replace(log.say(text), h=log.header, fork=True) for log, text in ((one, "yes"), (other, "no"))]
    ada.put(Got(link, passed(*evidence)))
    net.world.settle()
    assert ada.counted["unnamed_log"] == 2 and ada.load().forked == []
    net.say("bob", said(FOUNDER, "add", STRANGER.peer_id))
    ada.put(Got(link, passed(*evidence)))
    net.world.pass_time(60.0)
    assert ada.load().forked == [one.log]
    later = Author("eve", "e2", ada.node.room, before=[one.mark], by=by)
    ada.put(Got(link, passed(later.say("on it"))))
    net.world.pass_time(60.0)
    assert (bob.load().forked, bob.texts()) == ([one.log], ["on it"])  # though the evidence is behind entry 1


def test_evidence_goes_again_to_who_lacked_statements() -> None:
    """It may have refused the evidence, since it did not know the member yet."""
    net = Net("ada")
    ada = net.peers["ada"]
    net.say("ada", said(FOUNDER, "add", USERS[0]))
    by = make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, IDS["bob"])
    one, other = (Author("bob", "b1", ada.node.room, by=by) for _ in range(2))
    far = ada.far("eve")
    far.say(one.say("yes"))
    far.say(other.say("no"))

    def evidence() -> int:
        return sum(isinstance(frame, Entries) and frame.fork for frame in far.heard)

    far.say(page(one))
    assert evidence() == 2
    far.say(page(one))
    assert evidence() == 2  # once an hour
    far.say(Statements(sum="00" * 32), page(one))
    assert evidence() == 4


def test_who_comes_after_an_admin_was_removed_has_what_the_others_have() -> None:
    """The removal keeps nobody, but who wrote has named another member too."""
    net = Net("ada", "bob")
    net.link("ada", "bob")
    ada = net.peers["ada"]
    link = next(iter(ada.links))
    net.say("bob", said(FOUNDER, "admin", ADMIN.peer_id))
    net.say("bob", added := said(ADMIN, "add", STRANGER.peer_id))
    first = Author("eve", "e1", ada.node.room, by=make_guest(NETWORK, STRANGER.peer_id, STRANGER.sign, IDS["eve"]))
    ada.put(Got(link, passed(first.say("hello"))))
    by = make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, IDS["eve"])
    later = Author("eve", "e2", ada.node.room, before=[first.mark], by=by)
    ada.put(Got(link, passed(later.say("and on"))))
    net.say("ada", said(FOUNDER, "remove", ADMIN.peer_id))
    ada.restart()
    net.add("cyd")
    net.link("ada", "cyd")
    net.world.pass_time(60.0)
    assert added.id not in net.kept("cyd") and STRANGER.peer_id not in members_of(net.peers["cyd"])
    assert [peer.texts() for peer in net.peers.values()] == [["hello", "and on"]] * 3


def test_whom_only_a_former_admin_had_named_leaves_what_is_compared_and_is_back_when_named() -> None:
    """Who has what it wrote keeps it, marked; others get none of it; nobody takes more."""
    net = Net("ada", "bob")
    net.link("ada", "bob")
    ada, bob = net.peers["ada"], net.peers["bob"]
    link = next(iter(ada.links))
    net.say("bob", said(FOUNDER, "admin", ADMIN.peer_id), said(ADMIN, "add", STRANGER.peer_id))
    eve = Author("eve", "e1", ada.node.room, by=make_guest(NETWORK, STRANGER.peer_id, STRANGER.sign, IDS["eve"]))
    ada.put(Got(link, passed(eve.say("hello"))))
    net.world.pass_time(60.0)
    net.say("ada", said(FOUNDER, "remove", ADMIN.peer_id))
    for again in (False, True):
        if again:
            ada.restart()
            bob.restart()
            net.link("ada", "bob")
            link = next(iter(ada.links))
        ada.put(Got(link, passed(eve.say("more"))))
        net.world.pass_time(60.0)
        for peer in (ada, bob):
            assert peer.node.replicator.conversations[peer.node.room].sum == NO_SUM and peer.texts() == ["hello"]
            assert peer.node.member_directory.since(IDS["eve"]) == 0 and peer.node.member_directory.is_out(IDS["eve"])
    cyd = net.add("cyd")
    net.link("ada", "cyd")
    net.world.pass_time(60.0)
    assert cyd.texts() == []
    net.say("cyd", said(FOUNDER, "add", STRANGER.peer_id))
    net.world.pass_time(60.0)
    assert [peer.texts() for peer in net.peers.values()] == [["hello"], ["hello"], ["*hello"]]
    assert not any(peer.node.member_directory.is_out(IDS["eve"]) for peer in net.peers.values())


def test_who_is_removed_is_out_since_that_came_to_a_peer_whose_clock_is_behind() -> None:
    """Before: what came in the minutes by which a clock is behind was not marked, for ever."""
    net = Net("ada")
    ada = net.peers["ada"]
    net.say("ada", said(FOUNDER, "add", IDS["eve"]))
    net.world.pass_time(60.0)
    before = ada.node._ctx.now.utc
    ahead = make_statement(
        NETWORK, FOUNDER.peer_id, FOUNDER.sign, "remove", before + 1_200_000_000, {"who": [IDS["eve"]]}
    )
    net.say("ada", ahead, said(FOUNDER, "remove", IDS["bob"]))
    net.world.pass_time(60.0)
    for _ in range(2):
        since = ada.node.member_directory.since
        assert since(IDS["eve"]) == before and since(IDS["bob"]) == 1
        assert [name for name in ada.load().meta if name.startswith("heard:")] == ["heard:" + ahead.id]
        ada.restart()


def test_a_member_that_a_known_user_makes_up_has_no_room_of_its_own() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    ada = net.peers["ada"]
    link = next(iter(ada.links))
    net.say("bob", said(FOUNDER, "add", ADMIN.peer_id))
    by, made_up = (make_guest(NETWORK, one.peer_id, one.sign, IDS["eve"]) for one in (ADMIN, STRANGER))
    for run, certificate in (("e1", by), ("e2", made_up)):
        ada.put(Got(link, passed(Author("eve", run, ada.node.room, by=certificate).say(run))))
        net.world.settle()
        assert ada.node.replicator.quota.bytes.lines[IDS["eve"]][:2] == (ADMIN.peer_id, IDS["eve"])
    assert ada.texts() == ["e1", "e2"]


def members_of(peer: Peer) -> set[UserId]:
    members = peer.node.replicator.statements.members
    return set() if members is None else members.members


def test_what_a_former_admin_signs_costs_no_signature_and_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    [link] = net.peers["ada"].node.links.up
    net.say("ada", said(FOUNDER, "admin", ADMIN.peer_id), said(FOUNDER, "remove", ADMIN.peer_id))
    kept, verified = net.kept("ada"), list[Statement]()
    monkeypatch.setattr(Statement, "is_signed", lambda self, network: verified.append(self))
    more = [said(ADMIN, "add", user) for user in USERS]
    net.peers["ada"].put(Got(link, [Statements(s=[(one.text, one.signature.hex()) for one in more])]))
    net.world.settle()
    assert net.kept("ada") == net.kept("bob") == kept and verified == [] and link in net.peers["ada"].node.links.up


def test_what_an_admin_said_comes_though_it_was_heard_of_before_the_admin() -> None:
    net = Net("ada", "bob", "cyd")
    net.link("ada", "bob")
    early = said(ADMIN, "add", USERS[1])
    net.say("ada", early)  # nobody knows yet that it may
    assert net.kept("ada") == set()
    admin = said(FOUNDER, "admin", ADMIN.peer_id)
    net.say("ada", admin)
    net.say("ada", early)
    net.link("bob", "cyd")
    assert net.kept("cyd") == {admin.id, early.id}
    net.say("cyd", gone := said(FOUNDER, "remove", ADMIN.peer_id))
    net.say("bob", said(ADMIN, "add", USERS[2]))
    assert all(net.kept(name) == {admin.id, gone.id} for name in net.peers)
    assert all(net.stored(name) == {one.text for one in (admin, gone)} for name in net.peers)


def test_who_is_known_only_by_what_it_wrote_is_dialled_again_after_a_pardon() -> None:
    """After a restart a peer knows who answers for others only by what these wrote."""
    net, member = Net("ada", "cyd"), Identity.from_seed(b"m" * 32)
    ada, bob = net.peers["ada"], net.add("bob", member)
    net.say("ada", said(FOUNDER, "add", member.peer_id))
    net.link("ada", "bob")
    bob.say("hello", to=room_id(NETWORK))
    net.say("ada", out := said(FOUNDER, "remove", member.peer_id))
    ada.restart()
    net.link("cyd", "ada")
    assert bob.id not in ada.node.links.by_peer
    net.say("cyd", said(FOUNDER, "pardon", ids=[out.id]))
    net.world.pass_time(1.0)
    assert bob.id in ada.node.links.by_peer


def test_who_refused_a_newcomer_is_dialled_again_once_it_is_admitted() -> None:
    """It was dialled an hour later: where it could not dial itself, they had no link for so long."""
    net, member = Net("ada", "cyd"), Identity.from_seed(b"m" * 32)
    bob, cyd = net.add("bob", member), net.peers["cyd"]
    bob.connect_to(cyd)
    net.world.pass_time(1.0)
    assert cyd.id not in bob.node.links.by_peer
    net.say("ada", said(FOUNDER, "add", member.peer_id))
    net.link("ada", "bob")
    net.world.pass_time(1.0)
    assert cyd.id in bob.node.links.by_peer


def test_nothing_is_told_before_it_is_stored() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    net.peers["ada"].holding = True
    net.say("ada", one := said(FOUNDER, "add", USERS[0]))
    assert net.kept("bob") == set()
    net.peers["ada"].holding = False
    net.peers["ada"].commit()
    net.world.settle()
    assert net.kept("bob") == {one.id}


def test_two_that_said_much_apart_agree_once_they_meet() -> None:
    draw = random.Random(1)
    net = Net("ada", "bob")
    for name in ("ada", "bob"):
        for user in draw.sample(USERS, 30):
            net.say(name, said(FOUNDER, "add", user))
    assert net.kept("ada") != net.kept("bob")
    net.link("ada", "bob")
    assert net.kept("ada") == net.kept("bob") and len(net.kept("ada")) > 30


def test_an_expulsion_is_told_to_who_keeps_another_set_with_the_same_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin made such a set in a minute (Wagner, 2002), and hid the expulsion for good. Here ids have 12 bits."""

    def short(network: str, text: str, signature: bytes) -> Statement:
        made = parse_statement(network, text, signature)
        return replace(made, id=made.id[:3].rjust(64, "0"))

    monkeypatch.setattr(statement, "parse_statement", short)
    monkeypatch.setattr(statement_exchange, "parse_statement", short)
    expulsion, *additions = (
        said(FOUNDER, kind, user) for kind, user in [("remove", USERS[0]), *(("add", user) for user in USERS[1:])]
    )
    by_total = {int(one.id, 16) + int(other.id, 16): (one, other) for one, other in combinations(additions, 2)}
    hidden, shown = next(
        ((expulsion, one), pair)
        for one in additions
        if (pair := by_total.get(int(expulsion.id, 16) + int(one.id, 16))) and one not in pair
    )
    net = Net("ada", "bob")
    net.say("ada", *hidden)
    net.say("bob", *shown)
    net.link("ada", "bob")
    assert net.kept("ada") == net.kept("bob") == {one.id for one in (*hidden, *shown)}


def test_what_is_pushed_out_in_the_step_that_brought_it_counts_in_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of two that keep the same would differ, and one would send it again and again."""
    monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", 4000)
    net = Net("ada", "bob")
    ada, bob = net.peers.values()
    net.link("ada", "bob")
    net.say("ada", said(FOUNDER, "admin", ADMIN.peer_id))
    far = ada.far("eve", compared=False)
    pairs = sorted((said(ADMIN, "add", user) for user in USERS), key=lambda one: one.id, reverse=True)
    parts = (pairs[:20], pairs[20:])
    ada.put(Got(far.link, passed(*(Statements(s=[(one.text, one.signature.hex()) for one in part]) for part in parts))))
    net.world.settle()
    kept = net.kept("ada")
    assert kept == net.kept("bob") and len(net.stored("ada")) == len(kept) < 20
    for peer in (ada, bob):
        far = peer.far("eve", compared=False)
        sums = [frame.sum for frame in far.heard if isinstance(frame, Statements) and frame.sum]
        assert sums == [hash_of(SUM_TAG, map(bytes.fromhex, sorted(kept)))]


@pytest.mark.parametrize(
    "pair",
    [
        ("", "00" * 64),
        (said(FOUNDER, "add", USERS[0]).text, "00" * 64),
        (said(FOUNDER, "add", USERS[0]).text + " ", said(FOUNDER, "add", USERS[0]).signature.hex()),
    ],
    ids=["no statement", "not signed", "not canonical"],
)
def test_a_statement_that_its_author_did_not_make_is_skipped_and_those_beside_it_count(pair: tuple[str, str]) -> None:
    """Who passes it on may only lack a check: its links ended as often as they came up."""
    net = Net("ada")
    ada = net.peers["ada"]
    far = ada.far("eve", compared=False)
    ada.take()
    good = said(FOUNDER, "add", USERS[1])
    for _ in range(2 * MAX_REFUTED):
        ada.put_frames(far, Statements(s=[pair, (good.text, good.signature.hex()), pair]))
    assert not any("malformed" in line for line in ada.take())
    assert net.kept("ada") == {good.id}


def test_a_link_ends_for_statements_without_end_that_their_author_did_not_make() -> None:
    net = Net("ada")
    ada = net.peers["ada"]
    far = ada.far("eve", compared=False)
    ada.take()
    pairs = [(said(FOUNDER, "add", USERS[0]).text, f"{n:0128x}") for n in range(MAX_REFUTED + 1)]
    ada.put_frames(far, Statements(s=pairs[1:]), Statements(s=pairs[1:]))
    assert not any("malformed" in line for line in ada.take())
    ada.put_frames(far, Statements(s=pairs[:1]))
    assert any("malformed" in line for line in ada.take()) and net.kept("ada") == set()


def test_statements_of_strangers_cost_no_signature_and_no_place() -> None:
    net = Net("ada")
    ada = net.peers["ada"]
    far = ada.far("eve", compared=False)
    ada.take()
    unsigned = [(said(STRANGER, "add", user).text, "00" * 64) for user in USERS]
    ada.put_frames(far, Statements(s=unsigned), Statements(founder=IDS["eve"], sum="00" * 32))
    assert not any("malformed" in line for line in ada.take()) and net.kept("ada") == set()


def test_what_came_while_the_disk_was_full_is_asked_for_again() -> None:
    net = Net("ada", "bob")
    net.link("ada", "bob")
    net.peers["bob"].put(DiskLow(DiskLevel.NOTHING))
    first = said(FOUNDER, "add", USERS[0])
    net.say("ada", first)
    assert net.kept("bob") == set()
    net.peers["bob"].put(DiskLow(DiskLevel.ENOUGH))
    net.world.settle()
    assert net.kept("bob") == {first.id}


def test_a_revocation_that_came_before_its_member_was_added_comes_again() -> None:
    net = Net("ada")
    ada = net.peers["ada"]
    far = ada.far("eve", compared=False)
    added, revoked = said(FOUNDER, "add", STRANGER.peer_id), said(STRANGER, "revoke", USERS[0])
    ada.put_frames(far, Statements(s=[(revoked.text, revoked.signature.hex())]))
    far.heard.clear()
    ada.put_frames(far, Statements(s=[(added.text, added.signature.hex())]))
    for _ in range(int(ASKED_AFTER) // 5):
        far.say(Ping())
        net.world.pass_time(5)
    asked = [frame for frame in far.heard if isinstance(frame, Statements) and frame.ask]
    assert len(asked) == 1 and asked[0].sum is not None and net.kept("ada") == {added.id}


def test_what_is_dropped_and_kept_again_in_one_step_is_kept() -> None:
    """The founder removes an admin, and adds whom it had added, all in what one link brings at once."""
    net = Net("ada", "bob")
    ada = net.peers["ada"]
    admin, added = said(FOUNDER, "admin", ADMIN.peer_id), said(ADMIN, "add", STRANGER.peer_id)
    revoked = said(STRANGER, "revoke", USERS[0])
    net.say("ada", admin, added, revoked)
    out, again = said(FOUNDER, "remove", ADMIN.peer_id), said(FOUNDER, "add", STRANGER.peer_id)
    frames = [Statements(s=[(one.text, one.signature.hex()) for one in some]) for some in ([out], [again, revoked])]
    ada.put_frames(ada.far("eve"), *frames)
    net.world.settle()
    assert net.kept("ada") == {admin.id, out.id, again.id, revoked.id}
    assert net.stored("ada") == {admin.text, out.text, again.text, revoked.text}
    statements = ada.node.replicator.statements
    assert {one.id for one in statements.durable([revoked])} == {revoked.id} and not statements.undurable
    net.link("ada", "bob")
    assert net.kept("bob") == net.kept("ada")
    assert [one.text for one in (revoked,)] == [text for frame in net.file("ada") for text, _ in frame.s][-1:]


def test_links_are_asked_again_once_somebody_is_an_admin() -> None:
    net = Net("ada")
    ada = net.peers["ada"]
    far = ada.far("eve", compared=False)
    early, admin = said(ADMIN, "add", USERS[1]), said(FOUNDER, "admin", ADMIN.peer_id)
    ada.put_frames(far, Statements(s=[(early.text, early.signature.hex())]))
    far.heard.clear()
    ada.put_frames(far, Statements(s=[(admin.text, admin.signature.hex())]))
    net.world.settle()
    asked = [frame for frame in far.heard if isinstance(frame, Statements) and frame.ask]
    assert len(asked) == 1 and asked[0].sum is not None and net.kept("ada") == {admin.id}


def test_a_sum_that_comes_with_what_it_counts_is_no_reason_to_send_everything() -> None:
    """So it is on each link when the founder names an admin: all ask at once, and what is new is not on disk yet."""
    net = Net("ada")
    ada, first, admin = net.peers["ada"], said(FOUNDER, "add", USERS[0]), said(FOUNDER, "admin", ADMIN.peer_id)
    net.say("ada", first)
    far = ada.far("eve", compared=False)
    far.heard.clear()
    total = hash_of(SUM_TAG, map(bytes.fromhex, sorted((first.id, admin.id))))
    pair = (admin.text, admin.signature.hex())
    ada.put(Got(far.link, passed(Statements(s=[pair]), Statements(sum=total, ask=True))))
    net.world.settle()
    assert [one for frame in far.heard if isinstance(frame, Statements) for one in frame.s] == [pair]


# ---- files


def test_a_file_has_all_statements_those_of_the_founder_first() -> None:
    net = Net("ada")
    assert net.file("ada") == []
    made = [said(FOUNDER, "add", user) for user in USERS] + [said(FOUNDER, "admin", ADMIN.peer_id)]
    net.say("ada", *made)
    net.say("ada", *(said(ADMIN, "add", user) for user in USERS))
    [frame] = net.file("ada")
    assert frame.founder == FOUNDER.peer_id and len(frame.s) == 2 * len(USERS) + 1
    assert {text for text, _ in frame.s[: len(made)]} == {one.text for one in made}


def test_many_statements_are_many_frames_each_of_a_size_that_all_take() -> None:
    most = [said(FOUNDER, "remove", *USERS[:16], keep=[f"{n:064x}" for n in range(first, first + 500)])
            for first in range(1000, 3000, 500)]  # fmt: skip
    stored = [(one.text, one.signature) for one in most]
    frames = file_frames(stored, room_id(NETWORK))
    assert [len(frame.s) for frame in frames] == [1, 1, 1, 1]
    assert [frame.founder for frame in frames] == [FOUNDER.peer_id, None, None, None]
    assert all(len(encode(frame)) < MAX_FRAME_BYTES for frame in frames)


def test_a_file_brings_statements_to_who_never_met_a_member_and_they_are_told_on() -> None:
    net = Net("ada", "bob", "cyd", founders=["ada", "cyd"])
    net.say("ada", said(FOUNDER, "admin", ADMIN.peer_id))
    net.say("ada", said(ADMIN, "add", USERS[0]))
    assert "imported" in net.peers["bob"].carry(*net.file("ada"))
    assert net.kept("bob") == net.kept("ada") and net.stored("bob") == net.stored("ada")
    net.link("bob", "cyd")
    assert net.kept("cyd") == net.kept("ada")
    net.say("ada", gone := said(FOUNDER, "remove", USERS[0]))
    assert net.peers["bob"].carry(*net.file("ada")) != []
    net.world.settle()
    assert gone.id in net.kept("cyd")


@pytest.mark.parametrize("by_file", [True, False], ids=["from the file", "on its way to disk already"])
def test_an_import_is_answered_when_its_statements_are_durable(*, by_file: bool) -> None:
    net = Net("ada", "bob")
    net.say("ada", one := said(FOUNDER, "add", USERS[0]))
    bob = net.peers["bob"]
    bob.holding = True
    if not by_file:
        net.say("bob", one)
    assert "imported" not in bob.carry(*net.file("ada"))
    assert bob.commit()[-1] == "imported"
    assert net.stored("bob") == {one.text}
    assert bob.carry(*net.file("ada")) == ["imported"]


@pytest.mark.parametrize(
    "pair",
    [("", "00" * 64), (said(FOUNDER, "add", USERS[0]).text, "00" * 64)],
    ids=["no statement", "not signed"],
)
def test_a_frame_with_a_made_up_statement_costs_no_other_frame(pair: tuple[str, str]) -> None:
    net = Net("ada", "bob")
    net.say("ada", said(FOUNDER, "add", USERS[1]))
    assert net.peers["bob"].carry(Statements(s=[pair]), *net.file("ada"))[-1] == "imported 1 unreadable"
    assert net.kept("bob") == net.kept("ada")


def test_a_file_brings_nothing_of_strangers_and_of_another_founder() -> None:
    net = Net("ada", "bob", founders=["ada"])
    stranger = said(STRANGER, "remove", USERS[0])
    pairs = [(stranger.text, stranger.signature.hex())]
    for name in ("ada", "bob"):
        assert net.peers[name].carry(Statements(founder=STRANGER.peer_id, s=pairs)) == ["imported"]
        assert net.kept(name) == set()
    assert net.peers["bob"].node.replicator.statements.members is None


def test_a_named_network_takes_no_statements_from_a_file() -> None:
    network = NetworkCredentials(NETWORK, K, FOUNDER.peer_id, member=FOUNDER.peer_id, sign=FOUNDER.sign, is_named=True)
    settings = Settings(log_bytes=0, auto_fetch_bytes=0)
    ada = Peer(World(), "ada", TemporaryStorage(), settings, network=network)
    one = said(FOUNDER, "add", USERS[0])
    assert ada.carry(Statements(founder=FOUNDER.peer_id, s=[(one.text, one.signature.hex())])) == ["imported"]
    assert ada.load().statements == [] and ada.node.replicator.statements.members is None


def test_what_others_wrote_before_a_peer_was_admitted_is_old() -> None:
    """The newcomer waited for two hours until the peer that made its invite was there."""
    net = Net("bob")
    ada, bob = net.add("ada", member=STRANGER), net.peers["bob"]
    net.world.pass_time(3600.0)
    bob.say("while she waited", to=room_id(NETWORK))
    net.world.pass_time(3600.0)
    net.say("bob", said(FOUNDER, "add", STRANGER.peer_id))
    net.link("ada", "bob")
    net.world.pass_time(1.0)
    bob.say("welcome", to=room_id(NETWORK))
    net.world.pass_time(1.0)
    assert ada.texts() == ["*while she waited", "welcome"]


def test_a_file_brings_no_log_whose_member_nobody_named() -> None:
    """Not even to who joined and does not know the founder yet: its key shows by the network's id."""
    net = Net("ada", founders=[])
    ada = net.peers["ada"]
    by_founder, made_up = (
        Author(user, run, ada.node.room, by=make_guest(NETWORK, member.peer_id, member.sign, IDS[user]))
        for user, run, member in (("eve", "e1", FOUNDER), ("dan", "e2", STRANGER))
    )
    assert ada.carry(made_up.say("made up"))[-1] == "imported 1 member"
    assert ada.carry(by_founder.say("of the founder's login"))[-1] == "imported 1 new"
    ada.carry(
        Statements(founder=FOUNDER.peer_id), Author("dan", "e2", ada.node.room, by=made_up.by).say("made up again")
    )
    named = said(FOUNDER, "add", STRANGER.peer_id)
    again = Author("dan", "e3", ada.node.room, by=made_up.by)
    assert "imported 1 new" in ada.carry(Statements(s=[(named.text, named.signature.hex())]), again.say("named"))
    assert ada.texts() == ["*of the founder's login", "*named"]
