"""Tokens: 256 random bits that are an account to whoever has them. Kept is only what tells one when it comes again.

A hash without salt or stretching is enough for what nobody can guess, and it is looked up as it is: how long the
look-up of a hash takes tells nothing about the token.
"""

from __future__ import annotations

import hashlib
import secrets

_BYTES = 32
_MOST_CHARACTERS = 128  # a longer one is none of ours and is not hashed


def new_token() -> str:
    """Return a fresh token, 43 characters that can stand in an address or a header."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> bytes:
    """Return what is kept of a token, 32 bytes; b"" for what cannot be one."""
    if not token or len(token) > _MOST_CHARACTERS or not token.isascii():
        return b""
    return hashlib.blake2b(token.encode("ascii"), digest_size=32, person=b"p2pchat/web").digest()
