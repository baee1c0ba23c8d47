"""Goals of p2pchat compared with other systems, and the figure of a run for each goal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.against import systems as s
from benchmarks.results import shown

MET = "met"
CPU = "CPU us/message"  # of all processes, as works.py names it
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that should be at least `least`, or at most `most`. `find` returns it, None if it was not measured."""

    work: str
    words: str
    find: Callable[[JsonObject], float | None]
    unit: str
    least: float | None = None
    most: float | None = None

    def row(self, results: JsonObject) -> tuple[str, str, str, str]:
        """Return the work, the goal, the figure, and MET or the part of the goal that was reached."""
        value = self.find(results)
        if value is None:
            return self.work, self.words, "not in this run", ""
        bound = self.least if self.least is not None else self.most
        assert bound is not None
        met = value >= bound if self.least is not None else value <= bound
        part = value / bound if self.least is not None else (bound / value if value else 1.0)
        return (
            self.work,
            self.words,
            f"{shown(value)} {self.unit}".strip(),
            MET if met else f"{part:.0%}",
        )


def _system(results: JsonObject, work: str, name: str) -> JsonObject | None:
    systems = [each for found in results["works"] if found["work"] == work for each in found["systems"]]
    return next((each for each in systems if each["name"] == name), None)


def _ratio(work: str, ours: s.System, other: s.System) -> Callable[[JsonObject], float | None]:
    def find(results: JsonObject) -> float | None:
        mine, theirs = _system(results, work, ours.name), _system(results, work, other.name)
        return mine["median"] / theirs["median"] if mine and theirs and theirs["median"] else None

    return find


def _median(work: str, system: s.System | str) -> Callable[[JsonObject], float | None]:
    def find(results: JsonObject) -> float | None:
        found = _system(results, work, system if isinstance(system, str) else system.name)
        return found["median"] if found else None

    return find


def _more(work: str, system: s.System, *words: str) -> Callable[[JsonObject], float | None]:
    """Return a finder of the largest of some further figures."""

    def find(results: JsonObject) -> float | None:
        found = _system(results, work, system.name)
        values = [found["more"][each] for each in words if each in found["more"]] if found else []
        return max(values) if values else None

    return find


def _cpu_ratio(work: str, ours: s.System, other: s.System) -> Callable[[JsonObject], float | None]:
    def find(results: JsonObject) -> float | None:
        mine, theirs = (_more(work, system, CPU)(results) for system in (ours, other))
        return mine / theirs if mine and theirs else None

    return find


def _row(begin: str) -> Callable[[JsonObject], float | None]:
    def find(results: JsonObject) -> float | None:
        return next((row["value"] for row in results.get("rows", []) if row["work"].startswith(begin)), None)

    return find


def _floor(begin: str) -> Callable[[JsonObject], float | None]:
    """Return a finder of a row's ratio to its floor, the first number of the floor's text."""

    def find(results: JsonObject) -> float | None:
        words = next((row["floor"] for row in results.get("rows", []) if row["work"].startswith(begin)), "")
        found = re.match(r"([\d.]+) x", words)
        return float(found[1]) if found else None

    return find


def _curve(driver: str, cost: str, size: float) -> Callable[[JsonObject], float | None]:
    """Return a finder of the value of a curve of benchmarks.growth at one size of its driver."""

    def find(results: JsonObject) -> float | None:
        curves = [each for each in results.get("growth", {}).get(driver, []) if each["cost"].startswith(cost)]
        return next((value for each in curves for at, value in each["points"] if at == size), None)

    return find


def _lost(results: JsonObject) -> float | None:
    """Return the loss of six readers next to a stopped seventh, in percent of the rate of six readers alone."""
    beside, alone = (_curve("readers", cost, 1)(results) for cost in ("stopped: rate of each", "six only"))
    return max(0.0, 100 * (1 - beside / alone)) if beside and alone else None


PAIR, SEVEN, FRAMES, MEMORY = "durable, one pair", "one to seven", "frames only, one pair", "on memory, plain loop"
LATENCY, BACKLOG = "*delivered*, one at a time", "backlog of 100,000 on return"
START, RESTART, LINK, STOPPED = "start", "restart", "one idle TLS link end", "one reader of seven stopped"
MESH, LARGE_MESH = "64 peers in one process", "128 peers in one process"
GOALS = (
    Goal(PAIR, "2 x JetStream by default", _ratio("pair", s.MANY, s.JETSTREAM), "x", least=2),
    Goal(PAIR, "10 x JetStream, sync always", _ratio("pair", s.MANY, s.JETSTREAM_SYNC), "x", least=10),
    Goal(PAIR, "2 x Redis Streams, fsync always", _ratio("pair", s.MANY, s.REDIS), "x", least=2),
    Goal(SEVEN, "3 x Pyre, which stores nothing", _ratio("seven", s.MANY, s.PYRE), "x", least=3),
    Goal(FRAMES, "8 x websockets, neither joins", _ratio("frames", s.FRAMES, s.WEBSOCKETS), "x", least=8),
    Goal(MEMORY, "websockets", _ratio("memory", s.MEMORY_LOOP, s.WEBSOCKETS), "x", least=1),
    Goal(LATENCY, "4 x two commits and a TLS round trip", _floor("send to delivered"), "x", most=4),
    Goal(LATENCY, "2.2 x JetStream, sync always", _ratio("latency", s.MANY, s.JETSTREAM_SYNC), "x", most=2.2),
    Goal(LATENCY, "CPU: 1.8 x JetStream, sync always", _cpu_ratio("latency", s.MANY, s.JETSTREAM_SYNC), "x", most=1.8),
    Goal(BACKLOG, "as fast as JetStream", _ratio("backlog", s.MANY, s.JETSTREAM), "x", least=1),
    Goal(BACKLOG, "memory within 64 MiB of idle", _more("backlog", s.MANY, "receiver: + MiB", "writer: + MiB"),
         "MiB", most=64),
    Goal(START, "import p2pchat: under 0.15 s", _median("start", "import p2pchat"), "ms", most=150),
    Goal(RESTART, "10^6 stored: under 0.5 s", _row("start with 1,000,000"), "s", most=0.5),
    Goal(LINK, "32 KiB fresh", _row("memory of an idle link end, fresh"), "KiB", most=32),
    Goal(LINK, "96 KiB after traffic", _row("the same after traffic"), "KiB", most=96),
    Goal(MESH, "2.5 x zenoh", _ratio("mesh 64", s.MANY, s.ZENOH), "x", most=2.5),
    Goal(LARGE_MESH, "3 x zenoh", _ratio("mesh 128", s.MANY, s.ZENOH), "x", most=3),
    Goal(MESH, "idle: 1 % of a core for 1,000 links, both ends", _more("mesh 64", s.MANY, "idle % per 1,000 links"),
         "%", most=1),
    Goal(STOPPED, "others lose under 5 %", _lost, "%", most=5),
    Goal(STOPPED, "writer grows under 16 MiB", _curve("readers", "stopped: growth of the writer", 1), "MiB", most=16),
)  # fmt: skip
