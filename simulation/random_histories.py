"""Random histories, each drawn from a seed; many of them in several processes; and shrinking of those that fail.

A history has two to nine honest peers, some of them late, and sometimes a byzantine peer, a stranger or a crowd. For
some minutes of virtual time they write while processes crash, disks are restored from old copies and links break. Most
histories then come to rest: all faults stop, every peer that did not leave for good runs and writes once more, and the
mesh must settle (*liveness*). The others never heal and have harsh settings; in these, only *safety* is checked.

Every step draws from a separate chance, so a step can be left out without changing the others: this is how a failing
history is shrunk. A process gets only a seed, so a history has the same result in every process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, fields
from itertools import combinations, islice
from random import Random

from p2pchat.core.own_state import BLOCKED
from p2pchat.settings import Settings
from p2pchat.testing.eventlog_parser import Fault
from simulation.attached_files import FileActions
from simulation.faults import LINKED_WITHIN, FaultInjector
from simulation.hosted_users import HostedUsers
from simulation.invariants.contact_invariants import answer_some
from simulation.invariants.presence_invariants import UserChatter
from simulation.machines import BEGIN, LEAST_PEERS, Machines
from simulation.membership import Membership
from simulation.routers import Routers
from simulation.simulated_peer import SimPeer
from simulation.simulation import SETTLE_MORE, SETTLE_WITHIN, Simulation
from simulation.virtual_time import (
    cached_signatures,
    draw_settings,
    with_few_links,
    with_few_places,
    with_files,
    with_quota,
    with_short_turns,
)

Tell = Callable[[str], None]
Steps = Collection[int]  # numbers of the steps to play; the first two are always played

# The relative frequency of each action. The method of FaultInjector has the same name.
WEIGHTS = {
    "say": 10, "dm": 6, "crash": 4, "kill": 4, "start": 8, "cut": 3, "partition": 2, "one_way": 2, "heal": 3, "slow": 3,
    "restore": 2, "stop": 1, "jump": 1, "disk": 1, "low": 1, "join": 1, "leave": 1, "rename": 1, "busy": 1, "resume": 1,
    "export": 6, "dial_oneself": 1,
}  # fmt: skip
MACHINE_WEIGHTS = {"jump": 0, "choose": 4}  # certificates need clocks within an hour
GROUP_WEIGHTS = {
    "group_make": 2, "group_say": 10, "group_add": 3, "group_remove": 4, "group_leave": 1, "group_rename": 2,
    "group_hand": 1, "group_apart": 3, "group_old": 2, "group_admin": 4, "group_admins_apart": 3,
}  # fmt: skip

# Events of which most histories have none, and how often there are some: the part of all histories, if nothing else is
# said.
NEVER_HEALS = 0.3
WITH_QUOTAS = 0.25
WITH_FEW_PLACES = 0.3
WITH_COPIES = 0.15
WITH_A_FAILED_IMPORT = 0.15
WITH_ODD_ENTRIES = 0.15
WITH_DELETIONS = 0.15
WITH_BLOCKS = 0.15
WITH_GROUPS = 0.35
WITH_A_GAP = 0.7  # of those with three or more peers
FILLED = 0.9  # of those with quotas
WITH_A_CROWD = 0.15  # of those with at most MOST_IN_A_CROWD honest peers that come to rest
MOST_IN_A_CROWD = 3
LIAR = 0.4  # of those with files and without a byzantine peer

ATTACKS = 3  # at the end of a history with a crowd, one a second
UNHARMED_WITHIN = 120.0  # seconds until all that contacts wrote meanwhile has arrived. A disk that takes a second for
# a frame, and a turn of one frame for each of six links, need over a minute for what waits at one of them.
SIZES = {2: 4, 3: 6, 4: 6, 5: 5, 6: 1, 7: 1, 8: 1, 9: 1}  # most honest peers -> relative frequency


@dataclass(frozen=True, slots=True)
class WantedEvents:
    """Events that each history has; chance decides about the others.

    Attributes:
        odd: Someone signs any text as an entry.
        deletions: Someone deletes what is stored.
        blocks: Someone blocks others.
        members: Somebody says who is a member. Chance never decides this.
        routers: Peers are behind routers that let nobody in (routers.py). Chance never decides this.
        files: Messages have files (attached_files.py). Chance never decides this.
        machines: People have several machines (machines.py). Chance never decides this.
        groups: Somebody makes a group, and people change it.
    """

    odd: bool = False
    deletions: bool = False
    blocks: bool = False
    members: bool = False
    routers: bool = False
    files: bool = False
    machines: bool = False
    groups: bool = False

    @property
    def options(self) -> str:
        """The options of the command line (__main__.py)."""
        return "".join(f" --{each.name.replace('_', '-')}" for each in fields(self) if getattr(self, each.name))


NOTHING = WantedEvents()


def play(
    seed: int, tell: Tell | None = None, steps: Steps | None = None, wanted: WantedEvents = NOTHING
) -> tuple[Simulation, list[Fault]]:
    """Play the history of a seed, or only some steps. Return its simulation and every broken promise."""
    with cached_signatures():
        history = RandomHistory(seed, tell, wanted)
        history.play(steps)
        return history.sim, history.sim.check()


class RandomHistory:
    """One random history.

    Attributes:
        sim: The simulated mesh.
        program: The names of its steps, which are methods of FaultInjector.
        heals: True if it comes to rest in the end.
    """

    def __init__(self, seed: int, tell: Tell | None = None, wanted: WantedEvents = NOTHING) -> None:
        plan = Random(f"{seed} plan")
        self.heals: bool = plan.random() >= NEVER_HEALS
        settings, rare = draw_settings(plan, harsh=not self.heals), Random(f"{seed} rare")
        quotas, places = rare.random() < WITH_QUOTAS, Random(f"{seed} requests")
        most_peers = max(plan.choices([*SIZES], [*SIZES.values()])[0], LEAST_PEERS if wanted.machines else 0)
        crowd = Random(f"{seed} crowd")
        self._crowded = self.heals and most_peers <= MOST_IN_A_CROWD and crowd.random() < WITH_A_CROWD
        if quotas and not self._crowded:
            settings = with_quota(settings, rare)
        self._few_places = places.random() < WITH_FEW_PLACES and not self._crowded  # nobody allows those of a crowd
        if self._few_places:
            settings = with_few_places(settings, places)
        if self._crowded:
            settings = with_few_links(settings, most_peers, crowd)
        settings = with_short_turns(settings, Random(f"{seed} turns"))
        if wanted.files:
            files = Random(f"{seed} files")
            settings = with_files(settings, files)
        self.sim: Simulation = Simulation(seed, settings=settings, tell=tell)
        self._membership = Membership(self.sim, seed, on=wanted.members)
        self.program: list[str] = _draw_beginning(plan, most_peers, BEGIN if wanted.machines else 2)
        self.program += _draw_openings(rare, settings, self.program)
        if wanted.files and "join_byzantine" not in self.program and files.random() < LIAR:
            self.program.append("join_byzantine")
        self._begun = len(self.program)
        weights = {**WEIGHTS, **MACHINE_WEIGHTS} if wanted.machines else WEIGHTS
        self.program += plan.choices([*weights], [*weights.values()], k=plan.randint(12, 40))
        groups = Random(f"{seed} groups")
        for name in _draw_group_actions(groups, always=wanted.groups):
            self.program.insert(groups.randint(self._begun, len(self.program)), name)
        if self._crowded:
            self.program.insert(crowd.randint(2, self._begun + 4), "join_crowd")
            for _ in range(crowd.randint(1, 4)):
                self.program.insert(crowd.randint(self._begun + 4, len(self.program)), "press")
            for _ in range(crowd.randint(1, 4)):
                self.program.insert(crowd.randint(self._begun + 4, len(self.program)), "attack")
        odd = Random(f"{seed} odd")
        for name in _draw_odd_actions(odd, always=wanted.odd):
            self.program.insert(odd.randint(self._begun, len(self.program)), name)
        deletions = Random(f"{seed} deletions")
        for name in _draw_deletions(deletions, always=wanted.deletions):
            self.program.insert(deletions.randint(self._begun, len(self.program)), name)
        blocks = Random(f"{seed} blocks")
        for name in [] if wanted.machines else _draw_blocks(blocks, always=wanted.blocks):
            self.program.insert(blocks.randint(self._begun, len(self.program)), name)
        if wanted.members:
            members = Random(f"{seed} statements")
            for _ in range(self._membership.steps()):
                self.program.insert(members.randint(self._begun, len(self.program)), "say_about_members")
        self._odd = wanted.odd
        self._routers = Routers(self.sim, on=wanted.routers)
        machines = Machines(self.sim, on=wanted.machines, most_peers=most_peers, late=wanted.members)
        self._faults = FaultInjector(self.sim, most_peers, self._routers, machines, crowded=self._crowded)
        self._chatter = UserChatter(self.sim)
        self._guests = HostedUsers(self.sim, self.program, crowded=self._crowded)
        self._files = FileActions(self.sim, on=wanted.files, start=self._faults.start_one)

    def play(self, steps: Steps | None = None) -> None:
        """Play all steps or only some, then let the mesh settle if this history heals."""
        for number, name in enumerate(self.program):
            if steps is None or number in steps or number < 2:
                self._step(number, name)
        self._reseed("end")
        if self._odd:
            self._faults.say_odd_at_last()
        if self.heals:
            self._end()
        else:
            self.sim.note("the end: nothing heals")

    def name_ways(self, peers: list[SimPeer]) -> None:
        """Have users name peers, in case these know no address, so that everyone hears of all it can link with."""
        linked: set[frozenset[SimPeer]] = set()

        def name(peer: SimPeer, other: SimPeer) -> None:
            self._faults.name(peer, other)
            linked.add(frozenset((peer, other)))

        for peer in peers:
            others = [other for other in peers if other is not peer and self.sim.has_way(peer, other)]
            if others:
                named = self._reached(peers).get(peer) if self._routers.on else None  # not everyone links with all
                name(peer, named or others[0])
        while apart := self._not_introduced(peers, linked):
            name(*apart[0])

    def _step(self, number: int, name: str) -> None:
        self._reseed(f"step {number}")
        self.sim.note(f"step {number}: {name}")
        if name == "say_about_members":
            self._membership.say()
        else:
            getattr(self._faults, name)()
        self._faults.move_some(number)
        self._chatter.step(number)
        self._guests.step(number)
        self._routers.step(number)
        self._files.step(number)
        if self._few_places:
            chance = Random(f"{self.sim.seed} asking {number}")
            self._guests.ask(chance)
            answer_some(self.sim, chance)
        chance = self._faults.chance
        if number >= self._begun:
            self.sim.run(chance.expovariate(1 / chance.choice((0.01, 0.05, 0.5, 3.0, 8.0))))

    def _reseed(self, what: str) -> None:
        self._faults.chance = Random(f"{self.sim.seed} {what}")
        self.sim.chance.seed(f"{self.sim.seed} accidents of {what}")

    def _end(self) -> None:
        """Stop all faults, start every peer that did not leave for good, and have each write once more."""
        sim, chance = self.sim, self._faults.chance
        sim.note("the end: everything heals")
        sim.heal()
        remaining = self._remaining()
        for peer in sim.all_peers:
            peer.disk.broken = False
            peer.crash_never()
            peer.start()
            peer.allow_all()
        if sim.counts["forks_ignored"]:  # for want of room; told again on a new link, or after an hour
            for one, other in combinations(sim.all_peers, 2):
                sim.cut(one, other)
        self.name_ways(remaining)
        if self._membership.is_on:
            self._membership.end()
            remaining = self._remaining()
            self.name_ways(remaining)
        if self._crowded:
            self._meet_again(remaining)
        if sim.invariants.blocks.any:
            self._end_blocks(remaining)
        if self._crowded:
            self._attack_at_last(remaining)
        self._faults.move_at_last(remaining)
        sim.run(chance.choice((0.0, 1.0, 20.0)))
        for peer in remaining:
            self._faults.write(peer, None)
        self._chatter.write_last()
        self._guests.write_last()
        self._files.attach_last(remaining)
        self._files.ask_last(remaining)
        sim.settle()

    def _remaining(self) -> list[SimPeer]:
        """Return the peers that did not leave for good, after making a way from each to all others."""
        remaining = [peer for peer in self._faults.honest if not peer.gone]
        if len(self._reached(remaining)) < len(remaining):
            self.sim.lift_never()
            self._routers.open()
        return remaining

    def _end_blocks(self, remaining: list[SimPeer]) -> None:
        """Check that all others have what they should while some are blocked; then end all blocks."""
        sim = self.sim
        sure = not (self._crowded or sim.invariants.deletions.any)
        if sure and not any(peer.byzantine for peer in sim.all_peers):
            for peer in remaining:  # who knew others only through one that is blocked
                for other in remaining:
                    if other is not peer:
                        self._faults.name(peer, other)
            deadline = sim.now + SETTLE_WITHIN + SETTLE_MORE * max(0, len(remaining) - 5)
            while sim.now < deadline and any(True for _ in sim.invariants.blocks.missing(remaining)):
                sim.run(1.0)
            sim.invariants.unharmed()
            sim.counts["settled_with_blocks"] += any(map(any, (peer.blocks.values() for peer in remaining)))
        for peer in sim.up:
            assert peer.node is not None
            asked = {(by, user) for by, users in peer.to_block.items() for user in users}
            for by, user in sorted(asked.union(peer.node.own.all(BLOCKED))):  # of guests also what came from elsewhere
                peer.block(by, user, on=False)

    def _meet_again(self, remaining: list[SimPeer]) -> None:
        """Have all name each other, and the crowd dial everybody: who was named must get a place among it."""
        self._faults.press()
        for peer in remaining:
            for other in remaining:
                if other is not peer:
                    self._faults.name(peer, other)

    def _attack_at_last(self, remaining: list[SimPeer]) -> None:
        """Have contacts write to each other, without any other fault, while the crowd does all it can."""
        sim = self.sim
        pairs = [(one, other) for one in remaining for other in remaining if other is not one]
        until = sim.now + LINKED_WITHIN
        while sim.now < until and not all(one.end_to(other) for one, other in pairs):
            sim.run(1.0)
        accepted = len(sim.invariants.written)
        for _ in range(ATTACKS):
            self._faults.attack()
            for one, other in pairs:
                if one.end_to(other) is not None:
                    self._faults.write(one, other)
            sim.run(1.0)
        written, until = sim.invariants.written[accepted:], sim.now + UNHARMED_WITHIN
        while sim.invariants.crowd.late(written) and sim.now < until:
            sim.run(1.0)
        for fault in sim.invariants.crowd.late(written):
            sim.invariants.fail(fault.rule, fault.where, fault.text)
        sim.invariants.crowd.check_bounds()

    def _not_introduced(self, peers: list[SimPeer], linked: set[frozenset[SimPeer]]) -> list[tuple[SimPeer, SimPeer]]:
        """Add to the linked pairs those that hear of each other, and return the other pairs that can link.

        Peers tell each other whom they are linked with, and nothing of others.
        """
        pairs = [pair for pair in combinations(peers, 2) if self.sim.has_way(*pair)]

        def are_introduced(one: SimPeer, other: SimPeer) -> bool:
            return any({frozenset((one, third)), frozenset((other, third))} <= linked for third in peers)

        while new := {frozenset(pair) for pair in pairs if are_introduced(*pair)} - linked:
            linked |= new
        return [pair for pair in pairs if frozenset(pair) not in linked]

    def _reached(self, peers: list[SimPeer]) -> dict[SimPeer, SimPeer | None]:
        """Return the peers that a chain of links can join to the first one of these, each with the next one there."""
        reached: dict[SimPeer, SimPeer | None] = dict.fromkeys(peers[:1])
        waiting = peers[:1]
        for one in waiting:
            new = [peer for peer in peers if peer not in reached and self.sim.has_way(one, peer)]
            reached.update(dict.fromkeys(new, one))
            waiting += new
        return reached


def _draw_openings(chance: Random, settings: Settings, beginning: list[str]) -> list[str]:
    """Return the openings of a history; [] for many. `beginning` holds the peers that start first."""
    drawn = ["leave_a_gap"] if len(beginning) > 2 and chance.random() < WITH_A_GAP else []
    if settings.contact_bytes < Settings().contact_bytes and chance.random() < FILLED:
        drawn.append("fill_a_quota")
    if chance.random() < WITH_COPIES:
        drawn.append("meet_copies")
    if chance.random() < WITH_A_FAILED_IMPORT:
        drawn.append("import_on_a_full_disk")
    return drawn


def _draw_odd_actions(chance: Random, *, always: bool) -> list[str]:
    """Return the actions of a history in which someone signs any text; [] for most, unless `always`."""
    return ["say_odd"] * chance.randint(1, 4) if chance.random() < WITH_ODD_ENTRIES or always else []


def _draw_group_actions(chance: Random, *, always: bool) -> list[str]:
    """Return the group actions of a history; [] for most, unless there shall `always` be some."""
    if chance.random() >= WITH_GROUPS and not always:
        return []
    return ["group_make", *chance.choices([*GROUP_WEIGHTS], [*GROUP_WEIGHTS.values()], k=chance.randint(6, 24))]


def _draw_deletions(chance: Random, *, always: bool) -> list[str]:
    """Return the deletions of a history; [] for most. With `always` there are some, and newcomers behind them."""
    if chance.random() >= WITH_DELETIONS and not always:
        return []
    steps = ["delete_here"] * chance.randint(1, 6)
    return [*steps, *["join"] * chance.randint(0, 2), *["join_byzantine"] * chance.randint(0, 1)] if always else steps


def _draw_blocks(chance: Random, *, always: bool) -> list[str]:
    """Return the blocks of a history; [] for most, unless there shall `always` be some."""
    return ["block_or_unblock"] * chance.randint(2, 8) if chance.random() < WITH_BLOCKS or always else []


def _draw_beginning(plan: Random, most_peers: int, least: int) -> list[str]:
    """Return the steps before any time has passed."""
    program = ["join"] * plan.randint(least, most_peers if most_peers > 5 else min(4, most_peers))
    if plan.random() < 0.3:
        program.append("join_byzantine")
    if plan.random() < 0.05:
        program.append("join_stranger")
    if most_peers >= 3 and plan.random() < 0.25:
        program.append("keep_two_apart")
    if plan.random() < 0.15:
        program.append("keep_all_apart")
    return program


# ---- many histories

CHUNK = 10  # seeds given to a process at once: half a second of play
MOST_FAULTS = 20  # faults kept of one history, beside the first of each rule; one cause often has hundreds


@dataclass(slots=True)
class PlayResult:
    """The result of some histories.

    Attributes:
        histories: The number of histories played.
        counts: The number of each counted event in all of them.
        broken: The faults as text, by the seed of each history that broke a promise.
    """

    histories: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: PlayResult) -> None:
        """Add another result."""
        self.histories += other.histories
        self.counts.update(other.counts)
        self.broken.update(other.broken)


def check_history(
    seed: int, counts: Counter[str] | None = None, tell: Tell | None = None, steps: Steps | None = None,
    wanted: WantedEvents = NOTHING,
) -> list[Fault]:  # fmt: skip
    """Play a history, or some of its steps, and add its counts."""
    try:
        sim, faults = play(seed, tell, steps, wanted)
    except Exception as error:  # an error of the core is a fault like others, and other histories are still played
        if tell is not None:
            traceback.print_exc()
        return [Fault("error", f"{type(error).__name__}: {error}", f"seed {seed}")]
    if counts is not None:
        counts.update(sim.counts)
        counts.update({f"frame {kind}": count for kind, count in sim.frames.items()})
    return faults


def play_some(seeds: Iterable[int], wanted: WantedEvents = NOTHING) -> PlayResult:
    """Play these seeds one after the other."""
    played = PlayResult()
    for seed in seeds:
        faults = check_history(seed, played.counts, wanted=wanted)
        played.histories += 1
        if faults:
            first_of_each = {fault.rule: fault for fault in reversed(faults)}.values()
            played.broken[seed] = [*dict.fromkeys(str(fault) for fault in (*faults[:MOST_FAULTS], *first_of_each))]
    return played


def play_many(
    seeds: Iterable[int], jobs: int = 0, *, stop: Callable[[PlayResult], bool] = lambda played: False,
    wanted: WantedEvents = NOTHING,
) -> Iterator[PlayResult]:  # fmt: skip
    """Play these seeds in `jobs` processes (0: one for each core) and yield the result of each chunk.

    Args:
        stop: Called after each chunk. Once it returns True no more chunks are started; running ones are awaited.
    """
    jobs = jobs or os.cpu_count() or 1
    dealt = iter(seeds)
    if jobs == 1:
        yield from _play_here(dealt, stop, wanted)
        return
    context = multiprocessing.get_context("spawn")  # the same on every system, and copies no threads
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_collect_rarely) as pool:
        out: set[Future[PlayResult]] = set()
        ended = False
        while True:
            while not ended and len(out) < 2 * jobs:
                chunk = list(islice(dealt, CHUNK))
                ended = not chunk
                if chunk:
                    out.add(pool.submit(play_some, chunk, wanted))
            if not out:
                return
            done, out = wait(out, return_when=FIRST_COMPLETED)
            for future in done:
                played = future.result()
                ended = ended or stop(played)
                yield played


def _collect_rarely() -> None:
    """Collect garbage rarely. A history is short and one cycle of objects; collection takes a tenth of its time."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


def _play_here(dealt: Iterator[int], stop: Callable[[PlayResult], bool], wanted: WantedEvents) -> Iterator[PlayResult]:
    for seed in dealt:
        played = play_some([seed], wanted)
        yield played
        if stop(played):
            return


def minutes_are_over(minutes: float) -> Callable[[PlayResult], bool]:
    """Return a `stop` for play_many that ends it this many minutes from now."""
    until = time.monotonic() + 60 * minutes
    return lambda played: time.monotonic() >= until


# ---- shrinking
#
# Shrinking finds the fewest steps of a failing history that still break the same rule. It leaves out ever smaller parts
# while that helps and time lasts (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

SHRUNK_WITHIN = 60.0  # seconds


def shrink(seed: int, seconds: float = SHRUNK_WITHIN, wanted: WantedEvents = NOTHING) -> list[int]:
    """Return the steps of a history needed to break the rule it breaks first; all of its steps if it breaks none."""
    steps = [*range(len(RandomHistory(seed, wanted=wanted).program))]
    faults = check_history(seed, wanted=wanted)
    if not faults:
        return steps
    rule, until = faults[0].rule, time.monotonic() + seconds

    def breaks(tried: Steps) -> bool:
        return any(fault.rule == rule for fault in check_history(seed, steps=tried, wanted=wanted))

    return fewest(steps[2:], breaks, lambda: time.monotonic() >= until)


def fewest(steps: list[int], breaks: Callable[[Steps], bool], is_over: Callable[[], bool]) -> list[int]:
    """Return steps that still break a rule, after leaving out all that could be left out in time."""
    size = len(steps)
    while size and not is_over():
        kept = steps
        for start in range(0, len(steps), size):
            part = {*steps[start : start + size]}
            fewer = [step for step in kept if step not in part]
            if not is_over() and breaks(fewer):
                kept = fewer
        if kept == steps or size > 1:
            size //= 2
        steps = kept
    return steps
