"""Codes by which a person's other machine becomes one of its devices, and the words that both machines show.

A code is one line of text, good for one machine and ten minutes:

    p2pchat-device:<base32 of version, peer, secret, checksum>@host:port,...

It says where the old machine listens for the new one, with which key it answers there, and what nobody else knows. It
gives nothing away by itself: the person compares four words at both machines, and only then the old one hands anything
over (devices.py). The words are proquints (Wilkerson, "A Proposal for Proquints", 2009): five letters for 16 bits.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from p2pchat.addresses import normal_endpoint
from p2pchat.core.members.admission import SECRET_BYTES
from p2pchat.errors import InviteError
from p2pchat.identity.network import MAX_ENDPOINTS
from p2pchat.protocol import PeerId

PREFIX = "p2pchat-device:"
DEVICE_TAG = b"p2pchat/device/1\0"
_SUM_TAG = b"p2pchat/device/1 sum\0"
_WORDS_TAG = b"p2pchat/device/1 words\0"
_COMMITMENT_TAG = b"p2pchat/device/1 commitment\0"
_VERSION = 1
_SUM_BYTES = 4
_BODY_BYTES = 1 + 32 + SECRET_BYTES
_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aiou"


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """A code.

    Attributes:
        peer: The key (hex) that answers at the endpoints.
        secret: 16 bytes that the two machines alone know.
        endpoints: Where the old machine listens, each as "host:port"; at least one.
    """

    peer: PeerId
    secret: bytes = field(repr=False)
    endpoints: tuple[str, ...]

    @classmethod
    def make(cls, peer: PeerId, endpoints: Sequence[str]) -> DeviceCode:
        """Return a new code with a secret of its own. Raises ValueError for a malformed endpoint."""
        places = tuple(normal_endpoint(one) for one in endpoints[:MAX_ENDPOINTS])
        return cls(peer, secrets.token_bytes(SECRET_BYTES), places)

    @property
    def text(self) -> str:
        """The code as one line."""
        body = bytes([_VERSION]) + bytes.fromhex(self.peer) + self.secret
        code = base64.b32encode(body + _checksum(body)).decode().rstrip("=")
        return f"{PREFIX}{code}@{','.join(self.endpoints)}"

    def transcript(self, client: PeerId, server_nonce: str, client_nonce: str) -> bytes:
        """Return T, which both machines sign, prove and show as words; nonces are hex32."""
        return DEVICE_TAG + bytes.fromhex(self.peer + client + server_nonce + client_nonce)

    def proof(self, t: bytes) -> str:
        """Return the proof (hex32) that a machine has this code, on the connection with transcript T."""
        return hmac.digest(self.secret, t, "sha256").hex()


def parse_device_code(text: str) -> DeviceCode:
    """Read a code as people paste it: case, blanks and ends of lines do not count.

    Raises:
        InviteError: It is no code, or has a typing error; the text says what to do.
    """
    squeezed = "".join(text.split()).lower()
    if not squeezed.startswith(PREFIX):
        raise InviteError(
            f"this is no code of a device: one begins with {PREFIX!r}; paste it whole (an invite: `p2pchat --invite -`)"
        )
    code, _, places = squeezed[len(PREFIX) :].partition("@")
    try:
        raw = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
    except binascii.Error:
        raw = b""
    body, checksum = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
    if len(body) != _BODY_BYTES or body[0] != _VERSION or checksum != _checksum(body):
        raise InviteError("the code of the device is damaged: copy it again, whole")
    try:
        endpoints = tuple(normal_endpoint(place) for place in places.split(",") if place)[:MAX_ENDPOINTS]
    except ValueError as error:
        raise InviteError(f"the code has a bad address after the @: {error}; copy it again") from None
    if not endpoints:
        raise InviteError("the code has no address after an @: copy it again, to the end")
    return DeviceCode(body[1:33].hex(), body[33:], endpoints)


def _checksum(body: bytes) -> bytes:
    return blake2b(_SUM_TAG + body, digest_size=32).digest()[:_SUM_BYTES]


def commitment_of(nonce: str) -> str:
    """Return the hash (hex32) that binds the old machine to its nonce (hex32) before it sees that of the new one."""
    return blake2b(_COMMITMENT_TAG + bytes.fromhex(nonce), digest_size=32).hexdigest()


def words_of(t: bytes) -> str:
    """Return the four words for a transcript: whoever stands between two machines gets others at one of them."""
    digest = blake2b(_WORDS_TAG + t, digest_size=8).digest()
    return " ".join(_proquint(int.from_bytes(digest[at : at + 2], "big")) for at in range(0, 8, 2))


def _proquint(number: int) -> str:
    """Return 16 bits as a word: consonant, vowel, consonant, vowel, consonant."""
    c, v = _CONSONANTS, _VOWELS
    return c[number >> 12] + v[number >> 10 & 3] + c[number >> 6 & 15] + v[number >> 4 & 3] + c[number & 15]
