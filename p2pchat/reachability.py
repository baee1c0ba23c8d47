"""Reachability of an endpoint, probed stage by stage: name, connection, TLS, version, network.

A probe is the beginning of a real link: it dials, does the handshake, says goodbye and closes. It uses an identity made
for this one probe, so that no existing link is replaced. The identity is chosen so that the far end waits for the
probe's `go` (core/mesh/peer_link.py), which it never sends; so no peer is reported as joining and
leaving.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from p2pchat.addresses import parse_endpoint, split_endpoint
from p2pchat.client import Client
from p2pchat.core.mesh.handshake import NONCE_BYTES, ClientSide
from p2pchat.core.mesh.peer_link import quoted
from p2pchat.core.names import base32
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.errors import HandshakeError
from p2pchat.identity.home import home_directory
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import FILE_NAME as NETWORK_NAME
from p2pchat.identity.network import Network, load_network
from p2pchat.identity.profile import KEY_NAME, data_directory, home_of
from p2pchat.identity.tls_pipe import client_context
from p2pchat.protocol import Admit, AnyFrame, Bye, Hello, Membership, PeerId, Show, encode
from p2pchat.runtime.connection_manager import dial, dial_failure, host_of
from p2pchat.settings import Settings
from p2pchat.threads import in_thread, look_up

Verdict = Literal[
    "reached",  # a peer of the same network
    "self",  # the peer whose data directory was named
    "no_such_host",  # the name has no address
    "refused",  # the machine answers, and no program listens
    "no_answer",  # nothing comes back: it is switched off, behind a firewall, or has another address
    "unreachable",  # there is no route to the address
    "cut",  # the connection is closed before TLS is up
    "silent",  # the far end accepts the connection and sends nothing
    "other_program",  # the program there is no p2pchat peer
    "other_version",  # a p2pchat peer of an incompatible version
    "other_network",  # a p2pchat peer of another network
    "busy",  # a peer of this network that accepts no more links
    "turned_away",  # a p2pchat peer that closes the link for another reason
]

TIMEOUT = 5.0  # seconds for each stage: a lost SYN is repeated after 1 and after 3
MAX_IDENTITIES = 4096  # generated to find one below the far end's: 2 on average, 0.1 s if none is found
# Reasons that either side gives for ending a handshake, and what they say of the far end.
_REFUSALS: dict[str, tuple[Verdict, str]] = {
    "version": ("other_version", "a p2pchat peer of another version answers"),
    "network": ("other_network", "a p2pchat peer of another network answers"),
    "busy": ("busy", "a peer of this network answers, but accepts no more links"),
    "self": ("self", "this peer itself answers"),
}
# Why there was no connection, by the words of connection_manager.py.
_NOT_CONNECTED: dict[str, tuple[Verdict, str]] = {
    "no_answer": ("no_answer", "nothing comes back from there"),
    "nobody": ("refused", "the machine answers, but no program listens on that port"),
    "no_way": ("unreachable", "there is no route to that address"),
}


@dataclass(frozen=True)
class Probed:
    """The result of a probe.

    Attributes:
        endpoint: The endpoint probed.
        verdict: A stable word, see Verdict.
        text: The verdict as a sentence without a full stop, safe to show.
        address: The address connected to; "" for none.
        peer_id: The id (base32) of the peer that answered; "" if no p2pchat peer did.
        seconds: The time the far end took to answer the proof, a round trip; 0.0 unless reached.
        connect_seconds: The time the connection took, a round trip; 0.0 if there was none.
        tls_seconds: The time the TLS handshake took after that; 0.0 if it failed.
    """

    endpoint: str
    verdict: Verdict
    text: str
    address: str = ""
    peer_id: str = ""
    seconds: float = 0.0
    connect_seconds: float = 0.0
    tls_seconds: float = 0.0


async def probe(
    endpoint: str | int, *, data: str | os.PathLike[str] | int | None = None, timeout: float = TIMEOUT
) -> Probed:
    """Return who answers at an endpoint, and whether a peer from here could link with it. Nothing is stored.

    Args:
        endpoint: "host:port"; a bare port is on this machine.
        data: The data directory (or port) of the peer that would dial: its network is probed for, and the peer is
            recognised if it answers itself. None for the network of this login.
        timeout: Seconds for each stage.
    Raises:
        ValueError: The endpoint is invalid.
        P2PChatError: The key or network file cannot be used.
    """
    there = parse_endpoint(endpoint)
    me, network = await in_thread(_identity_and_network, data)
    return await _Probe(there, me, network, timeout).run()


def _identity_and_network(data: str | os.PathLike[str] | int | None) -> tuple[PeerId, Network]:
    """Return the peer id ("" without one) and the network; without one, a network that nobody else is in."""
    me = ""
    found = None
    if data is not None:
        directory = data_directory(data)
        try:
            me = load_identity(directory / KEY_NAME).peer_id
        except FileNotFoundError:
            pass  # the profile does not exist yet, so the probe cannot reach its peer
        found = load_network(directory / NETWORK_NAME)
        found = found or load_network(home_of(directory) / NETWORK_NAME)
    return me, found or load_network(home_directory() / NETWORK_NAME) or Network.found()


class _ProbeEnded(Exception):
    """The probe has a verdict other than reached."""

    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict: Verdict = verdict


class _Probe:
    def __init__(self, endpoint: str, me: PeerId, network: Network, timeout: float) -> None:
        self._endpoint = endpoint
        self._host, self._port = split_endpoint(endpoint)
        self._me = me
        self._network = network
        self._timeout = timeout
        self._address = ""
        self._server: PeerId = ""
        self._frames: asyncio.Queue[AnyFrame | None] = asyncio.Queue()  # None: no more will come
        self._fault = ""
        self._connected = self._secured = 0.0

    async def run(self) -> Probed:
        seconds = 0.0
        try:
            seconds = await self._handshake(await self._connect())
            verdict: Verdict = "reached"
            text = "a peer of this network answers"
        except _ProbeEnded as ended:
            verdict, text = ended.verdict, str(ended)
        peer_id = base32(self._server) if self._server else ""
        return Probed(self._endpoint, verdict, text, self._address, peer_id, seconds, self._connected, self._secured)

    async def _connect(self) -> Client:
        """Resolve the name, connect, and do the TLS handshake."""
        try:
            async with asyncio.timeout(self._timeout):
                await look_up(self._host, self._port)
        except TimeoutError:
            raise _ProbeEnded("no_such_host", f"no name server answers in time for {self._host}") from None
        except (OSError, UnicodeError):
            raise _ProbeEnded("no_such_host", f"{self._host} has no address") from None
        dialled_at = perf_counter()  # the clocks of some loops have whole milliseconds
        try:
            reader, writer = await dial(self._host, self._port, timeout=self._timeout)
        except OSError as error:
            reason, code = dial_failure(error)
            otherwise: tuple[Verdict, str] = ("unreachable", f"it cannot be reached: {reason}")
            raise _ProbeEnded(*_NOT_CONNECTED.get(code, otherwise)) from None
        connected_at = perf_counter()
        self._connected = connected_at - dialled_at
        self._address = host_of(writer, self._host)
        client = Client(
            0,
            reader,
            writer,
            tls_context=client_context(),
            server_side=False,
            settings=Settings(),
            on_frames=self._on_frames,
            on_fault=self._on_fault,
            on_down=lambda link, reason: self._frames.put_nowait(None),
            on_full=lambda link: None,
            on_drained=lambda link, was_full: None,
            on_bytes=lambda link, waiting: client.decode(),
        )
        try:
            self._server = await client.handshake(self._timeout)
        except HandshakeError:
            raise _ProbeEnded("other_program", "the program there is not a p2pchat peer") from None
        except TimeoutError:
            raise _ProbeEnded("silent", "the connection is accepted, but nothing is sent") from None
        except OSError:
            raise _ProbeEnded("cut", "the connection is accepted and closed at once") from None
        self._secured = perf_counter() - connected_at
        return client

    def _on_frames(self, link: int, frames: list[AnyFrame]) -> None:
        for frame in frames:
            self._frames.put_nowait(frame)

    def _on_fault(self, link: int, code: str, text: str) -> None:
        self._fault = code
        self._frames.put_nowait(None)

    async def _handshake(self, client: Client) -> float:
        """Do the handshake of both sides; return the seconds of its round trip."""
        try:
            if self._server == self._me:
                raise _ProbeEnded(*_REFUSALS["self"])
            identity = self._temporary_identity()
            side = ClientSide(
                identity.peer_id,
                identity.sign,
                NetworkCredentials(self._network.id, self._network.key),
                server=self._server,
                pin="",
                nonce=secrets.token_bytes(NONCE_BYTES),
            )
            client.start()
            answer = self._step(side, await self._next())
            assert answer is not None  # ClientSide answers the first frame, or raises an error
            asked_at = perf_counter()
            client.send(encode(answer))
            self._step(side, await self._next())
            seconds = perf_counter() - asked_at
            await self._ask_for_place(client, identity.peer_id)
            return seconds
        finally:
            await client.close(encode(Bye("left")))

    def _temporary_identity(self) -> Identity:
        """Return a new identity, if possible with an id below the far end's, which then waits for our `go`."""
        for _ in range(MAX_IDENTITIES):
            identity = Identity.generate()
            if identity.peer_id < self._server:
                break
        return identity

    async def _next(self) -> AnyFrame:
        try:
            async with asyncio.timeout(self._timeout):
                frame = await self._frames.get()
        except TimeoutError:
            raise _ProbeEnded("silent", "TLS works, but then nothing is sent") from None
        if isinstance(frame, Bye):
            raise _refusal(frame.code, f"a p2pchat peer answers and closes the link ({quoted(frame.code)})")
        if frame is None and self._fault:
            raise _ProbeEnded("other_program", "the program there does not speak p2pchat's protocol")
        if frame is None:
            raise _ProbeEnded("cut", "the connection is closed before anything was sent")
        return frame

    def _step(self, side: ClientSide, frame: AnyFrame) -> Hello | None:
        try:
            return side.on_frame(frame)
        except HandshakeError as error:
            raise _refusal(error.code, f"the handshake failed: {error}") from None

    async def _ask_for_place(self, client: Client, user: PeerId) -> None:
        """Show who answers for the probe, if somebody does: whom it admits a peer tells that it has no place."""
        guest = self._network.guest(user)
        if guest is None and not self._network.name:
            return
        client.send(encode(Show(Membership(guest=guest))))
        try:
            frame = await self._next()
        except _ProbeEnded as ended:
            if ended.verdict == "busy":
                raise
            return
        if isinstance(frame, Admit) and frame.peers:
            raise _refusal("busy", "")


def _refusal(code: str, otherwise: str) -> _ProbeEnded:
    """Return the verdict on a handshake that either side ended; `otherwise` is the text for other reasons."""
    return _ProbeEnded(*_REFUSALS.get(code, ("turned_away", otherwise)))
