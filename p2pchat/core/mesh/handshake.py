"""Handshake: proof of identity and of membership, for both ends of a connection; and certificates of hosted users.

    server -> client   hello    versions and a nonce
    client -> server   hello    its id, a nonce, its signature over T and its proof
    server -> client   welcome  the server's proof, and what shows that it is a member
    client -> server   show     what shows that the client is one: it admits the server
    server -> client   admit    the server admits the client
    decider -> other   go       this link is the one (election.py)

This file has the first three; members/admission.py decides who is admitted. TLS has proved the server's key to the
client before the first frame. T names that key and both nonces, so the signature in the client's hello is good for this
connection and no other. Both sides prove that they know the network's key. A frame goes in; out comes what it proves,
or a HandshakeError with the code of the bye. What to do about an error, and which of several links stays, is decided in
links.py and election.py.

A user whose key is not the peer's own lets the peer host it by a certificate for seven days.

Source: docs/protocol.md, "Handshake". A man in the middle with a certificate of its own is stopped by `server_id` in T.
Integration tests check that on real sockets.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import blake2b
from typing import Literal

from p2pchat.core.log import verify
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.errors import HandshakeError
from p2pchat.protocol import PROTOCOL_VERSION, Cert, Frame, Hello, PeerId, Unknown, UserId, Welcome

LINK_TAG = b"p2pchat/link/1\0"
PROOF_TAGS = {"client": b"p2pchat/invite/1 client\0", "server": b"p2pchat/invite/1 server\0"}
NONCE_BYTES = 32


def transcript(version: int, server: PeerId, client: PeerId, server_nonce: str, client_nonce: str) -> bytes:
    """Return T, the 145 bytes that both sides sign and prove; nonces are hex32."""
    named = bytes.fromhex(server + client + server_nonce + client_nonce)
    return LINK_TAG + version.to_bytes(2, "big") + named


def proof(key: str, side: Literal["client", "server"], t: bytes) -> str:
    """Return the proof (hex32) that `side` holds the network's key K (hex32)."""
    return hmac.digest(bytes.fromhex(key), PROOF_TAGS[side] + t, "sha256").hex()


def check_proof(network: NetworkCredentials, side: Literal["client", "server"], t: bytes, given: str | None) -> None:
    """Raise HandshakeError("network") unless `given` is the required proof."""
    if given is None:
        raise HandshakeError("no proof of the network's key came", "network")
    if not hmac.compare_digest(given.encode(), proof(network.key, side, t).encode()):
        raise HandshakeError("the proof is not made with this network's key", "network")


class ServerSide:
    """The accepting end. `peer` is "" until the client has proved itself, and `transcript` is b""."""

    def __init__(self, me: PeerId, network: NetworkCredentials, nonce: bytes) -> None:
        self._me = me
        self._network = network
        self._nonce = nonce.hex()
        self.peer: PeerId = ""
        self.transcript: bytes = b""

    def opening(self) -> Hello:
        """Return the first frame on the connection."""
        return Hello(v=[PROTOCOL_VERSION], nonce=self._nonce)

    def on_frame(self, frame: Frame | Unknown) -> Welcome:
        """Take the client's hello; return the answer and set `peer`.

        Raises:
            HandshakeError: version, self, identity, network; order for another frame, malformed for a server's hello.
        """
        if not isinstance(frame, Hello) or self.peer:
            raise HandshakeError("a client's hello was to come", "order")
        if not isinstance(frame.v, int):
            raise HandshakeError("hello: a client chooses one version", "malformed")
        if frame.v != PROTOCOL_VERSION:
            raise HandshakeError(f"this peer speaks version {PROTOCOL_VERSION}", "version")
        if frame.id is None or frame.sig is None:
            raise HandshakeError("hello: a client's has id and sig", "malformed")
        return self._answer(frame, frame.id, bytes.fromhex(frame.sig))

    def _answer(self, frame: Hello, client: PeerId, signature: bytes) -> Welcome:
        if client == self._me:
            raise HandshakeError("this is the same peer", "self")
        t = transcript(PROTOCOL_VERSION, self._me, client, self._nonce, frame.nonce)
        if not verify(client, signature, t):
            raise HandshakeError("the signature is not this id's for this connection", "identity")
        check_proof(self._network, "client", t, frame.proof)
        self.peer, self.transcript = client, t
        return Welcome(proof=proof(self._network.key, "server", t))


class ClientSide:
    """The dialling end. `server` is the key in the certificate of this connection.

    Raises:
        HandshakeError: On construction: `server` is not `pin` ("" takes any key), or it is our own key.
    """

    def __init__(
        self,
        me: PeerId,
        sign: Callable[[bytes], bytes],
        network: NetworkCredentials,
        *,
        server: PeerId,
        pin: PeerId,
        nonce: bytes,
    ) -> None:
        if server == me:
            raise HandshakeError("this is the same peer", "self")
        if pin and server != pin:
            raise HandshakeError("another key than the expected one answers there", "identity")
        self.server: PeerId = server
        self.peer: PeerId = ""  # set by a good welcome
        self._me = me
        self._sign = sign
        self._network = network
        self._nonce = nonce.hex()
        self.transcript: bytes = b""  # until the server's hello

    def on_frame(self, frame: Frame | Unknown) -> Hello | None:
        """Take the next frame; return the answer, or None after the welcome, when `peer` is set.

        Raises:
            HandshakeError: version, network; order for a frame that may not come now, malformed for a client's hello.
        """
        if isinstance(frame, Hello) and not self.transcript:
            return self._introduce(frame)
        if isinstance(frame, Welcome) and self.transcript and not self.peer:
            self._check_welcome(frame)
            return None
        raise HandshakeError("a server's hello, then its welcome were to come", "order")

    def _introduce(self, frame: Hello) -> Hello:
        if isinstance(frame.v, int):
            raise HandshakeError("hello: a server offers a list of versions", "malformed")
        if PROTOCOL_VERSION not in frame.v:
            raise HandshakeError(f"this peer speaks version {PROTOCOL_VERSION}", "version")
        self.transcript = transcript(PROTOCOL_VERSION, self.server, self._me, frame.nonce, self._nonce)
        return Hello(
            v=PROTOCOL_VERSION,
            nonce=self._nonce,
            id=self._me,
            sig=self._sign(self.transcript).hex(),
            proof=proof(self._network.key, "client", self.transcript),
        )

    def _check_welcome(self, frame: Welcome) -> None:
        check_proof(self._network, "server", self.transcript, frame.proof)
        self.peer = self.server


# Certificates of hosted users. Source: docs/protocol.md, "Users, peers, networks".


HOST_TAG = b"p2pchat/host/2\0"
LIFE_MS = 7 * 24 * 3600 * 1000
TOLERANCE_MS = 24 * 3600 * 1000  # clocks differ: by an hour or more where two systems start on one machine
MAX_REMEMBERED = 65_536  # places for good certificates: some times the users that one peer may host
DIGEST_BYTES = 16


def host_message(network: str, user: UserId, peer: PeerId, from_ms: int, until_ms: int) -> bytes:
    """Return the bytes that a user signs to let a peer host it in a network (hex16)."""
    return HOST_TAG + bytes.fromhex(network + user + peer) + from_ms.to_bytes(8, "big") + until_ms.to_bytes(8, "big")


def make_cert(network: str, user: UserId, sign: Callable[[bytes], bytes], peer: PeerId, now_ms: int) -> Cert:
    """Return a certificate that is valid from now on."""
    until_ms = now_ms + LIFE_MS
    return Cert(now_ms, until_ms, sign(host_message(network, user, peer, now_ms, until_ms)).hex())


def is_due(cert: Cert | None, now_ms: int) -> bool:
    """Return whether to make a new one: there is none, or half of its life is over, or the clock was set back."""
    return cert is None or not cert.from_ms <= now_ms < (cert.from_ms + cert.until_ms) // 2


def is_expired(cert: Cert, now_ms: int) -> bool:
    return now_ms > cert.until_ms + TOLERANCE_MS


class Certificates:
    """Checks certificates, and remembers good ones: those of a gateway's 10,000 users come again with each link.

    Of each a digest is kept, in a table of one piece: anybody can make up users, and objects that outlive them would
    keep the memory of all of them from being given back. A digest takes the place of another one now and then, and that
    certificate is checked again.
    """

    def __init__(self, network: str) -> None:
        self._network = network
        self._good = bytearray()  # digests, each at the place that its beginning names; made with the first one

    def fault(self, user: UserId, peer: PeerId, cert: Cert | None, now_ms: int) -> str:
        """Return why the certificate does not let `peer` host `user` now; "" when it does."""
        if user == peer:
            return ""
        if cert is None:
            return "a user without a certificate"
        if not 0 < cert.until_ms - cert.from_ms <= LIFE_MS:
            return "a certificate for longer than seven days, or for no time"
        if now_ms < cert.from_ms - TOLERANCE_MS or is_expired(cert, now_ms):
            return "a certificate that is not good now: check the clocks of both machines"
        message, sig = host_message(self._network, user, peer, cert.from_ms, cert.until_ms), bytes.fromhex(cert.sig)
        digest = blake2b(message + sig, digest_size=DIGEST_BYTES).digest()
        start = int.from_bytes(digest[:8], "big") % MAX_REMEMBERED * DIGEST_BYTES
        if self._good[start : start + DIGEST_BYTES] != digest:
            if not verify(user, sig, message):
                return "a certificate that the user did not sign for this peer"
            self._good = self._good or bytearray(MAX_REMEMBERED * DIGEST_BYTES)
            self._good[start : start + DIGEST_BYTES] = digest
        return ""
