"""A mesh of real peers in one event loop, over pipes in memory: to test a bot against everything a network does.

    async with mesh("ada", "bob") as net:
        ada, bob = net.peers
        net.partition([ada], [bob])
        receipt = await ada.send("bob", "are you there?")
        net.heal()
        await receipt.delivered(timeout=5)

Everything is what runs in production, TLS included, but for sockets (pipes.py) and the disk: each peer has a storage
in memory that outlives a crash, so that a restarted peer finds what it had. Redial and grace are quick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from types import TracebackType
from typing import Self

from p2pchat.config import Settings
from p2pchat.core.node import Node
from p2pchat.core.sync.log_index import TalkLog
from p2pchat.errors import P2PChatError
from p2pchat.identity.keys import Identity
from p2pchat.identity.network import Network
from p2pchat.peer import TCPPeer
from p2pchat.resources import PeerResources, contexts
from p2pchat.storage.memory import MemoryStorage
from p2pchat.testing.pipes import PipeNetwork

QUICK = Settings(
    redial_most=0.2, redial_never_reached_most=0.2, left_grace=0.2, digest_every=1.0, peers_told_after=0.01
)
SETTLE_TIMEOUT = 30.0  # seconds
LOOKED_EVERY = 0.005  # seconds between looks at whether everything has settled
LOOKS_IN_A_ROW = 3  # so often it must look settled: what one turn of the loop hands to the next is under way too


@dataclass(slots=True)
class _Place:
    """Where a peer lives: what is left of it when it crashes."""

    name: str
    identity: Identity
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    port: int = 0


class Mesh:
    """Peers linked with each other. `async with` starts and closes them.

    Attributes:
        peers: In the order of the names; a restarted one takes the place of the crashed one.
        network: The pipes.
        membership: The network id and key they share, for peers of other make.
    """

    def __init__(self, *names: str, settings: Settings = QUICK) -> None:
        self._places = [_Place(name, Identity.generate()) for name in names]
        self._settings = settings
        self.membership = Network.fresh()
        self.network = PipeNetwork()
        self.peers: list[TCPPeer] = []

    async def __aenter__(self) -> Self:
        try:
            for place in self._places:
                endpoints = [peer.endpoint for peer in self.peers[:1]]  # one is enough, they tell each other
                self.peers.append(await self._start(place, endpoints))
            await self.settle()
        except BaseException:
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
        """Start one more peer, linked with the first; the others find it."""
        place = _Place(name, Identity.generate())
        self._places.append(place)
        self.peers.append(await self._start(place, [peer.endpoint for peer in self.peers[:1]]))
        return self.peers[-1]

    async def _start(self, place: _Place, endpoints: Sequence[str]) -> TCPPeer:
        peer = TCPPeer(place.port, *endpoints, name=place.name, settings=self._settings)
        peer._run_in(lambda: self._home(place), self.network.transport(place.name))
        await peer.start()
        place.port = peer.port
        return peer

    def _home(self, place: _Place) -> PeerResources:
        server, client = contexts(place.identity)
        return PeerResources(place.identity, self.membership, place.storage, server, client)

    # Accidents

    def partition(self, *groups: Sequence[TCPPeer]) -> None:
        """Cut groups off from each other; peers in no group are a group of their own. Links across break now."""
        self.network.partition([[self._place(peer).name for peer in group] for group in groups])

    def heal(self) -> None:
        """Let everybody reach everybody again; the peers redial by themselves."""
        self.network.heal()

    async def crash(self, peer: TCPPeer) -> None:
        """End a peer at once, without a goodbye; what was not on its disk is lost."""
        place = self._place(peer)
        await peer._kill()
        self.network.cut(place.name)

    async def restart(self, peer: TCPPeer) -> TCPPeer:
        """Start a crashed or closed peer again, from what it had on disk; return the new one, also in `peers`."""
        place = self._place(peer)
        self.network.cut(place.name)
        new = await self._start(place, [])
        self.peers[self._places.index(place)] = new
        return new

    def _place(self, peer: TCPPeer) -> _Place:
        for place, known in zip(self._places, self.peers, strict=True):
            if known is peer:
                return place
        raise P2PChatError(f"{peer!r} is not of this mesh, or was restarted: use net.peers")

    # Quiet

    async def settle(self, timeout: float = SETTLE_TIMEOUT) -> None:
        """Wait until all who reach each other are linked, have the same messages, and know that they do.

        Raises:
            TimeoutError: It did not come to that; says between whom.
        """
        looks = 0
        deadline = asyncio.get_running_loop().time() + timeout
        while looks < LOOKS_IN_A_ROW:
            trouble = next(self._unsettled(), None)
            looks = looks + 1 if trouble is None else 0
            if trouble is not None and asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"the mesh has not settled: {trouble}")
            await asyncio.sleep(LOOKED_EVERY)

    def _unsettled(self) -> Iterator[str]:
        """Yield what is still to be done."""
        running = [
            (place.name, peer) for place, peer in zip(self._places, self.peers, strict=True) if peer._node is not None
        ]
        for name, peer in running:
            if not peer._idle:
                yield f"{name} is at work"
            if peer._node is not None and peer._node.sync.reads.untold:
                yield f"{name} has not told what it has read"
        if not self.network.quiet:
            yield "bytes are on their way"
        for (one, here), (other, there) in combinations(running, 2):
            if self.network.reaches(one, other) and here._node is not None and there._node is not None:
                for difference in _differences(here._node, there._node):
                    yield f"{one} and {other} {difference}"
                for unsure in (*_unsure(here, there._node), *_unsure(there, here._node)):
                    yield f"{one} and {other}: {unsure}"


def _differences(one: Node, other: Node) -> Iterator[str]:
    if other.peer not in one.links.by_peer or one.peer not in other.links.by_peer:
        yield "are not linked"
        return
    if not (one.presence.hosts(other.peer) and other.presence.hosts(one.peer)):  # whatever they say of themselves
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


def _unsure(writer: TCPPeer, reader: Node) -> Iterator[str]:
    """Yield what the writer does not know to be delivered to the reader yet."""
    node = writer._node
    if node is None:
        return
    for conversation in node.sync.conversations.by_id.values():
        if conversation.shared_with([reader.peer]) and node.peer in conversation.writers:
            for log in conversation.writers[node.peer].tips():
                last = log.visible if isinstance(log, TalkLog) else log.kept_seq  # behind a cut nobody has anything
                if last and writer._tracker.wrote(log.id) and reader.peer not in writer._tracker.holders(log.id, last):
                    yield "a receipt is missing"


def mesh(*names: str, settings: Settings = QUICK) -> Mesh:
    """Return peers of these names, real and linked: `async with mesh("ada", "bob") as net`."""
    return Mesh(*names, settings=settings)
