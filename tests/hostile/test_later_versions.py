"""What a peer of a later version signs goes through a peer of this one to a third as it came, and ends no link."""

from __future__ import annotations

import json
from functools import partial
from time import time_ns

from p2pchat import TCPPeer
from p2pchat.core.members.statement import SIGNATURE_TAG
from p2pchat.core.mesh.peer_exchange import RECORD_TAG
from p2pchat.protocol import Digest, Here, Hosted, PeerRecord, Peers, Statements
from tests.deadlines import until
from tests.hostile.attacker import Attacker
from tests.hostile.conftest import Honest, Meet


async def later_member(honest: Honest) -> Attacker:
    """Return a member of a later version that is linked with ada only."""
    eve = Attacker("eve", honest.network)
    honest.attackers.append(eve)
    await eve.join(honest.ada.port, introduce=False)
    return eve


def links(honest: Honest) -> list[set[int]]:
    """Return the links between ada and bob."""
    pairs = ((honest.ada, honest.bob), (honest.bob, honest.ada))
    return [set(one._driver.node.presence.hosts[other.me.key]) for one, other in pairs]


async def test_a_record_that_says_more_goes_through_one_peer_to_another(meet: Meet) -> None:
    """Before, the frame was malformed to the third: links of the honest peer between ended 6 times a minute."""
    honest = await meet()
    before, eve = links(honest), await later_member(honest)
    guest = honest.network.guest(eve.id)
    assert guest is not None
    said = {"id": eve.id, "at": time_ns() // 1000, "e": ["192.0.2.1:1"], "guest": [guest.member, guest.sig]}
    text = json.dumps({**said, "later": [1.50, None, {"\u00fc": 2**60}], "at2": "soon"}, ensure_ascii=False, indent=1)
    record = PeerRecord(text, eve.identity.sign(RECORD_TAG + bytes.fromhex(eve.network.id) + text.encode()).hex())
    eve.say(Peers([record]), Here([Hosted(eve.id, "eve", "online")]), Digest(sum="0" * 64))
    books = [peer._driver.node.links.book.records for peer in (honest.ada, honest.bob)]
    await until(lambda: all(eve.id in records for records in books), "the record at both")
    assert [records[eve.id] for records in books] == [record] * 2
    await honest.chat()
    assert not eve.over and links(honest) == before


async def test_a_statement_that_says_more_goes_through_one_peer_to_another(meet: Meet) -> None:
    honest = await meet()
    before, eve = links(honest), await later_member(honest)
    founder = honest.network.member
    assert founder is not None
    for kind in ("add", "later"):
        said = {"at": 1, "by": founder.peer_id, "k": kind, "later": [None, {"x": "y"}], "who": [eve.id]}
        text = json.dumps(said, separators=(",", ":"), sort_keys=True)
        sig = founder.sign(SIGNATURE_TAG + bytes.fromhex(eve.network.id) + text.encode()).hex()
        eve.say(Statements(s=[(text, sig)]))
        for peer in (honest.ada, honest.bob):
            await until(partial(is_kept, peer, text), "it at both")
    await honest.chat()
    assert not eve.over and links(honest) == before


def is_kept(peer: TCPPeer, text: str) -> bool:
    members = peer._driver.node.replicator.statements.members
    assert members is not None
    return any(one.text == text for one in members.statements())
