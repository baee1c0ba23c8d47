"""Bytes of a text: durable and acknowledged messages, with two send_many of up to 1,000 texts under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.growth.curves import Curve
from benchmarks.results import middle
from benchmarks.workers import Worker

STEPS = (16, 64, 256, 1_024, 4_096, 16_384, 32_768)
ROUNDS = 3  # rounds of all sizes, in turn
MOST_TEXTS, MOST_BYTES = 40_000, 24 << 20  # bytes in a round: a user may store 1 GiB
AT_ONCE, AT_ONCE_BYTES = 1_000, 1 << 20


def run(place: Path, steps: list[int], say: Callable[[str], None], quick: bool = False) -> list[Curve]:
    """Measure texts of each size."""
    rate, volume = Curve("messages, durable and acknowledged", "/s", falls=True), Curve("bytes of texts", "MB/s")
    writer, reader = Curve("CPU per message, writer", "us"), Curve("CPU per message, reader", "us")
    took: dict[int, list[tuple[float, float, float]]] = {size: [] for size in steps}
    with Worker("durable.read", home=place, data=str(place / "reader")) as far:
        endpoint = far.get()["endpoint"]
        with Worker("durable.write", home=place, data=str(place / "writer"), endpoint=endpoint) as near:
            handed = 1
            far.put({"messages": handed})
            before = far.get()["cpu"]
            for number in range(1 if quick else ROUNDS):
                for size in steps:
                    say(f"round {number + 1}: texts of {size:,} bytes")
                    texts = max(2, min(200 if quick else MOST_TEXTS, MOST_BYTES // size))
                    at_once = max(1, min(AT_ONCE, AT_ONCE_BYTES // size))
                    near.put({"way": "many", "messages": texts, "at_once": at_once, "bytes": size})
                    wrote = near.get()
                    handed += texts
                    far.put({"messages": handed})
                    read = far.get()
                    took[size].append((texts / wrote["seconds"], wrote["cpu"] / texts, (read["cpu"] - before) / texts))
                    before = read["cpu"]
    for size in steps:
        a_second, wrote_cpu, read_cpu = (middle([each[i] for each in took[size]]) for i in range(3))
        rate.add(size, a_second)
        volume.add(size, a_second * size / 1e6)
        writer.add(size, wrote_cpu * 1e6)
        reader.add(size, read_cpu * 1e6)
    return [rate, volume, writer, reader]
