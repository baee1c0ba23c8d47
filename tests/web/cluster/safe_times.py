"""Command `python -m tests.web.cluster.safe_times --count N`: the time of an answer with --safe and without it.

Two clusters of three gateways run at once, and messages go to one and the other in turn, each when the former is
answered.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import httpx

from tests.deadlines import WAIT, within
from tests.web.cluster.site import Site, site

FIRST = 20  # messages that are not counted


async def measure(count: int) -> str:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        async with site(Path(one), words=("--safe",)) as safe, site(Path(other)) as plain:
            callers = {"with --safe": await caller(safe), "without": await caller(plain)}
            times: dict[str, list[float]] = {name: [] for name in callers}
            for _ in range(FIRST + count):
                for name, http in callers.items():
                    began = perf_counter()
                    async with within(WAIT, "an answer"):
                        answer = await http.post("/messages", json={"to": "bob", "content": "hi"})
                    times[name].append(perf_counter() - began)
                    assert answer.json().get("safe", True) is True or len(times[name]) <= FIRST, answer.text
            for http in callers.values():
                await http.aclose()
    medians = {name: statistics.median(found[FIRST:]) for name, found in times.items()}
    return ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in medians.items()) + " (median)"


async def caller(one: Site) -> httpx.AsyncClient:
    """Return a client of the first gateway with the token of an account."""
    tokens = await one.accounts(["ada", "bob"])
    http = one.gates[0].caller()
    http.headers["Authorization"] = f"Bearer {tokens['ada']}"
    return http


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=160)
    print(asyncio.run(measure(parser.parse_args().count)))


if __name__ == "__main__":
    main()
