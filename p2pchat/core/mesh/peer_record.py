"""Peer records: where a peer can be reached, signed by the peer itself.

    {"id":U,"at":µs,"e":[endpoint],"guest":[M,signature]?,"sig":signature of U over TAG || N || text}

The text is the record without `sig`, canonical by RFC 8785. Of two records of a peer the newer one counts, however far
ahead of the local time: a peer stores its own record and signs only newer ones, and a wrong time harms nobody else. The
certificate says which member answers for the peer, so whoever hears of a peer knows whose it is before it dials it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

from p2pchat.core.log import verify
from p2pchat.core.members.statement import is_guest
from p2pchat.protocol import GuestCertificate, PeerId, PeerRecord, UserId

RECORD_TAG = b"p2pchat/peer/1\0"
CACHE_SIZE = 1024  # records; the peers of one process, as those of a test, check the same ones


def make_record(
    network: str,
    peer: PeerId,
    sign: Callable[[bytes], bytes],
    at: int,
    endpoints: Sequence[str],
    guest: GuestCertificate | None,
) -> PeerRecord:
    """Return a record of this peer.

    Args:
        network: The id of the network, N (hex).
        sign: Signs with the key of the peer.
        at: UTC microseconds.
        guest: The certificate of the member that answers for it.
    """
    return PeerRecord(peer, at, tuple(endpoints), sign(_signed(network, peer, at, endpoints, guest)).hex(), guest)


@lru_cache(CACHE_SIZE)
def is_signed(network: str, record: PeerRecord) -> bool:
    """Return whether the peer signed its record for this network, and the member in it the certificate."""
    message = _signed(network, record.id, record.at, record.e, record.guest)
    if not verify(record.id, bytes.fromhex(record.sig), message):
        return False
    return record.guest is None or is_guest(network, record.id, record.guest)


def member_of(record: PeerRecord) -> UserId:
    """Return the member that answers for the peer of a record."""
    return record.id if record.guest is None else record.guest.member


def _signed(network: str, peer: PeerId, at: int, endpoints: Sequence[str], guest: GuestCertificate | None) -> bytes:
    said: dict[str, object] = {"at": at, "e": list(endpoints), "id": peer}
    if guest is not None:
        said["guest"] = [guest.member, guest.sig]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return RECORD_TAG + bytes.fromhex(network) + text.encode()
