"""Deletion: what it keeps, what others can still get, and what a deletion leaves to receipts, forks and the disk."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.effects import WriteRefused
from p2pchat.core.inputs import PruneRequest, UserHosted, UserRenamed, UserUnhosted, WriteRequest
from p2pchat.core.log import Ref, decode_entry, ref_key
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.protocol import Entries, Have
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.founded_peers import HERE, guest, of_founder
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, Peer, World, have
from tests.core.sync.test_quota import FULL
from tests.core.sync.test_sender import own, want


def linked(*names: str, seed: int = 2) -> tuple[Simulation, list[SimPeer]]:
    """Return peers that all have met."""
    sim = Simulation(seed)
    peers = sim.peers(len(names))
    sim.calm()
    return sim, peers


def texts(peer: SimPeer, conversation: str) -> list[str]:
    entries = (decode_entry(one.raw) for one in peer.disk.storage.history(conversation, limit=0))
    return [entry.b for entry in entries if entry.k == "text"]


def say(sim: Simulation, peer: SimPeer, text: str, to: SimPeer | None = None) -> None:
    """Let a peer say something, to all or to another one, and what comes of it happen."""
    peer.say(text, to)
    sim.calm()


def restart(peer: SimPeer, other: SimPeer) -> None:
    """Kill the process of a peer, and start another one that dials the other peer."""
    peer.crash()
    peer.start(other.endpoint)


def delete(sim: Simulation, peer: SimPeer, conversation: str, *, user: str = "", before: int = 0) -> None:
    peer.program.delete(conversation, user, before)
    sim.calm()


def sums(peer: SimPeer, other: SimPeer) -> str | None:
    return peer.digest_for(other)


def test_a_deletion_changes_no_sum_and_nothing_comes_back() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    for n in range(5):
        ada.say(f"a{n}", bob)
        bob.say(f"b{n}", ada)
        sim.run(1.0)
    there, before = dm_id(ada.sim.invariants.room, ada.user, bob.user), sums(ada, bob)
    delete(sim, ada, there)
    assert texts(ada, there) == [] and len(texts(bob, there)) == 10
    assert sums(ada, bob) == before == sums(bob, ada)
    restart(ada, bob)
    sim.run(60.0)
    assert texts(ada, there) == [] and sums(ada, bob) == before == sums(bob, ada)
    say(sim, bob, "again", ada)
    say(sim, ada, "yes", bob)
    assert texts(ada, there) == ["again", "yes"] and texts(bob, there)[-2:] == ["again", "yes"]
    assert sim.settle() and sim.check() == []


def test_an_own_message_that_nobody_else_has_stays_until_somebody_has_it() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "here", bob)
    sim.partition([ada], [bob])
    say(sim, ada, "not yet", bob)
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    delete(sim, ada, there)
    assert texts(ada, there) == ["not yet"] and sim.counts["deletion_kept"] == 1
    sim.heal()
    sim.run(30.0)
    assert texts(bob, there) == ["here", "not yet"]
    delete(sim, ada, there)
    assert texts(ada, there) == [] and texts(bob, there) == ["here", "not yet"]


def test_who_lost_its_disk_gets_what_is_written_after_the_deletion() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "old", bob)
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    delete(sim, ada, there)
    bob.crash()
    bob.restore(0)
    say(sim, ada, "while bob has nothing", bob)
    bob.start(ada.endpoint)
    sim.run(90.0)  # it waits for what was deleted, then shows it with a gap mark
    say(sim, ada, "new", bob)
    assert texts(bob, there) == ["while bob has nothing", "new"]


def test_each_deletion_seals_one_log_more() -> None:
    """Sealed logs stay tips, and none is sealed again: there is room for 32 deletions."""
    sim, (ada, bob) = linked("ada", "bob")
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    for number in range(10):
        say(sim, ada, f"old {number}", bob)
        delete(sim, ada, there)
    bob.crash()
    bob.restore(0)
    say(sim, ada, "while bob has nothing", bob)
    bob.start(ada.endpoint)
    sim.run(90.0)  # it waits for what was deleted, then shows it with a gap mark
    assert texts(bob, there) == ["while bob has nothing"]


def test_what_follows_a_second_deletion_follows_what_was_written_last() -> None:
    """Also where the clock of this machine was put back in between (seed 1296144 with --relay)."""
    sim, (ada, bob) = linked("ada", "bob")
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    say(sim, ada, "one", bob)
    delete(sim, ada, there)
    ada.clock.ahead = -3600.0
    restart(ada, bob)
    sim.calm()
    say(sim, ada, "two", bob)
    delete(sim, ada, there)
    say(sim, ada, "three", bob)
    logs = {decode_entry(one.raw).b: one.log for one in bob.disk.storage.history(there)}
    (three,) = (one for one in bob.disk.storage.history(there) if one.log == logs["three"])
    assert decode_entry(three.raw).after == (Ref(ref_key(logs["two"].user, logs["two"].run), 1),)


def test_what_was_deleted_while_a_user_was_away_is_not_built_on_when_it_is_back() -> None:
    """Nobody else has it (seed 1075119)."""
    sim, (ada, bob) = linked("ada", "bob")
    bob.crash()
    zoe = sim.guest("zoe")
    ada.host_guest(zoe)
    ada.say_as(zoe, "old")
    sim.calm()
    ada.unhost_guest(zoe)
    delete(sim, ada, sim.invariants.room)
    ada.host_guest(zoe)
    ada.say_as(zoe, "new")
    bob.start(ada.endpoint)
    sim.run(90.0)  # it waits for what was deleted, then shows the new one with a gap mark
    assert texts(bob, sim.invariants.room) == ["new"]


def test_a_second_deletion_of_older_messages_begins_no_further_log() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "one", bob)
    clock = decode_entry(ada.disk.storage.history(dm_id(ada.sim.invariants.room, ada.user, bob.user))[-1].raw).c
    say(sim, ada, "two", bob)
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    delete(sim, ada, there, before=clock + 1)
    say(sim, ada, "three", bob)
    assert texts(ada, there) == ["two", "three"] and len(_logs(ada, there)) == 2
    delete(sim, ada, there, before=clock + 1)
    delete(sim, ada, there, before=decode_entry(ada.disk.storage.history(there)[-1].raw).c)
    say(sim, ada, "four", bob)
    assert texts(ada, there) == ["three", "four"] and len(_logs(ada, there)) == 2
    assert texts(bob, there) == ["one", "two", "three", "four"]


def _logs(peer: SimPeer, conversation: str) -> set[str]:
    return {log.run for log in peer.disk.logs if log.conversation == conversation and log.user == peer.user}


def test_a_kill_between_two_steps_leaves_a_state_from_which_the_next_deletion_goes_on() -> None:
    for effects in range(1, 12):
        sim, (ada, bob) = linked("ada", "bob", seed=effects)
        for n in range(4):
            bob.say(f"b{n}", ada)
        sim.calm()
        there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
        ada.crash_within(effects)
        delete(sim, ada, there)
        ada.crash_never()
        if not ada.up:
            ada.start(bob.endpoint)
        sim.calm()
        assert texts(ada, there) in ([], ["b0", "b1", "b2", "b3"])
        delete(sim, ada, there)
        assert texts(ada, there) == [] and len(texts(bob, there)) == 4
        assert sim.settle() and sim.check() == []


def test_an_unknown_conversation_is_refused(ada: Peer) -> None:
    answers = ada.node.handle(PruneRequest(7, "ee" * 32), ada.world.now)
    assert answers == [WriteRefused(7, "conversation", "no such conversation here")]


def test_deleted_messages_of_a_full_quota_make_room_for_new_ones() -> None:
    ada, author = World().peer("ada", member_bytes=1000), Author("bob", "b1")
    bob = ada.far("bob")
    frames = [author.say("x" * 100) for _ in range(12)]
    told = [line for frame in frames for line in bob.say(frame)]
    assert 0 < ada.storage.load([]).sizes.get(IDS["bob"], 0) <= 1000 and FULL in told
    ada.put(PruneRequest(1, ROOM, IDS["bob"]))
    ada.world.settle()
    assert ada.storage.load([]).sizes.get(IDS["bob"], 0) == 0
    for frame in frames:
        bob.say(frame)
    assert 0 < ada.storage.load([]).sizes.get(IDS["bob"], 0) <= 1000


def test_deleted_messages_of_a_user_make_room_for_others_of_its_member() -> None:
    first = of_founder(member_bytes=2_000)
    first.far("eve").say(guest("cyd").say("x" * 700, "x" * 700))
    ada = of_founder(first.storage, member_bytes=2_000)
    far, refused = ada.far("eve"), guest("bob").say("x" * 700)
    assert far.say(refused) == ["warn full", "to eve: have nothing full"]
    ada.put(PruneRequest(1, HERE, IDS["cyd"]))
    assert "to eve: digest" in ada.take()
    assert far.say(refused)[0].startswith("commit b1")


def test_who_lacks_what_was_deleted_is_pushed_nothing_behind_it(ada: Peer) -> None:
    """The user was hosted elsewhere when it was deleted here, so its next log here builds on it (seed 999177)."""
    earlier = Author("cyd", "c9")
    ada.far("bob").say(earlier.say("long ago"))
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    cyd = IDENTITIES["cyd"]
    ada.put(UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign)))
    dan = ada.far("dan")

    def say(text: str) -> list[str]:
        ada.put(WriteRequest(1, cyd.peer_id, ROOM, "text", [text]))
        return [line for line in ada.take() if " dan" in line.partition(":")[0]]

    assert say("here again") == ["to bob dan: have room cyd a1:2"]
    assert [line for line in dan.say(want(1, "cyd")) if line.startswith("to dan")] == [
        "to dan: have room cyd a1:2 end 1"
    ]
    assert say("more") == ["to bob dan: have room cyd a1:3"]


def test_who_lacks_what_was_deleted_is_pushed_no_log_that_was_begun_before_it_asked(ada: Peer) -> None:
    """The first entry of a log that builds on the deleted one is durable only after the want has ended."""
    ada.far("bob").say(Author("cyd", "c9").say("long ago"))
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    cyd = IDENTITIES["cyd"]
    ada.put(UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign)))
    dan = ada.far("dan")
    ada.holding = True
    ada.put(WriteRequest(1, cyd.peer_id, ROOM, "text", ["here again"]))
    ada.take()
    assert dan.say(want(1, "cyd"))[-1] == "to dan: have room cyd c9:1 end 1"
    ada.holding = False
    assert [line for line in ada.commit() if " dan" in line.partition(":")[0]] == ["to bob dan: have room cyd a1:2"]


def test_what_was_on_its_way_to_the_disk_at_a_deletion_is_still_pushed(ada: Peer) -> None:
    """Its log is sealed: what is written afterwards begins another one (seed 999783)."""
    bob = ada.far("bob")
    ada.say("one")
    bob.say(Have({ROOM: {IDS["ada"]: [own(ada, 2)]}}))
    ada.hold_lookups = True
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    ada.holding = True
    ada.say("two")
    ada.answer_lookups()
    ada.holding = False
    assert "to bob: entries room a1:3..3" in ada.commit()
    assert "to bob: entries room a2:1..2" in ada.say("three")


def test_a_sealed_log_that_another_process_of_its_user_built_on_is_not_begun_again(ada: Peer) -> None:
    """It is in storage only then (seed 1000515)."""
    bob = ada.far("bob")
    ada.say("one")
    bob.say(Have({ROOM: {IDS["ada"]: [own(ada, 2)]}}))
    elsewhere = Author("ada", "c1", before=[own(ada, 2)])
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    bob.say(elsewhere.say("elsewhere"))
    assert "commit a2:1..2" in ada.say("two")[0]


def test_a_log_behind_a_sealed_one_follows_only_what_was_shown_of_that(ada: Peer) -> None:
    """The rest of it may come later and wait for something (seed 1293620 with --blocks)."""
    bob = ada.far("bob")
    elsewhere, missing = Author("ada", "c1"), Author("bob", "b1")
    missing.say("not here yet")
    bob.say(elsewhere.say("one"), have(elsewhere))
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    bob.say(elsewhere.say("two", after=[missing.ref(1)]))
    ada.say("three")
    (last,) = [decode_entry(one.raw) for one in ada.storage.places(0, 10) if "three" in one.raw[1]]
    assert last.after == (elsewhere.ref(1),)


@pytest.mark.parametrize("is_durable", [False, True])
def test_a_user_who_is_hosted_while_a_deletion_is_under_way_builds_on_nothing_of_it(is_durable: bool) -> None:
    """Seed 1405010 with --files: nobody else had what was deleted."""
    ada, cyd = World().peer("ada"), IDENTITIES["cyd"]
    hosted = UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign))
    ada.put(hosted)
    ada.put(WriteRequest(1, cyd.peer_id, ROOM, "text", ["one"]))
    ada.take()
    ada.put(UserUnhosted(cyd.peer_id))
    ada.take()
    ada.holding = True
    ada.put(PruneRequest(1, ROOM, user=cyd.peer_id))
    ada.take()
    ada.commit()  # what comes before the deletion
    assert [order.change.pruned[0].log.user for order in ada.held] == [cyd.peer_id]
    if is_durable:
        ada.commit()
    ada.put(hosted)
    ada.holding = False
    ada.commit()
    ada.put(WriteRequest(2, cyd.peer_id, ROOM, "text", ["two"]))
    ada.take()
    first = next(one for one in ada.storage.places(0, 10) if one.log.user == cyd.peer_id)
    assert (decode_entry(first.raw).k, ada.before(first.log)) == ("profile", ())


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_a_log_behind_profiles_follows_the_sealed_one_below_them(ada: Peer, restarts: int) -> None:
    """A profile follows nothing, and the next log builds on it (seed 1430016)."""
    bob = ada.far("bob")
    ada.say("one")
    bob.say(Have({ROOM: {IDS["ada"]: [own(ada, 2)]}}))
    ada.say("two")
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    for n in range(restarts):
        ada.put(UserRenamed(ada.id, f"ada{n}"))
        ada.take()
        ada.restart()
    ada.say("three")
    (last,) = [decode_entry(one.raw) for one in ada.storage.places(0, 10) if "three" in one.raw[1]]
    assert last.after == (Ref(ref_key(ada.id, "a1" * 8), 3),)


@pytest.mark.parametrize("seed", range(24))
def test_what_builds_on_the_other_version_of_a_deleted_log_never_comes(seed: int) -> None:
    """Nothing is left that could prove the fork, and its chain is another one (seed 1000567)."""
    sim, (ada, bob, cyd) = linked("ada", "bob", "cyd", seed=seed)
    cyd.crash()  # with a name alone of the first version it would prove the fork
    restart(bob, ada)
    sim.calm()
    say(sim, bob, "one")
    delete(sim, ada, sim.invariants.room)
    sim.partition([bob, cyd], [ada])
    cyd.start()
    bob.resume(cyd.endpoint)
    say(sim, bob, "another one")
    restart(bob, cyd)
    say(sim, bob, "after both")
    sim.settle()
    assert texts(ada, sim.invariants.room) == [] and texts(cyd, sim.invariants.room)[-1] == "after both"
    assert sim.check() == []


def test_another_version_of_a_deleted_log_is_served_once_until_the_fork_is_proven() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    one, other = Author("bob", "b1"), Author("bob", "b1")
    yes, no = one.say("yes"), other.say("no")
    for peer, frames in ((ada, [yes]), (cyd, [no, Author("bob", "b2", before=[other.mark]).say("later")])):
        bob = peer.far("bob")
        bob.say(*frames)
        peer.drop(bob)
    ada.put(PruneRequest(1, ROOM))
    world.link(ada, cyd)
    world.pass_time(3600.0)
    assert ada.counted["fork_unproven"] == 1
    ada.far("eve").say(*(msgspec.structs.replace(frame, fork=True) for frame in (yes, no)))
    world.pass_time(15.0)  # the next digest
    assert (ada.texts(), ada.counted["fork_unproven"]) == (["later"], 1)


def test_what_builds_on_the_other_version_of_a_log_comes_if_something_of_it_was_left() -> None:
    """What is left proves the fork to who holds the other version (seed 1324147 with --deletions)."""
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, bob, "one")
    delete(sim, ada, sim.invariants.room)
    say(sim, bob, "two")
    sim.partition([ada], [bob])
    bob.resume()
    say(sim, bob, "another one")
    restart(bob, ada)
    say(sim, bob, "after both")
    sim.settle()
    assert texts(ada, sim.invariants.room) == ["two", "after both"]
    assert texts(bob, sim.invariants.room) == ["another one", "after both"]
    assert sim.check() == []


def test_a_deleted_log_that_was_written_again_gives_no_receipts_of_what_it_builds_on() -> None:
    """Of another version nobody can tell what it builds on (seed 1001165)."""
    sim, (ada, bob, cyd) = linked("ada", "bob", "cyd", seed=1)
    sim.partition([ada], [bob])
    say(sim, ada, "one")
    restart(ada, cyd)
    say(sim, ada, "two")
    for peer in (bob, cyd):
        delete(sim, peer, sim.invariants.room)
    ada.resume(cyd.endpoint)
    say(sim, ada, "two again")
    sim.settle()
    assert texts(ada, sim.invariants.room) == ["one", "two again"] and texts(bob, sim.invariants.room) == []
    assert sim.check() == []


def test_what_builds_on_a_shorter_version_of_a_deleted_log_gives_no_receipts_of_that() -> None:
    """The chain that the later log names was deleted, so bob takes it over either version (seed 1292000)."""
    sim, (ada, bob) = linked("ada", "bob")
    sim.invariants.receipts._reads = False  # where bob has read to is a receipt, with the chain there
    for text in ("one", "two", "three"):
        say(sim, ada, text)
    delete(sim, bob, sim.invariants.room)
    sim.partition([ada], [bob])
    ada.resume()
    say(sim, ada, "one again")
    restart(ada, bob)
    say(sim, ada, "later")
    sim.settle()
    assert texts(bob, sim.invariants.room) == ["later"]
    assert [line["id"][-2:] for line in ada.lines if line["event"] == "delivered"] == [".2", ".3", ".4", ".2"]
    say(sim, ada, "the commit of this saves receipts")
    rewritten, later = ada.disk.logs
    assert ada.disk.storage.delivered_to(later, 2) == [(bob.user, 2)]
    assert ada.disk.storage.delivered_to(rewritten, 2) == []  # what its history says
    assert sim.check() == []


def test_a_restored_peer_gets_no_receipts_of_a_log_of_which_others_deleted_the_rest() -> None:
    """It may be another version for all that ada can tell (seed 1310181, --blocks)."""
    sim, (ada, bob) = linked("ada", "bob")
    sim.invariants.receipts._reads = False  # where bob has read to is a receipt, with the chain there
    sim.partition([ada], [bob])
    say(sim, ada, "one")
    backup = len(ada.disk.changes)
    sim.heal()
    say(sim, ada, "two")
    delete(sim, bob, sim.invariants.room)
    ada.crash()
    ada.restore(backup)
    ada.start(bob.endpoint)
    say(sim, ada, "later")
    sim.settle()
    assert texts(ada, sim.invariants.room) == ["one", "later"] and texts(bob, sim.invariants.room) == ["later"]
    assert [line["id"][-2:] for line in ada.lines if line["event"] == "delivered"] == [".2", ".3", ".2"]
    assert sim.check() == []


def test_who_has_a_shorter_version_of_a_deleted_log_gives_receipts_of_that() -> None:
    """The peer that deleted it hosts the user then, and knows no chain to compare (seed 1351219 with --deletions)."""
    sim, (ada, bob, cyd) = linked("ada", "bob", "cyd", seed=7)
    sim.partition([ada], [bob, cyd])
    zoe = sim.guest("zoe")
    bob.host_guest(zoe)
    for text in ("one", "two", "three"):
        bob.say_as(zoe, text)
    sim.calm()
    delete(sim, cyd, sim.invariants.room)
    sim.partition([ada, bob], [cyd])
    bob.resume(ada.endpoint)
    bob.say_as(zoe, "one again")
    sim.calm()
    sim.partition([bob], [ada, cyd])
    cyd.host_guest(zoe)
    sim.heal()
    sim.calm()
    sim.settle()
    assert texts(ada, sim.invariants.room) == ["one again"]
    assert sim.check() == []


@pytest.mark.parametrize(("before", "left"), [(0, []), (START + 3, ["three"])])
def test_what_is_being_deleted_proves_no_fork(ada: Peer, before: int, left: list[str]) -> None:
    """Evidence without what was deleted would end the links to all who get it (seed 1322418)."""
    bob, twin = Author("bob", "b1"), Author("bob", "b1")
    eve = ada.far("eve")
    eve.say(bob.say("one", "two", "three"))
    ada.hold_lookups = True
    ada.put(PruneRequest(1, ROOM, before=before))
    ada.take()
    ada.holding = True
    ada.answer_lookups()  # what can be deleted
    no = twin.say("no")
    assert [eve.say(no), eve.say(no)] == [["look up b1:1"], []]
    ada.holding = False
    ada.commit()
    eve.say(no)
    assert (ada.texts(), ada.counted["fork_unproven"], ada.storage.load([]).forked) == (left, 1, [])
    assert [frame for frame in eve.heard if isinstance(frame, Entries) and frame.fork] == []


def test_what_a_user_wrote_who_came_to_be_hosted_during_a_deletion_stays_while_nobody_else_has_it() -> None:
    """Storage was asked before, and answers after (seed 1930301 with --deletions)."""
    ada, cyd = World().peer("ada"), IDENTITIES["cyd"]
    hosted = UserHosted(HostedIdentity(cyd.peer_id, "cyd", cyd.sign))
    ada.put(hosted)
    ada.put(WriteRequest(1, cyd.peer_id, ROOM, "text", ["nobody has this"]))
    ada.take()
    ada.put(UserUnhosted(cyd.peer_id))
    ada.take()
    before = [one.raw for one in ada.storage.places(0, 10)]
    ada.hold_lookups = True
    ada.put(PruneRequest(1, ROOM))
    ada.take()
    ada.put(hosted)
    ada.take()
    ada.hold_lookups = False
    ada.answer_lookups()
    assert len(before) == 2 and [one.raw for one in ada.storage.places(0, 10)] == before
