"""python -m benchmarks.against: p2pchat beside what people would use instead, the same work for each, in one run.

    python -m benchmarks.against                     # or: poe bench-peers; everything, some minutes
    python -m benchmarks.against pair seven --messages 20000 --rounds 5 --json found.json

All systems of a work stand ready at once, each with processes of its own for giving and for each taker; 2 s of every
one of them warm up, then rounds go round (A B A B ...), so that whatever else the machine does meets all alike. A
system that is not installed is left out, with the reason. Figures are ratios first: p2pchat to the other.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.disk import NoDisk, workplace
from benchmarks.results import middle, percentile, shown
from benchmarks.workers import Worker, WorkFailed

PACE = 0.002  # seconds between two single messages


@dataclass(frozen=True, slots=True)
class System:
    """One way of doing a work: a module of benchmarks.others, and how it is set up."""

    name: str
    module: str
    variant: dict[str, str] = field(default_factory=dict)
    share: float = 1.0  # of the messages asked for: a slow one would take minutes


MANY = System("p2pchat, send_many", "own")
GATHER = System("p2pchat, 2,000 send at once", "own", {"way": "gather"})
MEMORY_LOOP = System("p2pchat in memory, plain loop", "own", {"way": "loop", "db": "memory://"})
FRAMES = System("p2pchat, frames only", "frames_only")
JETSTREAM = System("NATS JetStream", "jetstream", share=0.3)
JETSTREAM_SYNC = System("NATS JetStream, sync always", "jetstream", {"sync": "always"}, share=0.1)
REDIS = System("Redis Streams, fsync always", "redis_streams", share=0.3)
WEBSOCKETS = System("websockets (TLS)", "websocket", share=0.5)
PYZMQ = System("pyzmq", "zeromq")
ZENOH = System("zenoh", "zenoh_peers")
PYRE = System("Pyre SHOUT", "pyre_mesh", share=0.2)
STREAMS = System("asyncio streams, json", "streams_json", share=0.5)


@dataclass(frozen=True, slots=True)
class Work:
    """What is compared: to how many takers, all at once or one by one, and by whom; the first ones are p2pchat."""

    words: str
    systems: tuple[System, ...]
    takers: int = 1
    singly: bool = False


WORKS = {
    "pair": Work("durable and acknowledged, one pair", (MANY, GATHER, JETSTREAM, JETSTREAM_SYNC, REDIS)),
    "memory": Work("nothing kept, one pair", (FRAMES, MEMORY_LOOP, WEBSOCKETS, PYZMQ, ZENOH, STREAMS)),
    "seven": Work("one to seven; deliveries", (MANY, FRAMES, PYRE, JETSTREAM, WEBSOCKETS, PYZMQ, ZENOH, STREAMS), 7),
    "latency": Work("one at a time, durable", (MANY, JETSTREAM, JETSTREAM_SYNC, REDIS), singly=True),
}


@dataclass(slots=True)
class Figures:
    """What the rounds of one system gave: messages a second, or milliseconds of single messages."""

    system: System
    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # seconds a message, both ends
    kib: int = 0  # of the giver, at the end

    @property
    def median(self) -> float:
        return middle(self.values)


class Contest:
    """One system, ready: a giver and its takers."""

    def __init__(self, stack: ExitStack, system: System, home: Path, takers: int) -> None:
        module = import_module(f"benchmarks.others.{system.module}")
        place = home / f"{system.module}-{'-'.join(system.variant.values()) or 'plain'}".replace("://", "")
        place.mkdir()
        address = stack.enter_context(module.server(place, **system.variant))
        where = f"others.{system.module}"
        self.system = system
        self._takers = [
            stack.enter_context(Worker(f"{where}.take", home=place, number=number, **address))
            for number in range(takers)
        ]
        told = [taker.get() for taker in self._takers]
        self._giver = stack.enter_context(Worker(f"{where}.give", home=place, takers=told, **address))
        self._giver.get()
        self._taken = 0

    def round(self, messages: int, *, pace: float = 0.0) -> dict[str, Any]:
        """Give so many to everyone; return `seconds` until all had them, `cpu` of all, `kib` of the giver, and
        milliseconds for `each` that went one by one."""
        self._taken += messages
        for taker in self._takers:
            taker.put({"taken": self._taken, "one_by_one": bool(pace)})
        self._giver.put({"messages": messages, "pace": pace})
        gave = self._giver.get()
        took = [taker.get() for taker in self._takers]
        if any(each["taken"] != self._taken for each in took):
            raise WorkFailed(f"{self.system.name}: a message came twice")
        until = max([gave["done"], *(each["at"] for each in took)])
        each = [max(done, at) - begun for (begun, done), at in zip(gave["each"], took[0]["times"], strict=False)]
        cpu = gave["cpu"]
        return {"seconds": until - gave["begun"], "cpu": cpu, "kib": gave["kib"], "each": [1e3 * one for one in each]}

    def warm_up(self, messages: int, seconds: float) -> None:
        """Give small rounds for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.round(max(1, messages // 20))


def compare(work: Work, home: Path, messages: int, rounds: int, warm_up: float) -> tuple[list[Figures], list[str]]:
    """Return what each system gave, and why others were left out."""
    left_out = []
    with ExitStack() as stack:
        contests = []
        for system in work.systems:
            reason = import_module(f"benchmarks.others.{system.module}").absent()
            if reason:
                left_out.append(f"{system.name}: {reason}")
                continue
            progress(f"{work.words}: {system.name} starts")
            contests.append(Contest(stack, system, home, work.takers))
        figures = [Figures(contest.system) for contest in contests]
        for contest in contests:
            progress(f"{work.words}: {contest.system.name} warms up")
            contest.warm_up(int(messages * contest.system.share), warm_up)
        for number in range(rounds):
            for contest, found in zip(contests, figures, strict=True):
                progress(f"{work.words}: round {number + 1} of {rounds}, {contest.system.name}")
                _play(work, contest, found, messages)
    return figures, left_out


def _play(work: Work, contest: Contest, found: Figures, messages: int) -> None:
    count = max(1, int(messages * contest.system.share))
    if work.singly:
        found.values += contest.round(min(count, 200), pace=PACE)["each"]
        return
    played = contest.round(count)
    found.values.append(count * work.takers / played["seconds"])
    found.cpu.append(played["cpu"] / count)
    found.kib = played["kib"]


def print_work(work: Work, figures: Sequence[Figures], left_out: Sequence[str]) -> None:
    """Print one work: each system, what it did, and how p2pchat's first figure relates to it."""
    print(f"\n{work.words}")
    first = figures[0].median
    for found in figures:
        if work.singly:
            ratio, unit = first / found.median, "ms"
            more = f"99 %: {shown(percentile(found.values, 0.99))} ms"
        else:
            ratio, unit = first / found.median, "/s"
            more = f"{shown(min(found.values))} to {shown(max(found.values))}"
        print(f"  {found.system.name:<32} {shown(found.median):>9} {unit:<3} {ratio:>7.2f} x   {more}")
    for reason in left_out:
        print(f"  left out: {reason}")


def to_json(work: Work, figures: Sequence[Figures], left_out: Sequence[str]) -> dict[str, Any]:
    systems = [
        {
            "name": found.system.name,
            "unit": "ms" if work.singly else "/s",
            "median": found.median,
            "low": min(found.values),
            "high": max(found.values),
            "p99": percentile(found.values, 0.99),
            "giver_cpu_us": 1e6 * middle(found.cpu) if found.cpu else None,
            "giver_kib": found.kib,
        }
        for found in figures
    ]
    return {"work": work.words, "takers": work.takers, "systems": systems, "left_out": list(left_out)}


def progress(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


@contextmanager
def _cleared() -> Iterator[None]:
    try:
        yield
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("work", nargs="*", help=f"only these: {', '.join(WORKS)}")
    parser.add_argument("--dir", type=Path, help="a directory on a disk (default: the place of temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--messages", type=int, default=50_000, help="a round; slow systems get a share of them")
    parser.add_argument("--rounds", type=int, default=5, help="of each system; the median counts")
    parser.add_argument("--warm-up", type=float, default=2.0, metavar="SECONDS", help="of each system")
    chosen = parser.parse_args(given)
    unknown = [work for work in chosen.work if work not in WORKS]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    if min(chosen.messages, chosen.rounds) < 1:
        parser.error("messages and rounds begin at 1")
    return chosen


def report(chosen: argparse.Namespace, directory: Path) -> int:
    about = machine(directory)
    for name, value in about.items():
        print(f"{name:>18}  {value}")
    found, failed = [], []
    for name, work in WORKS.items():
        if chosen.work and name not in chosen.work:
            continue
        home = directory / name
        home.mkdir()
        try:
            with _cleared():
                figures, left_out = compare(work, home, chosen.messages, chosen.rounds, chosen.warm_up)
        except WorkFailed as error:
            failed.append(f"{name}: {error}")
            continue
        print_work(work, figures, left_out)
        found.append(to_json(work, figures, left_out))
    for sentence in failed:
        print(f"failed: {sentence}", file=sys.stderr)
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"machine": about, "works": found, "failed": failed}, indent=1) + "\n", "utf-8"
        )
    return 1 if failed else 0


def main(given: list[str] | None = None) -> int:
    chosen = arguments(given)
    try:
        with workplace(chosen.dir) as directory:
            return report(chosen, directory)
    except (NoDisk, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
