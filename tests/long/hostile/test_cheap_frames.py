"""Frames that are cheap to send and dear to handle, from one member, while two others write to each other.

The processes and links are real. Each message is awaited for a minute, which is far more than any of them takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from secrets import token_hex

import pytest

from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID
from p2pchat.protocol import Have, Here, Hosted, Mark, encode
from tests.conftest import Tell
from tests.hostile.attacker import Attacker, invented_identity
from tests.long.hostile.test_floods import send_and_wait
from tests.processes.peers import Cluster
from tests.processes.strangers import memory, two_members

USERS = 1_900  # of one link; unknown peers share 2,000
MESSAGES = 10
MIB = 1 << 20


async def announce_users(eve: Attacker) -> None:
    """Host as many made-up users as find a place."""
    users, now = [invented_identity(f"hosted {n}") for n in range(USERS)], time.time_ns() // 1_000_000
    for start in range(0, USERS, 100):
        page = [
            Hosted(user.peer_id, f"u{start + n}", "online", None, None,
                   make_cert(eve.network.id, user.peer_id, user.sign, eve.id, now))
            for n, user in enumerate(users[start : start + 100])
        ]  # fmt: skip
        await eve.flood([Here(page)])


pytestmark = [pytest.mark.weekly, pytest.mark.timeout(240)]


async def marks_for_many_users(eve: Attacker) -> None:
    """Announce that 1,900 users hold logs of ada that do not exist."""
    await announce_users(eve)
    for _ in range(400):
        marks = [Mark(token_hex(8), 5, "ab" * 32) for _ in range(64)]
        await eve.flood([Have({eve.room: {eve.server: marks}})])


async def demands_for_all_marks(eve: Attacker) -> None:
    """Ask for the marks of a room of 2,000 writers, and read nothing."""
    port = eve.writer.get_extra_info("peername")[1]
    for key in range(8):
        other = Attacker(f"eve {key}", eve.network)
        await other.join(port)
        pens = [eve.pen(invented_identity(f"writer {key} {n}"), eve.room) for n in range(250)]
        await other.flood(pen.say("x") for pen in pens)
        await other.until(partial(other.marks, pens[-1].author.peer_id))  # type: ignore[arg-type]
        await other.disconnect()
    eve.read_nothing()
    frame = encode(Have({eve.room: {}}, span=(FIRST_ID, LAST_ID), ask=True))
    await eve.flood([frame] * 1_000)


@pytest.mark.parametrize("attack", [marks_for_many_users, demands_for_all_marks])
async def test_messages_of_contacts_pass_a_flood_of_frames_that_cost_much(
    cluster: Cluster, tell: Tell, attack: Callable[[Attacker], Coroutine[None, None, None]]
) -> None:
    ada, bob = await two_members(cluster)
    await send_and_wait(ada, "bob", "now you are no stranger")
    before = memory(ada, "VmHWM")
    eve = Attacker("eve", cluster.network)
    await eve.join(ada.listening["port"])
    flood = asyncio.create_task(attack(eve))
    took = [await send_and_wait(bob, "ada", f"line {n}") for n in range(MESSAGES)]
    await flood
    took.append(await send_and_wait(bob, "ada", "behind it"))
    grown = memory(ada, "VmHWM") - before
    tell(f"{attack.__name__}: a message within {max(took):.2f} s at most, {grown / MIB:.0f} MiB more")
    await eve.disconnect()
    assert grown < 64 * MIB  # docs/guarantees.md


KEYS = 24  # of one member; this machine may have 32 strangers
FRAMES_A_MESSAGE = 40  # some 10 are decoded while a message is delivered, and 100 if all links are decoded at once
# A frame that may come, with a field of a later version: each value in it is looked at.
DEAR = b'{"t":"have","marks":{},"x":[' + b",".join([b"[]"] * 87_000) + b"]}"


async def send_dear_frames(sybil: Attacker, sent: list[int]) -> None:
    frame = len(DEAR).to_bytes(4, "big") + DEAR
    while not sybil.over:
        sybil.say(frame)
        sent.append(len(frame))
        await sybil.writer.drain()


async def test_a_message_of_contacts_waits_for_few_frames_that_take_long_to_decode(
    cluster: Cluster, tell: Tell
) -> None:
    ada, bob = await two_members(cluster)
    await send_and_wait(ada, "bob", "now you are no stranger")
    sybils = [Attacker(f"sybil {key}", cluster.network) for key in range(KEYS)]
    for sybil in sybils:
        await sybil.join(ada.listening["port"])
    sent: list[int] = []
    tasks = [asyncio.create_task(send_dear_frames(sybil, sent)) for sybil in sybils]
    await send_and_wait(bob, "ada", "before the buffers of all links are full")
    await send_and_wait(bob, "ada", "then they are")
    before = len(sent)
    for number in range(MESSAGES):
        await send_and_wait(bob, "ada", f"line {number}")
    frames = (len(sent) - before) / MESSAGES
    tell(f"{frames:.0f} frames of {KEYS} keys were taken while a message was delivered")
    for task, sybil in zip(tasks, sybils, strict=True):
        task.cancel()
        await sybil.disconnect()
    assert frames < FRAMES_A_MESSAGE
