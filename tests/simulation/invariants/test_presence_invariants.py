"""Presence and typing in a simulation, and the faults found when peers see them differently."""

from __future__ import annotations

from p2pchat.core.effects import TypingChanged
from p2pchat.protocol import TypingFrame
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.simulation.test_simulation import comes_to_rest, started


def rules(sim: Simulation) -> set[str]:
    return {fault.rule for fault in sim.check()}


def typing(peer: SimPeer) -> list[tuple[str, bool]]:
    return [(line["user"], line["typing"]) for line in peer.lines if line["event"] == "typing"]


def test_after_a_partition_all_see_the_latest_presence_and_nobody_types() -> None:
    sim, (ada, bob, cyd) = started(1, 3)
    sim.partition([ada], [bob, cyd])
    ada.set_presence("idle", "lunch")
    bob.types()
    sim.run(40)
    ada.set_presence("idle", "gone home")
    sim.heal()
    comes_to_rest(sim)  # their links are up again
    ada.types()
    comes_to_rest(sim)
    seen = [peer.node.presence.status(ada.user)[:2] for peer in (ada, bob, cyd) if peer.node]
    assert seen == [("idle", "gone home")] * 3
    assert typing(cyd) == [("bob", True), ("bob", False), ("ada", True), ("ada", False)]


def test_a_restarted_user_is_online_again() -> None:
    sim, (ada, bob) = started(2, 2)
    ada.set_presence("idle", "lunch")
    sim.run(2)
    ada.crash()
    ada.start(bob.endpoint)
    comes_to_rest(sim)
    assert bob.node is not None and bob.node.presence.status(ada.user)[:2] == ("online", "")


def test_a_presence_seen_differently_is_a_fault() -> None:
    sim, (ada, _) = started(3, 2)
    assert sim.settle()
    ada.status = "idle", "lunch"  # as if announced and received by nobody
    assert rules(sim) == {"word"}


def test_repeated_leaked_invented_and_endless_typing_are_faults() -> None:
    sim, (ada, bob, cyd) = started(4, 3)
    ada.types(bob)
    room = sim.invariants.room
    invariants, frame, end = sim.invariants.presence, TypingFrame(c=room, u=ada.user, on=True), ada.end_to(cyd)
    assert end is not None
    invariants.frame_sent(ada, frame, [end])
    sim.run(1)
    invariants.frame_sent(ada, frame, [end])
    assert rules(sim) == {"typing"}
    invariants.frame_sent(ada, TypingFrame(c="ab" * 32, u=ada.user, on=True), [end])
    assert rules(sim) == {"typing", "leak"}
    sim.settle()
    cyd._carry[TypingChanged](TypingChanged(room, bob.user, on=True))
    assert rules(sim) == {"typing", "leak", "invented"}
    assert any(fault.text == "bob types for ever" for fault in sim.check())
