"""Long tests of `tests/hostile/test_group_attacks.py`."""

from __future__ import annotations

import asyncio

from p2pchat.core.groups.group_state import group_body, leave_body, operation_hash
from p2pchat.core.log import Entry, encode_entry
from p2pchat.protocol import MAX_INT, Mark, Naming
from tests.hostile.attacker import NOW, Attacker
from tests.hostile.conftest import Honest, Meet
from tests.hostile.test_attacks import key, lives_on
from tests.hostile.test_group_attacks import MANY, ConversationWriter, entry, operation


def own_group(eve: Attacker, honest: Honest) -> tuple[str, ConversationWriter]:
    """Create a group of the attacker with ada and bob; return its id, and the writer of its operations."""
    members = {eve.id: 1, key(honest.ada): 1, key(honest.bob): 1}
    made = Entry("group", NOW + 1, NOW + 1, b=group_body(1, "ops", eve.id, members, {}, salt="00" * 16))
    group = operation_hash(eve.room, encode_entry(made))
    writes = ConversationWriter(eve, group)
    writes.names = [Naming(group=(group, eve.id, writes.pen.log.run))]
    writes.put(made)
    return group, writes


async def test_an_owner_that_changes_a_group_endlessly_costs_others_nothing(meet: Meet) -> None:
    honest = await meet()
    eve = await honest.eve()
    group, writes = own_group(eve, honest)
    ada, bob = key(honest.ada), key(honest.bob)
    writes.put(*(operation(gen, f"ops {gen}", eve.id, ada, bob) for gen in range(2, MANY)))
    writes.put(*(operation(MANY, f"tie {n}", eve.id, ada, bob, redo=f"{n:064x}") for n in range(MANY)))
    writes.put(*(entry("leave", leave_body([Mark("00" * 8, n, "00" * 32)]), g=(MAX_INT - n, "00" * 16))
                 for n in range(1, MANY)))  # fmt: skip
    await honest.while_chatting(lives_on(eve))
    async with asyncio.timeout(60):
        while not _is_so_far(honest, group, eve):
            await honest.chat()


def _is_so_far(honest: Honest, group: str, eve: Attacker) -> bool:
    """Return True if bob, who gets the group from ada, has everything."""
    view = honest.bob._driver.node.groups.get(group)
    return view is not None and view.gen == MANY and eve.id in view.left
