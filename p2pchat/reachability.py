"""Who answers at an endpoint, found out stage by stage: name, connection, TLS, version, network.

It is the beginning of a real link and nothing after it: the dialling side's handshake, a goodbye, the end. The far
end is shown an identity that lives for this one question, so that nobody's link is replaced and nobody hears of a
peer that comes and goes; and one that leaves the `go` to the asking side (core/mesh/link.py), which never says it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

from p2pchat.client import Client, dial
from p2pchat.config import Settings
from p2pchat.core.context import NetworkCredentials
from p2pchat.core.mesh.addressbook import split_endpoint
from p2pchat.core.mesh.handshake import NONCE_BYTES, ClientSide
from p2pchat.core.mesh.link import quoted
from p2pchat.errors import HandshakeError
from p2pchat.identity.keys import Identity, load_identity
from p2pchat.identity.names import base32
from p2pchat.identity.network import FILE_NAME as NETWORK_NAME
from p2pchat.identity.network import load_network, normal
from p2pchat.identity.profile import KEY_NAME, home_directory, profile_directory
from p2pchat.identity.tls import client_context
from p2pchat.protocol import AnyFrame, Bye, Hello, PeerId, encode

Verdict = Literal[
    "reached",  # a peer of the same network
    "self",  # the peer whose data directory was named
    "no_such_host",  # the name stands for no address
    "refused",  # the machine is there, nobody listens
    "no_answer",  # nothing comes back: switched off, a firewall, another address
    "unreachable",  # there is no way to that address from here
    "cut",  # the connection is ended before TLS is up
    "silent",  # connected, and nothing is said
    "other_program",  # something answers that is no p2pchat
    "other_version",  # p2pchat, of a version this one does not speak with
    "other_network",  # p2pchat, and the two are not of one network
    "busy",  # a member that has no room for more links
    "turned_away",  # p2pchat, which ends the talk for another reason
]

TIMEOUT = 5.0  # seconds for each stage: a lost SYN is sent again after 1 and after 3
MOST_DRAWN = 4096  # identities, to find one that leaves the `go` to us: 2 on average, 0.1 s where none is found
_BYES: dict[str, Verdict] = {"version": "other_version", "network": "other_network", "busy": "busy", "self": "self"}
_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Probed:
    """What is at an endpoint.

    Attributes:
        endpoint: As asked for.
        verdict: One stable word, see Verdict.
        text: The same for people, without an end mark; nothing in it but what is safe to show.
        address: The address that was connected to, "" when none was.
        peer_id: Whose key answered (base32), "" when no p2pchat peer showed one.
        seconds: How long the far end took to answer the proof, there and back; 0.0 unless reached.
        connect_seconds: How long the connection took, one way there and back; 0.0 when there was none.
        tls_seconds: How long the TLS handshake took behind that; 0.0 when none came about.
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
    """Find out who answers at an endpoint and whether a peer from here could link with it; nothing is kept of it.

    Args:
        endpoint: "host:port"; a bare port is on this machine.
        data: The data directory (or port) of the peer that wants to go there: its network is asked for, and it is
            recognised when it answers itself. None: the network of this login.
        timeout: Seconds for each stage.
    Raises:
        ValueError: That is no endpoint.
        P2PChatError: The key or network file cannot be used.
    """
    there = normal(endpoint)
    me, network = await asyncio.to_thread(_belongs, data)
    return await _Probe(there, me, network, timeout).run()


def _belongs(data: str | os.PathLike[str] | int | None) -> tuple[PeerId, NetworkCredentials]:
    """Return the peer id ("" when there is none) and the network; an unknown open one when there is no network."""
    directory = profile_directory(data) if isinstance(data, int) else None if data is None else Path(data)
    me = ""
    found = None
    if directory is not None:
        try:
            me = load_identity(directory / KEY_NAME).peer_id
        except FileNotFoundError:
            pass  # a profile to be: nobody there can be this peer itself
        found = load_network(directory / NETWORK_NAME)
    found = found or load_network(home_directory() / NETWORK_NAME)
    return me, NetworkCredentials("", None) if found is None else NetworkCredentials(found.id, found.key)


class _Ended(Exception):
    """The question is answered."""

    def __init__(self, verdict: Verdict, text: str) -> None:
        super().__init__(text)
        self.verdict: Verdict = verdict


class _Probe:
    def __init__(self, endpoint: str, me: PeerId, network: NetworkCredentials, timeout: float) -> None:
        self._endpoint = endpoint
        self._host, self._port = split_endpoint(endpoint)
        self._me = me
        self._network = network
        self._timeout = timeout
        self._address = ""
        self._server: PeerId = ""
        self._heard: asyncio.Queue[AnyFrame | None] = asyncio.Queue()  # None: no more will come
        self._fault = ""
        self._connected = self._secured = 0.0

    async def run(self) -> Probed:
        seconds = 0.0
        try:
            seconds = await self._talk(await self._connect())
            verdict: Verdict = "reached"
            text = "a peer of this network answers"
        except _Ended as ended:
            verdict, text = ended.verdict, str(ended)
        peer_id = base32(self._server) if self._server else ""
        return Probed(self._endpoint, verdict, text, self._address, peer_id, seconds, self._connected, self._secured)

    async def _connect(self) -> Client:
        """Look the name up, connect, do the TLS handshake."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise _Ended("no_such_host", f"no name server says in time what {self._host} stands for") from None
        except (OSError, UnicodeError):
            raise _Ended("no_such_host", f"{self._host} stands for no address") from None
        dialled_at = perf_counter()  # the clocks of some loops have whole milliseconds
        try:
            reader, writer = await dial(self._host, self._port, timeout=self._timeout)
        except OSError as error:
            raise _not_connected(error) from None
        connected_at = perf_counter()
        self._connected = connected_at - dialled_at
        peername = writer.get_extra_info("peername")
        self._address = str(peername[0]) if isinstance(peername, tuple) and peername else self._host
        client = self._client(reader, writer)
        try:
            self._server = await client.handshake(self._timeout)
        except HandshakeError:
            raise _Ended("other_program", "something answers there that is no p2pchat peer") from None
        except TimeoutError:
            raise _Ended("silent", "something takes the connection and says nothing") from None
        except OSError:
            raise _Ended("cut", "the connection is taken and ended at once") from None
        self._secured = perf_counter() - connected_at
        return client

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Client:
        return Client(
            0,
            reader,
            writer,
            tls_context=client_context(),
            server_side=False,
            settings=Settings(),
            on_frames=self._got,
            on_fault=self._faulted,
            on_down=lambda link, reason: self._heard.put_nowait(None),
            on_full=lambda link: None,
            on_drained=lambda link: None,
        )

    def _got(self, link: int, frames: list[AnyFrame]) -> None:
        for frame in frames:
            self._heard.put_nowait(frame)

    def _faulted(self, link: int, code: str, text: str) -> None:
        self._fault = code
        self._heard.put_nowait(None)

    async def _talk(self, client: Client) -> float:
        """Prove to be a member, and have the far end prove it; return the seconds of that one round trip."""
        try:
            if self._server == self._me:
                raise _Ended("self", "this peer itself answers")
            identity = self._passing_identity()
            side = ClientSide(
                identity.peer_id,
                identity.sign,
                self._network,
                server=self._server,
                pin="",
                nonce=secrets.token_bytes(NONCE_BYTES),
            )
            client.start()
            answer = self._step(side, await self._next())
            assert answer is not None  # ClientSide answers the first frame, or raises
            asked_at = perf_counter()
            client.send(encode(answer))
            self._step(side, await self._next())
            return perf_counter() - asked_at
        finally:
            await client.close(encode(Bye("left")))

    def _passing_identity(self) -> Identity:
        """Return a fresh identity, the smaller of the two if that can be had: then the far end waits for our `go`."""
        for _ in range(MOST_DRAWN):
            identity = Identity.generate()
            if identity.peer_id < self._server:
                break
        return identity

    async def _next(self) -> AnyFrame:
        try:
            async with asyncio.timeout(self._timeout):
                frame = await self._heard.get()
        except TimeoutError:
            raise _Ended("silent", "TLS is up there, and then nothing is said") from None
        if isinstance(frame, Bye):
            raise _told_off(frame)
        if frame is None and self._fault:
            raise _Ended("other_program", "something answers there that does not speak p2pchat's protocol")
        if frame is None:
            raise _Ended("cut", "the connection is ended before anything was said")
        return frame

    def _step(self, side: ClientSide, frame: AnyFrame) -> Hello | None:
        try:
            return side.on_frame(frame)
        except HandshakeError as error:
            verdict = _BYES.get(error.code, "turned_away")
            raise _Ended(verdict, _TEXTS.get(verdict, f"the handshake fails: {error}")) from None


_TEXTS: dict[str, str] = {
    "other_version": "a p2pchat peer of another version answers",
    "other_network": "a p2pchat peer of another network answers",
    "busy": "a peer of this network answers, and has as many links as it takes",
    "self": "this peer itself answers",
}


def _told_off(bye: Bye) -> _Ended:
    verdict = _BYES.get(bye.code, "turned_away")
    return _Ended(verdict, _TEXTS.get(verdict, f"a p2pchat peer answers and ends the talk ({quoted(bye.code)})"))


def _not_connected(error: OSError) -> _Ended:
    """Say why there is no connection."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return _Ended("no_answer", "nothing comes back from there")
    if isinstance(error, ConnectionRefusedError):
        return _Ended("refused", "the machine answers, and nobody listens on that port")
    if error.errno in _NO_WAY:
        return _Ended("unreachable", "there is no way to that address from here")
    return _Ended("unreachable", f"it cannot be connected to: {error.strerror or type(error).__name__}")
