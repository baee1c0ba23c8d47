"""Invites, as people paste and scan them.

An invite is one line of text that admits people to a network, and says where its maker is:

    p2pchat:<base32 of version, maker, N, K, id, uses, until, secret, checksum>@host:port,...

The version is 3. `uses` is how many members it admits, `until` when it ends, in UTC seconds. The maker computes the
secret from these terms (members/admission.py). The checksum detects typing errors only: anyone who has an invite can
read the network's key, and use the invite. Case, blanks and line breaks are ignored, so that it survives mail and
dictation. Source: docs/protocol.md, "Invites".
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from p2pchat.addresses import normal_endpoint
from p2pchat.core.members.admission import SECRET_BYTES, invite_secret
from p2pchat.core.node_context import Invitation
from p2pchat.errors import InviteError
from p2pchat.identity.identity import Identity
from p2pchat.identity.network import MAX_ENDPOINTS, PREFIX, Network
from p2pchat.protocol import MAX_USES, PeerId

_SUM_TAG = b"p2pchat/invite/3 sum\0"
_SUM_BYTES = 4  # one typing error in four thousand million passes
_VERSION = 3
MAX_DAYS = 366
_ID_BYTES, _UNTIL_BYTES = 4, 5
_BODY_BYTES = 1 + 32 + 16 + 32 + _ID_BYTES + 1 + _UNTIL_BYTES + SECRET_BYTES  # before the checksum


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite.

    Attributes:
        network: The network: its id, and its key (hex), which is a secret.
        invitation: Who made it, its terms, and its secret.
        endpoints: Where its maker listens, each as "host:port"; at least one.
    """

    network: Network
    invitation: Invitation
    endpoints: tuple[str, ...]

    @property
    def peer_id(self) -> PeerId:
        """The key (hex) of the peer that made it, and admits with it."""
        return self.invitation.maker


INVITES_KEY = b"p2pchat/invites/1"  # the purpose of the key that secrets are made of
DAYS = 7.0  # for which an invite is good


def make_invitation(network: Network, peer: Identity, uses: int = 1, days: float = DAYS) -> Invitation:
    """Return a new invitation by the peer with this key.

    Args:
        uses: How many members it admits, 1 to 64.
        days: For how long it is good.
    Raises:
        ValueError: The number or the time is out of range.
    """
    if not 1 <= uses <= MAX_USES:
        raise ValueError(f"an invite admits 1 to {MAX_USES} people")
    if not 0 < days <= MAX_DAYS:
        raise ValueError(f"an invite is good for at most {MAX_DAYS} days")
    return repeat_invitation(network, peer, secrets.token_hex(_ID_BYTES), uses, int(time.time() + days * 24 * 3600))


def repeat_invitation(network: Network, peer: Identity, id: str, uses: int, until: int) -> Invitation:
    """Return an invitation that the peer with this key made with these terms."""
    secret = invite_secret(peer.derive(INVITES_KEY), network.id, id, uses, until)
    return Invitation(peer.peer_id, id, uses, until, secret)


def encode_invite(network: Network, invitation: Invitation, endpoints: Sequence[str]) -> str:
    """Return an invite as one line.

    Raises:
        ValueError: No endpoint, or a malformed one.
    """
    terms = bytes.fromhex(invitation.id) + bytes([invitation.uses]) + invitation.until.to_bytes(_UNTIL_BYTES, "big")
    body = bytes([_VERSION]) + bytes.fromhex(invitation.maker + network.id + network.key) + terms + invitation.secret
    code = base64.b32encode(body + _checksum(body)).decode().rstrip("=")
    places = ",".join(normal_endpoint(endpoint) for endpoint in endpoints)
    if not places:
        raise ValueError("an invite needs at least one address where somebody answers")
    return f"{PREFIX}{code}@{places}"


def parse_invite(text: str) -> Invite:
    """Read an invite as people paste it.

    Raises:
        InviteError: It is not an invite, or has a typing error; the text says what to do.
    """
    squeezed = "".join(text.split()).lower()
    if not squeezed.startswith(PREFIX):
        raise InviteError(
            f"this is no invite: one begins with {PREFIX!r}; paste it whole (a device's: `p2pchat device join`)"
        )
    code, _, places = squeezed[len(PREFIX) :].partition("@")
    body = _decode(code)
    network = Network(body[33:49].hex(), body[49:81].hex())
    terms, secret = body[81:-SECRET_BYTES], body[-SECRET_BYTES:]
    id, uses, until = terms[:_ID_BYTES].hex(), terms[_ID_BYTES], int.from_bytes(terms[_ID_BYTES + 1 :], "big")
    if not 1 <= uses <= MAX_USES:
        raise InviteError(f"the invite admits {uses} people, and one admits 1 to {MAX_USES}: ask for another one")
    return Invite(network, Invitation(body[1:33].hex(), id, uses, until, secret), _endpoints(places))


def _decode(code: str) -> bytes:
    """Return version, ids and key, after checking the checksum."""
    wrong = sorted(set(code) - set("abcdefghijklmnopqrstuvwxyz234567"))
    if wrong:
        raise InviteError(f"the invite has a typing error: {wrong[0]!r} does not occur in one; copy it again")
    try:
        raw = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
    except binascii.Error:
        raw = b""
    body, checksum = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
    if body and body[0] > _VERSION and checksum == _checksum(body):
        raise InviteError(f"the invite has version {body[0]}, this program knows {_VERSION}: a newer p2pchat is needed")
    if not body or body[0] != _VERSION:
        raise InviteError("the invite is damaged at its beginning or end: copy it again, whole")
    if len(body) != _BODY_BYTES:
        what = "incomplete" if len(body) < _BODY_BYTES else "too long"
        raise InviteError(f"the invite is {what}: copy it again, from {PREFIX!r} to the end")
    if checksum != _checksum(body) or base64.b32encode(raw).decode().rstrip("=") != code.upper():
        raise InviteError("the invite has a typing error (its checksum is wrong): copy it again")
    return body


def _checksum(body: bytes) -> bytes:
    return blake2b(_SUM_TAG + body, digest_size=32).digest()[:_SUM_BYTES]


def _endpoints(places: str) -> tuple[str, ...]:
    listed = [place for place in places.split(",") if place]
    if not listed:
        raise InviteError("the invite has no address after an @: copy it again, to the end")
    if len(listed) > MAX_ENDPOINTS:
        raise InviteError(f"the invite names {len(listed)} addresses, at most {MAX_ENDPOINTS} make sense")
    try:
        return tuple(dict.fromkeys(normal_endpoint(place) for place in listed))
    except ValueError as error:
        raise InviteError(f"the invite has a bad address after the @: {error}; copy it again") from None
