"""A contact that claims what it never gives, and sends what follows it: real processes, one link, memory measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pchat.core.log import Entry, Ref, encode_entry, ref_key
from p2pchat.protocol import Entries, Have, Mark, Ping, Pong
from p2pchat.settings import MIB
from tests.conftest import Tell
from tests.hostile.attacker import NOW, Attacker, LogWriter, invented_identity
from tests.processes.peers import Cluster
from tests.processes.strangers import memory, two_members

WAITING = 120_000  # entries; each takes 310 to 620 bytes while it waits
BATCH = 240
BOUND = 16 * MIB  # docs/guarantees.md


def followers(pen: LogWriter, refs: tuple[Ref, ...], count: int) -> Iterator[Entries]:
    """Yield batches of entries that follow others."""
    for first in range(0, count, BATCH):
        texts = (Entry("text", NOW + first + n, NOW + first + n, b="x", after=refs) for n in range(1, BATCH + 1))
        yield pen.write(*map(encode_entry, texts))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of another process is read in /proc")
async def test_what_waits_for_a_contact_that_gives_nothing_takes_16_mib(cluster: Cluster, tell: Tell) -> None:
    """Before: 16 MiB a second, for five minutes, and nothing was shown."""
    ada, _ = await two_members(cluster)
    eve, grown = Attacker("eve", cluster.network), list[int]()
    await eve.join(ada.listening["port"])
    await ada.do(do="send", to="eve", text="you are a contact now", ref="eve")
    await ada.event("sent", ref="eve")
    nobody = invented_identity("who gives nothing")
    run = "ab" * 8
    eve.say(Have({eve.room: {nobody.peer_id: [Mark(run, 2**53 - 1, "ab" * 32)]}}))
    # First the same without anything that waits: what storing and showing them takes.
    for refs in ((), tuple(Ref(ref_key(nobody.peer_id, run), seq) for seq in (1, 2))):
        before = memory(ada, "VmHWM")
        await eve.flood(followers(eve.pen(eve.identity, eve.room), refs, WAITING))
        pongs = len(eve.frames)
        eve.say(Ping())
        await eve.next(Pong, after=pongs)
        grown.append(memory(ada, "VmHWM") - before)
    tell(f"{WAITING} entries of a contact take {grown[0] / MIB:.1f} MiB, and {grown[1] / MIB:.1f} more if they wait")
    assert grown[1] < BOUND
    await eve.disconnect()
