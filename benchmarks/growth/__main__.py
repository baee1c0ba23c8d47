"""Command `python -m benchmarks.growth`: measure each cost at several sizes of its driver.

The exit code is 1 when a driver failed; nothing is asserted. The default sizes take ten minutes on 2 quiet cores; each
driver has an option for other sizes. `history --history 10000000` writes ten million entries of four users: 4 GiB of
disk and 15 minutes on 2 quiet cores. Above a million entries, no search index is created and no newcomer fetches them,
because that would double time and space.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks.disk import free_gib
from benchmarks.growth.curves import Curve, print_curves
from benchmarks.growth.history import FETCHED_MOST
from benchmarks.run import common_arguments, end, machine, progress, run_in_place, show
from benchmarks.workers import WorkFailed

DRIVERS = {
    "peers": "peers in one mesh",
    "history": "stored entries",
    "runs": "runs of one user",
    "conversations": "conversations of one user",
    "sizes": "bytes of a text",
    "readers": "stopped readers of seven",
}
LEAST = {"peers": 2, "history": 8, "runs": 1, "conversations": 2, "sizes": 9, "readers": 0}
GIB_A_MILLION = 0.5  # per million stored entries, with a reserve; twice that with a newcomer and an index


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    common_arguments(parser, tuple(DRIVERS))
    parser.add_argument(
        "--quick", action="store_true", help="only check that everything runs; the figures mean nothing"
    )
    for driver, what in DRIVERS.items():
        steps = ",".join(map(str, _driver(driver).STEPS))
        parser.add_argument(f"--{driver}", type=_steps, default=steps, metavar="N,N,...", help=f"{what} ({steps})")
    chosen = parser.parse_args(given)
    unknown = [driver for driver in chosen.work if driver not in DRIVERS]
    if unknown:
        parser.error(f"no such driver: {', '.join(unknown)}; there are {', '.join(DRIVERS)}")
    for driver, least in LEAST.items():
        if min(getattr(chosen, driver)) < least:
            parser.error(f"--{driver} begins at {least}")
    return chosen


def _steps(said: str) -> list[int]:
    return sorted({int(part.replace("_", "")) for part in said.split(",")})


def _driver(name: str) -> Any:
    return importlib.import_module(f"benchmarks.growth.{name}")


def report(chosen: argparse.Namespace, directory: Path) -> int:
    drivers = [driver for driver in DRIVERS if not chosen.work or driver in chosen.work]
    needed = max((each + min(each, FETCHED_MOST)) / 1e6 * GIB_A_MILLION for each in chosen.history)
    if "history" in drivers and free_gib(directory) < needed:
        print(f"not enough disk at {directory.parent}: such a history needs {needed:.0f} GiB", file=sys.stderr)
        return 1
    about = machine(directory)
    show(about)
    found: dict[str, list[Curve]] = {}
    failed: list[str] = []
    for driver in drivers:
        place = directory / driver
        place.mkdir()
        try:
            found[driver] = _driver(driver).run(place, getattr(chosen, driver), _tell, quick=chosen.quick)
        except WorkFailed as error:
            failed.append(f"{driver}: {error}")
            continue
        finally:
            progress("")
        print_curves(DRIVERS[driver], found[driver])
    print("\nThe exponent is the slope of the largest sizes: 0 constant, 1 linear, 2 quadratic.")
    curves = {driver: [curve.to_json() for curve in those] for driver, those in found.items()}
    return end(chosen, {"machine": about, "growth": curves}, failed)


def _tell(words: str) -> None:
    progress(f"{words} ...")


def main(given: list[str] | None = None) -> int:
    return run_in_place(arguments(given), report)


if __name__ == "__main__":
    sys.exit(main())
