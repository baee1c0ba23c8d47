"""A mesh of real peers in one event loop over in-memory pipes, to test programs with faults of a network.

    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        net.partition([ada], [bob])
        receipt = await ada.send("bob", "are you there?")
        net.heal()
        await receipt.delivered(timeout=5)

Everything is production code, TLS included, except sockets (PipeNetwork) and the disk. Each peer has a storage in
memory that outlives a crash, so a restarted peer finds its data. Redials and grace times are short.

The peers are those of one login, so the network has one member, its founder. With `mesh(..., logins=True)` each is of a
login of its own: the first founded the network, and the others joined it with invites of the first, so they are members
that can be expelled.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations
from types import TracebackType
from typing import Self

from p2pchat.client import Streams
from p2pchat.core.log import NO_SUM
from p2pchat.core.node import Node
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.errors import P2PChatError, PortInUse
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import make_invitation
from p2pchat.identity.network import Network
from p2pchat.peer import TCPPeer
from p2pchat.peer_resources import PeerResources, contexts
from p2pchat.runtime.buffered_transport import BufferedTransport, hand_over
from p2pchat.server import Server
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage

QUICK = Settings(
    redial_most=0.2, redial_never_reached_most=0.2, left_grace=0.2, digest_every=1.0, peers_told_after=0.01
)
SETTLE_TIMEOUT = 30.0  # seconds
SETTLED_CHECK_EVERY = 0.005  # seconds between two checks
SETTLED_CHECKS = 3  # checks in a row that must pass: work handed to the next turn of the loop shows in none of them


class _Disk(TemporaryStorage):
    """The storage of a peer, which may be restarted on it; it ends with the mesh."""

    @property
    def is_volatile(self) -> bool:
        return False  # it stands for a disk

    def close(self) -> None:
        """Keep everything."""


@dataclass(slots=True)
class _Host:
    """A host of the mesh: the parts of a peer that outlive a crash.

    Attributes:
        member: The key of the member that answers for it; None: that of the founder.
    """

    name: str
    identity: Identity
    member: Identity | None = None
    storage: TemporaryStorage = field(default_factory=_Disk)
    port: int = 0


class Mesh:
    """Peers linked with each other. `async with` starts and closes them.

    Attributes:
        peers: The peers in the order of the names. A restarted peer replaces the crashed one.
        network: The pipes.
        membership: The network id and key that all share, for peers made in other ways.
    """

    def __init__(self, *names: str, settings: Settings = QUICK, logins: bool = False) -> None:
        self._logins = logins
        self._hosts = [self._host_of(name) for name in names]
        self._settings = settings
        self.membership: Network = Network.found()
        self.network: PipeNetwork = PipeNetwork()
        self.peers: list[TCPPeer] = []

    async def __aenter__(self) -> Self:
        try:
            for host in self._hosts:
                endpoints = [peer.endpoint for peer in self.peers[:1]]  # one is enough: peers exchange addresses
                self.peers.append(await self._start(host, endpoints))
            await self.settle()
        except BaseException:  # also when cancelled: close the peers that started
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(peer.aclose() for peer in self.peers))

    async def add(self, name: str) -> TCPPeer:
        """Start one more peer, linked with the first. The others find it."""
        host = self._host_of(name)
        self._hosts.append(host)
        self.peers.append(await self._start(host, [peer.endpoint for peer in self.peers[:1]]))
        return self.peers[-1]

    def _host_of(self, name: str) -> _Host:
        return _Host(name, Identity.generate(), Identity.generate() if self._logins else None)

    async def _start(self, host: _Host, endpoints: Sequence[str]) -> TCPPeer:
        peer = TCPPeer(host.port, *endpoints, name=host.name, settings=self._settings)
        peer._lifecycle.run_in(lambda: self._home(host), self.network.transport(host.name))
        await peer.start()
        host.port = peer.port
        return peer

    def _home(self, host: _Host) -> PeerResources:
        server, client = contexts(host.identity)
        return PeerResources(host.identity, self._network_of(host), host.storage, server, client)

    def _network_of(self, host: _Host) -> Network:
        """Return the network as a host knows it: that of its founder, or as it was joined with an invite."""
        first = self._hosts[0]
        if host.member is None or host is first:
            return self.membership
        invitation = make_invitation(self.membership, first.identity)
        return replace(self.membership, member=host.member, invitation=invitation)

    # Faults

    def separate(self, one: TCPPeer, other: TCPPeer) -> None:
        """Keep two peers from connecting with each other until heal(). Their links break; others may carry new ones."""
        self.network.separate(self._host(one).name, self._host(other).name)

    def partition(self, *groups: Sequence[TCPPeer]) -> None:
        """Disconnect groups from each other. Peers in no group form one together. Links between groups break now."""
        self.network.partition([[self._host(peer).name for peer in group] for group in groups])

    def heal(self) -> None:
        """Reconnect all groups. The peers redial by themselves."""
        self.network.heal()

    async def crash(self, peer: TCPPeer) -> None:
        """Stop a peer at once, without a goodbye. Everything not on its disk is lost."""
        host = self._host(peer)
        await peer._lifecycle.kill()
        self.network.cut(host.name)

    async def restart(self, peer: TCPPeer) -> TCPPeer:
        """Start a crashed or closed peer again from its disk. Return the new peer, which is also in `peers`."""
        host = self._host(peer)
        self.network.cut(host.name)
        new = await self._start(host, [])
        self.peers[self._hosts.index(host)] = new
        return new

    def _host(self, peer: TCPPeer) -> _Host:
        for host, known in zip(self._hosts, self.peers, strict=True):
            if known is peer:
                return host
        raise P2PChatError(f"{peer!r} is not a peer of this mesh, or was restarted: take it from net.peers")

    # Rest

    async def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Wait until all connected peers are linked, hold the same messages, and know it.

        Raises:
            TimeoutError: The mesh did not settle in time. The text names two peers and their difference.
        """
        checks = 0
        deadline = asyncio.get_running_loop().time() + timeout
        while checks < SETTLED_CHECKS:
            trouble = next(self._unsettled(), None)
            checks = checks + 1 if trouble is None else 0
            if trouble is not None and asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"the mesh has not settled: {trouble}")
            await asyncio.sleep(SETTLED_CHECK_EVERY)
        for peer in self.peers:
            peer._lifecycle.names_deadline = 0.0  # all names have come: one that is unknown now is misspelt

    def _unsettled(self) -> Iterator[str]:
        """Yield a sentence for each difference that remains."""
        running = [
            (host.name, peer, peer._lifecycle.running_node)
            for host, peer in zip(self._hosts, self.peers, strict=True)
            if peer._lifecycle.running_node is not None
        ]
        for name, peer, node in running:
            if not peer._lifecycle.idle:
                yield f"{name} is busy"
            if node.looks:
                yield f"{name} has yet to write its name"
            if node.receipts.marks.has_unsent:
                yield f"{name} has unsent read marks"
            if node.receipts.acknowledgements.has_unsent:
                yield f"{name} has unsent marks of what it stored"
        if not self.network.quiet:
            yield "bytes are in flight"
        for (one, here, node), (other, there, far) in combinations(running, 2):
            is_out = node.member_directory.is_out(far.peer) or far.member_directory.is_out(
                node.peer
            )  # they have no link
            if self.network.reaches(one, other) and not is_out:
                for difference in chain(_differences(node, far), _unsure(here, node, far), _unsure(there, far, node)):
                    yield f"{one} and {other} {difference}"


def _differences(one: Node, other: Node) -> Iterator[str]:
    if other.peer not in one.links.by_peer or one.peer not in other.links.by_peer:
        yield "are not linked"
        return
    if not (other.peer in one.presence.hosts and one.peer in other.presence.hosts):  # whatever their presence
        yield "have not seen each other"
    here, there = one.replicator.conversations, other.replicator.conversations
    for key in here.keys() | there.keys():
        known = [conversations[key] for conversations in (here, there) if key in conversations]
        named = [each for each in known if each.group is None or each.group.state is not None]  # else not known whose
        if not any(_is_taken(each, one) and _is_taken(each, other) for each in named):  # one may know more of a group
            continue
        sums = {conversation.sum for conversation in known}
        if len(sums) > 1 or (len(known) == 1 and sums != {NO_SUM}):
            yield "have different messages"
        if any(conversation.waiting_logs for conversation in known):
            yield "have messages that wait for others"


def _is_taken(conversation: ConversationState, node: Node) -> bool:
    """Return whether a peer takes what is written in a conversation: it is of a user there who blocks none of it."""
    direct = conversation.naming.dm or ()
    return conversation.shared_with(node.hosted.keys()) and not any(
        node.blocks.refuses(user, direct) for user in direct
    )


def _unsure(writer: TCPPeer, node: Node, reader: Node) -> Iterator[str]:
    """Yield each log of a writer, with its node, whose delivery to the reader the writer does not know of yet."""
    tracker = writer._lifecycle.tracker
    for conversation in node.replicator.conversations.values():
        if conversation.shared_with([reader.peer]) and node.peer in conversation.writers:
            for log in conversation.writers[node.peer].tips():
                # No peer holds entries after a cut.
                last = log.shared_seq
                if last and tracker.wrote(log.id) and reader.peer not in tracker.holders(log.id, last):
                    yield "lack a receipt"


def mesh(*names: str, settings: Settings = QUICK, logins: bool = False) -> Mesh:
    """Return a mesh of real, linked peers with these names: `async with mesh("ada", "bob") as net`.

    Args:
        logins: Each peer is a member of its own, and the first is the founder of the network.
    """
    return Mesh(*names, settings=settings, logins=logins)


# ---- in-memory connections
#
# Pipes between two ends in one event loop, and a network of named hosts that can be cut. For a program, a pipe behaves
# like a socket. Bytes arrive in a later turn of the loop, a reader that stops reading stops the writer, close() is an
# EOF at the other end and abort() a reset. TLS and everything above run over it unchanged.

IN_FLIGHT_BYTES = 256 * 1024  # bytes the network holds between two ends; more stay in the writer's buffer
FIRST_FREE_PORT = 20_001


class PipeEnd(BufferedTransport):
    """One end of a pipe: the transport under a StreamReader and a StreamWriter."""

    def __init__(self, own: tuple[str, int], far: tuple[str, int]) -> None:
        super().__init__({"peername": far, "sockname": own}, IN_FLIGHT_BYTES)
        self.other: PipeEnd
        self._carrying: asyncio.Handle | None = None

    def abort(self) -> None:
        self._closing = True
        self._loop.call_soon(self.lose, None)
        self._loop.call_soon(self.other.lose, ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))

    def get_write_buffer_size(self) -> int:
        return max(0, self.unsent_bytes - IN_FLIGHT_BYTES)

    def _read_later(self) -> None:
        self.other._push()

    def _push(self) -> None:
        if self._carrying is None and not self._lost:
            self._carrying = self._loop.call_soon(self._carry)

    def _carry(self) -> None:
        """Deliver written bytes to the other end while it reads."""
        self._carrying = None
        while self._unsent and self.other._reading and not self.other._lost:
            data = self._take_unsent()
            hand_over(data, self.other.protocol)
        if self._unsent and self.other._lost:
            self.lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))
            return
        self._passed_on()
        if self._ends and not self._unsent:
            self._finish()

    def _finish(self) -> None:
        """Signal EOF to the other end after all bytes, and end this one if it was closed."""
        other = self.other
        if not other._lost and not other._closing:
            other.protocol.eof_received()
        if self._closing:
            self.lose(None)


def pipe(caller: tuple[str, int], called: tuple[str, int]) -> tuple[tuple[Streams, PipeEnd], tuple[Streams, PipeEnd]]:
    """Return both ends of a new connection, the caller's first."""
    ends = (PipeEnd(caller, called), PipeEnd(called, caller))
    ends[0].other, ends[1].other = ends[1], ends[0]
    return (ends[0].streams(), ends[0]), (ends[1].streams(), ends[1])


class PipeNetwork:
    """Named hosts that reach each other through pipes. Groups of them can be disconnected from each other."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[str, Server]] = {}  # port -> (listening host, server)
        self._pipes: list[tuple[str, str, PipeEnd]] = []
        self._groups: dict[str, int] = {}  # hosts of different groups do not reach each other
        self._apart: set[frozenset[str]] = set()  # pairs that do not
        self._next_port = FIRST_FREE_PORT

    def transport(self, host: str) -> PipeTransport:
        """Return the transport of a peer on this host."""
        return PipeTransport(self, host)

    def reaches(self, one: str, other: str) -> bool:
        """Return whether two hosts can connect now."""
        return self._groups.get(one, 0) == self._groups.get(other, 0) and {one, other} not in self._apart

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Disconnect these groups from each other and from all other hosts. Connections between them break."""
        self._groups = {host: number for number, group in enumerate(groups, 1) for host in group}
        self._break()

    def separate(self, one: str, other: str) -> None:
        """Keep two hosts from connecting with each other. Connections between them break."""
        self._apart.add(frozenset((one, other)))
        self._break()

    def _break(self) -> None:
        kept = []
        for one, other, end in self._pipes:
            if self.reaches(one, other):
                kept.append((one, other, end))
            else:
                end.abort()
        self._pipes = kept

    def heal(self) -> None:
        """Let all hosts reach each other again."""
        self._groups, self._apart = {}, set()

    def cut(self, host: str) -> None:
        """Remove a host: it stops listening and its connections break."""
        self._servers = {port: entry for port, entry in self._servers.items() if entry[0] != host}
        for one, other, end in self._pipes:
            if host in (one, other):
                end.abort()
        self._pipes = [entry for entry in self._pipes if host not in entry[:2]]

    @property
    def quiet(self) -> bool:
        """True if no bytes are in flight between hosts that reach each other."""
        return not any(end.unsent_bytes or end.other.unsent_bytes for _, _, end in self._pipes)

    def listen(self, host: str, port: int, server: Server) -> int:
        """Have `server` accept connections to this port; 0 chooses one. Raises PortInUse."""
        if port == 0:
            port, self._next_port = self._next_port, self._next_port + 1
        if port in self._servers:
            raise PortInUse(host, port)
        self._servers[port] = (host, server)
        return port

    def connect(self, host: str, port: int) -> Streams:
        """Connect from `host` to the server on this port. Raises OSError."""
        listening, server = self._servers.get(port, ("", None))
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        if not self.reaches(host, listening):
            raise OSError(errno.EHOSTUNREACH, "no route to host")
        here, there = pipe(("127.0.0.1", 1), ("127.0.0.1", port))
        self._pipes = [entry for entry in self._pipes if not entry[2]._lost]
        self._pipes.append((host, listening, here[1]))
        server.on_connection(*there[0])
        return here[0]


class PipeTransport:
    """The transport (see p2pchat.runtime.connection_manager) of one host in a PipeNetwork."""

    def __init__(self, network: PipeNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def listen(self, server: Server, host: str, port: int) -> tuple[str, int]:
        return host, self._network.listen(self._host, port, server)

    async def dial(self, host: str, port: int, *, timeout: float) -> Streams:
        await asyncio.sleep(0)  # a connection takes a moment
        return self._network.connect(self._host, port)

    async def resolve(self, host: str, port: int, *, timeout: float) -> list[tuple[str, str]]:
        return []  # hosts here have no names

    def __repr__(self) -> str:
        return f"<PipeTransport of {self._host!a}>"
