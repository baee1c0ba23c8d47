"""Memory of a peer attacked by a member: a real process, one link, one flood of each kind after the other.

At its end `pytest tests/long/hostile/test_memory.py` prints the growth of the peer by flood. docs/guarantees.md states
the bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from p2pchat.core.log import Entry, Ref, encode_entry, ref_key
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.protocol import LENGTH, Digest, Entries, Frame, Have, Here, Hosted, Mark, Naming, Peers, ReadFrame, Want
from p2pchat.settings import KIB, MIB
from tests.conftest import Tell
from tests.hostile.attacker import NOW, ROOM, Attacker, invented_identity, made_group
from tests.processes.peers import Cluster
from tests.processes.strangers import chat, memory, two_members

pytestmark = [
    pytest.mark.weekly,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of another process is read in /proc"),
]

BOUND = 64 * MIB  # growth caused by one link; docs/guarantees.md
FLOOD = 40_000  # invented users, conversations, addresses


def pages(size: int, count: int = FLOOD) -> Iterable[range]:
    return (range(start, start + size) for start in range(0, count, size))


async def marks_of_nobody(eve: Attacker) -> None:
    """Send high marks of unknown users: a peer would want each of them."""

    def frames() -> Iterable[Frame]:
        for page in pages(500):
            users = {f"{n:064x}": [Mark(f"{n:016x}", 2**53 - 1, "ab" * 32)] for n in page}
            yield Have({eve.room: users}, span=(f"{page[0]:064x}", f"{page[-1]:064x}"))

    await eve.flood(frames())


async def conversations_of_nobody(eve: Attacker) -> None:
    await eve.flood(
        Have({}, names=[Naming(dm=tuple(sorted((f"{n:064x}", eve.server)))) for n in page])  # type: ignore[arg-type]
        for page in pages(500)
    )


async def full_of_everybody(eve: Attacker) -> None:
    await eve.flood(Have({}, full={eve.room: [f"{n:064x}" for n in page]}) for page in pages(500))


async def addresses(eve: Attacker) -> None:
    records = [eve.record(invented_identity(f"made up {n}"), f"127.0.0.1:{1 + n % 1000}") for n in range(5_000)]
    await eve.flood(
        Peers(records[start : start + 64], [record.id for record in records[start : start + 64]])
        for start in range(0, len(records), 64)
    )


async def hosted_users(eve: Attacker) -> None:
    """Announce 2,000 users with certificates and names of the maximum length."""
    users = [invented_identity(f"hosted {n}") for n in range(2_000)]
    now = time.time_ns() // 1_000_000
    for start in range(0, len(users), 100):
        page = [
            Hosted(user.peer_id, f"{n} " + "x" * 28, "online", "\u65e5" * 512, None,
                   make_cert(eve.network.id, user.peer_id, user.sign, eve.id, now))
            for n, user in enumerate(users[start : start + 100], start)
        ]  # fmt: skip
        await eve.flood([Here(page)])


async def logs_without_end(eve: Attacker) -> None:
    pens = [eve.pen(eve.identity, eve.room, token_hex(8)) for _ in range(5_000)]
    await eve.flood(pen.say("x") for pen in pens)


async def one_log_without_end(eve: Attacker) -> None:
    pen = eve.pen(eve.identity, eve.room)
    await eve.flood(pen.say(*["x" * 300] * 256) for _ in range(20))


async def gaps(eve: Attacker) -> None:
    """Send batches that leave gaps: a peer stores none of them."""
    pens = [eve.pen(invented_identity(f"gap {n}"), eve.room) for n in range(200)]
    for pen in pens:
        pen.say("missing")
    await eve.flood(pen.say("x" * 30_000) for pen in pens)


async def entries_that_wait(eve: Attacker) -> None:
    """Send replies to entries that do not exist; they wait for 5 s."""
    pen = eve.pen(eve.identity, eve.room)
    text = '{"k":"text","at":%d,"re":["' + "ab" * 24 + '",%d],"b":"x"}'
    for start in range(0, 10_000, 100):
        await eve.flood([pen.write(*((NOW + n, text % (NOW, n + 1)) for n in range(start, start + 100)))])


async def digests(eve: Attacker) -> None:
    await eve.flood(
        Digest(sums={f"{n:064x}": "ab" * 32 for n in page}, span=("0" * 64, "f" * 64)) for page in pages(500)
    )


async def groups_of_nobody(eve: Attacker) -> None:
    """Announce groups, and send none of their facts."""
    await eve.flood(
        Have({}, names=[Naming(group=(f"{n:064x}", eve.id, f"{n:016x}")) for n in page]) for page in pages(500)
    )


async def groups_without_end(eve: Attacker) -> None:
    for n in range(500):
        await eve.flood([made_group(eve, eve.identity, [eve.id, eve.server], f"ops {n}", f"{n:032x}")[1]])


def named(frame: Entries, names: list[Naming]) -> Entries:
    return msgspec.structs.replace(frame, names=names)


async def read_marks(eve: Attacker) -> None:
    """Send read marks of logs of ada that do not exist."""
    await eve.flood(
        ReadFrame(
            {eve.room: {eve.id: [(eve.server[:32] + f"{n:016x}", 2**53 - 1, "ab" * 32) for n in page]}},
            names=[ROOM],
        )
        for page in pages(250)
    )


async def reactions_and_edits(eve: Attacker) -> None:
    pen = eve.pen(eve.identity, eve.room)
    await eve.flood([pen.say("x")])
    ref = Ref(ref_key(eve.id, pen.log.run), 1)
    for start in range(0, 5_000, 200):
        kinds = [("edit" if n % 2 else "reaction", NOW + n + 2) for n in range(start, start + 200)]
        await eve.flood([pen.write(*(encode_entry(Entry(kind, at, at, ref, b=f"{at % 10**7}")) for kind, at in kinds))])


async def half_a_frame(eve: Attacker) -> None:
    eve.say(LENGTH.pack(256 * KIB) + b"{" + b" " * 250_000)


TAKEN_IN_WITHIN = 60.0  # seconds to handle a flood while four tests run; only memory is measured
FLOODS: list[Callable[[Attacker], Awaitable[None]]] = [
    marks_of_nobody, conversations_of_nobody, full_of_everybody, addresses, hosted_users, logs_without_end,
    one_log_without_end, gaps, entries_that_wait, digests, half_a_frame, groups_of_nobody, groups_without_end,
    read_marks, reactions_and_edits,
]  # fmt: skip


async def test_the_worst_member_costs_a_bounded_amount_of_memory(cluster: Cluster, tell: Tell) -> None:
    ada, bob = await two_members(cluster)
    network = cluster.network
    began = before = memory(ada, "VmHWM")
    told = []
    for number, flood in enumerate(FLOODS):
        eve = Attacker(
            f"eve {number}", network
        )  # a new attacker for each flood, so that a ban of one does not affect the next
        await eve.join(ada.listening["port"])
        async with asyncio.timeout(TAKEN_IN_WITHIN):
            await flood(eve)
        await chat(ada, bob, flood.__name__, TAKEN_IN_WITHIN)
        peak = memory(ada, "VmHWM")
        told.append(f"{flood.__name__} {(peak - before) / MIB:.1f}")
        before = peak
        await eve.disconnect()
    grown = before - began
    tell(f"a member who floods: the peer grew by {grown / MIB:.0f} MiB at most; MiB by flood: {', '.join(told)}")
    assert grown < BOUND


async def test_a_link_that_reads_nothing_costs_no_more_than_the_buffer(cluster: Cluster, tell: Tell) -> None:
    ada, bob = await two_members(cluster)
    network = cluster.network
    for n in range(40):
        await ada.do(do="send", text=f"{n} " + "x" * 32_000, ref=str(n))
    last = await ada.event("sent", ref="39")
    await ada.event("delivered", id=last["id"])
    before = memory(ada, "VmHWM")
    attackers = [Attacker(f"eve {n}", network) for n in range(10)]
    for eve in attackers:
        await eve.join(ada.listening["port"])
        eve.read_nothing()
        for n in range(200):
            eve.say(Want(n, eve.room, eve.server, []))
    await chat(ada, bob, "while ten read nothing", TAKEN_IN_WITHIN)
    grown = memory(ada, "VmHWM") - before
    tell(f"ten members who want all and read nothing: the peer grew by {grown / MIB:.1f} MiB")
    assert grown < 10 * 4 * MIB
    for eve in attackers:
        await eve.disconnect()


ATTACKED_FOR = 30.0  # seconds; memory does not grow after the first of them
TOLD_AT_ONCE = 100  # users in one frame
MADE_UP = 10_200  # more than there are places
PEAK_BOUND = 160 * MIB  # of the whole process; docs/guarantees.md
LEFT_BOUND = 24 * MIB  # kept after the attack


async def made_up_users(eve: Attacker, until: float, least: int = 0) -> int:
    """Announce other users all the time, as many at once as a peer may host, and at least so many; return how many."""
    told: list[str] = []
    count = 0
    while (time.monotonic() < until or count < least) and not eve.over:
        now = time.time_ns() // 1_000_000
        users = [invented_identity(f"{eve.name} {count + n}") for n in range(TOLD_AT_ONCE)]
        page = [
            Hosted(user.peer_id, f"{eve.name} {count + n}", "online", "\u65e5" * 300, None,
                   make_cert(eve.network.id, user.peer_id, user.sign, eve.id, now))
            for n, user in enumerate(users)
        ]  # fmt: skip
        count += len(page)
        told += [user.peer_id for user in users]
        gone = told[:TOLD_AT_ONCE] if len(told) > 2_000 else []
        del told[: len(gone)]
        await asyncio.wait_for(eve.flood([Here(page, gone)]), TAKEN_IN_WITHIN)
    return count


async def test_made_up_users_cost_a_bounded_amount_and_nothing_afterwards(cluster: Cluster, tell: Tell) -> None:
    """Three members make up users for a minute. A newcomer is seen and addressed meanwhile, and little is printed."""
    ada, bob = await two_members(cluster)
    network = cluster.network
    for n in range(20):  # so that the memory of a peer that has worked is compared
        await chat(ada, bob, f"warming {n}")
    first = Attacker("first", network)
    await first.join(ada.listening["port"])
    await made_up_users(first, time.monotonic() + 1)
    await first.disconnect()
    await ada.wait(lambda line: line["event"] == "link" and line["state"] == "down", TAKEN_IN_WITHIN)
    began = memory(ada, "VmRSS")
    attackers = [Attacker(f"eve {n}", network) for n in range(3)]
    for eve in attackers:
        await eve.join(ada.listening["port"])
    printed = sum(line["event"] in CROWD for line in ada.lines)
    start = time.monotonic()
    floods = [asyncio.create_task(made_up_users(eve, start + ATTACKED_FOR, MADE_UP // 3)) for eve in attackers]
    cyd = cluster.child("cyd", ada.endpoint)
    await asyncio.sleep(ATTACKED_FOR / 2)  # a newcomer in the middle of the attack
    await cyd.start()
    await cyd.event("joined", TAKEN_IN_WITHIN, user="ada")
    await ada.do(do="send", to="cyd", text="welcome")
    await cyd.event("message", TAKEN_IN_WITHIN, text="welcome")
    told = sum(await asyncio.gather(*floods))
    lines = sum(line["event"] in CROWD for line in ada.lines) - printed
    seconds = time.monotonic() - start
    peak = memory(ada, "VmHWM")
    for eve in attackers:
        await eve.disconnect()
    await chat(ada, bob, "afterwards", TAKEN_IN_WITHIN)
    waited = time.monotonic()
    while memory(ada, "VmRSS") > began + LEFT_BOUND and time.monotonic() < waited + 60:
        await asyncio.sleep(0.5)  # poll: nothing tells that a process gave memory back
    left = memory(ada, "VmRSS") - began
    tell(
        f"{told} made-up users in {seconds:.0f} s: peak {peak / MIB:.0f} MiB, {left / MIB:.1f} MiB more afterwards,"
        f" {lines} lines"
    )
    assert told >= MADE_UP
    assert peak < PEAK_BOUND
    assert left <= LEFT_BOUND
    assert lines <= 2 * len(attackers) * (300 + 21 * seconds)  # that a user came, and is online


CROWD = ("link", "joined", "left", "presence", "renamed", "warning")
