"""The way to a peer: links begun and never finished (p2pchat.probe), of which nobody there is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter

from p2pchat import Probed, probe
from p2pchat.apps.cli.commands.benching.figure import Figure, times
from p2pchat.commands.errors import Failure

LINKS = 30  # at most
APART = 0.06  # seconds from one to the next: a peer lets 20 strangers a second in from one address


async def way(first: Probed, directory: Path, seconds: float) -> list[Figure]:
    """Go there again and again for so long; `first` has found the address. Raises Failure when it is not reached."""
    host = f"[{first.address}]" if ":" in first.address else first.address
    endpoint = f"{host}:{first.endpoint.rpartition(':')[2]}"
    until, found = perf_counter() + seconds, list[Probed]()
    while len(found) < LINKS and (not found or perf_counter() < until):
        next_at = perf_counter() + APART
        there = await probe(endpoint, data=directory)
        if there.verdict != "reached":
            raise Failure(f"{endpoint} was reached and is not any more: {there.text}")
        found.append(there)
        await asyncio.sleep(next_at - perf_counter())
    links = [each.connect_seconds + each.tls_seconds + each.seconds for each in found]
    return [
        times("round_trip", [each.connect_seconds for each in found], "of the network alone: a connection"),
        times("proof", [each.seconds for each in found], "a question that the peer there signs its answer to"),
        times("link", links, "connection, TLS and both proofs, with a new key"),
    ]
