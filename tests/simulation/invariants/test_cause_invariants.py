"""Why somebody lacks a message, in a simulation, and the faults found when a peer says something else."""

from __future__ import annotations

from simulation.invariants.cause_invariants import LOOKS_EVERY
from tests.simulation.test_simulation import started

LONG = 120.0  # seconds: longer than a peer needs to learn of a change


def test_who_is_killed_is_away_and_who_cannot_store_is_online() -> None:
    sim, (ada, bob, cyd) = started(1, 3)
    cyd.disk.broken = True
    bob.crash(silent=True)
    ada.say("one", to=bob)
    ada.say("two", to=cyd)
    sim.run(LONG)
    counts = sim.counts
    assert counts["cause_away_said_away"] and counts["cause_online_said_online"] and counts["cause_lasting_asked"]
    assert counts["cause_lasting_named"] == counts["cause_lasting_asked"]
    assert not [fault for fault in sim.invariants.faults() if fault.rule == "cause"]


def test_a_cause_that_is_not_true_is_a_fault() -> None:
    sim, (ada, bob) = started(2, 2)
    bob.disk.broken = True
    ada.say("hello", to=bob)
    assert ada.node is not None
    del ada.node.presence.hosts[bob.user]  # as if its link had not told of it
    ada.node.presence._reported[bob.user] = ("offline", "", 0)
    sim.run(LONG)
    assert {fault.text for fault in sim.invariants.faults() if fault.rule == "cause"} == {
        "says bob is away: it is linked"
    }


def test_a_link_that_broke_without_a_sign_may_be_named_for_a_while_beside_one_that_is_carried() -> None:
    """Seed 920086, --deletions: the user has two hosts."""
    sim, (ada, bob, cyd) = started(3, 3)
    yan = sim.guest("yan")
    ada.host_guest(yan)
    cyd.host_guest(yan)
    sim.separate(bob, cyd)
    sim.run(LONG)
    end = bob.end_to(cyd)
    assert end is not None and end.wire.carried
    sim.separate(bob, ada)
    bob.say("are you there?")
    sim.run(20)
    assert sim.counts["cause_carried_said_online"]
    assert not [fault for fault in sim.invariants.faults() if fault.rule == "cause"]


def test_a_block_that_ended_for_a_moment_between_two_looks_did_not_last() -> None:
    """Seed 2000010, --blocks, with groups: a link of that moment breaks without a sign."""
    sim, (ada, bob) = started(4, 2)
    ada.block(ada.user, bob.user, on=True)
    bob.say("hello", to=ada)
    sim.run(LONG)
    sim.run(-sim.now % LOOKS_EVERY + 0.1)
    ada.block(ada.user, bob.user, on=False)
    while bob.node is None or bob.node.presence.status(ada.user)[0] != "online":
        sim.run(0.01)
    assert sim.now % LOOKS_EVERY < 4.0
    sim.separate(ada, bob)
    ada.block(ada.user, bob.user, on=True)
    sim.run(15.0)
    assert sim.counts["cause_away_said_online"]
    assert not [fault for fault in sim.invariants.faults() if fault.rule == "cause"]
