"""One system ready for rounds: its server, its processes, and the resources they used.

Each participant is a separate process on any number of cores. Two processes with several participants each are slower
for nearly every system, most of all for participants with threads (Pyre by half, pyzmq to a third), because these
compete for the interpreter's lock. All systems of a work are ready at once, but only one runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.against.systems import System
from benchmarks.against.usage import cpu_of, forget_peak, peak_of, resident_of
from benchmarks.workers import Worker, WorkFailed

FIRST = 200  # messages in the first warm-up round, doubled until a round lasts long enough
SHORT = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Shape:
    """The number of receivers, and the senders: all, or only the last one, linked with each of the others."""

    takers: int
    all_give: bool = False

    @property
    def numbers(self) -> range:
        return range(self.takers + 1)

    @property
    def givers(self) -> int:
        return self.takers + 1 if self.all_give else 1

    def links(self, number: int) -> list[int]:
        """Return the ends that an end is linked with."""
        if not self.all_give and number != self.takers:
            return [self.takers]
        return [other for other in self.numbers if other != number]

    def dials(self, number: int, one_way: bool) -> list[int]:
        """Return the ends that an end dials: those with lower numbers, or all if a connection is one-way."""
        return [other for other in self.links(number) if other < number or (one_way and self.all_give)]

    def gives(self, number: int) -> bool:
        return self.all_give or number == self.takers

    def takes(self, number: int) -> int:
        """Return the number of ends that an end receives from."""
        return self.givers - int(self.gives(number))


PAIR = Shape(1)


class Deployment:
    """A running system with linked ends."""

    def __init__(self, stack: ExitStack, system: System, home: Path, shape: Shape) -> None:
        self.system, self.shape = system, shape
        self.place = home / f"{system.module}-{'-'.join(system.variant.values()) or 'plain'}".replace("://", "")
        self.place.mkdir()
        address = dict(stack.enter_context(system.code.server(self.place, **system.variant)))
        self.server: int | None = address.pop("pid", None)
        self.workers = [
            stack.enter_context(
                Worker("others.ends.hold", home=self.place, system=system.module, numbers=[number], address=address)
            )
            for number in shape.numbers
        ]
        self.reported = [reported for worker in self.workers for reported in worker.get()["ends"]]
        self._meet()
        self.messages = 0  # sent by each sender so far
        self.rate = 0.0  # rate of the last warm-up round
        self.cpu = 0.0  # CPU seconds of all ends and the server since warming up
        self.given = 0  # messages sent in these rounds

    def _meet(self) -> None:
        """Link all ends."""
        shape, one_way = self.shape, self.system.code.Participant.one_way
        for number, worker in enumerate(self.workers):
            dial = [self.reported[other] for other in shape.dials(number, one_way)]
            worker.put({"do": "meet", "dial": [dial], "links": [shape.links(number)]})
        for worker in self.workers:
            worker.get()

    def round(self, messages: int, **how: float) -> dict[str, Any]:
        """Let each sender send `messages` messages.

        Return `seconds` until all are received and accepted; for messages that were sent singly, `each` has the
        milliseconds of each.
        """
        self.messages += messages
        shape, server = self.shape, cpu_of(self.server)
        for number, worker in enumerate(self.workers):
            gives = messages if shape.gives(number) else 0
            worker.put({"do": "round", "messages": gives, "taken": self.messages * shape.takes(number), **how})
        found = [worker.get() for worker in self.workers]
        self._check(found)
        begun = min(one["begun"] for number, one in enumerate(found) if shape.gives(number))
        seconds = max(max(one["done"], one["at"]) for one in found) - begun
        self.cpu += sum(one["cpu"] for one in found) + cpu_of(self.server) - server
        self.given += messages * self.shape.givers
        ends = zip(found[-1]["each"], found[0]["times"], strict=False)
        each = [1e3 * (max(done, at) - begun) for (begun, done), at in ends]
        return {"seconds": seconds, "each": each}

    @property
    def cpu_a_message(self) -> float:
        """Return CPU microseconds per message since the warm-up, of all ends and the server."""
        return 1e6 * self.cpu / self.given

    def _check(self, found: list[dict[str, Any]]) -> None:
        """Raise if a message came twice in a round."""
        for number, worker in enumerate(found):
            (count,), whole = worker["taken"], self.messages * self.shape.takes(number)
            if count != whole:
                raise WorkFailed(f"{self.system.name}: {count} taken of {whole}")

    def warm_up(self, seconds: float, most: int) -> None:
        """Run rounds of increasing length for about `seconds`, to learn the rate."""
        end, count = time.monotonic() + seconds, min(FIRST, most)
        while not self.rate or time.monotonic() < end:
            took = self.round(count)["seconds"]
            self.rate = count / took
            if took < SHORT:
                count = min(2 * count, most)
        self.forget_cpu()

    def forget_cpu(self) -> None:
        """Reset the CPU counters."""
        self.cpu, self.given = 0.0, 0

    def count(self, seconds: float, most: int) -> int:
        """Return the number of messages that take about `seconds`, `most` at most."""
        return max(1, min(most, int(self.rate * seconds)))

    def forget_peaks(self) -> None:
        for pid in self.pids:
            forget_peak(pid)

    def peaks(self) -> list[int]:
        """Return the peak KiB since the reset: of each worker, then of the server if there is one."""
        return [peak_of(pid) for pid in self.pids]

    def resident(self) -> list[int]:
        """Return the current KiB: of each worker, then of the server if there is one."""
        return [resident_of(pid) for pid in self.pids]

    @property
    def pids(self) -> list[int]:
        """Return the process ids of each worker, then of the server if there is one."""
        return [*(worker.pid for worker in self.workers), *([self.server] if self.server else [])]


@contextmanager
def ready(
    systems: Sequence[System], home: Path, shape: Shape, left_out: list[str], say: Any = lambda words: None
) -> Iterator[list[Deployment]]:
    """Start the installed systems, and record in `left_out` why others were not started."""
    with ExitStack() as stack:
        deployments = []
        for system in systems:
            if reason := system.code.absent():
                left_out.append(f"{system.name}: {reason}")
                continue
            say(f"{system.name} starts")
            deployments.append(Deployment(stack, system, home, shape))
        yield deployments
