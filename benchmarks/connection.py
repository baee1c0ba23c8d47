"""Command `python -m benchmarks.connection HOST:PORT`: how fast the connection to a peer and this machine's disk are.

    python -m benchmarks.connection 192.168.1.20:8080 --port 8080
    python -m benchmarks.connection localhost:8081 --port 8080 --write 5000 --json

It measures them as messages use them: how long a connection, a link and an answer take, and how soon a message is safe
here. None of it is seen there, nor kept on either side; a running peer may go on meanwhile. With --write N it sends N
direct messages of 180 bytes from a temporary user called bench too, which are real: the user there sees and keeps them.
While it runs, its files are in the profile's directory, on the same disk. Exit codes: 0 it was measured; 1 no peer of
this network answers there, or a message was not delivered in time; 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

from benchmarks.run import progress
from p2pchat import (
    DeliveryTimeout,
    P2PChatError,
    Probed,
    Receipt,
    Receipts,
    TCPPeer,
    User,
    inspect_profile,
    probe,
    profile_directory,
    read_login_network,
)
from p2pchat.addresses import parse_endpoint

MAX_WRITE = 100_000  # messages, 30 MB there


class NotMeasured(Exception):
    """The peer is not there, or does not answer as it should."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.connection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("endpoint", metavar="HOST:PORT", help="a peer of the profile's network")
    parser.add_argument("--port", type=int, help="the profile of this port")
    parser.add_argument("--data", type=Path, help="the profile in this directory")
    parser.add_argument("--write", type=int, default=0, metavar="N", help="send N real messages there too (none)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each part takes at most, roughly (2)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    chosen = parser.parse_args(arguments)
    if (chosen.port is None) is (chosen.data is None) or not 0 <= chosen.write <= MAX_WRITE:
        parser.error("name --port or --data, and at most 100,000 messages for --write")
    directory = chosen.data or profile_directory(chosen.port)
    try:
        asyncio.run(_measure(directory, parse_endpoint(chosen.endpoint), chosen.write, chosen.seconds, chosen.json))
    except (NotMeasured, P2PChatError, ValueError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
    return 0


async def _measure(directory: Path, endpoint: str, write: int, seconds: float, as_json: bool) -> None:
    def print_figures(figures: Sequence[Figure]) -> None:
        for figure in figures:
            print(json.dumps(asdict(figure)) if as_json else format_figure(figure), flush=True)

    found = await probe(endpoint, data=directory)
    if found.verdict != "reached":
        raise NotMeasured(f"{endpoint}: {found.text}")
    peer = {"endpoint": found.endpoint, "address": found.address, "peer_id": found.peer_id}
    print(json.dumps({"what": "peer", **peer}) if as_json else f"peer {found.peer_id[:8]} answers at {found.endpoint}")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        print_figures(await measure_connection(found, directory, seconds))
        print_figures(await measure_disk(Path(place, "own"), seconds))
        if write:
            async with temporary_peer(found, directory, Path(place, "passing")) as (passing, user):
                print_figures(await measure_delivery(passing, user, write, seconds))


# ---- figures

TEXT_BYTES = 180  # of a message, as in the project's own benchmarks


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the output.

    Attributes:
        what: A stable word.
        value: The median in `unit`, or the rate of all messages together.
        unit: s for seconds, /s for messages a second.
        p99: The 99th percentile; None for a rate.
        count: How many were measured.
        text: What was measured, for people.
    """

    what: str
    value: float
    unit: Literal["s", "/s"]
    p99: float | None
    count: int
    text: str


def time_figure(what: str, seconds: Sequence[float], text: str) -> Figure:
    """Return the figure of single times; there must be at least one."""
    ordered = sorted(seconds)
    return Figure(what, median(ordered), "s", ordered[int(0.99 * len(ordered))], len(ordered), text)


def rate_figure(what: str, count: int, seconds: float, text: str) -> Figure:
    """Return the figure of many messages together."""
    return Figure(what, count / max(seconds, 1e-9), "/s", None, count, text)


def message_text(number: int) -> str:
    """Return a text of TEXT_BYTES that is different for each number."""
    return f"{number:08d} bench: ".ljust(TEXT_BYTES, ".")


def format_figure(figure: Figure) -> str:
    most = "" if figure.p99 is None else f"99 %: {_time(figure.p99)}"
    value = f"{figure.value:,.0f} /s" if figure.unit == "/s" else _time(figure.value)
    return f"{figure.what.replace('_', ' '):<16}{value:>11}  {most:<15}  {figure.count:>7,}  {figure.text}"


def _time(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


# ---- this disk

MAX_DISK_SINGLES = 500
WARM_UP = 20  # messages that do not count: the first ones load code and create the files
BATCH = 1000  # texts of one send_many
MAX_DISK_TEXTS = 20_000  # 6 MB, deleted at the end


async def measure_disk(place: Path, seconds: float) -> list[Figure]:
    """Measure how soon a message is safe: a peer that links with no one writes to its room.

    Args:
        place: A directory on the disk to measure.
        seconds: How long each of the two parts takes at most.
    """
    async with TCPPeer(0, data=place, name="bench", network="bench") as peer:
        for number in range(WARM_UP):
            await peer.send(peer.room, message_text(number))
        singly: list[float] = []
        until = perf_counter() + seconds
        while len(singly) < MAX_DISK_SINGLES and (not singly or perf_counter() < until):
            begun = perf_counter()
            await peer.send(peer.room, message_text(len(singly)))
            singly.append(perf_counter() - begun)
        begun, written = perf_counter(), 0
        while written < MAX_DISK_TEXTS and (not written or perf_counter() < begun + seconds):
            await peer.send_many(peer.room, [message_text(written + number) for number in range(BATCH)])
            written += BATCH
        took = perf_counter() - begun
    return [
        time_figure("accepted", singly, "one at a time: signed, and safe on this disk"),
        rate_figure("accepted_many", written, took, f"the same, {BATCH:,} at once"),
    ]


# ---- connection

MAX_LINKS = 30
LINK_INTERVAL = 0.06  # seconds: a peer accepts 20 unauthenticated connections a second from one address


async def measure_connection(first: Probed, directory: Path, seconds: float) -> list[Figure]:
    """Probe the peer repeatedly: links that are begun and never finished, which no user there sees.

    Args:
        first: A probe that reached the peer.
        seconds: How long to go on at most.
    """
    host = f"[{first.address}]" if ":" in first.address else first.address
    endpoint = f"{host}:{first.endpoint.rpartition(':')[2]}"
    until, found = perf_counter() + seconds, list[Probed]()
    while len(found) < MAX_LINKS and (not found or perf_counter() < until):
        next_at = perf_counter() + LINK_INTERVAL
        there = await probe(endpoint, data=directory)
        if there.verdict != "reached":
            raise NotMeasured(f"{endpoint} was reached and is not any more: {there.text}")
        found.append(there)
        await asyncio.sleep(next_at - perf_counter())
    links = [each.connect_seconds + each.tls_seconds + each.seconds for each in found]
    return [
        time_figure("round_trip", [each.connect_seconds for each in found], "of the network alone: a connection"),
        time_figure("proof", [each.seconds for each in found], "a question that the peer there signs its answer to"),
        time_figure("link", links, "connection, TLS and both proofs, with a new key"),
    ]


# ---- delivery

MAX_WRITE_SINGLES = 200  # and at most a fifth of all
MEET_TIMEOUT = 10.0  # seconds
DELIVERY_WITHIN = 30.0  # seconds for one delivery: far more than any network needs that people chat over


@asynccontextmanager
async def temporary_peer(there: Probed, directory: Path, place: Path) -> AsyncIterator[tuple[TCPPeer, User]]:
    """Run a peer of the same login with its own key; yield it, and the user at the endpoint, who is online.

    Raises:
        NotMeasured: The profile is in another network than its login, which answers for no other peer there.
    """
    if inspect_profile(directory).network_id != read_login_network().id:
        raise NotMeasured("this profile has joined a network apart from its login: leave --write out")
    async with TCPPeer(0, there.endpoint, data=place, name="bench") as peer:
        try:
            user = await peer.wait_user(there.peer_id, timeout=MEET_TIMEOUT)
        except TimeoutError:
            raise NotMeasured(
                f"{there.endpoint} answers, and makes no link within {MEET_TIMEOUT:.0f} s: try again"
            ) from None
        yield peer, user


async def measure_delivery(peer: TCPPeer, to: User, count: int, seconds: float) -> list[Figure]:
    """Send `count` messages to a user: some one at a time for at most `seconds`, then the others in batches."""
    first = f"benchmark: {count - 1:,} more messages follow, which only measure the connection to you"
    await _wait_delivered(await peer.send(to, first))
    singly: list[float] = []
    until = perf_counter() + seconds
    while len(singly) < min(MAX_WRITE_SINGLES, count // 5) and perf_counter() < until:
        begun = perf_counter()
        await _wait_delivered(await peer.send(to, message_text(len(singly))))
        singly.append(perf_counter() - begun)
    figures = (
        [time_figure("delivered", singly, "one at a time: safe on that disk too, and known here")] if singly else []
    )
    left = count - 1 - len(singly)
    if left:
        begun = perf_counter()
        await _send_batches(peer, to, left)
        figures.append(
            rate_figure(
                "delivered_many", left, perf_counter() - begun, f"the same, {BATCH:,} at once and two on the way"
            )
        )
    return figures


async def _send_batches(peer: TCPPeer, to: User, count: int) -> None:
    batches = iter(range(0, count, BATCH))

    async def write() -> None:
        receipts = None
        for first in batches:
            progress(f"{first:,} of {count:,} messages")
            last = min(count, first + BATCH)
            receipts = await peer.send_many(to, [message_text(number) for number in range(first, last)])
        if receipts is not None:
            await _wait_delivered(receipts)

    await asyncio.gather(write(), write())


async def _wait_delivered(receipt: Receipt | Receipts) -> None:
    try:
        await receipt.delivered(timeout=DELIVERY_WITHIN)
    except DeliveryTimeout:
        raise NotMeasured(
            f"a message was not delivered within {DELIVERY_WITHIN:.0f} s: the peer there is gone, or takes no more"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
