"""Accepted messages per second with each kind of database, many at once and one by one.

Each server is started for the benchmark, on the same disk as the SQLite files and equally durable. MariaDB and
PostgreSQL are left out if they are not installed. A single peer is measured; the work `durable` measures delivery.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.results import Row, Setting, shown, spread, text
from benchmarks.workers import Channel, Worker, settle

AT_ONCE = 1_000  # texts in one send_many
PART = 10  # of the messages of other works, because one disk serves three databases here


async def write(channel: Channel, data: str, db: str, messages: int, singles: int, rounds: int) -> None:
    """Run as a worker: write to an empty room, so that accepted means stored and nothing more."""
    from p2pchat import Settings, TCPPeer

    async with TCPPeer(data=data, db=db or None, settings=Settings(start_timeout=0.0)) as peer:
        await peer.broadcast("first")
        settle()
        many: list[float] = []
        for _ in range(rounds):
            texts = [text(number) for number in range(messages)]
            begun = time.perf_counter()
            for first in range(0, messages, AT_ONCE):
                await peer.send_many("room", texts[first : first + AT_ONCE])
            many.append(messages / (time.perf_counter() - begun))
        alone: list[float] = []
        for number in range(singles):
            begun = time.perf_counter()
            await peer.broadcast(text(number))
            alone.append(time.perf_counter() - begun)
    channel.send(many=many, alone=alone)


@contextmanager
def _url(kind: str, directory: Path) -> Iterator[str]:
    from tests.databases.servers import KINDS

    if kind == "SQLite":
        yield ""
        return
    place = tempfile.mkdtemp(prefix="p2p", dir=directory)  # our directory is closed to other accounts
    server = KINDS[kind.casefold()](Path(place), durable=True)
    try:
        server.make()
        server.start()
        yield server.create("chat")
    finally:
        server.end()


def run(setting: Setting) -> list[Row]:
    """Measure one kind of database after the other."""
    from tests.databases.servers import KINDS

    rows: list[Row] = []
    home = setting.directory / "databases"
    home.mkdir()
    messages = max(1, setting.messages // PART)
    for kind in ("SQLite", "MariaDB", "PostgreSQL"):
        if kind != "SQLite" and KINDS[kind.casefold()].missing():
            continue
        with _url(kind, setting.directory.parent) as db:
            words = {"db": db, "messages": messages, "singles": setting.singles, "rounds": setting.rounds}
            with Worker("databases.write", home=home, data=str(home / f"of {kind}"), **words) as worker:
                said = worker.get()
        note = f"{spread(said['many'])}; {messages:,} messages a round, {AT_ONCE:,} at once"
        rows.append(Row(f"send_many, accepted, {kind}", median(said["many"]), "/s", "", "", note))
        worst = f"p99 {shown(1000 * sorted(said['alone'])[int(0.99 * len(said['alone']))])} ms"
        rows.append(Row(f"one by one, accepted, {kind}", 1000 * median(said["alone"]), "ms", "", "", worst))
    return rows
