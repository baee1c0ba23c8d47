"""One system ready for rounds: its server, its processes, and what they took of the machine.

However many participants a work has, a system has two processes: on a machine with two cores fifty that all want to
run would measure the scheduler. One to seven is the giver and, in another process, all takers; of eight that all give
and take each process holds four. All systems of a work stand ready, but only one of them plays at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.against.systems import System
from benchmarks.against.usage import cpu_of, forget_peak, peak_of
from benchmarks.workers import Worker, WorkFailed

FIRST = 200  # messages of the first round of warming up, doubled until a round lasts
SHORT = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Shape:
    """Who is linked with whom: the numbers in each process, who gives, and whether all do."""

    processes: tuple[tuple[int, ...], ...]
    all_give: bool = False

    @property
    def giver(self) -> int:
        return self.processes[-1][-1]

    @property
    def takers(self) -> int:
        """By how many each message is taken."""
        return self.giver

    def links(self, number: int) -> list[int]:
        """With whom this one is linked."""
        if not self.all_give and number != self.giver:
            return [self.giver]
        return [other for other in range(self.giver + 1) if other != number]

    def dials(self, number: int, one_way: bool) -> list[int]:
        """Of any two the higher number dials, or each the other where a connection carries one way only."""
        return [other for other in self.links(number) if other < number or (one_way and self.all_give)]


def star(takers: int) -> Shape:
    """One gives to so many."""
    return Shape((tuple(range(takers)), (takers,)))


def everybody(ends: int) -> Shape:
    """Each gives to all others."""
    return Shape((tuple(range(ends // 2)), tuple(range(ends // 2, ends))), all_give=True)


class Contest:
    """A system that stands ready, its ends linked."""

    def __init__(self, stack: ExitStack, system: System, home: Path, shape: Shape) -> None:
        self.system, self.shape = system, shape
        self.place = home / f"{system.module}-{'-'.join(system.variant.values()) or 'plain'}".replace("://", "")
        self.place.mkdir()
        address = dict(stack.enter_context(system.code.server(self.place, **system.variant)))
        self.server: int | None = address.pop("pid", None)
        self.workers = [
            stack.enter_context(
                Worker("others.ends.hold", home=self.place, system=system.module, numbers=numbers, address=address)
            )
            for numbers in shape.processes
        ]
        self.told = [told for worker in self.workers for told in worker.get()["ends"]]
        self.meet(self.workers)
        self.messages = 0  # given by each giver so far
        self.rate = 0.0  # of the last round of warming up

    def meet(self, workers: Sequence[Worker]) -> None:
        """Link the ends of these workers with those they belong to."""
        shape, one_way = self.shape, self.system.code.Part.one_way
        for worker, numbers in zip(self.workers, shape.processes, strict=True):
            if worker in workers:
                dial = [[self.told[other] for other in shape.dials(number, one_way)] for number in numbers]
                worker.put({"do": "meet", "dial": dial, "links": [shape.links(number) for number in numbers]})
        for worker in workers:
            worker.get()

    def ask(self, **asked: Any) -> list[dict[str, Any]]:
        """Ask all workers the same."""
        for worker in self.workers:
            worker.put(asked)
        return [worker.get() for worker in self.workers]

    def round(self, messages: int, **how: float) -> dict[str, Any]:
        """Let each giver give so many; return `seconds` until all are taken and accepted, `cpu` seconds of the ends
        and the server, `kib` of the last process, and milliseconds for `each` message that went by itself."""
        self.messages += messages
        gives = {"do": "round", "messages": messages, **how}
        server = cpu_of(self.server)
        if self.shape.all_give:
            found = self.ask(**gives, taken=self.messages * self.shape.takers)
        else:
            for worker in self.workers[:-1]:
                worker.put({"do": "round", "taken": self.messages, **how})
            self.workers[-1].put(gives)
            found = [worker.get() for worker in self.workers]
        self._check(found)
        seconds = max(max(one["done"], one["at"]) for one in found) - min(one["begun"] for one in found)
        spent = [one["cpu"] for one in found]
        ends = zip(found[-1]["each"], found[0]["times"], strict=False)
        each = [1e3 * (max(done, at) - begun) for (begun, done), at in ends]
        server = cpu_of(self.server) - server
        return {"seconds": seconds, "cpu": sum(spent), "server_cpu": server, "kib": found[-1]["kib"], "each": each}

    def _check(self, found: list[dict[str, Any]]) -> None:
        """Refuse a round in which a message came twice."""
        for worker, numbers in zip(found, self.shape.processes, strict=True):
            for number, count in zip(numbers, worker["taken"], strict=True):
                givers = self.shape.takers if self.shape.all_give else int(number != self.shape.giver)
                if count != self.messages * givers:
                    raise WorkFailed(f"{self.system.name}: {count} taken of {self.messages * givers}")

    def warm_up(self, seconds: float, most: int) -> None:
        """Give longer and longer rounds for so long, to learn how many messages a second it gets."""
        end, count = time.monotonic() + seconds, min(FIRST, most)
        while not self.rate or time.monotonic() < end:
            took = self.round(count)["seconds"]
            self.rate = count / took
            if took < SHORT:
                count = min(2 * count, most)

    def count(self, seconds: float, most: int) -> int:
        """Return how many messages take about so long, `most` at most."""
        return max(1, min(most, int(self.rate * seconds)))

    def forget_peaks(self) -> None:
        for pid in self._pids():
            forget_peak(pid)

    def peaks(self) -> list[int]:
        """Return the most KiB since then: of each worker, then of the server if there is one."""
        return [peak_of(pid) for pid in self._pids()]

    def _pids(self) -> list[int]:
        return [*(worker.pid for worker in self.workers), *([self.server] if self.server else [])]


@contextmanager
def ready(
    systems: Sequence[System], home: Path, shape: Shape, left_out: list[str], say: Any = lambda words: None
) -> Iterator[list[Contest]]:
    """Start what is installed, and put into `left_out` why others were not."""
    with ExitStack() as stack:
        contests = []
        for system in systems:
            if reason := system.code.absent():
                left_out.append(f"{system.name}: {reason}")
                continue
            say(f"{system.name} starts")
            contests.append(Contest(stack, system, home, shape))
        yield contests
