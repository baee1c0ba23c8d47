"""Each signature of a history is made and checked once: what the cryptography takes would be a tenth of the whole run.

Whether a signature is a key's over some bytes never changes, so what was answered once may be remembered, and what
this process signed itself need not be checked. Everything else goes to the real library: what a liar forged, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pchat.core import log
from p2pchat.identity.keys import Identity

_known: dict[tuple[bytes, bytes, bytes], bool] | None = None  # (key, message, signature) -> whether it is one


class _RememberingKey:
    """A public key as the core uses it."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    @classmethod
    def from_public_bytes(cls, public: bytes) -> _RememberingKey:
        return cls(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return when it is this key's; raise InvalidSignature or ValueError when it is not."""
        asked = (self._public, message, signature)
        if _known is None or (answer := _known.get(asked)) is None:
            answer = _is_signed(*asked)
            if _known is not None:
                _known[asked] = answer
        if not answer:
            raise InvalidSignature


def _is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@contextmanager
def remembered() -> Iterator[None]:
    """Remember signatures, in this process, for so long."""
    global _known
    _known = {}
    vars(log)["Ed25519PublicKey"] = _RememberingKey
    try:
        yield
    finally:
        _known = None
        vars(log)["Ed25519PublicKey"] = Ed25519PublicKey


def signer(identity: Identity) -> Callable[[bytes], bytes]:
    """Return what signs for an identity; what it signs is known to be its own."""
    public = bytes.fromhex(identity.peer_id)

    def sign(message: bytes) -> bytes:
        signature = identity.sign(message)
        if _known is not None:
            _known[public, message, signature] = True
        return signature

    return sign
