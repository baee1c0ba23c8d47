"""Costs at rest: meshes that form and then idle, links, and starts of whole processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.against import systems as s
from benchmarks.against.usage import resident_of
from benchmarks.against.work_result import SystemResult, WorkResult, figures_of
from benchmarks.against.works import Say, Size
from benchmarks.meshing import CALM_AFTER
from benchmarks.workers import ROOT, Worker, WorkFailed

MESHES = (s.MANY, s.PYRE, s.ZENOH_GOSSIP)
LINKS = (s.MANY, s.ENTRIES, s.WEBSOCKETS, s.PYZMQ, s.ZENOH, s.STREAMS)
MOST = {"pyre_mesh": 64}  # peers: each pair has its own sockets, so 128 exceed the limit of open files
REPEATED = 32  # peers: larger meshes form only once
WATCHED = 32  # peers: the CPU time of smaller idle meshes is too short to measure
MORE_LINKS = 2  # repetitions for other systems; p2pchat links every pair, n x n
STARTS = 7
READY = """
import asyncio, sys, p2pchat
async def main():
    async with p2pchat.TCPPeer(data=sys.argv[1]):
        pass
asyncio.run(main())
"""


def meshes(home: Path, size: Size, say: Say) -> list[WorkResult]:
    """Measure one process with all peers, each given one address, and the cost of the idle mesh."""
    return [_mesh(home / str(peers), peers, size, say) for peers in size.peers]


def _mesh(home: Path, peers: int, size: Size, say: Say) -> WorkResult:
    home.mkdir(parents=True)
    left_out = [f"{each.name}: {reason}" for each in size.chosen(MESHES) if (reason := _not_in_mesh(each, peers))]
    systems = [each for each in size.chosen(MESHES) if not _not_in_mesh(each, peers)]
    found = figures_of(systems)
    for number in range(min(3, size.rounds) if peers <= REPEATED else 1):
        for system, figures in zip(systems, found, strict=True):
            say(f"{system.name}, a mesh of {peers}")
            try:
                idle = size.idle if peers >= WATCHED and not number else 0.0
                _form(home / f"{system.module}{number}", system, peers, idle, figures)
            except WorkFailed as error:
                left_out.append(f"{system.name}: {error}")
    return WorkResult(
        f"mesh {peers}", f"a mesh of {peers} forms, all in one process", "s", _with_values(found), left_out
    )


def _not_in_mesh(system: s.System, peers: int) -> str:
    if peers > MOST.get(system.module, peers):
        return f"no more than {MOST[system.module]} in one process"
    return str(system.code.absent())


def _with_values(found: list[SystemResult]) -> list[SystemResult]:
    return [figures for figures in found if figures.values]


def _form(place: Path, system: s.System, peers: int, idle: float, figures: SystemResult) -> None:
    place.mkdir()
    numbers = list(range(peers))
    with ExitStack() as stack:
        address = dict(stack.enter_context(system.code.server(place, **system.variant)))
        asked = {"system": system.module, "numbers": numbers, "address": address}
        worker = stack.enter_context(Worker("others.ends.hold", home=place, **asked))
        opened = worker.get()
        links = [[other for other in numbers if other != number] for number in numbers]
        worker.put(
            {"do": "meet", "dial": [[opened["ends"][0]] if number else [] for number in numbers], "links": links}
        )
        met = worker.get()
        figures.values.append(met["met"] - opened["begun"])
        links_in_all = peers * (peers - 1) / 2
        figures.more |= {"CPU s": met["cpu"], "CPU ms/link": 1e3 * met["cpu"] / links_in_all, "MiB": met["kib"] / 1024}
        if idle:
            worker.put({"do": "idle", "rest": min(idle, CALM_AFTER), "seconds": idle})
            cpu = 100 * worker.get()["cpu"] / idle
            figures.more |= {"idle % of a core": cpu, "idle % per 1,000 links": cpu / links_in_all * 1000}


def links(home: Path, size: Size, say: Say) -> WorkResult:
    """Measure memory and CPU of one end per link, with the whole library and with links alone."""
    left_out = [f"{each.name}: {reason}" for each in size.chosen(LINKS) if (reason := each.code.absent())]
    systems = [each for each in size.chosen(LINKS) if not each.code.absent()]
    found = figures_of(systems)
    for number in range(min(3, size.rounds)):
        for system, figures in zip(systems, found, strict=True):
            say(f"memory of a link: {system.name}")
            count = size.links * (1 if system is s.MANY else MORE_LINKS)
            kib, cpu = _link(home / f"{system.module}{number}", system, count)
            figures.values.append(kib)
            figures.more["CPU ms/link"] = min(cpu, figures.more.get("CPU ms/link", cpu))
    return WorkResult("links", "memory of an idle link, one end", "KiB", found, left_out)


def _link(place: Path, system: s.System, count: int) -> tuple[float, float]:
    """Return KiB and CPU milliseconds per link. The first link is not counted, because it loads modules."""
    place.mkdir(parents=True)
    with ExitStack() as stack:
        address = dict(stack.enter_context(system.code.server(place, **system.variant)))
        parts = ([0], [1], list(range(2, count + 2)))
        common = {"system": system.module, "address": address}
        hub, first, rest = (
            stack.enter_context(Worker("others.ends.hold", home=place, numbers=numbers, **common)) for numbers in parts
        )
        reported = [each for worker in (hub, first, rest) for each in worker.get()["ends"]]
        hub.put({"do": "meet", "dial": [[]], "links": [[1]]})
        first.put({"do": "meet", "dial": [[reported[0]]], "links": [[0]]})
        worked, _ = hub.get()["cpu"], first.get()
        before = resident_of(hub.pid)
        hub.put({"do": "meet", "dial": [[]], "links": [[1, *parts[2]]]})
        # In turn: simultaneous handshakes leave memory behind that no link uses.
        rest.put({"do": "meet", "dial": [[reported[0]]] * count, "links": [[0]] * count, "in_turn": True})
        worked, _ = hub.get()["cpu"] - worked, rest.get()
        return max(0, resident_of(hub.pid) - before) / count, 1e3 * worked / count


def starts(home: Path, size: Size, say: Say) -> WorkResult:
    """Measure whole processes from start to ready, with an empty Python for comparison."""
    home.mkdir(parents=True, exist_ok=True)
    ways: dict[str, Callable[[int], None]] = {
        "p2pchat, a peer is ready, and closes": lambda number: _run("-c", READY, str(home / "peer")),
        "python -m p2pchat --version": lambda number: _run("-m", "p2pchat", "--version"),
        "import p2pchat": lambda number: _run("-c", "import p2pchat"),
        "an empty Python": lambda number: _run("-c", "pass"),
    }
    left_out = []
    for system in size.chosen((s.JETSTREAM, s.REDIS)):
        if reason := system.code.absent():
            left_out.append(f"{system.name}: {reason}")
        else:
            ways[f"{system.name}: its server listens, and ends"] = _serving(system, home)
    found = [SystemResult(name, ours="p2pchat" in name) for name in ways]
    for number in range(-1, min(STARTS, size.rounds + 2)):
        for figures, way in zip(found, ways.values(), strict=True):
            say(f"start: {figures.name}")
            begun = time.perf_counter()
            way(number)
            if number >= 0:  # the first run may compile modules
                figures.values.append(1e3 * (time.perf_counter() - begun))
    return WorkResult("start", "start, whole processes", "ms", found, left_out)


def _serving(system: s.System, home: Path) -> Callable[[int], None]:
    def serve(number: int) -> None:
        place = home / f"{system.module}{number}"
        place.mkdir()
        with system.code.server(place):
            pass

    return serve


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
