"""The key of a cluster: its file, and what is encrypted with it.

All gateways of a cluster have the same file. It has one line, `p2pchat-cluster 1 <key>`, in hex. Keys for single
purposes are derived from it and from the name of the cluster, so two clusters with one file share nothing.

A sealed record is 12 random bytes and the output of ChaCha20-Poly1305 (RFC 8439) with the place of the record as
associated data: who runs the engine can neither read records, nor change them, nor put one in the place of another.
Names of records are HMACs, because the engine sees them. That 2^32 records sealed with random nonces are safe is the
usual bound (NIST SP 800-38D, 8.3); a gateway seals one every other second.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pchat import P2PChatError
from p2pchat.private_files import read_private, write_private

_LINE = re.compile(r"p2pchat-cluster 1 ([0-9a-f]{64})\s*", re.ASCII)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)  # part of the names of buckets and subjects
_NONCE_BYTES = 12
_PURPOSE = "p2pchat/cluster/1"


def parse_cluster_name(text: str) -> str:
    """Return the name of a cluster. Raises ValueError: it is none."""
    if not _NAME.fullmatch(text):
        raise ValueError("the name of a cluster has up to 32 small letters, digits and -, as in team-chat")
    return text


def make_key_file(path: Path) -> None:
    """Write a new key to a file that only this login can read. Raises P2PChatError: there is one, or it cannot."""
    if os.path.lexists(path):
        raise P2PChatError(f"there is a file {path} already: choose another name; a cluster has one key")
    try:
        write_private(path, f"p2pchat-cluster 1 {secrets.token_hex(32)}\n".encode())
    except OSError as error:
        raise P2PChatError(f"{path} cannot be written: {error.strerror or error}") from None


def read_key_file(path: Path) -> bytes:
    """Return the key in a file. Raises P2PChatError: it is none, or others can read it."""
    try:
        found = _LINE.fullmatch(read_private(path).decode("ascii", "replace"))
    except OSError as error:
        raise P2PChatError(f"the cluster key {path} cannot be read: {error.strerror or error}") from None
    if found is None:
        raise P2PChatError(f"{path} is no key of a cluster: `p2pchat web cluster-key FILE` makes one")
    return bytes.fromhex(found[1])


class ClusterKey:
    """The keys of one cluster.

    Args:
        secret: The 32 bytes of the key file.
    """

    def __init__(self, secret: bytes, cluster: str) -> None:
        self._secret, self._cluster = secret, cluster
        self._names = self._derive("names")
        self._ciphers: dict[str, ChaCha20Poly1305] = {}

    def _derive(self, purpose: str) -> bytes:
        info = f"{_PURPOSE}/{self._cluster}/{purpose}".encode()
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self._secret)

    def name(self, text: str) -> str:
        """Return the name under which the engine keeps what belongs to a text."""
        return hmac.new(self._names, text.encode(), hashlib.sha256).hexdigest()[:40]

    def seal(self, kind: str, place: str, content: bytes) -> bytes:
        """Return a record of one kind, encrypted for one place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher(kind).encrypt(nonce, content, place.encode())

    def open(self, kind: str, place: str, sealed: bytes) -> bytes:
        """Return the content of a sealed record. Raises ValueError: nobody with the key sealed it for this place."""
        try:
            return self._cipher(kind).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise ValueError(f"not sealed for {place} with the key of this cluster") from None

    def _cipher(self, kind: str) -> ChaCha20Poly1305:
        if kind not in self._ciphers:
            self._ciphers[kind] = ChaCha20Poly1305(self._derive(kind))
        return self._ciphers[kind]
