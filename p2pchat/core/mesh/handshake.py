"""Who is at the other end of a connection: the proof of identity and of membership, for both sides.

    server -> client   hello    versions and a nonce
    client -> server   hello    its id, a nonce, its signature over T and its proof
    server -> client   welcome  the server's proof; in an open network the network's id

TLS has proved the server's key to the client before the first frame; T names that key and both nonces, so the one
signature in the client's hello holds for this connection and for no other. A network with a key asks for the proof
of either side; an open one takes whoever comes. Which of several links to a peer stays is election.py's matter, what
to do about a refusal links.py's: here a frame goes in, and what it proves or a HandshakeError with the code of the
bye comes out.

Source: docs/protocol.md, "Handshake". A man in the middle with a certificate of its own is stopped by `server_id` in
T; that it stays so on real sockets is the integration tests' matter.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Literal

from p2pchat.core.hosted import Network
from p2pchat.core.log import verify
from p2pchat.errors import HandshakeError
from p2pchat.protocol import PROTOCOL_VERSION, Frame, Hello, PeerId, Unknown, Welcome

LINK_TAG = b"p2pchat/link/1\0"
PROOF_TAGS = {"client": b"p2pchat/invite/1 client\0", "server": b"p2pchat/invite/1 server\0"}
NONCE_BYTES = 32


def transcript(version: int, server: PeerId, client: PeerId, server_nonce: str, client_nonce: str) -> bytes:
    """Return T, the 145 bytes both sides sign and prove over; nonces are hex32."""
    named = bytes.fromhex(server + client + server_nonce + client_nonce)
    return LINK_TAG + version.to_bytes(2, "big") + named


def proof(key: str, side: Literal["client", "server"], t: bytes) -> str:
    """Return the proof (hex32) that `side` holds the network's key K (hex32)."""
    return hmac.digest(bytes.fromhex(key), PROOF_TAGS[side] + t, "sha256").hex()


def check_proof(network: Network, side: Literal["client", "server"], t: bytes, given: str | None) -> None:
    """Raise HandshakeError("network") unless `given` proves what this network asks for; an open one asks nothing."""
    if network.key is None:
        return
    if given is None:
        raise HandshakeError("this network has a key, and no proof of it came", "network")
    if not hmac.compare_digest(given.encode(), proof(network.key, side, t).encode()):
        raise HandshakeError("the proof is not made with this network's key", "network")


class ServerSide:
    """The accepting end. `peer` is "" until the client has proved who it is."""

    __slots__ = ("_me", "_network", "_nonce", "peer")

    def __init__(self, me: PeerId, network: Network, nonce: bytes) -> None:
        self._me = me
        self._network = network
        self._nonce = nonce.hex()
        self.peer: PeerId = ""

    def opening(self) -> Hello:
        """Return the first frame on the connection."""
        return Hello(v=[PROTOCOL_VERSION], nonce=self._nonce)

    def got(self, frame: Frame | Unknown) -> Welcome:
        """Take the client's hello and return the answer; `peer` is set then.

        Raises:
            HandshakeError: version, self, identity, network; order for any other frame, malformed for a server's hello.
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
        if not self._network.id:
            raise HandshakeError("this peer has not joined a network yet", "network")
        self.peer = client
        if self._network.key is None:
            return Welcome(net=self._network.id)
        return Welcome(proof=proof(self._network.key, "server", t))


class ClientSide:
    """The dialling end, talking to the owner of `server`, the key in this connection's certificate.

    Raises:
        HandshakeError: On construction, before anything is sent: another key than `pin` ("" takes any), or our own.
    """

    __slots__ = ("_me", "_network", "_nonce", "_sign", "_t", "found", "peer", "server")

    def __init__(
        self,
        me: PeerId,
        sign: Callable[[bytes], bytes],
        network: Network,
        *,
        server: PeerId,
        pin: PeerId,
        nonce: bytes,
    ) -> None:
        if server == me:
            raise HandshakeError("this is the same peer", "self")
        if pin and server != pin:
            raise HandshakeError("another key than the expected one answers there", "identity")
        self.server = server
        self.peer: PeerId = ""  # set when the welcome was good
        self.found = ""  # the network's id as the welcome told it, when we had none
        self._me = me
        self._sign = sign
        self._network = network
        self._nonce = nonce.hex()
        self._t = b""  # b"" until the server's hello

    def got(self, frame: Frame | Unknown) -> Hello | None:
        """Take the next frame; return what to answer, None after the welcome, when `peer` is set.

        Raises:
            HandshakeError: version, network; order for a frame that may not come now, malformed for a client's hello.
        """
        if isinstance(frame, Hello) and not self._t:
            return self._introduce(frame)
        if isinstance(frame, Welcome) and self._t and not self.peer:
            self._check_welcome(frame)
            return None
        raise HandshakeError("a server's hello, then its welcome were to come", "order")

    def _introduce(self, frame: Hello) -> Hello:
        if isinstance(frame.v, int):
            raise HandshakeError("hello: a server offers a list of versions", "malformed")
        if PROTOCOL_VERSION not in frame.v:
            raise HandshakeError(f"this peer speaks version {PROTOCOL_VERSION}", "version")
        self._t = transcript(PROTOCOL_VERSION, self.server, self._me, frame.nonce, self._nonce)
        key = self._network.key
        return Hello(
            v=PROTOCOL_VERSION,
            nonce=self._nonce,
            id=self._me,
            sig=self._sign(self._t).hex(),
            proof=None if key is None else proof(key, "client", self._t),
        )

    def _check_welcome(self, frame: Welcome) -> None:
        check_proof(self._network, "server", self._t, frame.proof)
        if self._network.key is None:
            self._check_open(frame.net)
        self.peer = self.server

    def _check_open(self, told: str | None) -> None:
        if told is None:
            raise HandshakeError("an open network's welcome names the network", "network")
        if self._network.id and told != self._network.id:
            raise HandshakeError("that is another open network", "network")
        if not self._network.id:
            self.found = told
