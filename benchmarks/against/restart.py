"""Costs of a stored entry: on the disk, in memory, and at a restart of the process that stores it.

For p2pchat, the writer's process starts with everything it wrote; for other systems, the server starts. The clock stops
when the newest entry has been requested and received. Memory and CPU are those of that process, minus those of a start
with an empty store.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.against import systems as s
from benchmarks.against.deployment import PAIR, Deployment
from benchmarks.against.usage import bytes_in, cpu_of, resident_of
from benchmarks.against.work_result import SystemResult, WorkResult, figures_of
from benchmarks.against.works import Say, Size
from benchmarks.results import middle
from benchmarks.workers import Worker

COMPARED = (s.MANY, s.JETSTREAM, s.REDIS)
MOST = 200_000  # entries
A_ROUND = 100_000


@dataclass(frozen=True, slots=True)
class Start:
    """One start: milliseconds until the answer, and the memory and CPU of the process up to then."""

    ms: float
    kib: int
    cpu: float


def kept(home: Path, size: Size, say: Say) -> WorkResult:
    """Start each system in turn, with a full store and with an empty one."""
    entries = min(size.stored, MOST)
    left_out = [f"{each.name}: {reason}" for each in size.chosen(COMPARED) if (reason := each.code.absent())]
    systems = [each for each in size.chosen(COMPARED) if not each.code.absent()]
    found, places = figures_of(systems), [home / system.module for system in systems]
    for system, place in zip(systems, places, strict=True):
        say(f"{system.name} stores {entries:,} entries")
        place.mkdir()
        _fill(system, place, entries)
    starts: list[list[tuple[Start, Start]]] = [[] for _ in systems]
    for number in range(size.rounds):
        for system, place, those in zip(systems, places, starts, strict=True):
            say(f"round {number + 1} of {size.rounds}, {system.name} starts with {entries:,} entries")
            empty = home / f"{system.module} with nothing {number}"
            empty.mkdir()
            those.append((_start(system, _kept_in(place)), _start(system, empty)))
    for figures, place, those in zip(found, places, starts, strict=True):
        _tell(figures, those, bytes_in(_kept_in(place) / "1" if figures.ours else _kept_in(place)), entries)
    return WorkResult("kept", f"start with {entries:,} entries stored, until it answers", "ms", found, left_out)


def _fill(system: s.System, place: Path, entries: int) -> None:
    with ExitStack() as stack:
        deployment = Deployment(stack, system, place, PAIR)
        while deployment.messages < entries:
            deployment.round(min(A_ROUND, entries - deployment.messages))


def _kept_in(place: Path) -> Path:
    """Return the one directory that a deployment created there."""
    (made,) = place.iterdir()
    return made


def _start(system: s.System, place: Path) -> Start:
    for name in system.code.Participant.loads:
        import_module(name)  # the client of the server has everything it needs
    begun = time.perf_counter()
    with system.code.server(place, **system.variant) as address:
        if pid := address.get("pid"):
            asyncio.run(system.code.newest(address))
            return Start(1e3 * (time.perf_counter() - begun), resident_of(pid), cpu_of(pid))
        asked = {"system": system.module, "numbers": [1], "address": address}
        with Worker("others.ends.hold", home=place, **asked) as worker:
            worker.get()
            worker.put({"do": "newest"})
            worker.get()
            return Start(1e3 * (time.perf_counter() - begun), resident_of(worker.pid), cpu_of(worker.pid))


def _tell(figures: SystemResult, starts: list[tuple[Start, Start]], stored: int, entries: int) -> None:
    figures.values += [full.ms for full, _ in starts]
    figures.more["with nothing ms"] = middle([empty.ms for _, empty in starts])
    figures.more["disk bytes/entry"] = stored / entries
    kib, cpu = middle([full.kib - empty.kib for full, empty in starts]), middle([f.cpu - e.cpu for f, e in starts])
    figures.more["memory bytes/entry"] = max(0, kib) * 1024 / entries
    figures.more["CPU us/entry"] = max(0, cpu) * 1e6 / entries
