"""Command `python -m benchmarks.logs WRITERS RUNS ENTRIES`: the costs of a start with many logs in the room.

    python -m benchmarks.logs 100 100 10     # 10,000 logs, most of them covered
    python -m benchmarks.logs 10000 1 2      # a room of 10,000 writers

Each writer has so many logs, each on the one before. Heads are not signed, since a start verifies none. Printed are the
CPU time to read what a node starts from and to start it, and the memory that the node takes.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

from p2pchat.core.durable_changes import Change, KnownConversation, NewLog, Stored, Stretch
from p2pchat.core.log import Batch, Entry, LogId, encode_entry, encode_header, extend_chain, first_chain, size_bytes
from p2pchat.core.members.statement import room_id
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, Now
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Mark, Naming
from p2pchat.settings import Settings
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage

NETWORK = "00" * 16
ROOM = room_id(NETWORK)
BEGAN = 1_750_000_000_000_000
TIMES = 7  # the median counts


def fill(storage: SqlStorage, writers: int, runs: int, entries: int) -> None:
    """Store the logs, one commit for each writer."""
    place = 1
    for writer in range(writers):
        change, before = Change(conversations=[KnownConversation(ROOM, Naming(room=True))]), tuple[Mark, ...]()
        for run in range(runs):
            log, clock = LogId(ROOM, f"{writer:08x}" * 8, f"{writer:08x}{run:08x}"), BEGAN + 1000 * run
            raws = [encode_entry(Entry("text", clock + at, clock + at, b="hello")) for at in range(entries)]
            header = encode_header(log, before, None)
            chain = extend_chain(first_chain(header), raws)
            change.logs.append(NewLog(log, before, True))
            change.batches.append(
                Batch(log, 1, raws, None, first_chain(header), chain, bytes(64), size_bytes(raws), header)
            )
            change.stretches.append(Stretch(place, log, 1, entries, clock))
            change.covered += [log._replace(run=mark.run) for mark in before]
            before, place = (Mark(log.run, entries, chain.hex()),), place + entries
        storage.commit([change])


def started(stored: Stored) -> Node:
    me, network = Identity.generate(), NetworkCredentials(NETWORK, bytes(32).hex())
    node = Node(
        settings=Settings(), peer=me.peer_id, users=[HostedIdentity(me.peer_id, "me", me.sign)],
        network=network, draw=os.urandom, stored=stored,
    )  # fmt: skip
    node.start(Now(1000.0, BEGAN + 10**12))
    return node


def main() -> None:
    writers, runs, entries = map(int, sys.argv[1:4])
    with tempfile.TemporaryDirectory() as place:
        with closing(SqlStorage(sqlite_url(Path(place) / "chat.db"), Settings())) as storage:
            storage.load([])
            fill(storage, writers, runs, entries)
            took: list[float] = []
            for _ in range(TIMES):
                begun = time.process_time()
                started(storage.load([]))
                took.append(time.process_time() - begun)
            tracemalloc.start()
            node = started(storage.load([]))
            gc.collect()
            print(f"start, CPU: {1e3 * sorted(took)[TIMES // 2]:.0f} ms")
            print(f"memory of the node: {tracemalloc.get_traced_memory()[0] / 2**20:.2f} MiB")
            assert len(node.replicator.conversations[ROOM].writers) >= writers


if __name__ == "__main__":
    main()
