"""A complete model of two peers that dial, cross, break, crash and restart, checked against the core's election rule.

D and F are two processes. Each connection has two ends and a queue each way, in which frames may wait for any time. The
steps from a state: a queue delivers its first frame; a process dials (whenever core/mesh/dialer.py would); a connection
is cut unnoticed by both ends; a process is killed (its connections close, or die silently); a process restarts; an end
of a dead connection times out. States that differ only in names are one state: connections, runs and numbers are
replaced by their order. So the graph is finite, and the test visits all of it.

The tests prove two properties of core/mesh/peer_link.py in every state:
- once faults end, every state settles: one link, the same at both ends, and nothing left to do (the graph without
  faults has no cycle, and no dead end except these states);
- a dead link never blocks a redial: if a connection on a working line is under way, a link comes up at both ends before
  the dead link is noticed.
Four other rules are checked too and must fail, which shows that the model can find a wrong rule.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal, NamedTuple

import pytest

from p2pchat.core.mesh import election
from p2pchat.core.mesh.election import FollowerState
from tests.conftest import Tell

Side = Literal["D", "F"]
FEWER = 2  # connections at once, including unnoticed dead ones: enough to make the wrong rules fail
MAX_SUPERSEDED = 2
OTHER: dict[Side, Side] = {"D": "F", "F": "D"}

# Phases of an end. "gone": closed here, or its process died.
PROVING, WAITING, UP, GONE = "proving", "waiting", "up", "gone"


class Connection(NamedTuple):
    """One connection; frames are "hello", "welcome", ("go", run, n) and "end" (a bye, or an orderly close)."""

    id: int
    dialler: Side
    d: str  # phase of D's end
    f: str
    to_d: tuple[object, ...] = ()
    to_f: tuple[object, ...] = ()
    cut: bool = False
    carried: bool = False

    def phase(self, side: Side) -> str:
        return self.d if side == "D" else self.f

    def queue(self, side: Side) -> tuple[object, ...]:
        return self.to_d if side == "D" else self.to_f

    def with_phase(self, side: Side, phase: str) -> Connection:
        if side == "D":
            return Connection(self.id, self.dialler, phase, self.f, self.to_d, self.to_f, self.cut, self.carried)
        return Connection(self.id, self.dialler, self.d, phase, self.to_d, self.to_f, self.cut, self.carried)

    def with_queue(self, side: Side, queue: tuple[object, ...]) -> Connection:
        if self.cut or self.phase(side) == GONE:
            queue = ()
        if side == "D":
            return Connection(self.id, self.dialler, self.d, self.f, queue, self.to_f, self.cut, self.carried)
        return Connection(self.id, self.dialler, self.d, self.f, self.to_d, queue, self.cut, self.carried)

    def is_dead(self, side: Side) -> bool:
        """Return True if this end will never receive anything again."""
        return self.phase(side) != GONE and not self.queue(side) and (self.cut or self.phase(OTHER[side]) == GONE)


class DeciderState(NamedTuple):
    """How many links D numbered in this run, and the current one or None."""

    n: int = 0
    link: int | None = None


class World(NamedTuple):
    """The whole state. `run` is D's current run (0: not running), `last_run` its newest; `f_runs` is True if F runs."""

    run: int = 1
    last_run: int = 1
    decided: DeciderState = DeciderState()
    f_runs: bool = True
    standing: FollowerState = FollowerState()
    connections: tuple[Connection, ...] = ()

    def runs(self, side: Side) -> bool:
        return bool(self.run) if side == "D" else self.f_runs

    def replace(self, connection: Connection) -> World:
        connections = tuple([connection if c.id == connection.id else c for c in self.connections])
        return World(self.run, self.last_run, self.decided, self.f_runs, self.standing, connections)

    def get(self, id: int) -> Connection:
        return next(c for c in self.connections if c.id == id)


class Rule(NamedTuple):
    """A rule for both ends: functions that take (world, connection) when that end is ready to bring a link up."""

    at_d: Callable[[World, Connection], World]
    at_f: Callable[[World, Connection, int, int], World]


def close(world: World, side: Side, id: int | None) -> World:
    """Close a connection at one end. The other end is notified unless the line is cut."""
    if id is None or world.get(id).phase(side) == GONE:
        return world
    connection = world.get(id)
    far = OTHER[side]
    connection = connection.with_queue(far, (*connection.queue(far), "end"))
    return forget(world.replace(connection.with_phase(side, GONE).with_queue(side, ())), side, id)


def forget(world: World, side: Side, id: int) -> World:
    if side == "D":
        return world._replace(decided=world.decided._replace(link=None)) if world.decided.link == id else world
    return world._replace(standing=election.follower_link_down(world.standing, id))


# ---- the rule of the core, and wrong rules


def d_numbers_it(world: World, connection: Connection) -> World:
    decided = DeciderState(world.decided.n + 1, connection.id)
    former = world.decided.link
    connection = connection.with_phase("D", UP)
    connection = connection.with_queue("F", (*connection.to_f, ("go", world.run, decided.n)))
    world = world.replace(connection)._replace(decided=decided)
    return close(world, "D", former)._replace(decided=decided)


def f_takes_the_go(world: World, connection: Connection, run: int, n: int) -> World:
    verdict = election.follower_take_go(world.standing, connection.id, connection.id, f"{run:016x}", n, MAX_SUPERSEDED)
    world = world._replace(standing=verdict.state)
    if verdict.closes != connection.id:
        world = world.replace(connection.with_phase("F", UP))
    return close(world, "F", verdict.closes)._replace(standing=verdict.state)


def f_forgets_when_links_began(world: World, connection: Connection, run: int, n: int) -> World:
    """A wrong rule that remembers superseded runs only."""
    verdict = election.follower_take_go(world.standing, connection.id, 0, f"{run:016x}", n, MAX_SUPERSEDED)
    world = world._replace(standing=verdict.state)
    if verdict.closes != connection.id:
        world = world.replace(connection.with_phase("F", UP))
    return close(world, "F", verdict.closes)._replace(standing=verdict.state)


def newest_at_f(world: World, connection: Connection, run: int, n: int) -> World:
    """A wrong rule without numbers: the last link to come up stays."""
    former = world.standing.link
    world = world.replace(connection.with_phase("F", UP))
    standing = FollowerState(connection.id)
    return close(world, "F", former)._replace(standing=standing)


def d_keeps_its_own(world: World, connection: Connection) -> World:
    if world.decided.link is not None and connection.dialler == "F":
        return close(world, "D", connection.id)
    return d_numbers_it(world, connection)


def f_keeps_what_d_dialled(world: World, connection: Connection, run: int, n: int) -> World:
    if world.standing.link is not None and connection.dialler == "F":
        return close(world, "F", connection.id)
    return newest_at_f(world, connection, run, n)


def d_keeps_what_came_up(world: World, connection: Connection) -> World:
    """A wrong rule that spares a link in use one that crosses it: of two that were under way at once, the first one to
    come up stays.
    """
    if world.decided.link is not None and connection.id < world.decided.link:
        return close(world, "D", connection.id)
    return d_numbers_it(world, connection)


DECIDER = Rule(d_numbers_it, f_takes_the_go)
NO_BEGINNINGS = Rule(d_numbers_it, f_forgets_when_links_began)
FIRST_UP = Rule(d_keeps_what_came_up, f_takes_the_go)
LOWER_DIALLED = Rule(d_keeps_its_own, f_keeps_what_d_dialled)


def newest_wins(world: World, connection: Connection, side: Side) -> World:
    """A wrong rule without a decider: both ends decide at once."""
    known = world.decided if side == "D" else world.standing
    former = known.link
    world = world.replace(connection.with_phase(side, UP))
    if side == "D":
        return close(world, "D", former)._replace(decided=DeciderState(0, connection.id))
    return close(world, "F", former)._replace(standing=FollowerState(connection.id))


# ---- steps


def deliver(world: World, rule: Rule | None, side: Side, connection: Connection) -> World:
    """Deliver the first queued frame of this side. The rule None means newest_wins."""
    frame, *rest = connection.queue(side)
    connection = connection.with_queue(side, tuple(rest))
    world = world.replace(connection)
    if frame == "end":
        return forget(world.replace(connection.with_phase(side, GONE).with_queue(side, ())), side, connection.id)
    if frame == "hello":
        connection = connection.with_queue(OTHER[side], (*connection.queue(OTHER[side]), "welcome"))
    if frame in ("hello", "welcome"):
        return proved(world.replace(connection), rule, side, connection)
    assert isinstance(frame, tuple)
    assert rule is not None
    return rule.at_f(world, connection, frame[1], frame[2])


def proved(world: World, rule: Rule | None, side: Side, connection: Connection) -> World:
    if rule is None:
        return newest_wins(world, connection, side)
    if side == "D":
        return rule.at_d(world, connection)
    return world.replace(connection.with_phase("F", WAITING))


class Paths(NamedTuple):
    """The ways between the two: direct alone, or through a third peer too. `seeks`: direct ones while that is up."""

    carried: bool = False
    seeks: bool = True


def may_dial(world: World, side: Side, most: int, paths: Paths, *, carried: bool) -> bool:
    """Return True if this side has no link up to the peer, or none that is direct, and no own dial under way."""
    ends = [(c.phase(side), c.dialler == side, c.carried) for c in world.connections]
    up = any(phase == UP and (carried or not is_carried or not paths.seeks) for phase, _, is_carried in ends)
    under_way = any(phase in (PROVING, WAITING) and own and kind == carried for phase, own, kind in ends)
    return world.runs("D") and world.runs("F") and not up and not under_way and len(ends) < most


def dial(world: World, side: Side, *, carried: bool) -> World:
    newest = max((c.id for c in world.connections), default=0)
    new = Connection(max(newest, world.standing.begun) + 1, side, PROVING, PROVING, carried=carried)
    new = new.with_queue(OTHER[side], ("hello",))
    return world._replace(connections=(*world.connections, new))


def start(world: World, side: Side) -> World:
    if side == "D":
        return world._replace(run=world.last_run + 1, last_run=world.last_run + 1, decided=DeciderState())
    return world._replace(f_runs=True, standing=FollowerState())


def crash(world: World, side: Side) -> World:
    """End a process and its memory. For a machine that dies silently, cut all lines first."""
    connections = []
    for c in world.connections:
        far = OTHER[side]
        if c.phase(side) != GONE:
            c = c.with_queue(far, (*c.queue(far), "end")).with_phase(side, GONE).with_queue(side, ())
        connections.append(c)
    if side == "D":
        return World(0, world.last_run, DeciderState(), world.f_runs, world.standing, tuple(connections))
    return World(world.run, world.last_run, world.decided, False, FollowerState(), tuple(connections))


class Step(NamedTuple):
    kind: str  # deliver, dial, start; timeout (of a handshake), noticed (a link that was up); cut, crash
    world: World


SIDES: tuple[Side, Side] = ("D", "F")
DIRECT, BOTH, LAZY = Paths(), Paths(carried=True), Paths(carried=True, seeks=False)


def steps(world: World, rule: Rule | None, most: int, paths: Paths) -> Iterator[Step]:
    for side in SIDES:
        for c in world.connections:
            if c.queue(side):
                yield Step("deliver", deliver(world, rule, side, c))
            elif c.is_dead(side):
                gone = forget(world.replace(c.with_phase(side, GONE)), side, c.id)
                yield Step("noticed" if c.phase(side) == UP else "timeout", gone)
        for carried in (False, True)[: 1 + paths.carried]:
            if may_dial(world, side, most, paths, carried=carried):
                yield Step("dial", dial(world, side, carried=carried))
        if not world.runs(side):
            yield Step("start", start(world, side))
        else:
            yield Step("crash", crash(world, side))
    for c in world.connections:
        if not c.cut and GONE not in (c.d, c.f):
            yield Step("cut", world.replace(c._replace(cut=True, to_d=(), to_f=())))


FAULTS = {"cut", "crash"}


@cache
def canonical(world: World) -> World:
    """Replace connections, runs and numbers by their order, so that states that differ only in names are equal.

    Connections become 2, 4, 6 in the order of their start; `begun` likewise, or odd if that connection is gone.
    """
    alive = [c for c in world.connections if (c.d, c.f) != (GONE, GONE)]
    known = world.standing
    seen = [int(run, 16) for run in (*known.superseded, known.run) if run]
    numbers: dict[int, set[int]] = {run: set() for run in (*seen[-1:], *([world.run] if world.run else []))}
    for c in alive:
        for go in c.to_f:
            if isinstance(go, tuple):
                numbers.setdefault(go[1], set()).add(go[2])
    if seen:
        numbers[seen[-1]].add(known.n)
    if world.run:
        numbers[world.run].add(world.decided.n)
    run_name = {run: i + 1 for i, run in enumerate(sorted(numbers))}
    rank = {(run, n): i for run, ns in numbers.items() for i, n in enumerate(sorted(ns))}
    id_name = {c.id: 2 * i + 2 for i, c in enumerate(sorted(alive, key=lambda c: c.id))}

    def renamed(frame: object) -> object:
        return ("go", run_name[frame[1]], rank[frame[1], frame[2]]) if isinstance(frame, tuple) else frame

    connections = tuple([
        c._replace(id=id_name[c.id], to_f=tuple([renamed(frame) for frame in c.to_f]))
        for c in sorted(alive, key=lambda c: c.id)
    ])  # fmt: skip
    begun = 2 * sum(id <= known.begun for id in id_name) + (known.begun not in id_name)
    standing = FollowerState(id_name.get(known.link or 0))
    if seen:
        superseded = tuple(f"{run_name[run]:016x}" for run in seen[:-1] if run in run_name)
        run = f"{run_name[seen[-1]]:016x}"
        standing = FollowerState(standing.link, run, rank[seen[-1], known.n], begun, superseded)
    decided = DeciderState(rank.get((world.run, world.decided.n), 0), id_name.get(world.decided.link or 0))
    newest = max(run_name.values(), default=0)
    return World(run_name.get(world.run, 0), newest, decided, world.f_runs, standing, connections)


def is_settled(world: World) -> bool:
    """Return True if one direct link is up at both ends and current for both, its line works, and no frame is on its
    way.
    """
    if not (world.run and world.f_runs and len(world.connections) == 1):
        return False
    (c,) = world.connections
    agreed = world.decided.link == world.standing.link == c.id
    return (c.d, c.f, c.to_d, c.to_f, c.cut) == (UP, UP, (), (), False) and agreed and not c.carried


class Graph(NamedTuple):
    """All reachable states, and for each its steps: the kind of step and the next state."""

    worlds: list[World]
    ways: list[list[tuple[str, int]]]


def walk(rule: Rule | None, most: int, paths: Paths = DIRECT) -> Graph:
    """Return all states reachable from two fresh peers, with their steps."""
    first = canonical(World())
    number = {first: 0}
    graph = Graph([first], [])
    gc.disable()  # the graph contains no garbage
    for world in graph.worlds:  # grows in the loop
        ways = []
        for kind, after in steps(world, rule, most, paths):
            after = canonical(after)
            ways.append((kind, number.setdefault(after, len(graph.worlds))))
            if ways[-1][1] == len(graph.worlds):
                graph.worlds.append(after)
        graph.ways.append(ways)
    canonical.cache_clear()
    gc.freeze()
    gc.enable()
    return graph


def surely_settled(graph: Graph, without: set[str]) -> set[World]:
    """Return the states from which every path without these steps ends settled, without a cycle or another dead end."""
    calm = [{after for kind, after in ways if kind not in without} for ways in graph.ways]
    before: list[list[int]] = [[] for _ in calm]
    for state, after in enumerate(calm):
        for next_state in after:
            before[next_state].append(state)
    open_ways = [len(after) for after in calm]
    sure = [state for state, ways in enumerate(open_ways) if not ways and is_settled(graph.worlds[state])]
    found = set(sure)
    while sure:
        for state in before[sure.pop()]:
            open_ways[state] -= 1
            if not open_ways[state]:
                found.add(state)
                sure.append(state)
    return {graph.worlds[state] for state in found}


def quiet(graph: Graph) -> list[World]:
    """Return the states in which nothing happens any more without a fault."""
    states = zip(graph.worlds, graph.ways, strict=True)
    return [world for world, ways in states if all(kind in FAULTS for kind, _ in ways)]


def can_settle(graph: Graph) -> set[int]:
    """Return the states from which some path without faults ends settled."""
    before: list[list[int]] = [[] for _ in graph.worlds]
    for state, ways in enumerate(graph.ways):
        for kind, after in ways:
            if kind not in FAULTS:
                before[after].append(state)
    found = {state for state, world in enumerate(graph.worlds) if is_settled(world)}
    todo = [*found]
    while todo:
        new = [state for state in before[todo.pop()] if state not in found]
        found.update(new)
        todo += new
    return found


def redials(graph: Graph) -> list[World]:
    """Return the states with a connection under way on a working line between two running peers."""
    return [
        world
        for world in graph.worlds
        if any(not c.cut and c.queue(OTHER[c.dialler])[:1] == ("hello",) and c.phase(c.dialler) == PROVING
               for c in world.connections)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def decider() -> Graph:
    return walk(DECIDER, 2)


def test_after_faults_every_state_settles_on_one_link(decider: Graph, tell: Tell) -> None:
    tell(f"model of the `go` rule: {len(decider.worlds):,} states, {sum(map(len, decider.ways)):,} steps")
    unsure = set(decider.worlds) - surely_settled(decider, FAULTS)
    assert not unsure, min(unsure, key=repr)


def test_a_dead_link_never_blocks_a_redial(decider: Graph) -> None:
    sure = surely_settled(decider, FAULTS | {"noticed"})
    blocked = [world for world in redials(decider) if world not in sure]
    assert redials(decider)
    assert not blocked, min(blocked, key=repr)


def test_only_the_same_link_stays_up_at_both_ends(decider: Graph) -> None:
    assert quiet(decider)
    assert all(is_settled(world) for world in quiet(decider))


def test_with_two_kinds_of_path_all_rest_on_one_direct_link_and_every_state_can(tell: Tell) -> None:
    """They take turns only while each dial meets the worst moment, and pauses are random and grow."""
    graph = walk(DECIDER, 2, BOTH)
    tell(f"the same with a second kind of path: {len(graph.worlds):,} states, {sum(map(len, graph.ways)):,} steps")
    assert all(is_settled(world) for world in quiet(graph))
    assert len(graph.worlds) == len(can_settle(graph))


def test_who_seeks_no_direct_way_while_a_carried_link_is_up_stays_with_that() -> None:
    graph = walk(DECIDER, FEWER, LAZY)
    quiet = [
        world for world, ways in zip(graph.worlds, graph.ways, strict=True) if all(kind in FAULTS for kind, _ in ways)
    ]
    assert any(world.connections[0].carried for world in quiet if world.connections)


def test_keeping_the_one_the_lower_id_dialled_lets_a_dead_link_block_redials() -> None:
    graph = walk(LOWER_DIALLED, FEWER)
    sure = surely_settled(graph, FAULTS | {"noticed"})
    blocked = [world for world in redials(graph) if world not in sure]
    assert any(is_dead_link_at_d(world) for world in blocked)


def is_dead_link_at_d(world: World) -> bool:
    return any(c.d == UP and c.dialler == "D" and c.is_dead("D") for c in world.connections)


def test_newest_wins_at_both_ends_can_close_both_repeatedly() -> None:
    graph = walk(None, FEWER)
    unsure = set(graph.worlds) - surely_settled(graph, FAULTS)
    assert any(closed_by_both(world) for world in unsure)


def closed_by_both(world: World) -> bool:
    """Return True if both processes run, with two connections on working lines, each closed at one end."""
    ends = sorted((c.d == GONE, c.f == GONE) for c in world.connections if not c.cut)
    return bool(world.run and world.f_runs) and ends == [(False, True), (True, False)]


def test_superseded_runs_alone_let_a_late_go_block_the_running_process() -> None:
    graph = walk(NO_BEGINNINGS, FEWER)
    sure = surely_settled(graph, FAULTS | {"noticed"})
    assert [world for world in redials(graph) if world not in sure]


def test_keeping_the_first_link_to_come_up_lets_a_dead_link_block_one_that_crosses_it() -> None:
    """It may have died while its `go` was under way. Then the other one would have been the working link."""
    graph = walk(FIRST_UP, FEWER)
    sure = surely_settled(graph, FAULTS | {"noticed"})
    assert any(crossed(world) for world in redials(graph) if world not in sure)
    assert not set(graph.worlds) - surely_settled(graph, FAULTS)  # it costs time, and no more


def crossed(world: World) -> bool:
    """Return True if a link that is dead is up at D, and a connection that began before it works."""
    dead = [c.id for c in world.connections if c.d == UP and c.is_dead("D")]
    return any(not c.cut and c.d == PROVING and c.id < max(dead, default=0) for c in world.connections)
