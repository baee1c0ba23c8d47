"""The simulated engine: peers behind routers are linked through it, and directly once one of them can be dialled."""

from __future__ import annotations

from simulation.random_histories import RandomHistory, WantedEvents
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.simulation.test_simulation import comes_to_rest


def behind_routers(seed: int, count: int) -> tuple[Simulation, list[SimPeer]]:
    """Return peers that nobody can dial, each of which knows the relayed endpoint of the first."""
    sim = Simulation(seed=seed)
    peers = [sim.peer() for _ in range(count)]
    for peer in peers:
        peer.has_engine = peer.behind_router = True
        peer.start(*(other.relayed_endpoint for other in peers[:1] if other is not peer))
    return sim, peers


def ways(peers: list[SimPeer]) -> set[bool]:
    """Return how all these peers are linked: True for through the engine."""
    ends = [one.end_to(other) for one in peers for other in peers if other is not one]
    assert None not in ends
    return {end.wire.relayed for end in ends if end is not None}


def texts(peer: SimPeer) -> list[str]:
    return [line["text"] for line in peer.lines if line["event"] == "message"]


def test_peers_that_nobody_can_dial_are_linked_through_the_engine() -> None:
    sim, (ada, bob, cyd) = behind_routers(1, 3)
    ada.say("hello")
    comes_to_rest(sim)
    assert ways([ada, bob, cyd]) == {True}
    assert texts(bob) == texts(cyd) == ["hello"]


def test_a_peer_that_comes_from_behind_its_router_is_linked_directly() -> None:
    sim, (ada, bob) = behind_routers(2, 2)
    sim.run(10)
    assert ways([ada, bob]) == {True}
    bob.behind_router = False
    assert sim.invariants.unsettled()  # the relayed link is a fault as soon as there is a better way
    comes_to_rest(sim)
    assert ways([ada, bob]) == {False}
    assert sim.counts["relayed_link_replaced"]


def test_links_end_with_the_engine_and_come_back_with_it() -> None:
    sim, (ada, bob) = behind_routers(3, 2)
    sim.run(5)
    sim.engine.go()
    sim.run(5)
    assert ada.end_to(bob) is None
    ada.say("is anybody there?")
    sim.run(30)
    assert texts(bob) == []
    sim.engine.come()
    comes_to_rest(sim)
    assert texts(bob) == ["is anybody there?"]


def test_who_is_cut_off_by_the_engine_comes_back_without_a_warning() -> None:
    sim, (_, bob) = behind_routers(5, 2)
    for _ in range(5):  # a copied key would be suspected the third time
        sim.run(10)
        sim.engine.cut(bob)
    comes_to_rest(sim)
    assert sim.counts["warned_two_processes"] == 0


def test_what_the_engine_keeps_back_comes_when_it_passes_on_again() -> None:
    sim, (ada, bob) = behind_routers(5, 2)
    sim.run(5)
    sim.engine.withhold(ada, bob)
    ada.say("hello")
    sim.run(60)
    assert texts(bob) == []
    comes_to_rest(sim)
    assert texts(bob) == ["hello"]


def test_without_an_engine_of_its_own_nobody_is_reached() -> None:
    sim, (ada, bob) = behind_routers(6, 2)
    cyd = sim.peer()
    cyd.behind_router = True
    cyd.start(ada.relayed_endpoint, bob.endpoint)
    sim.run(60)
    assert not sim.can_link(ada, cyd)
    assert cyd.linked == []


def test_who_can_link_and_has_no_linked_peer_in_common_is_named_at_the_end_of_a_history() -> None:
    """Peers tell only whom they are linked with (seeds 1901333 and 1903786 with an engine)."""
    history = RandomHistory(7, wanted=WantedEvents(relay=True))
    sim = history.sim
    ada, bob, cyd, dan = peers = [sim.peer() for _ in range(4)]
    ada.has_engine = dan.has_engine = True
    bob.behind_router = dan.behind_router = True
    sim.never(ada, cyd)
    for peer in peers:
        peer.start()
    bob.connect(ada.endpoint)
    bob.connect(cyd.endpoint)
    dan.connect(ada.endpoint)
    sim.run(120)
    assert [one.linked for one in peers] == [[bob, dan], [ada, cyd], [bob], [ada]]
    assert sim.can_link(cyd, dan)
    history.name_ways(peers)
    comes_to_rest(sim)
    assert [one.linked for one in peers] == [[bob, dan], [ada, cyd], [bob, dan], [ada, cyd]]
