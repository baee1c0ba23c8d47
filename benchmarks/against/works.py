"""Works with rounds: throughput to one, to seven and all to all; latency when idle and at half load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.against import systems as s
from benchmarks.against.deployment import PAIR as ONE_PAIR
from benchmarks.against.deployment import Deployment, Shape, ready
from benchmarks.against.usage import bytes_in
from benchmarks.against.work_result import SystemResult, WorkResult, figures_of
from benchmarks.results import middle

PACE = 0.002  # seconds between two single messages
SINGLES = 200  # a round
CALIBRATION_ROUNDS = 3  # at full speed; half their median is the load


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of the works.

    Attributes:
        messages: The most messages that one sender sends in a round.
        seconds: The intended length of a round.
        takers: Receivers of each message, in the works `seven` and `all`.
        backlog: Messages that wait for an offline receiver.
        peers: Sizes of the meshes that form.
        links: Link ends created to measure the memory of one.
        stored: Entries in the history that a peer starts with.
        idle: Seconds to watch an idle mesh.
        beside: Modules of benchmarks.others to compare with; () means all.
    """

    messages: int = 1_000_000
    seconds: float = 0.8
    rounds: int = 5
    warm_up: float = 2.0
    takers: int = 7
    backlog: int = 100_000
    peers: tuple[int, ...] = (8, 32, 64, 128)
    links: int = 100
    stored: int = 1_000_000
    idle: float = 10.0
    beside: tuple[str, ...] = ()

    def chosen(self, systems: Sequence[s.System]) -> list[s.System]:
        """Return the systems that are ours or were requested."""
        return [each for each in systems if each.ours or not self.beside or each.module in self.beside]


Say = Callable[[str], None]

PAIR = (s.MANY, s.GATHER, s.JETSTREAM, s.JETSTREAM_SYNC, s.REDIS)
FRAMES = (
    s.ENTRIES, s.FRAMES, s.WEBSOCKETS, s.WEBSOCKETS_256, s.PYZMQ, s.PYZMQ_256, s.ZENOH, s.ZENOH_256, s.STREAMS,
)  # fmt: skip
MEMORY = (s.MEMORY_LOOP, s.MEMORY_MANY, s.WEBSOCKETS, s.PYZMQ, s.ZENOH, s.STREAMS)
SEVEN = (
    s.MANY, s.JETSTREAM, s.JETSTREAM_SYNC, s.REDIS,
    s.MEMORY_MANY, s.ENTRIES, s.PYRE, s.WEBSOCKETS, s.PYZMQ_PUBLISH, s.ZENOH, s.STREAMS,
)  # fmt: skip
ALL = (
    s.MANY, s.JETSTREAM, s.JETSTREAM_SYNC,
    s.MEMORY_MANY, s.PYRE, s.WEBSOCKETS, s.PYZMQ_PUBLISH, s.ZENOH, s.STREAMS,
)  # fmt: skip
SINGLE = (s.MANY, s.JETSTREAM, s.JETSTREAM_SYNC, s.REDIS)


def throughput(
    work: str, words: str, compared: tuple[s.System, ...], shape: Shape, home: Path, size: Size, say: Say
) -> WorkResult:
    """Measure messages received per second; and per message, CPU of all processes and disk space."""
    left_out: list[str] = []
    with ready(size.chosen(compared), home, shape, left_out, say) as deployments:
        found = figures_of([deployment.system for deployment in deployments])
        before = [_kept(deployment) for deployment in deployments]
        _warm_up(deployments, size, say)
        for deployment, figures in _rounds(deployments, found, size, say):
            count = deployment.count(size.seconds, size.messages)
            seconds = deployment.round(count)["seconds"]
            figures.values.append(count * deployment.shape.givers * shape.takers / seconds)
        for deployment, figures, was in zip(deployments, found, before, strict=True):
            figures.more["CPU us/message"] = deployment.cpu_a_message
            if deployment.system in PAIR:
                _keeping(deployment, figures, was)
    return WorkResult(work, words, "/s", found, left_out)


def _warm_up(deployments: Sequence[Deployment], size: Size, say: Say) -> None:
    for deployment in deployments:
        say(f"{deployment.system.name} warms up")
        deployment.warm_up(size.warm_up, size.messages)


def _rounds(
    deployments: Sequence[Deployment], found: Sequence[SystemResult], size: Size, say: Say
) -> Iterator[tuple[Deployment, SystemResult]]:
    """Yield each system with its figures, in turn, once per round."""
    for number in range(size.rounds):
        for deployment, figures in zip(deployments, found, strict=True):
            say(f"round {number + 1} of {size.rounds}, {deployment.system.name}")
            yield deployment, figures


def _kept(deployment: Deployment) -> tuple[int, int, int]:
    """Return the messages so far, the bytes stored for them, and KiB of memory of all processes."""
    return deployment.messages * deployment.shape.givers, bytes_in(deployment.place), sum(deployment.resident())


def _keeping(deployment: Deployment, figures: SystemResult, was: tuple[int, int, int]) -> None:
    messages, stored, kib = (now - before for now, before in zip(_kept(deployment), was, strict=True))
    figures.more["disk bytes/message, all ends"] = stored / messages
    figures.more["memory bytes/message, all ends"] = max(0, kib) * 1024 / messages


def pair(home: Path, size: Size, say: Say) -> WorkResult:
    return throughput("pair", "durable and acknowledged, one pair", PAIR, ONE_PAIR, home, size, say)


def frames(home: Path, size: Size, say: Say) -> WorkResult:
    words = "frames only, nothing stored, one pair"
    return throughput("frames", words, FRAMES, ONE_PAIR, home, size, say)


def memory(home: Path, size: Size, say: Say) -> WorkResult:
    words = "the whole library on memory, a plain loop of `await send`, one pair"
    return throughput("memory", words, MEMORY, ONE_PAIR, home, size, say)


def seven(home: Path, size: Size, say: Say) -> WorkResult:
    return throughput("seven", f"one to {size.takers}, deliveries", SEVEN, Shape(size.takers), home, size, say)


def all_to_all(home: Path, size: Size, say: Say) -> WorkResult:
    words, shape = f"{size.takers + 1}, each to all others, deliveries", Shape(size.takers, all_give=True)
    return throughput("all", words, ALL, shape, home, size, say)


def latency(home: Path, size: Size, say: Say) -> WorkResult:
    """Measure one message at a time."""
    left_out: list[str] = []
    with ready(size.chosen(SINGLE), home, ONE_PAIR, left_out, say) as deployments:
        found = figures_of([deployment.system for deployment in deployments])
        _warm_up(deployments, size, say)
        for deployment, figures in _rounds(deployments, found, size, say):
            figures.values += deployment.round(min(SINGLES, size.messages), pace=PACE)["each"]
            figures.more["CPU us/message"] = deployment.cpu_a_message
    return WorkResult("latency", "one at a time, durable and acknowledged", "ms", found, left_out, singly=True)


def half(home: Path, size: Size, say: Say) -> WorkResult:
    """Measure latency at half of the rate that each system has just reached."""
    left_out: list[str] = []
    with ready(size.chosen(SINGLE), home, ONE_PAIR, left_out, say) as deployments:
        found = figures_of([deployment.system for deployment in deployments])
        rates: dict[Deployment, float] = {}
        for deployment in deployments:
            say(f"{deployment.system.name}: measuring its maximum rate")
            deployment.warm_up(size.warm_up, size.messages)
            count = deployment.count(size.seconds, size.messages)
            rates[deployment] = (
                middle([count / deployment.round(count)["seconds"] for _ in range(CALIBRATION_ROUNDS)]) / 2
            )
            deployment.forget_cpu()
        for deployment, figures in _rounds(deployments, found, size, say):
            rate = rates[deployment]
            count = max(1, min(size.messages, int(rate * size.seconds)))
            figures.values += deployment.round(count, rate=rate)["each"]
            figures.more |= {"load/s": rate, "CPU us/message": deployment.cpu_a_message}
    return WorkResult(
        "half", "at half of the maximum rate, durable and acknowledged", "ms", found, left_out, singly=True
    )
