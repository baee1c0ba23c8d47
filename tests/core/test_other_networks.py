"""What a key signed in one network has no effect in another, where the same key is at home too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.log import Entry, encode_entry
from p2pchat.core.members.statement import make_guest, make_statement, room_id
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.protocol import Entries, Frame, Here, Hosted, Naming, Peers, Statements
from tests.core.members.test_statement_exchange import FOUNDER, NETWORK, USERS, Net
from tests.core.scripted_nodes import IDENTITIES, IDS, START, Author, GroupPen

OTHER = "0e" * 16
DAN, BOB = IDENTITIES["dan"], IDENTITIES["bob"]


def log(network: str, conversation: str, run: str = "b1") -> Author:
    """Return a log of bob, for whom the founder answers in that network."""
    return Author("bob", run, conversation, by=make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, BOB.peer_id))


def statement(network: str) -> list[Frame]:
    made = make_statement(network, FOUNDER.peer_id, FOUNDER.sign, "add", 1, {"who": [USERS[0]]})
    return [Statements(s=[(made.text, made.signature.hex())])]


def guest_certificate(network: str) -> list[Frame]:
    by = make_guest(network, FOUNDER.peer_id, FOUNDER.sign, BOB.peer_id)
    return [Author("bob", "b1", room_id(NETWORK), by=by).say("hi")]


def host_certificate(network: str) -> list[Frame]:
    return [
        Here(
            [
                Hosted(
                    DAN.peer_id,
                    "dan",
                    "online",
                    cert=make_cert(network, DAN.peer_id, DAN.sign, BOB.peer_id, START // 1000),
                )
            ]
        )
    ]


def record(network: str) -> list[Frame]:
    guest = make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, DAN.peer_id)
    made = make_record(network, DAN.peer_id, DAN.sign, START, ["10.0.0.1:2"], guest)
    return [Peers(records=[made], linked=[DAN.peer_id])]


def room_log(network: str) -> list[Frame]:
    return [log(network, room_id(network)).say("hi")]


def direct_log(network: str) -> list[Frame]:
    frame = log(network, dm_id(room_id(network), BOB.peer_id, IDS["ada"])).say("hi")
    frame.names = [dm_naming(BOB.peer_id, IDS["ada"])]
    return [frame]


def group(network: str) -> tuple[str, Entries]:
    """Return the id of a group of bob with ada, and the batch that begins it."""
    by = log(network, "00" * 32).by
    pen = GroupPen("bob", "ada", room=room_id(network), by=by)
    return pen.id, pen.first


def group_log(network: str) -> list[Frame]:
    return [group(network)[1]]


def talk_log(network: str) -> list[Frame]:
    id, begun = group(network)
    entry = encode_entry(Entry("text", START + 1, START + 1, b="hi"))
    said = log(network, talk_id(id)).write(entry)
    said.names = [Naming(talk=id)]
    return [begun, said]


SIGNED: list[Callable[[str], list[Frame]]] = [
    statement, guest_certificate, host_certificate, record, room_log, direct_log, group_log, talk_log,
]  # fmt: skip


@pytest.mark.parametrize("signed", SIGNED, ids=lambda signed: signed.__name__)
def test_what_is_signed_in_one_network_counts_in_no_other(signed: Callable[[str], list[Frame]]) -> None:
    nothing = state([])
    assert [state(signed(network)) != nothing for network in (NETWORK, OTHER)] == [True, False]


def state(frames: list[Frame]) -> tuple[bytes, bool, bool]:
    """Return what ada, whose network is NETWORK, stores when bob's peer sends this, and what she knows of dan."""
    ada, cyd = Net("ada", "cyd").peers.values()
    cyd.up = False  # nobody answers where dan is told to be
    ada.far("bob").say(*frames)
    ada.world.pass_time(2.0)
    node, dan = ada.node, DAN.peer_id
    return ada.storage.snapshot(), dan in node.presence.hosts, dan in node.links.book.records
