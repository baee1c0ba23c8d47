"""A mesh of real peers in one event loop over in-memory pipes, to test programs with faults of a network.

    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        net.partition([ada], [bob])
        receipt = await ada.send("bob", "are you there?")
        net.heal()
        await receipt.delivered(timeout=5)

Everything is production code, TLS included, except sockets (pipes.py) and the disk. Each peer has a storage in memory
that outlives a crash, so a restarted peer finds its data. Redials and grace times are short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from types import TracebackType
from typing import Self

from p2pchat.config import Settings
from p2pchat.core.node import Node
from p2pchat.core.sync.log_index import TalkLog
from p2pchat.errors import P2PChatError
from p2pchat.identity.keys import Identity
from p2pchat.identity.network_and_invites import Network
from p2pchat.peer import TCPPeer
from p2pchat.peer_resources import PeerResources, contexts
from p2pchat.storage.memory import MemoryStorage
from p2pchat.testing.pipes import PipeNetwork

QUICK = Settings(
    redial_most=0.2, redial_never_reached_most=0.2, left_grace=0.2, digest_every=1.0, peers_told_after=0.01
)
SETTLE_TIMEOUT = 30.0  # seconds
SETTLED_CHECK_EVERY = 0.005  # seconds between two checks
SETTLED_CHECKS = 3  # checks in a row that must pass: work handed to the next turn of the loop shows in none of them


@dataclass(slots=True)
class _Host:
    """A host of the mesh: the parts of a peer that outlive a crash."""

    name: str
    identity: Identity
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    port: int = 0


class Mesh:
    """Peers linked with each other. `async with` starts and closes them.

    Attributes:
        peers: The peers in the order of the names. A restarted peer replaces the crashed one.
        network: The pipes.
        membership: The network id and key that all share, for peers made in other ways.
    """

    def __init__(self, *names: str, settings: Settings = QUICK) -> None:
        self._hosts = [_Host(name, Identity.generate()) for name in names]
        self._settings = settings
        self.membership: Network = Network.fresh()
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
        host = _Host(name, Identity.generate())
        self._hosts.append(host)
        self.peers.append(await self._start(host, [peer.endpoint for peer in self.peers[:1]]))
        return self.peers[-1]

    async def _start(self, host: _Host, endpoints: Sequence[str]) -> TCPPeer:
        peer = TCPPeer(host.port, *endpoints, name=host.name, settings=self._settings)
        peer._lifecycle.run_in(lambda: self._home(host), self.network.transport(host.name))
        await peer.start()
        host.port = peer.port
        return peer

    def _home(self, host: _Host) -> PeerResources:
        server, client = contexts(host.identity)
        return PeerResources(host.identity, self.membership, host.storage, server, client)

    # Faults

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
            if node.sync.read_receipts.has_unsent:
                yield f"{name} has unsent read marks"
        if not self.network.quiet:
            yield "bytes are in flight"
        for (one, here, node), (other, there, far) in combinations(running, 2):
            if self.network.reaches(one, other):
                for difference in chain(_differences(node, far), _unsure(here, node, far), _unsure(there, far, node)):
                    yield f"{one} and {other} {difference}"


def _differences(one: Node, other: Node) -> Iterator[str]:
    if other.peer not in one.links.by_peer or one.peer not in other.links.by_peer:
        yield "are not linked"
        return
    if not (other.peer in one.presence.hosts and one.peer in other.presence.hosts):  # whatever their presence
        yield "have not seen each other"
    here, there = one.sync.conversations.by_id, other.sync.conversations.by_id
    for key in here.keys() | there.keys():
        known = [conversations[key] for conversations in (here, there) if key in conversations]
        if not all(conversation.shared_with([node.peer]) for conversation in known for node in (one, other)):
            continue
        sums = {conversation.sum for conversation in known}
        if len(sums) > 1 or (len(known) == 1 and sums != {0}):
            yield "have different messages"
        if any(conversation.blocked for conversation in known):
            yield "have messages that wait for others"


def _unsure(writer: TCPPeer, node: Node, reader: Node) -> Iterator[str]:
    """Yield each log of a writer, with its node, whose delivery to the reader the writer does not know of yet."""
    tracker = writer._lifecycle.tracker
    for conversation in node.sync.conversations.by_id.values():
        if conversation.shared_with([reader.peer]) and node.peer in conversation.writers:
            for log in conversation.writers[node.peer].tips():
                # No peer holds entries after a cut.
                last = log.visible if isinstance(log, TalkLog) else log.durable_seq
                if last and tracker.wrote(log.id) and reader.peer not in tracker.holders(log.id, last):
                    yield "lack a receipt"


def mesh(*names: str, settings: Settings = QUICK) -> Mesh:
    """Return a mesh of real, linked peers with these names: `async with mesh("ada", "bob") as net`."""
    return Mesh(*names, settings=settings)
