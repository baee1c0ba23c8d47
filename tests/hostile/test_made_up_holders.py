"""One member says under hundreds of keys, one after the other, that it has what others wrote."""

from __future__ import annotations

import sqlite3

from p2pchat import TCPPeer
from p2pchat.core.receipts.delivery_receipts import MAX_SILENT
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID
from p2pchat.protocol import Have
from tests.deadlines import WAIT, until
from tests.hostile.attacker import Attacker, invented_identity
from tests.hostile.test_expelled import Logins, additions, logins  # noqa: F401

KEYS = MAX_SILENT + 30


def holders(logins: Logins, login: str) -> set[str]:  # noqa: F811
    """Return who has something that was written at a login, as far as its disk says."""
    [file] = (logins.root / login / login).glob("*.db")
    with sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True) as database:
        return {id for (id,) in database.execute("select hex(u.id) from heard h join users u on u.number = h.member")}


def remembered(peer: TCPPeer) -> set[str]:
    positions = peer._driver.node.replicator.receipts.delivered._positions.values()
    return {holder for of_log in positions for holder in of_log}


async def say_that_it_has(ada: TCPPeer, eve: Attacker) -> None:
    """Come, say that all that ada wrote is here, and go."""
    await eve.join(ada.port)
    eve.say(Have({eve.room: {}}, span=(FIRST_ID, LAST_ID), ask=True))
    await eve.until(lambda: bool(eve.marks(eve.server)))
    eve.say(Have({eve.room: {eve.server: eve.marks(eve.server)}}))
    await until(lambda: eve.id in remembered(ada), "what this key says")
    await eve.disconnect()
    await until(lambda: eve.id not in ada._driver.node.links.by_peer, "the end of its link")


async def test_few_keys_of_one_member_that_never_wrote_are_stored_as_holders(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    dan = await logins.join("dan", ada)
    await (await logins.join("eve", ada)).aclose()
    vouching = additions(ada, logins.network("eve"))
    await (await ada.broadcast("one")).delivered(by="dan", timeout=WAIT)
    for number in range(KEYS):
        await say_that_it_has(
            ada, logins.attacker("eve", invented_identity(f"key {number}"), vouching, f"key {number}")
        )
    await (await ada.broadcast("two")).delivered(by="dan", timeout=WAIT)
    await until(lambda: len(remembered(ada)) <= MAX_SILENT + 2, "the end of those that are not stored")
    await ada.aclose()
    stored = {id.lower() for id in holders(logins, "ada")}
    assert dan._driver.node.peer in stored and len(stored) <= MAX_SILENT + 2  # and eve's first peer
    assert len(holders(logins, "dan")) <= 2
