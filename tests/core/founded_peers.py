"""A scripted peer in a network of members, and what their users write.

All far ends of its links are guests of the founder, who answers for that peer too: they pass on what others write.
"""

from __future__ import annotations

from p2pchat.core.inputs import StatementsMade
from p2pchat.core.members.statement import make_guest, room_id
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.protocol import GuestCertificate
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.members.test_statement_exchange import FOUNDER, NETWORK, said
from tests.core.scripted_nodes import IDENTITIES, IDS, Author, K, Peer, World

HERE = room_id(NETWORK)


def of_founder(storage: TemporaryStorage | None = None, /, **limits: int) -> Peer:
    """Return ada's peer, a guest of the founder's, in a network of which cyd and dan are members."""
    network = NetworkCredentials(NETWORK, K, FOUNDER.peer_id, member=FOUNDER.peer_id, sign=FOUNDER.sign)
    settings = Settings(**{"log_bytes": 0, "entry_bytes": 0, "auto_fetch_bytes": 0, **limits})
    ada = Peer(World(), "ada", storage or TemporaryStorage(), settings, network=network)
    ada.world.peers.append(ada)
    ada.put(StatementsMade([said(FOUNDER, "add", IDS["cyd"], IDS["dan"])]))
    ada.take()
    return ada


def guest(user: str, member: str = "cyd", run: str = "") -> Author:
    """Return the author of a log whose header says which member answers for the user."""
    return Author(user, run or f"{user[0]}1", HERE, by=None if user == member else answers_for(user, member))


def answers_for(user: str, member: str = "cyd") -> GuestCertificate:
    """Return the certificate by which a member answers for a user."""
    return make_guest(NETWORK, IDS[member], IDENTITIES[member].sign, IDS[user])


def founders(user: str) -> GuestCertificate:
    """Return the certificate by which the founder answers for a user."""
    return make_guest(NETWORK, FOUNDER.peer_id, FOUNDER.sign, IDS[user])
