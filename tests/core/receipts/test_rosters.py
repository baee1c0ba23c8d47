"""Receipts of the room from peers that host many users: who comes, who leaves, who is at two peers."""

from __future__ import annotations

import pytest

from p2pchat.core.durable_changes import Change, DeliveredMark, GuestStay
from p2pchat.core.effects import DeliveryReceipt, Lookup
from p2pchat.core.inputs import CommitFailed, Loaded, Stop
from p2pchat.core.log import LogId
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.receipts.rosters import MAX_STAYS
from p2pchat.protocol import Here, Hosted, Peers
from simulation.invariants.receipt_invariants import guests_having
from tests.core.scripted_nodes import IDENTITIES, IDS, NAMES, ROOM, START, Author, Far, Peer, World
from tests.core.sync.test_message_requests import gateway
from tests.core.sync.test_serve import announce, own

LOG = LogId(ROOM, IDS["ada"], "a1" * 8)
TAKE_UNSAVED = "p2pchat.core.receipts.delivery_receipts.DeliveryReceipts.take_unsaved_marks.__defaults__"


def heard(ada: Peer, far: Far, seq: int) -> list[tuple[int, int, list[str]]]:
    """Announce a mark of ada's log; return the receipts: first and last entry, and to whom."""
    ada.take()
    before = len(ada.effects)
    announce(far, own(ada, seq))
    found = [effect for effect in ada.effects[before:] if isinstance(effect, DeliveryReceipt)]
    return [
        (each.first, each.last, sorted(NAMES[user] for user in (*each.others, each.member)))
        for each in sorted(found, key=lambda each: (each.first, len(each.others)))
    ]


def come(far: Far, name: str) -> None:
    cert = make_cert(IDS[name], IDENTITIES[name].sign, IDS[far.name], START // 1000)
    far.say(Here([Hosted(IDS[name], name, "online", cert=cert)]))


def leave(far: Far, name: str) -> None:
    far.say(Here([], gone=[IDS[name]]))


def positions(ada: Peer, *names: str) -> list[int]:
    return [ada.node.sync.delivery_receipts.position(LOG, IDS[name]) for name in names]


def stored(ada: Peer, *names: str) -> list[int]:
    """Return the highest entry that each has, as storage knows it."""
    known = dict(ada.storage.delivered_to(LOG, 1))
    return [known.get(IDS[name], 0) for name in names]


def test_all_users_of_a_peer_share_one_row(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    assert heard(ada, bob, 2) == [(1, 2, ["bob", "cyd", "dan"])]
    ada.say("two")
    assert heard(ada, bob, 3) == [(3, 3, ["bob", "cyd", "dan"])]
    ada.say("three")  # the marks are saved with this commit
    loaded = ada.storage.load([ada.id])
    assert [(mark.member, mark.seq, mark.is_of_host) for mark in loaded.delivered] == [
        (IDS["bob"], 3, True)]  # fmt: skip
    assert {stay.user for stay in loaded.stays} == {IDS["bob"], IDS["cyd"], IDS["dan"]}
    assert stored(ada, "bob", "cyd", "dan") == [3, 3, 3]


def test_a_user_who_comes_later_has_what_is_announced_again(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd")
    ada.say("one")
    heard(ada, bob, 2)
    come(bob, "dan")
    assert positions(ada, "cyd", "dan") == [2, 0]
    ada.say("two")
    assert heard(ada, bob, 3) == [(1, 2, ["dan"]), (3, 3, ["bob", "cyd", "dan"])]
    assert heard(ada, bob, 3) == []


def test_a_user_who_comes_after_its_host_lost_the_end_of_a_log_is_told_once_that_is_back(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd")
    ada.say("one")
    ada.say("two")
    heard(ada, bob, 3)
    come(bob, "dan")
    assert heard(ada, bob, 2) == []  # bob's peer went back to a copy of its database
    assert positions(ada, "cyd", "dan") == [3, 0]
    assert heard(ada, bob, 3) == [(1, 3, ["dan"])]
    assert positions(ada, "cyd", "dan") == [3, 3]


def test_what_a_host_gets_later_does_not_count_for_a_user_who_left(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    leave(bob, "dan")
    ada.say("two")
    assert heard(ada, bob, 3) == [(3, 3, ["bob", "cyd"])]
    ada.say("three")
    assert positions(ada, "cyd", "dan") == [3, 2]
    assert stored(ada, "cyd", "dan") == [3, 2]


def test_a_user_who_left_keeps_what_was_delivered(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan", "eve")
    for seq, leavers in ((2, ["dan"]), (3, ["eve"]), (4, [])):
        ada.say("a word")
        heard(ada, bob, seq)
        for name in leavers:
            leave(bob, name)
    ada.say("four")
    assert positions(ada, "cyd", "dan", "eve") == stored(ada, "cyd", "dan", "eve") == [4, 2, 3]
    ada.restart()
    assert positions(ada, "cyd", "dan", "eve") == [4, 2, 3]


def test_a_user_who_returns_is_told_only_of_what_it_missed(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    leave(bob, "dan")
    ada.say("two")
    heard(ada, bob, 3)
    come(bob, "dan")
    assert positions(ada, "dan") == [2]
    assert heard(ada, bob, 3) == [(3, 3, ["dan"])]


def test_a_user_of_two_hosts_is_reported_once(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "cyd", "dan"), gateway(ada, "eve", "dan")
    ada.say("one", "two")
    heard(ada, bob, 2)
    assert heard(ada, eve, 3) == [(1, 3, ["eve"]), (3, 3, ["dan"])]
    assert heard(ada, bob, 3) == [(3, 3, ["bob", "cyd"])]
    leave(eve, "dan")
    assert positions(ada, "dan") == [3]


def test_the_other_peer_of_a_writer_hears_of_many_entries_at_once_within_a_second(ada: Peer) -> None:
    bob, eve, dan, pen = gateway(ada, "bob", "cyd"), gateway(ada, "eve", "cyd"), ada.far("dan"), Author("cyd", "c1")
    for far in (bob, eve, dan):
        far.say(Peers(0, [], linked=[(IDS[other], ()) for other in ("bob", "dan", "eve")]))
    told = [bob.say(pen.say(text))[1:] for text in ("one", "two")]
    ada.world.pass_time(1.0)
    told += [[line for line in ada.take() if line.startswith("to eve: have")]]
    told += [dan.say(pen.say("three"))[1:]]  # no peer of its writer brought it: each may wait for it
    first, second, third = (f"have room cyd c1:{seq}" for seq in (1, 2, 3))
    all_of_them = [f"to dan: {third}", f"to bob eve: {third}"]
    assert told == [[f"to bob: {first}"], [f"to bob: {second}"], [f"to eve: {second}"], all_of_them]


def test_users_of_the_same_hosts_are_reported_together_but_for_those_who_came_since(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "cyd"), gateway(ada, "eve", "cyd")
    receipts, everyone = ada.node.sync.delivery_receipts, tuple(IDS[name] for name in ("bob", "cyd", "dan", "eve"))
    ada.say("one")
    assert heard(ada, bob, 2) == [(1, 2, ["bob", "cyd"])]
    assert heard(ada, eve, 2) == [(1, 2, ["eve"])]
    come(bob, "dan")
    come(eve, "dan")
    for remote in ada.node.sync.context.remotes.values():  # as with a mark of another log
        receipts.rosters.update(remote.link)
    assert sorted(NAMES[user] for user in receipts.holders(LOG, 2)) == ["bob", "cyd", "eve"]
    assert receipts.count(LOG, 2, everyone) == 3
    ada.say("two")
    assert heard(ada, bob, 3) == [(1, 3, ["dan"]), (3, 3, ["bob", "cyd"])]
    assert heard(ada, eve, 3) == [(3, 3, ["eve"])]
    ada.say("three")
    assert heard(ada, eve, 4) == [(4, 4, ["cyd", "dan", "eve"])]
    assert sorted(NAMES[user] for user in receipts.holders(LOG, 4)) == ["cyd", "dan", "eve"]
    assert receipts.count(LOG, 4, everyone) == 3


def test_a_user_who_moves_keeps_what_it_has_and_gets_the_rest_at_the_new_host(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "dan"), gateway(ada, "eve", "cyd")
    ada.say("one")
    heard(ada, bob, 2)
    leave(bob, "dan")
    come(eve, "dan")
    ada.say("two")
    assert heard(ada, bob, 3) == [(3, 3, ["bob"])]
    assert positions(ada, "dan") == [2]
    assert heard(ada, eve, 3) == [(1, 3, ["cyd", "eve"]), (3, 3, ["dan"])]
    assert positions(ada, "dan") == [3]


def test_a_list_that_says_who_left_meanwhile_comes_before_marks(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    ada.drop(bob)
    ada.world.pass_time(60)
    ada.say("two")
    bob = gateway(ada, "bob", "cyd")
    heard(ada, bob, 3)
    assert positions(ada, "cyd", "dan") == [3, 2]


@pytest.mark.parametrize("restarted", [False, True])
def test_rosters_and_rows_are_kept(ada: Peer, restarted: bool) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    leave(bob, "dan")
    ada.say("two")
    heard(ada, bob, 3)
    if restarted:
        ada.say("three")
        ada.restart()
    else:
        ada.put(CommitFailed(0, "disk full"))
        ada.put(Loaded(ada.storage.load([ada.id])))
        ada.take()
    assert positions(ada, "cyd", "dan") == [3, 2]
    bob = gateway(ada, "bob", "cyd", "dan")
    assert heard(ada, bob, 3) in ([], [(3, 3, ["dan"])])
    assert positions(ada, "cyd", "dan") == [3, 3]


def test_positions_of_users_from_an_earlier_version_count_and_are_not_reported_again(ada: Peer) -> None:
    ada.say("one", "two")
    ada.storage.commit([Change(delivered=[DeliveredMark(LOG, IDS["dan"], 2)])])
    ada.restart()
    bob = gateway(ada, "bob", "cyd", "dan")
    assert positions(ada, "dan") == [2]
    mark = own(ada, 3)._replace(run=LOG.run)
    receipts = ada.node.sync.delivery_receipts
    assert receipts.holders(LOG, 2) == [IDS["dan"]]
    assert receipts.count(LOG, 2, tuple(sorted((IDS["cyd"], IDS["dan"])))) == 1
    before = len(ada.effects)
    announce(bob, mark)
    found = [effect for effect in ada.effects[before:] if isinstance(effect, DeliveryReceipt)]
    again = [each for each in found if IDS["dan"] in (*each.others, each.member) and each.first <= 2]
    assert again == []


def test_a_count_is_of_those_whom_a_message_is_for(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "cyd", "dan"), ada.far("eve")
    ada.say("one")
    heard(ada, bob, 2)
    receipts = ada.node.sync.delivery_receipts

    def count(*names: str) -> int:
        return receipts.count(LOG, 2, tuple(sorted(IDS[name] for name in names)))

    assert [count("bob", "cyd", "dan", "eve"), count("dan", "eve"), count("eve")] == [3, 1, 0]
    heard(ada, eve, 2)
    assert count("bob", "cyd", "dan", "eve") == 4
    leave(bob, "dan")
    come(bob, "ada")
    assert count("bob", "cyd", "dan", "eve") == 4
    assert sorted(NAMES[user] for user in receipts.holders(LOG, 2)) == ["bob", "cyd", "dan", "eve"]


def test_a_stay_has_what_was_announced_during_it() -> None:
    stays = [GuestStay("p", "old", 1, 3), GuestStay("p", "new", 4)]
    marks = [DeliveredMark(LOG, "p", 5, 0, 2), DeliveredMark(LOG, "p", 9, 3, 4)]
    assert [*guests_having(marks, stays)] == [(LOG, "old", 5), (LOG, "new", 9)]


def test_a_roster_is_saved_in_parts_and_rows_of_its_peer_after_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TAKE_UNSAVED, (2,))
    ada = World().peer("ada")
    bob = gateway(ada, "bob", "cyd", "dan", "eve")
    ada.say("one")
    heard(ada, bob, 2)
    saved = []
    for _ in range(3):
        ada.say("a word")
        loaded = ada.storage.load([ada.id])
        saved.append((len(loaded.stays), len(loaded.delivered)))
    assert saved == [(2, 0), (4, 1), (4, 1)]


def test_a_peer_that_stops_saves_all_of_a_roster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TAKE_UNSAVED, (2,))
    ada = World().peer("ada")
    bob = gateway(ada, "bob", "cyd", "dan", "eve")
    ada.say("one")
    heard(ada, bob, 2)
    ada.put(Stop())
    ada.take()
    assert len(ada.storage.load([ada.id]).stays) == 4
    assert stored(ada, "bob", "cyd", "dan", "eve") == [2, 2, 2, 2]


def test_a_mark_that_was_looked_up_for_a_replaced_link_reports_nothing_twice(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd")
    ada.say("one")
    heard(ada, bob, 2)
    ada.say("two", "three")
    ada.restart()  # the chain at entry 3 is known to storage only
    bob = gateway(ada, "bob", "cyd")
    ada.hold_lookups = True
    announce(bob, own(ada, 3))
    ada.far("bob", compared=False, listed=False)  # the users of the replaced link stay until this one lists its own
    assert [line for line in ada.answer_lookups() if line.startswith("delivered")] == []
    assert heard(ada, gateway(ada, "bob", "cyd"), 3) == [(3, 3, ["bob", "cyd"])]


def test_a_mark_that_was_counted_for_all_users_of_a_peer_is_not_looked_up_again(ada: Peer) -> None:
    ada.say("one", "two")
    ada.restart()  # the chain at entry 2 is known to storage only
    bob, lookups = gateway(ada, "bob", "cyd"), list[int]()
    for _ in range(2):
        before = len(ada.effects)
        announce(bob, own(ada, 2))
        lookups.append(sum(isinstance(effect, Lookup) for effect in ada.effects[before:]))
    come(bob, "dan")
    announce(bob, own(ada, 2))
    assert (lookups, positions(ada, "bob", "cyd", "dan")) == ([1, 0], [2, 2, 2])


def test_a_peer_that_hosts_others_during_a_lookup_is_reported_once(ada: Peer) -> None:
    ada.say("one", "two")
    ada.restart()
    bob = ada.far("bob")
    ada.hold_lookups = True
    announce(bob, own(ada, 2))  # its chain is known to storage only
    come(bob, "cyd")
    assert heard(ada, bob, 3) == [(1, 3, ["bob", "cyd"])]
    assert [line for line in ada.answer_lookups() if line.startswith("delivered")] == []
    assert positions(ada, "bob", "cyd") == [3, 3]


def test_a_user_of_a_gateway_who_has_a_peer_of_its_own_too_is_reported_once(ada: Peer) -> None:
    ada.say("one")
    assert heard(ada, gateway(ada, "cyd", "bob"), 2) == [(1, 2, ["bob", "cyd"])]
    assert heard(ada, ada.far("bob"), 2) == []


def rows(ada: Peer) -> list[tuple[str, int, int]]:
    """Return the stored rows of peers: whose, of which version of the roster, up to which entry."""
    ada.say("whatever is unsaved is saved with it")
    marks = [mark for mark in ada.storage.load([ada.id]).delivered if mark.is_of_host]
    return sorted((NAMES[mark.member], mark.version, mark.seq) for mark in marks)


def test_a_former_row_goes_when_whoever_left_has_the_same_elsewhere(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "cyd", "dan"), gateway(ada, "eve", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    assert rows(ada) == [("bob", 0, 2)]
    leave(bob, "dan")
    heard(ada, bob, 3)  # dan has entry 2 from bob alone
    assert rows(ada) == [("bob", 0, 2), ("bob", 2, 3)]
    heard(ada, eve, 4)  # dan has all of it there now
    leave(bob, "cyd")
    heard(ada, bob, 4)
    assert rows(ada) == [("bob", 2, 3), ("bob", 3, 4), ("eve", 0, 4)]
    assert positions(ada, "cyd", "dan") == stored(ada, "cyd", "dan") == [3, 4]


def test_a_former_row_goes_when_whoever_left_is_back(ada: Peer) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    for _ in range(3):
        leave(bob, "dan")
        heard(ada, bob, 2)
        come(bob, "dan")
        heard(ada, bob, 2)
    assert rows(ada) == [("bob", 6, 2)]
    assert positions(ada, "dan") == stored(ada, "dan") == [2]


def test_a_former_row_stays_on_disk_until_what_replaces_it_is_there(ada: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = gateway(ada, "bob", "cyd", "dan")
    ada.say("one", "two", "three")
    heard(ada, bob, 2)
    assert rows(ada) == [("bob", 0, 2)]
    monkeypatch.setattr(TAKE_UNSAVED, (2,))
    leave(bob, "dan")
    heard(ada, bob, 3)
    eve = gateway(ada, "eve", "dan")
    heard(ada, eve, 2)
    leave(bob, "cyd")
    heard(ada, bob, 4)  # nobody needs the first row of bob any more; that of eve waits for her roster
    assert rows(ada) == [("bob", 0, 2), ("bob", 2, 3), ("bob", 3, 4)]
    assert stored(ada, "cyd", "dan") == [3, 2]
    assert rows(ada) == [("bob", 2, 3), ("bob", 3, 4), ("eve", 0, 2)]
    assert stored(ada, "cyd", "dan") == [3, 2]


def test_a_stay_stays_on_disk_until_what_replaces_it_is_there(ada: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = gateway(ada, "bob", "dan")
    ada.say("one")
    heard(ada, bob, 2)
    ada.say("two")
    monkeypatch.setattr(TAKE_UNSAVED, (2,))
    leave(bob, "dan")
    heard(ada, bob, 2)
    eve = gateway(ada, "eve", "cyd")
    for _ in range(MAX_STAYS):
        come(eve, "dan")
        heard(ada, eve, 2)
        leave(eve, "dan")
        heard(ada, eve, 2)
    for _ in range(MAX_STAYS):
        ada.say("a part of the roster is saved with it")
        assert stored(ada, "dan") == [2]
    assert {stay.peer for stay in ada.storage.load([ada.id]).stays if stay.user == IDS["dan"]} == {IDS["eve"]}


def test_of_many_stays_the_old_ones_become_positions_and_nothing_is_reported_again(ada: Peer) -> None:
    bob, eve = gateway(ada, "bob", "cyd", "dan"), gateway(ada, "eve", "cyd")
    ada.say("one")
    heard(ada, bob, 2)
    leave(bob, "dan")
    heard(ada, bob, 2)
    for _ in range(MAX_STAYS + 2):  # eve says only that it has the first entry
        come(eve, "dan")
        heard(ada, eve, 1)
        leave(eve, "dan")
        heard(ada, eve, 1)
    assert positions(ada, "dan") == [2]
    ada.say("two")
    of_dan = [stay for stay in ada.storage.load([ada.id]).stays if stay.user == IDS["dan"]]
    assert len(of_dan) == MAX_STAYS and all(stay.peer == IDS["eve"] for stay in of_dan)
    ada.restart()
    assert positions(ada, "dan") == stored(ada, "dan") == [2]
    eve = gateway(ada, "eve", "cyd", "dan")
    assert heard(ada, eve, 3) == [(2, 3, ["eve"]), (3, 3, ["cyd", "dan"])]
