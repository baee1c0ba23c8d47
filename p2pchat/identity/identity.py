"""Identity of a peer: an Ed25519 key pair. The public key, as lower-case hex, is the peer id.

The secret key is stored in a private file (private_files.py) as PKCS#8 PEM, the format of `openssl genpkey -algorithm
ed25519`. A temporary profile keeps it in memory only. It leaves an Identity as signatures, and as PEM for the TLS
library. A repr never shows it.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pchat.errors import P2PChatError
from p2pchat.private_files import read_private, write_private
from p2pchat.protocol import PeerId


class Identity:
    """A key pair: `peer_id` is public, `sign` uses the secret key."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.peer_id: PeerId = private_key.public_key().public_bytes_raw().hex()

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity, in memory only."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """Return the identity of a 32-byte secret seed (RFC 8032). Tests and their vectors use fixed seeds."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature of `data`, which must begin with a tag of its purpose."""
        return self._private_key.sign(data)

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 secret bytes for another purpose, by HKDF (RFC 5869). They say nothing about the secret key."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), 32, salt=None, info=purpose).derive(self._private_key.private_bytes_raw())

    @property
    def private_key(self) -> Ed25519PrivateKey:
        """The secret key, for making the certificate only."""
        return self._private_key

    def to_pem(self) -> bytes:
        """Return the secret key as unencrypted PKCS#8 PEM. Anyone who gets it can act as this peer."""
        from cryptography.hazmat.primitives import serialization

        return self._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return f"<Identity {self.peer_id[:16]}>"

    def __reduce__(self) -> str:
        raise TypeError("an Identity cannot be pickled: it holds a secret")


def load_identity(path: Path) -> Identity:
    """Read an identity from a key file.

    Raises:
        FileNotFoundError: There is no such file.
        P2PChatError: Others can read it, or it holds no Ed25519 private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = read_private(path)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError means that it is encrypted
        raise P2PChatError(
            f"{path} holds no usable private key (Ed25519, PEM, without a passphrase): "
            "restore it from a backup, or move it away to begin with a new identity"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise P2PChatError(f"{path} holds a key of another kind, Ed25519 is needed: name another key file")
    return Identity(key)


def load_or_create_identity(path: Path) -> Identity:
    """Read the identity at `path`, or make one there. The caller holds the lock of the directory.

    Raises:
        P2PChatError: As load_identity(), or the file cannot be written.
    """
    try:
        return load_identity(path)
    except FileNotFoundError:
        pass
    identity = Identity.generate()
    try:
        write_private(path, identity.to_pem())
    except OSError as error:
        raise P2PChatError(f"cannot write the key file {path}: {error.strerror or error}") from error
    return identity
