"""python -m benchmarks: run the works, print the table. Asserts nothing; exit code 1 when a work could not be done."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sqlite3
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.disk import NoDisk, check_durable, cores, free_gib, workplace
from benchmarks.results import Row, Setting
from benchmarks.table import print_rows
from benchmarks.workers import WorkFailed

WORKS = ("floor", "startup", "durable", "delivered", "catchup", "meshing", "frames", "idle", "crowded", "search")
ALONE = ("web", "databases")  # only where they are named: they take minutes, and need an extra or servers
NEEDED_GIB = 0.002  # for each thousand entries: two databases of 300 bytes an entry, their logs, and air


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"only these: {', '.join(WORKS + ALONE)}")
    parser.add_argument("--dir", type=Path, help="a directory on a disk (default: the place of temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the history a newcomer fetches")
    parser.add_argument("--messages", type=int, default=100_000, help="a round of the durable works and of frames")
    parser.add_argument("--rounds", type=int, default=3, help="of each of these; the median counts")
    parser.add_argument("--singles", type=int, default=1_000, help="messages sent one at a time")
    parser.add_argument("--peers", type=int, default=32, help="in the mesh")
    parser.add_argument("--links", type=int, default=200, help="idle ones whose memory is measured")
    parser.add_argument("--crowd", type=int, default=5_000, help="users that a crowded peer knows, 10 or more")
    parser.add_argument("--users", type=int, default=2_000, help="with a WebSocket, of `web`")
    chosen = parser.parse_args(given)
    unknown = [work for work in chosen.work if work not in WORKS + ALONE]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}; there are {', '.join(WORKS + ALONE)}")
    if (
        min(chosen.entries, chosen.messages, chosen.rounds, chosen.singles, chosen.links) < 1
        or chosen.peers < 2
        or chosen.crowd < 10
        or chosen.users < 2
    ):
        parser.error("sizes begin at 1, a mesh at 2 peers, a gateway at 2 users, a crowd at 10")
    return chosen


def machine(directory: Path) -> dict[str, str]:
    """Return what the figures depend on, the settings of SQLite read back from a database of p2pchat's own."""
    from p2pchat.storage.connect import sqlite_url
    from p2pchat.storage.sql import SqlStorage

    storage = SqlStorage(sqlite_url(directory / "pragmas.db"))
    pragmas = storage.facts()
    storage.close()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {cores()} cores",
        "processor": _processor(),
        "file system": f"{check_durable(directory)} at {directory.parent}, {free_gib(directory):.0f} GiB free",
        "libraries": f"SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}",
        **{name: _in_words(name, value) for name, value in pragmas.items()},
    }


def _in_words(name: str, value: str) -> str:
    words = {"0": "off", "1": "normal", "2": "full", "3": "extra"}
    return f"{words.get(value, value)} ({value})" if name == "synchronous" else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def measure(chosen: argparse.Namespace, directory: Path) -> tuple[list[Row], list[str]]:
    """Run the works in order; return their rows, and a sentence for each that failed."""
    setting = Setting(
        directory, messages=chosen.messages, rounds=chosen.rounds, singles=chosen.singles, entries=chosen.entries,
        peers=chosen.peers, links=chosen.links, crowd=chosen.crowd, users=chosen.users,
    )  # fmt: skip
    works = [work for work in WORKS + ALONE if (work in chosen.work if chosen.work else work in WORKS)]
    rows: list[Row] = []
    failed: list[str] = []
    for number, work in enumerate(works, 1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{number} of {len(works)}: {work} ...", end="", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"benchmarks.{work}").run(setting)
        except WorkFailed as error:
            failed.append(f"{work}: {error}")
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return rows, failed


def report(chosen: argparse.Namespace, directory: Path) -> int:
    begun = time.monotonic()
    if free_gib(directory) < chosen.entries / 1000 * NEEDED_GIB:
        print(f"not enough disk at {directory.parent} for {chosen.entries} entries: take fewer with --entries")
        return 1
    about = machine(directory)
    for name, value in about.items():
        print(f"{name:>18}  {value}")
    rows, failed = measure(chosen, directory)
    print_rows(rows)
    took = time.monotonic() - begun
    print(f"\n{took:.0f} s. The sizes are chosen so that all of it takes under 3 minutes on 2 quiet cores.")
    for sentence in failed:
        print(f"failed: {sentence}", file=sys.stderr)
    if chosen.json:
        found: dict[str, Any] = {"machine": about, "rows": [row.to_json() for row in rows], "failed": failed}
        chosen.json.write_text(json.dumps({**found, "seconds": round(took, 1)}, indent=1) + "\n", "utf-8")
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
