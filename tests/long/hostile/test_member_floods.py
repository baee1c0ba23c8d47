"""A member that writes under thousands of keys costs every peer what one member may, and nobody's messages wait.

All peers are processes, each login with a home of its own; two are asked what they stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio

from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import load_network
from p2pchat.protocol import Entries, Here, Ping, Pong
from p2pchat.settings import KIB, MIB, Settings
from p2pchat.testing.process_mesh import Child
from tests.conftest import Tell
from tests.deadlines import WAIT, until
from tests.hostile.attacker import Attacker, appearing, invented_identity
from tests.processes.fork_server import ForkServer
from tests.processes.logins import Login, met
from tests.processes.settings_override import changes
from tests.processes.strangers import memory

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.weekly,  # measures by a clock
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of another process is read in /proc"),
]
KEYS, HOSTED = 2_000, 500  # of which so many are users of the attacker's peer; the others are on no link
TEXT = "x" * 16 * KIB
MEMBER_BYTES = 16 * MIB
FITTING = MEMBER_BYTES // (len(TEXT) + Settings().log_bytes)  # logs of one text; her name and JSON take three
LEFT = 32 * MIB  # of memory, afterwards: holes and caches (test_branches.py)


@pytest_asyncio.fixture(loop_scope="module")
async def logins(tmp_path: Path, fork_server: ForkServer | None) -> AsyncIterator[list[Login]]:
    (tmp_path / "logs").mkdir()
    logins = [Login(tmp_path / name, tmp_path / "logs", fork_server) for name in ("first", "second", "third")]
    for login in logins:
        login.changes = changes({"member_bytes": MEMBER_BYTES, "left_grace": 0.2, "gossip_within": 0.1})
    try:
        yield logins
    finally:
        for login in logins:
            await login.destroy()


def flood(zoe: Attacker, users: Sequence[Identity]) -> list[Here | Entries]:
    """Return a log of one text of each user: their peer says of the first ones that it hosts them."""
    hosted = [*appearing(zoe, users[:HOSTED])]
    return [*hosted, *(zoe.pen(user, zoe.room).say(TEXT) for user in users)]


async def keep_writing(writer: Child, reader: Child, took: list[float]) -> None:
    """Write to a third member, one message after the other; note the seconds until each came."""
    while True:
        text, began = f"message {len(took)}", time.monotonic()
        await writer.send(text)
        await reader.event("message", text=text)
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.02)


async def stored(login: Login, name: str) -> int:
    """Return how many texts of the flood a peer has stored."""
    return sum(line.get("text") == TEXT for line in await login.history(name))


async def test_a_member_with_thousands_of_keys_costs_what_one_member_may(logins: list[Login], tell: Tell) -> None:
    first, second, third = logins
    ada = await first.peer("ada")
    invite = await first.invite(ada, "--uses", "9")
    bob, zoe = await second.peer("bob", invite=invite), await third.peer("zoe", invite=invite)
    await met(ada, bob, zoe)
    await zoe.leave()
    network = load_network(third.home / "network")
    assert network is not None and network.member is not None
    eve = Attacker("zoe", network, identity=load_identity(third.home / "zoe" / "identity.pem"))
    before, took, quiet = memory(ada, "VmRSS"), list[float](), list[float]()
    with_nobody = asyncio.create_task(keep_writing(bob, ada, quiet))
    await until(lambda: len(quiet) >= 20, "messages before the flood")
    with_nobody.cancel()
    await eve.join(ada.listening["port"])
    frames = flood(eve, [invented_identity(f"key {number}") for number in range(KEYS)])
    writing = asyncio.create_task(keep_writing(bob, ada, took))
    begun = time.monotonic()
    await eve.flood(frames)
    eve.say(Ping())
    await eve.next(Pong)
    seconds, beside = time.monotonic() - begun, len(took) + 1  # with the one under way
    await until(lambda: len(took) >= beside, "the last message beside the flood")
    writing.cancel()
    assert (await ada.event("warning", code="full"))["text"].startswith("zoe's member has exceeded the space")
    for login, name in ((first, "ada"), (second, "bob")):
        async with asyncio.timeout(WAIT):
            while (kept := await stored(login, name)) < FITTING - 3:
                await asyncio.sleep(0.2)  # poll: another process
        assert kept <= FITTING
    peak = memory(ada, "VmHWM")
    await first.decide("ada", "expel", "zoe", "--yes")
    await bob.event("member", change="expelled", by="ada")
    await eve.disconnect()
    async with asyncio.timeout(30):
        while (left := memory(ada, "VmRSS") - before) > LEFT:
            await asyncio.sleep(0.2)  # poll: another process
    spread = [round(value * 1000) for value in (median(quiet), median(took), max(took))]
    tell(
        f"{KEYS} keys of one member in {seconds:.1f} s: messages within {spread[0]} ms before, beside it {spread[1]}"
        f" (median) and {spread[2]} at most; memory {peak / MIB:.0f} MiB at most, {left / MIB:.1f} more afterwards"
    )
    assert median(took) < max(0.1, 3 * median(quiet))
