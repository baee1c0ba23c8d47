"""Guests: users for whom a member answers.

A login is one member, and each of its profiles and programs is a guest of it, as accounts are of their gateway. The
member signs a certificate for each:

    [M, signature of M over TAG || N || U]

It has no end: a member that must not answer for a user any more removes that user, or is removed itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from p2pchat.core.log import verify
from p2pchat.protocol import GuestCertificate, UserId

GUEST_TAG = b"p2pchat/guest/1\0"


def make_guest(network: str, member: UserId, sign: Callable[[bytes], bytes], user: UserId) -> GuestCertificate:
    """Return a certificate by which a member answers for a user.

    Args:
        network: The id of the network, N (hex).
        sign: Signs with the key of the member.
    """
    return GuestCertificate(member, sign(_signed(network, user)).hex())


@lru_cache(maxsize=1024)  # a peer shows the same one in its handshake, in its record and in each log
def is_guest(network: str, user: UserId, certificate: GuestCertificate) -> bool:
    """Return whether the member in a certificate signed it for this user and network."""
    return verify(certificate.member, bytes.fromhex(certificate.sig), _signed(network, user))


def _signed(network: str, user: UserId) -> bytes:
    return GUEST_TAG + bytes.fromhex(network + user)
