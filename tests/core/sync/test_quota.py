"""Quotas: each limit from both sides, its announcement, and the later arrival of refused entries."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from p2pchat.config import Settings
from p2pchat.core.durable_changes import Change, DiskLevel
from p2pchat.core.groups.group_state import group_body, operation_hash
from p2pchat.core.inputs import CommitFailed, DiskLow, Loaded, PruneRequest, QuotaLifted
from p2pchat.core.log import Entry, encode_entry, size_bytes
from p2pchat.core.sync.quota import PREFIX, QuotaAccount
from p2pchat.protocol import Entries, Have, Mark, Naming
from p2pchat.storage.temporary_storage import TemporaryStorage
from simulation.simulation import Simulation
from simulation.virtual_time import SMALL
from tests.core.scripted_nodes import IDS, NAMINGS, ROOM, Author, Far, Peer, World, dm, have, page
from tests.core.sync.test_serve import takes_no_more, want

FULL = "to bob: have nothing full"


def sized(frame: Entries) -> int:
    return size_bytes(frame.e)


def lines(author: Author, count: int, characters: int = 100) -> list[Entries]:
    return [author.say("x" * characters) for _ in range(count)]


def wants(done: list[str]) -> list[str]:
    return [line for line in done if ": want " in line]


def kept(done: list[str]) -> list[str]:
    return [line for line in done if line.startswith("commit") and "small things" not in line]


def allow(peer: Peer, name: str) -> list[str]:
    peer.put(QuotaLifted(IDS[name]))
    return peer.take()


def beyond(quota: int, author: Author) -> tuple[list[Entries], Entries]:
    """Return the part of a long log that fits into a quota, and the first frame that does not."""
    fits, total = [], 0
    while total + sized(frame := author.say("x" * 100)) <= quota:
        fits.append(frame)
        total += sized(frame)
    return fits, frame


# ---- a user's quota


def test_up_to_the_last_byte_everything_is_kept_and_one_above_it_is_refused() -> None:
    bob = Author("bob", "b1")
    frames = lines(bob, 3)
    exact = sum(map(sized, frames))
    for quota, last in ((exact, "commit b1:3..3, show b1:3..3"), (exact - 1, "warn full")):
        ada = World().peer("ada", user_quota_bytes=quota)
        far = ada.far("bob")
        far.say(*frames[:2])
        assert last in far.say(frames[2])


def test_two_versions_of_an_entry_beyond_the_quota_are_no_fork() -> None:
    """They come in one read. Refused entries are not held, so there is no contradiction."""
    ada, one, twin = World().peer("ada", user_quota_bytes=300), Author("bob", "b1"), Author("bob", "b1")
    far = ada.far("bob")
    done = far.say(one.say("x" * 300), twin.say("y" * 300))
    assert done == ["warn full", FULL]
    assert ada.node.sync.conversations.by_id[ROOM].log(IDS["bob"], one.log.run) is None


def test_a_warning_comes_with_the_batch_that_passes_80_percent_once() -> None:
    bob = Author("bob", "b1")
    frames = lines(bob, 10)
    ada = World().peer("ada", user_quota_bytes=sum(map(sized, frames)))
    far = ada.far("bob")
    done = [far.say(frame) for frame in frames]
    assert [n for n, said in enumerate(done, 1) if "warn quota" in said] == [9]


def test_a_refused_entry_is_answered_with_full_and_never_acknowledged() -> None:
    ada = World().peer("ada", user_quota_bytes=1000)
    bob = Author("bob", "b1")
    fits, refused = beyond(1000, bob)
    far = ada.far("bob")
    far.say(*fits)
    assert far.say(refused) == ["warn full", FULL]
    assert far.say(refused) == []  # not again with each frame
    ada.world.pass_time(2.0)
    assert ada.take() == []
    assert far.say(bob.say("more")) == [FULL]
    assert ada.texts() == ["x" * 100] * len(fits)
    done = [frame for frame in far.heard if isinstance(frame, Have) and frame.marks.get(ROOM, {}).get(IDS["bob"])]
    assert all(mark.seq <= len(fits) for frame in done for mark in frame.marks[ROOM][IDS["bob"]])


def test_a_batch_with_a_wrong_head_costs_its_writer_nothing() -> None:
    ada = World().peer("ada", user_quota_bytes=1000)
    lie = Author("bob", "b1").say("x" * 800)
    lie.head = "00" * 64
    assert ada.far("eve").say(lie) == ["close eve: head"]
    assert kept(ada.far("bob").say(Author("bob", "b1").say("x" * 800)))


def test_nothing_of_a_full_writer_is_fetched_or_awaited() -> None:
    ada = World().peer("ada", user_quota_bytes=1000)
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    fits, refused = beyond(1000, bob)
    far = ada.far("bob")
    far.say(*fits)
    far.say(refused)
    for name in ("cyd", "dan"):
        assert wants(ada.far(name, bob).say(have(bob), page(bob))) == []
    answer = cyd.say("an answer", re=bob.ref(bob.seq))
    ada.far("cyd").say(answer)
    ada.world.pass_time(6.0)  # it is not on its way: 5 s, not 300
    assert ada.texts()[-1] == "?an answer"
    ada.world.pass_time(60.0)
    assert wants(ada.take()) == []


def test_a_full_user_does_not_affect_others() -> None:
    ada = World().peer("ada", user_quota_bytes=1000)
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(*lines(bob, 10))
    assert kept(ada.far("cyd").say(cyd.say("hi"))) == ["commit c1:1..1, show c1:1..1"]


def test_lifting_a_quota_is_permanent_and_refused_entries_arrive() -> None:
    world = World()
    ada, bob = world.peer("ada", user_quota_bytes=1000), world.peer("bob")
    world.link(ada, bob)
    done = [line for n in range(20) for line in bob.say(f"{n} " + "x" * 100)]
    world.pass_time(30)
    assert 0 < len(ada.texts()) < 10
    assert (done + bob.take()).count("warn refused") == 1
    allow(ada, "bob")
    world.pass_time(2)
    assert len(ada.texts()) == 20
    bob.say("and on")  # pushed like any entry
    world.settle()
    assert ada.texts()[-1] == "and on"
    ada.restart()
    world.link(bob, ada)
    bob.say("after a restart")
    world.pass_time(5)
    assert ada.texts()[-1] == "after a restart"


def test_traffic_becomes_quiet_while_a_user_is_full() -> None:
    world = World()
    ada, bob = world.peer("ada", user_quota_bytes=1000), world.peer("bob")
    world.link(ada, bob)
    for n in range(20):
        bob.say(f"{n} " + "x" * 100)
    world.pass_time(30)
    ada.take(), bob.take()
    world.pass_time(60)
    done = ada.take() + bob.take()
    assert wants(done) == [] and not [line for line in done if ": entries " in line]
    assert len(done) < 60  # digests, sums and marks, every 10 s


def test_a_sender_stops_after_a_refusal() -> None:
    ada = World().peer("ada", max_batch_entries=1, fetch_batches=1)
    far = ada.far("bob")
    for n in range(20):
        ada.say(f"{n}")
    ada.put_frames(far, want(7, "ada"))  # and the answer is full before it has everything
    done = takes_no_more(far)
    assert any(line == "to bob: have nothing end 7" for line in done)
    assert sum(": entries " in line for line in done) <= 2
    assert any(": entries " in line for line in far.say(want(8, "ada")))  # a want means that it accepts more again


def test_hosted_users_have_no_limit_at_home_and_their_own_past_comes_back() -> None:
    ada = World().peer("ada", user_quota_bytes=500)
    assert all("refused" not in line for _ in range(20) for line in ada.say("x" * 100))
    past = Author("ada", "a9")
    assert len([frame for frame in lines(past, 20) if kept(ada.far("bob").say(frame))]) == 20


def test_imported_entries_count_and_are_refused_as_full() -> None:
    ada = World().peer("ada", user_quota_bytes=1000)
    bob = Author("bob", "b1")
    fits, refused = beyond(1000, bob)
    assert ada.carry(*fits)[-1] == f"imported {len(fits)} new"
    done = ada.carry(refused)
    assert "warn full" in done and done[-1].endswith("1 full")
    assert ada.far("bob").say(bob.say("by link")) == [FULL]


# ---- entries stored before


def stored_of_bob(count: int) -> tuple[TemporaryStorage, Author]:
    """Return a storage with `count` entries of bob, and his log."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(*lines(bob, count))
    return ada.storage, bob


def test_after_a_restart_stored_bytes_count_exactly() -> None:
    storage, bob = stored_of_bob(5)
    quota = storage.load([]).sizes.get(IDS["bob"], 0) + sized(one := bob.say("x" * 100))
    ada = World().peer("ada", storage, user_quota_bytes=quota)
    far = ada.far("bob")
    assert kept(far.say(one)) == ["commit b1:6..6, show b1:6..6"]
    assert "warn full" in far.say(bob.say("x"))


def test_bytes_are_counted_again_after_a_failure_of_storage() -> None:
    ada, bob = World().peer("ada", user_quota_bytes=1000), Author("bob", "b1")
    ada.holding = True
    fits, refused = beyond(1000, bob)
    ada.far("bob").say(*fits)
    ada.held.clear()
    ada.put(CommitFailed(0, "full disk"))
    ada.holding = False
    ada.put(Loaded(ada.load()))
    ada.take()
    far = ada.far("bob")
    assert kept(far.say(*fits))
    assert FULL in far.say(refused)


def test_a_quota_lifted_while_storage_fails_stays_lifted() -> None:
    ada, bob = World().peer("ada", user_quota_bytes=1000), Author("bob", "b1")
    fits, refused = beyond(1000, bob)
    far = ada.far("bob")
    for frame in (*fits, refused):
        far.say(frame)
    ada.put(CommitFailed(0, "full disk"))
    allow(ada, "bob")
    ada.put(Loaded(ada.load()))
    ada.take()
    assert kept(ada.far("bob").say(refused))
    assert "allowed" in ada.storage.load([]).meta[f"quota:{IDS['bob']}"]


# ---- unknown users


def brought(number: int) -> Author:
    """Return the author of an unknown user, who is on no link."""
    return Author(("bob", "cyd", "dan")[number], f"{number}a")


def test_unknown_users_of_one_peer_share_a_limit_and_those_of_another_have_their_own() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    eve = ada.far("eve", host="10.0.1.9")
    assert kept(eve.say(brought(0).say("x" * 500)))
    assert kept(eve.say(brought(1).say("x" * 300)))
    assert eve.say(brought(2).say("x" * 300)) == ["warn full", "to eve: have nothing full"]
    assert kept(ada.far("dan", host="10.0.2.9").say(brought(2).say("x" * 300)))


def test_peers_of_one_network_share_its_limit() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    assert kept(ada.far("eve", host="10.0.1.8").say(Author("eve", "e1").say("x" * 700)))
    bob = Author("bob", "b1").say("x" * 300)
    far = ada.far("bob", host="10.0.1.9")
    assert far.say(bob) == ["warn full", "to bob: have nothing full"]
    assert "to bob: digest" not in ada.say("hello")
    ada.say("who are you?", to=ada.open("eve"))  # she counts no more
    ada.world.pass_time(0.0)
    assert kept(far.say(bob))


def test_on_one_machine_each_peer_has_a_share() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    for name in ("bob", "cyd"):
        assert kept(ada.far(name, host="127.0.0.1").say(Author(name, name[0] + "1").say("x" * 700)))


def fill(far: Far, author: Author) -> int:
    """Let a user write until it is refused; return the bytes that were taken."""
    taken = 0
    while kept(far.say(frame := author.say("x" * 300))):
        taken += sized(frame)
    return taken


def test_one_user_of_a_gateway_leaves_most_of_its_branch_to_the_others() -> None:
    """Before: one account filled all that other peers grant its gateway, in seven minutes."""
    limits = {"branch_bytes": 40_000, "branch_bytes_of_user": 2_000, "branch_part_of_user": 4}
    ada = World().peer("ada", None, **limits)
    gateway = ada.far("eve", host="10.0.1.9")
    bob, cyd, dan = (fill(gateway, brought(number)) for number in range(3))
    assert 40_000 / 5 - 500 < bob <= 40_000 / 5  # a quarter of what it leaves
    assert 32_000 / 5 - 500 < cyd <= 32_000 / 5 + 500 and 25_600 / 5 - 500 < dan <= 25_600 / 5 + 500
    again = World().peer("ada", ada.storage, **limits)
    gateway = again.far("eve", host="10.0.1.9")
    assert not kept(gateway.say(brought(0).say("x" * 300)))
    assert fill(gateway, Author("eve", "e1")) > 15_000  # its own user has all that is left


def test_a_user_of_a_gateway_may_always_have_a_little_while_there_is_room() -> None:
    ada = World().peer("ada", branch_bytes=40_000, branch_bytes_of_user=2_000, branch_part_of_user=4)
    gateway = ada.far("eve", host="10.0.1.9")
    assert all(kept(gateway.say(frame)) for frame in lines(Author("eve", "e1"), 9, 4_000))
    assert 2_000 - 500 < fill(gateway, brought(0)) <= 2_000


def test_all_unknown_users_share_a_limit() -> None:
    ada = World().peer("ada", unknown_bytes=1_000)
    assert kept(ada.far("eve", host="10.0.1.9").say(Author("eve", "e1").say("x" * 700)))
    assert "warn full" in ada.far("bob", host="10.0.2.9").say(Author("bob", "b1").say("x" * 300))


def test_a_user_counts_at_the_peer_that_hosts_it_whoever_brings_its_entries() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    ada.far("bob", host="10.0.1.9")
    eve = ada.far("eve", host="10.0.2.9")
    assert kept(eve.say(Author("bob", "b1").say("x" * 700)))
    assert kept(eve.say(Author("eve", "e1").say("x" * 700)))


def test_what_a_contact_brings_of_others_counts_in_no_other_branch() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    ada.node.contacts.add([IDS["eve"]])
    far = ada.far("eve")
    assert all(kept(far.say(frame)) for frame in lines(brought(0), 20))
    assert all(kept(far.say(frame)) for frame in lines(Author("eve", "e1"), 20))


def test_one_contact_leaves_half_of_all_space_to_other_unknown_users() -> None:
    """Before: a contact that passed on logs of made-up users closed a peer to all newcomers."""
    ada = World().peer("ada", unknown_bytes=20_000)
    ada.node.contacts.add([IDS["eve"]])
    eve, bob, cyd = ada.far("eve", host="10.0.1.9"), ada.far("bob", host="10.0.2.9"), brought(1)
    assert 10_000 - 500 < fill(eve, cyd) + fill(eve, brought(2)) <= 10_000
    assert all(kept(bob.say(frame)) for frame in lines(Author("bob", "b1"), 10))
    again = World().peer("ada", ada.storage, unknown_bytes=20_000)
    assert not kept(again.far("eve", host="10.0.4.9").say(cyd.say("x" * 500)))


def test_many_logs_that_a_contact_brings_count_four_times_as_much() -> None:
    ada, logs = World().peer("ada", unknown_bytes=20 * 4_200, log_bytes=4_096), 0
    ada.node.contacts.add([IDS["eve"]])
    far = ada.far("eve")
    while kept(far.say(brought(logs).say("x"))):
        logs += 1
    assert logs == 2


def test_nobody_waits_for_what_is_refused() -> None:
    ada = World().peer("ada", branch_bytes=300)
    allow(ada, "bob")
    eve, bob = Author("eve", "e1"), Author("bob", "b1")
    refused = eve.say("x" * 700)
    assert "warn full" in ada.far("eve", host="10.0.1.9").say(refused)
    far = ada.far("bob", host="10.0.2.9")
    far.say(bob.say("what does she want?", after=[eve.ref(1)]))
    ada.world.pass_time(1.0)
    assert ada.texts() == ["?what does she want?"]


def test_known_users_are_counted_in_no_branch() -> None:
    ada = World().peer("ada", branch_bytes=1_000)
    allow(ada, "bob")
    far = ada.far("eve")
    assert all(kept(far.say(frame)) for frame in lines(brought(0), 20))
    assert kept(far.say(brought(1).say("x" * 700)))


def test_who_is_answered_gives_room_and_everything_is_compared_again() -> None:
    ada = World().peer("ada", branch_bytes=600)
    eve = Author("eve", "e1", dm("ada", "eve"))
    far = ada.far("eve")
    fits, refused = beyond(600, eve)
    far.say(*fits)
    assert "to eve: have nothing full" in far.say(refused)
    ada.say("who are you?", to=dm("ada", "eve"))
    ada.world.pass_time(0.0)
    assert "to eve: digest" in ada.take()
    assert kept(far.say(refused))


def test_charges_survive_a_restart_and_are_stored_rarely() -> None:
    first = World().peer("ada", branch_bytes=100_000)
    far, pen = first.far("eve", host="fe80::7%eth0"), Author("eve", "e1")
    saved = [first.storage.meta().get(f"quota:{IDS['eve']}") for frame in lines(pen, 40, 500) if far.say(frame)]
    assert 1 < len(set(saved)) < 16
    ada = World().peer("ada", first.storage, branch_bytes=15_000)
    cyd = ada.far("cyd", host="fe80::8")
    assert "to cyd: have nothing full" in cyd.say(Author("cyd", "c1").say("x"))
    assert kept(ada.far("bob", host="127.0.0.1").say(Author("bob", "b1").say("x")))


def test_restarts_never_add_up_in_what_a_user_is_charged() -> None:
    storage, pen, stored = TemporaryStorage(), Author("eve", "e1"), 0
    for frame in [pen.say("x" * 3_000), *lines(pen, 30)]:
        ada = World().peer("ada", storage, branch_bytes=10_000)
        assert kept(ada.far("eve", host="10.0.1.9").say(frame))
        storage, stored = ada.storage, stored + sized(frame)
        charges = QuotaAccount.parse(storage.meta()[f"quota:{IDS['eve']}"]).charges
        assert stored <= sum(charge.stored for charge in charges) <= stored * 5 / 4


# ---- logs


def beside(number: int) -> Author:
    """Return the author of a log that follows none, of one of three unknown users."""
    return Author(("bob", "cyd", "dan")[number % 3], f"{number:02x}")


def test_a_log_of_an_unknown_user_counts_with_what_it_costs_besides_its_entries() -> None:
    """Before: 128 logs a second cost 63 bytes each, and 6.5 KiB of memory and disk."""
    ada = World().peer("ada", branch_bytes=4 * 4_200, log_bytes=4_096)
    far = ada.far("eve", host="10.0.1.9")
    assert all(kept(far.say(beside(number).say("x"))) for number in range(4))
    assert "to eve: have nothing full" in far.say(beside(4).say("x"))
    assert kept(ada.far("dan", host="10.0.2.9").say(beside(5).say("x")))
    assert Settings().branch_bytes // Settings().log_bytes == 65_536


def test_more_in_a_log_counts_with_its_bytes_alone() -> None:
    ada, pen = World().peer("ada", branch_bytes=8_000, log_bytes=4_096), Author("eve", "e1")
    far = ada.far("eve", host="10.0.1.9")
    assert all(kept(far.say(pen.say("x"))) for _ in range(20))


def test_an_operation_of_a_group_counts_what_it_takes_in_memory() -> None:
    """256 MiB of them, as one branch may have, took 1.3 GB."""
    ada, members = World().peer("ada", branch_bytes=5 * 10_000), {IDS["ada"]: 1, IDS["eve"]: 1}
    raw = encode_entry(Entry("group", 1, 1, b=group_body(1, "ops", IDS["eve"], members, {}, salt="00" * 16)))
    NAMINGS[operation_hash(raw)] = Naming(group=(operation_hash(raw), IDS["eve"], "e0" * 8))
    far, pen, gen, stored = ada.far("eve", host="10.0.1.9"), Author("eve", "e0", operation_hash(raw)), 1, 0
    while kept(far.say(pen.write(raw))):
        gen, stored = gen + 1, stored + len(raw[1])
        raw = encode_entry(Entry("group", gen, gen, b=group_body(gen, "ops", IDS["eve"], members, {})))
    assert 9_500 < stored <= 10_000


def test_a_log_that_follows_another_counts_a_quarter() -> None:
    """As every start of a peer begins one: a job that runs each minute is no flood."""
    ada, logs = World().peer("ada", branch_bytes=4_200 + 6 * 1_200, log_bytes=4_096), 0
    before: list[Mark] = []
    far, done = ada.far("eve", host="10.0.1.9"), ["commit"]
    while kept(done):
        pen = Author("eve", f"{logs:02x}", before=before)
        done, logs, before = far.say(pen.say("x")), logs + 1, [pen.mark]
    assert logs == 1 + 6 + 1


def test_a_known_user_s_logs_cost_nothing_besides() -> None:
    ada = World().peer("ada", branch_bytes=1_000, unknown_bytes=1_000, log_bytes=4_096)
    ada.node.contacts.add([IDS["bob"]])
    assert kept(ada.far("eve", host="10.0.1.9").say(Author("bob", "b1").say("x")))


def test_restarts_and_deletions_leave_the_charges_of_logs_as_they_are() -> None:
    storage, pens, texts = TemporaryStorage(), [beside(number) for number in range(8)], 0
    for count, pen in enumerate(pens, 1):
        ada = World().peer("ada", storage, log_bytes=4_096)
        frame = pen.say("x" * 50)
        assert kept(ada.far("eve", host="10.0.1.9").say(frame))
        storage, texts = ada.storage, texts + sized(frame)
        assert count * 4_096 + texts <= charged(storage) <= (count * 4_096 + texts) * 5 / 4
    before = charged(storage)
    for _ in range(3):
        ada = World().peer("ada", storage, log_bytes=4_096)
        assert charged(ada.storage) == before
        storage = ada.storage
    for name in ("bob", "cyd", "dan"):
        ada.put(PruneRequest(1, ROOM, IDS[name]))
        ada.take()
    assert sum(storage.load([]).sizes.values()) == 0
    assert 8 * 4_096 <= charged(ada.storage) <= 8 * 4_096 * 5 / 4
    assert charged(World().peer("ada", ada.storage, log_bytes=4_096).storage) == charged(ada.storage)


def charged(storage: TemporaryStorage) -> int:
    """Return what all users are charged with."""
    lines = (line for name, line in storage.meta().items() if name.startswith(PREFIX))
    return sum(charge.stored for line in lines for charge in QuotaAccount.parse(line).charges)


def test_charges_of_an_earlier_version_count_at_the_peer_alone() -> None:
    first = World().peer("ada")
    first.storage.commit([Change(meta={f"quota:{IDS['bob']}": f"proven {IDS['eve']}:900"})])
    ada = World().peer("ada", first.storage, branch_bytes=1_000)
    assert "warn full" in ada.far("eve", host="127.0.0.1").say(Author("eve", "e1").say("x" * 300))
    assert kept(ada.far("cyd", host="127.0.0.1").say(Author("cyd", "c1").say("x" * 300)))


def test_made_up_users_do_not_flood_the_screen() -> None:
    ada = World().peer("ada", branch_bytes=1)
    far = ada.far("eve")
    done = [line for name in ("bob", "cyd", "dan") for line in far.say(Author(name, "f1").say("x"))]
    assert done == ["warn full", *["to eve: have nothing full"] * 3]


@pytest.mark.parametrize("line", ["", "allowed", f"allowed {'ab' * 32}@10.0.0.9:17 file:3", f"{'ab' * 32}@fe80__1:0"])
def test_accounts_are_read_as_they_were_written(line: str) -> None:
    assert str(QuotaAccount.parse(line)) == line


# ---- little disk space


def test_with_little_disk_space_unknown_users_are_refused_first_then_all_others(ada: Peer) -> None:
    ada.node.contacts.add([IDS["bob"]])
    bob, eve = Author("bob", "b1"), Author("eve", "e1")
    known, unknown = ada.far("bob"), ada.far("eve")
    ada.put(DiskLow(DiskLevel.KNOWN_ONLY))
    assert ada.take() == ["warn disk_low"]
    refused = eve.say("one")
    assert kept(known.say(bob.say("one"))) and unknown.say(refused) == ["to eve: have nothing full"]
    assert unknown.say(page(eve)) == []  # nothing is fetched
    ada.put(DiskLow(DiskLevel.OWN_ONLY))
    two = bob.say("two")
    assert known.say(two)[-1] == "to bob: have nothing full" and kept(ada.say("my own"))
    ada.take()
    ada.put(DiskLow(DiskLevel.ENOUGH))
    done = ada.take()
    assert {"warn disk_enough", "to bob: digest", "to eve: digest"} <= set(done)
    assert kept(known.say(two)) and kept(unknown.say(refused))


# ---- whole histories


@pytest.mark.parametrize("seed", range(12))
def test_no_history_exceeds_a_quota_and_lifting_it_brings_everything(seed: int) -> None:
    """Run crashes and partitions with tiny quotas; then lift all quotas, and all promises hold."""
    chance = Random(seed)
    quota = chance.choice((1_000, 2_000, 4_000))
    sim = Simulation(seed, settings=replace(SMALL, user_quota_bytes=quota))
    peers = sim.peers(chance.randrange(2, 5))
    for _ in range(60):
        peer, what = chance.choice(peers), chance.random()
        if what < 0.7 and peer.up:
            peer.say("x" * chance.randrange(1, 300))
        elif what < 0.76 and peer.up:
            peer.crash()
        elif what < 0.86 and not peer.up:
            peer.start()
        elif what < 0.9:
            sim.partition(peers[:1], peers[1:])
        elif what < 0.95:
            sim.heal()
        sim.run(chance.uniform(0.05, 2.0))
        sizes = [
            one.disk.storage.load([]).sizes.get(other.user, 0) for one in peers for other in peers if one is not other
        ]
        assert max(sizes) <= quota
    sim.heal()
    for peer in peers:
        if not peer.up:
            peer.start()
        peer.connect(peers[0].endpoint)  # some were killed before they had met anybody
    sim.run(60)
    wanted = sim.frames["Want"]
    sim.run(60)
    assert sim.frames["Want"] == wanted  # no peer wants entries that it refuses
    for peer in peers:
        peer.allow_all()
    assert sim.settle()
    assert sim.check() == []
