"""Long tests of `tests/test_export_file.py`."""

from __future__ import annotations

import io
from hashlib import blake2b

from p2pchat.core.inputs import StatementsMade
from p2pchat.core.members.statement import make_statement
from p2pchat.identity.identity import Identity
from p2pchat.testing import mesh

MANY = 5000


async def test_a_file_carries_thousands_of_statements() -> None:
    """Half of them are of an admin, whose statements count only behind that of the founder which makes it one."""
    async with mesh("ada", "bob", logins=True) as net:
        ada, bob = net.peers
        await net.settle()  # both have both names
        net.partition([ada], [bob])
        founder, admin, network = net.membership.member, Identity.generate(), net.membership.id
        assert founder is not None
        first = make_statement(network, founder.peer_id, founder.sign, "admin", 1, {"who": [admin.peer_id]})
        made = [
            make_statement(network, by.peer_id, by.sign, "add", 2 + number, {"who": [key_of(number)]})
            for number, by in zip(range(MANY), (founder, admin) * (MANY // 2), strict=True)
        ]
        ada._driver.put(StatementsMade([first]))
        ada._driver.put(StatementsMade(made))
        await ada._driver.settle()
        await ada.broadcast("to all of you")
        file = io.BytesIO()
        await ada.export(file)
        file.seek(0)
        imported = await bob.import_from(file)
        assert (imported.new, imported.unreadable, imported.problem) == (1, 0, "")
        members = {one.key for one in bob.people.members()}
        assert members == {one.key for one in ada.people.members()} and len(members) == MANY + 3
        stored = [peer._driver.disk.storage.statements() for peer in net.peers]
        assert stored[0] == stored[1] and len(stored[1]) == MANY + 2


def key_of(number: int) -> str:
    return Identity.from_seed(blake2b(number.to_bytes(8, "big"), digest_size=32).digest()).peer_id
