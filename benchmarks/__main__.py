"""Command `python -m benchmarks`: run the works and print the table. Exit code 1 when a work failed."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.disk import free_gib
from benchmarks.results import Row, Setting
from benchmarks.run import common_arguments, end, machine, progress, run_in_place, show
from benchmarks.table import print_rows
from benchmarks.workers import WorkFailed

WORKS = ("floor", "startup", "durable", "delivered", "catchup", "meshing", "frames", "idle", "crowded", "search")
# Run only if named: they take minutes, or need an extra or servers.
ALONE = ("files", "carried", "web", "databases", "gateways", "hosting", "cluster")
NEEDED_GIB = 0.002  # per thousand entries: two databases with 300 bytes per entry, their logs, and a reserve


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    common_arguments(parser, WORKS + ALONE)
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries in the history that a newcomer fetches")
    parser.add_argument(
        "--messages", type=int, default=100_000, help="messages in a round of the durable works and of frames"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each of these; the median counts")
    parser.add_argument("--singles", type=int, default=1_000, help="messages sent one at a time")
    parser.add_argument("--peers", type=int, default=32, help="peers in the mesh")
    parser.add_argument("--links", type=int, default=200, help="idle links whose memory is measured")
    parser.add_argument("--crowd", type=int, default=5_000, help="users that a crowded peer knows, 10 or more")
    parser.add_argument("--users", type=int, default=2_000, help="users with a WebSocket, for `web`")
    parser.add_argument("--gateways", type=int, default=10, help="gateways of `gateways`")
    parser.add_argument("--hosted", type=int, default=1_000, help="hosted users of each of them")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file of `files`")
    parser.add_argument("--files", type=int, default=10_000, help="small files of `files`")
    chosen = parser.parse_args(given)
    unknown = [work for work in chosen.work if work not in WORKS + ALONE]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS + ALONE)}")
    if (
        min(chosen.entries, chosen.messages, chosen.rounds, chosen.singles, chosen.links, chosen.size, chosen.files) < 1
        or chosen.peers < 2
        or chosen.crowd < 10
        or min(chosen.users, chosen.gateways, chosen.hosted) < 2
    ):
        parser.error("sizes are at least 1; a mesh has at least 2 peers, a gateway 2 users, a crowd 10")
    return chosen


def measure(chosen: argparse.Namespace, directory: Path) -> tuple[list[Row], list[str]]:
    """Run the works in order. Return their rows, and a sentence for each that failed."""
    setting = Setting(
        directory, messages=chosen.messages, rounds=chosen.rounds, singles=chosen.singles, entries=chosen.entries,
        peers=chosen.peers, links=chosen.links, crowd=chosen.crowd, users=chosen.users,
        gateways=chosen.gateways, hosted=chosen.hosted, file_bytes=chosen.size * 2**20, files=chosen.files,
    )  # fmt: skip
    works = [work for work in WORKS + ALONE if (work in chosen.work if chosen.work else work in WORKS)]
    rows: list[Row] = []
    failed: list[str] = []
    for number, work in enumerate(works, 1):
        progress(f"{number} of {len(works)}: {work} ...")
        try:
            rows += importlib.import_module(f"benchmarks.{work}").run(setting)
        except WorkFailed as error:
            failed.append(f"{work}: {error}")
    progress("")
    return rows, failed


def report(chosen: argparse.Namespace, directory: Path) -> int:
    if free_gib(directory) < chosen.entries / 1000 * NEEDED_GIB:
        print(f"not enough disk at {directory.parent} for {chosen.entries} entries: use a smaller --entries")
        return 1
    about = machine(directory)
    show(about)
    rows, failed = measure(chosen, directory)
    print_rows(rows)
    return end(chosen, {"machine": about, "rows": [row.to_json() for row in rows]}, failed)


def main(given: list[str] | None = None) -> int:
    return run_in_place(arguments(given), report)


if __name__ == "__main__":
    sys.exit(main())
