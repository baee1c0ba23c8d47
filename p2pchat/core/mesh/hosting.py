"""A user's word that a peer speaks for it: certificates of seven days, made, renewed and judged.

Source: docs/protocol.md, "Users, peers, networks". A user whose key is the peer's own needs none.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.core.log import verify
from p2pchat.protocol import Cert, PeerId, UserId

HOST_TAG = b"p2pchat/host/1\0"
LIFE_MS = 7 * 24 * 3600 * 1000
TOLERANCE_MS = 3600 * 1000  # clocks of two machines differ
MAX_REMEMBERED = 20_000  # certificates found good: twice the users one peer may host


def host_message(user: UserId, peer: PeerId, from_ms: int, until_ms: int) -> bytes:
    """Return the bytes a user signs to let a peer speak for it."""
    return HOST_TAG + bytes.fromhex(user + peer) + from_ms.to_bytes(8, "big") + until_ms.to_bytes(8, "big")


def make_cert(user: UserId, sign: Callable[[bytes], bytes], peer: PeerId, now_ms: int) -> Cert:
    """Return a certificate good from now on."""
    until_ms = now_ms + LIFE_MS
    return Cert(now_ms, until_ms, sign(host_message(user, peer, now_ms, until_ms)).hex())


def is_due(cert: Cert | None, now_ms: int) -> bool:
    """Whether there is none, or half of its life is over (or not begun: the clock was set back)."""
    return cert is None or not cert.from_ms <= now_ms < (cert.from_ms + cert.until_ms) // 2


def is_expired(cert: Cert, now_ms: int) -> bool:
    return now_ms > cert.until_ms + TOLERANCE_MS


class Certificates:
    """Judges certificates, and remembers the good ones: a gateway's ten thousand come again with each link."""

    def __init__(self) -> None:
        self._good: dict[tuple[UserId, PeerId], Cert] = {}

    def fault(self, user: UserId, peer: PeerId, cert: Cert | None, now_ms: int) -> str:
        """Say why this does not let `peer` speak for `user` now; "" when it does."""
        if user == peer:
            return ""
        if cert is None:
            return "a user without a certificate"
        if not 0 < cert.until_ms - cert.from_ms <= LIFE_MS:
            return "a certificate for longer than seven days, or for no time"
        if now_ms < cert.from_ms - TOLERANCE_MS or is_expired(cert, now_ms):
            return "a certificate that is not good now: check the clocks of both machines"
        if self._good.get((user, peer)) != cert:
            if not verify(user, bytes.fromhex(cert.sig), host_message(user, peer, cert.from_ms, cert.until_ms)):
                return "a certificate that the user did not sign for this peer"
            self._remember(user, peer, cert)
        return ""

    def _remember(self, user: UserId, peer: PeerId, cert: Cert) -> None:
        if len(self._good) >= MAX_REMEMBERED:
            self._good.clear()
        self._good[user, peer] = cert
