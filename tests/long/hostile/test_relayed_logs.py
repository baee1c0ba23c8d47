"""Whoever asks for what a flood wrote, and passes it on, is not taken for who floods."""

from __future__ import annotations

import asyncio

import pytest

from p2pchat.protocol import Ping, Pong
from p2pchat.settings import Settings
from tests.deadlines import until
from tests.hostile.attacker import Attacker, invented_identity
from tests.hostile.test_expelled import Logins, additions, logins, now  # noqa: F401

BURST = Settings().flood_burst
KEYS, LOGS = 3, 400  # more than a link may ask for or begin at once


@pytest.mark.weekly  # a flood of 1,200 logs, by a clock
async def test_who_fetches_and_relays_a_flood_of_logs_is_read_as_before(logins: Logins) -> None:  # noqa: F811
    """Ada is flooded, bob and dan fetch it from her and from each other. Nobody's link is paused for it."""
    ada = await logins.start("ada")
    bob = await logins.join("bob", ada)
    dan = await logins.join("dan", ada)
    await dan.wait_user("bob")
    await (await logins.join("eve", ada)).aclose()
    vouching = additions(ada, logins.network("eve"))
    lowest = dict[tuple[str, str], float]()

    def look() -> None:
        for peer in (ada, bob, dan):
            for link in peer._driver.node.links.by_peer.values():
                pair = peer.me.name, link.peer
                left = peer._driver.node._ctx.work.left("frames", link.id)
                lowest[pair] = min(lowest.get(pair, left), left)

    def has_all(number: int) -> bool:
        look()
        rooms = [peer._driver.node.replicator.conversations[peer._driver.node.room] for peer in (ada, bob, dan)]
        return all(len(room.writers) >= number for room in rooms)

    async def flood(key: int) -> Attacker:
        eve = logins.attacker("eve", invented_identity(f"key {key}"), vouching, f"key {key}")
        await eve.join(ada.port)
        await eve.flood(eve.pen(invented_identity(f"{key} {n}"), eve.room).say("x", c=now()) for n in range(LOGS))
        return eve

    floods = [asyncio.create_task(flood(key)) for key in range(KEYS)]
    await until(lambda: has_all(KEYS * LOGS), "all logs at all peers")
    eves = await asyncio.gather(*floods)
    honest = {pair: tokens for pair, tokens in lowest.items() if pair[1] not in {eve.id for eve in eves}}
    assert min(honest.values()) > BURST / 2, honest


async def test_the_keys_of_one_member_begin_logs_at_one_rate(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    await (await logins.join("eve", ada)).aclose()
    vouching = additions(ada, logins.network("eve"))
    eves = [logins.attacker("eve", invented_identity(f"key {key}"), vouching, f"key {key}") for key in range(KEYS)]
    for eve in eves:
        await eve.join(ada.port)
    for eve in eves:
        pens = (eve.pen(invented_identity(f"{eve.name} {number}"), eve.room) for number in range(LOGS))
        eve.say(*(pen.say("x", c=now()) for pen in pens), Ping())
    await asyncio.gather(*(eve.next(Pong) for eve in eves))
    assert ada.counted["flood"]
