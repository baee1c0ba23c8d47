"""What a peer announces on the local network: only members can read who it is.

    _p2pchat._tcp.local., instance and host names of random letters, port and addresses as usual, and in TXT
    v = 1
    s = salt, 16 random bytes
    p = peer id xor HMAC-SHA256(K, "p2pchat/discover/1 peer\\0" || salt)
    m = HMAC-SHA256(K, "p2pchat/discover/1\\0" || salt || p || u16be port || addresses)

Without the network's key K these are random bytes, others at each start. With it, m shows that a member said exactly
this, so that the salt and proof of one announcement cannot be put beside other addresses, and p says whose key must
answer there. It proves no more: that a network may be joined, only an invite does, and the handshake checks. An open
network has no key and uses one made from its id N: whoever knows N reads its announcements.

Source: docs/protocol.md, "Discovery".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from p2pchat.protocol import PeerId

SERVICE_TYPE = "_p2pchat._tcp.local."
VERSION = b"1"
SALT_BYTES = 16  # another one at each start: two of them are never the same
MAX_ADDRESSES = 8  # as many as the address book keeps of one peer
MAX_TXT_BYTES = 1024  # ours has 175; a later version may have more to say

_TAG = b"p2pchat/discover/1\0"
_PEER_TAG = b"p2pchat/discover/1 peer\0"
_OPEN_TAG = b"p2pchat/discover/1 open\0"


def discovery_key(network: str, key: str | None) -> bytes:
    """Return what members of a network recognise each other by: K; of an open one a key made from N. Both are hex."""
    if key is not None:
        return bytes.fromhex(key)
    return hmac.digest(bytes.fromhex(network), _OPEN_TAG, "sha256")


def describe(key: bytes, peer: PeerId, port: int, addresses: Sequence[str], salt: bytes) -> dict[str, str]:
    """Return the TXT record of an announcement.

    Args:
        key: From discovery_key().
        addresses: IPv4 and IPv6 addresses, at most MAX_ADDRESSES; the order does not matter.
        salt: SALT_BYTES random ones, used for nothing else.
    """
    hidden = _xor(bytes.fromhex(peer), _mask(key, salt))
    proof = _proof(key, salt, hidden, port, addresses)
    return {"v": VERSION.decode(), "s": salt.hex(), "p": hidden.hex(), "m": proof.hex()}


def recognise(
    key: bytes, txt: Mapping[bytes, bytes | None], port: int | None, addresses: Sequence[str]
) -> PeerId | None:
    """Return the peer that is announced; None when no member of our network says this."""
    if txt.get(b"v") != VERSION or port is None or not 0 < len(addresses) <= MAX_ADDRESSES:
        return None
    salt, hidden, proof = _bytes(txt, b"s", SALT_BYTES), _bytes(txt, b"p", 32), _bytes(txt, b"m", 32)
    if not (salt and hidden and proof and 0 < port < 65536):
        return None
    try:
        expected = _proof(key, salt, hidden, port, addresses)
    except ValueError:
        return None
    return _xor(hidden, _mask(key, salt)).hex() if hmac.compare_digest(proof, expected) else None


def _proof(key: bytes, salt: bytes, hidden: bytes, port: int, addresses: Sequence[str]) -> bytes:
    """Each address is its length (4 or 16) in one byte, then its bytes; sorted as bytes."""
    places = sorted(ip_address(address).packed for address in addresses)
    what = b"".join(bytes([len(place)]) + place for place in places)
    return hmac.digest(key, _TAG + salt + hidden + port.to_bytes(2, "big") + what, "sha256")


def _mask(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, _PEER_TAG + salt, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _bytes(txt: Mapping[bytes, bytes | None], name: bytes, size: int) -> bytes:
    """Return a value of exactly this size, b"" for anything else."""
    text = txt.get(name) or b""
    if len(text) != 2 * size:
        return b""
    try:
        value = bytes.fromhex(text.decode("ascii"))
    except ValueError:  # of a hex digit, or of what is not even ASCII
        return b""
    return value if len(value) == size else b""  # fromhex passes over blanks
