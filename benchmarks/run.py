"""Shared parts of the benchmark commands: workplace, description of the machine, progress, result file."""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import ssl
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.disk import NoDisk, check_durable, cores, free_gib, workplace


def common_arguments(parser: argparse.ArgumentParser, works: Sequence[str]) -> None:
    """Add the arguments that all benchmark commands have."""
    parser.add_argument("work", nargs="*", help=f"only these: {', '.join(works)}")
    parser.add_argument("--dir", type=Path, help="a directory on a disk (default: the directory for temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results there")


def run_in_place(chosen: argparse.Namespace, report: Callable[[argparse.Namespace, Path], int]) -> int:
    """Return the exit code of `report`, which gets a directory on a disk that is removed afterwards."""
    chosen.begun = time.monotonic()
    try:
        with workplace(chosen.dir) as directory:
            return report(chosen, directory)
    except (NoDisk, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def show(about: Mapping[str, str]) -> None:
    """Print the conditions of the figures."""
    for name, value in about.items():
        print(f"{name:>18}  {value}")


def progress(words: str) -> None:
    """Show the current step on a terminal; "" removes it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def end(chosen: argparse.Namespace, found: dict[str, Any], failed: Sequence[str]) -> int:
    """Print the total time and the failures, and write the file. Return the exit code."""
    took = time.monotonic() - chosen.begun
    print(f"\n{took:.0f} s")
    for sentence in failed:
        print(f"failed: {sentence}", file=sys.stderr)
    if chosen.json:
        reported = {**found, "failed": list(failed), "seconds": round(took, 1)}
        chosen.json.write_text(json.dumps(reported, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


def machine(directory: Path) -> dict[str, str]:
    """Return the conditions of the figures."""
    from p2pchat.storage.dialects.sqlite_dialect import PRAGMAS

    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": f"{platform.python_version()}, {_python_build()}",
        "system": f"{platform.system()} {platform.release()}, {cores()} cores",
        "processor": _processor(),
        "file system": f"{check_durable(directory)} at {directory.parent}, {free_gib(directory):.0f} GiB free",
        "libraries": f"SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}",
        **{name: PRAGMAS[name] for name in ("journal_mode", "synchronous")},
    }


def _python_build() -> str:
    """Return who compiled this Python and how: an optimized build executes the same bytecodes in less time."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    words = [word for word in ("--enable-optimizations", "--with-lto") if word in options]
    return " ".join([f"{platform.python_compiler()},", *(words or ["no profile-guided optimization"])])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
