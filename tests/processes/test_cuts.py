"""A link that breaks after any byte: both ends link up again, and each message comes once. For all k: cuts.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.amounts import CUT_PLACES
from tests.conftest import Tell
from tests.processes.cuts import cut_everywhere, record, record_ends, spread
from tests.processes.fork_server import AVAILABLE, ForkServer
from tests.processes.peers import Cluster

SPREAD = 60  # places, plus those around the ends of about 30 records


def test_a_tls_record_ends_where_the_next_begins() -> None:
    hello, data = b"\x16\x03\x01\x00\x03abc", b"\x17\x03\x03\x01\x00" + bytes(256)
    assert list(record_ends(hello + data + hello[:-1])) == [8, 8 + 261]


@pytest.mark.relayed(always=False)  # there the connection to the engine is cut, and comes back after its own pauses
@pytest.mark.sampled
@pytest.mark.skipif(not AVAILABLE, reason="addresses in 127.0.0.0/8, and processes forked with descriptors")
async def test_a_link_is_cut_after_byte_k_of_an_exchange(
    cluster_directories: tuple[Path, Path], tell: Tell, links: str
) -> None:
    home, logs = cluster_directories
    async with ForkServer() as fork_server:
        recorded = await record(Cluster(home / "recorded", logs, fork_server, links))
        places = spread(recorded, SPREAD if not links else SPREAD // 2)[::CUT_PLACES]
        cuts = await cut_everywhere(home, logs, fork_server, places, links)
    sizes = " and ".join(f"{len(way):,}" for way in recorded.values())
    tell(f"a link was cut at {cuts} of {len(places)} places of an exchange of {sizes} bytes; everything came once")
    assert cuts > len(places) // 2
