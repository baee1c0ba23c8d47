"""Long tests of `tests/hostile/test_group_attacks.py`."""

from __future__ import annotations

import asyncio

from p2pchat.core.groups.group_fact import ADD, NAME, fact_body
from p2pchat.core.log import batch_of
from p2pchat.protocol import Entries, Mark
from tests.hostile.attacker import NOW, made_group, said_fact
from tests.hostile.conftest import Honest, Meet
from tests.hostile.test_attacks import key, lives_on
from tests.hostile.test_group_attacks import MANY


async def test_an_owner_that_changes_a_group_endlessly_costs_others_nothing(meet: Meet) -> None:
    honest = await meet()
    eve = await honest.eve()
    ada, bob = key(honest.ada), key(honest.bob)
    group, frame = made_group(eve, eve.identity, [eve.id, ada, bob], "ops")
    eve.say(frame)
    names: list[Entries] = []
    tips: list[Mark] = []
    for number in range(1, MANY):
        for body in (fact_body(NAME, name=f"ops {number}", n=number), fact_body(ADD, [ada])):
            names.append(said_fact(eve, eve.identity, group, body, NOW + number, tips))
            tips = [Mark(names[-1].r, 1, batch_of(names[-1]).chain.hex())]
    for each in names:
        eve.say(each)
    await honest.while_chatting(lives_on(eve))
    async with asyncio.timeout(120):
        while not _is_so_far(honest, group):
            await honest.chat()


def _is_so_far(honest: Honest, group: str) -> bool:
    """Return True if bob, who gets the group from ada, has everything."""
    view = honest.bob._driver.node.groups.get(group)
    return view is not None and view.name == f"ops {MANY - 1}"
