"""Deletion: what it keeps, what others can still get, and what a deletion leaves to receipts, forks and the disk."""

from __future__ import annotations

from p2pchat.core.effects import WriteRefused
from p2pchat.core.inputs import PruneRequest, UserHosted, UserUnhosted, WriteRequest
from p2pchat.core.log import decode_entry
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.sync.known_conversations import dm_id
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.founded_peers import HERE, guest, of_founder
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, Author, Peer, World
from tests.core.sync.test_quota import FULL


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
    assert 0 < ada.storage.load([]).sizes[IDS["bob"]] < 500  # stubs
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


def test_who_has_a_shorter_version_of_a_deleted_log_gives_receipts_of_that() -> None:
    """The peer that deleted it hosts the user then, and knows no chain to compare (seed 1351219 with --deletions)."""
    sim, (ada, bob, cyd) = linked("ada", "bob", "cyd", seed=11)
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
